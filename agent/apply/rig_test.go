// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/agent/apply"
	"github.com/drover-io/drover/agent/health"
	"github.com/drover-io/drover/agent/observe"
	"github.com/drover-io/drover/shared/wire"
	"github.com/drover-io/drover/test/kube"
)

var shared kube.Shared

func TestMain(m *testing.M) {
	code := shared.Main(m)
	if code == 0 {
		// Connections that idle until the server's end are the transport's.
		if err := goleak.Find(
			goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"),
			goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"),
			goleak.IgnoreTopFunction("golang.org/x/net/http2.(*ClientConn).readLoop"),
		); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const patience = 90 * time.Second

var errKilled = errors.New("killed")

// rig is an agent's surroundings: a real cluster, a disk that outlives the
// engine, a hub that says what should run, and a switch that kills.
type rig struct {
	t    *testing.T
	ns   string
	cfg  *rest.Config
	live dynamic.Interface // sees the cluster beside the engine

	mu       sync.Mutex
	records  map[string][]byte
	contents map[string][]byte
	reports  map[string][]wire.Report
	dead     bool
	events   int // saves and writes so far
	killAt   int // event that kills; 0 for none
	fullDisk bool
	bundles  string // directory
	writes   []string

	engine *apply.Engine
	stop   func()
}

func newRig(t *testing.T, ns string) *rig {
	t.Helper()
	r := &rig{
		t: t, ns: ns, cfg: shared.Cluster(t).RESTConfig(), bundles: t.TempDir(),
		records: make(map[string][]byte), contents: make(map[string][]byte), reports: make(map[string][]wire.Report),
	}
	cfg := rest.CopyConfig(r.cfg)
	cfg.QPS, cfg.Burst = 500, 1000
	r.live = dynamic.NewForConfigOrDie(cfg)
	if ns != "" {
		r.create(namespaces, "", fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, ns))
	}
	return r
}

// event counts a save or a write, and says whether the process still lives.
// after is true for the second half of the event, when it has taken effect.
func (r *rig) event(after bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events++
	if r.killAt != 0 && r.events >= r.killAt {
		r.dead = true
	}
	if r.dead {
		return errKilled
	}
	return nil
}

func (r *rig) LoadRecords() (map[string][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.records), nil
}

func (r *rig) SaveRecord(key string, body []byte) error {
	if err := r.event(false); err != nil {
		return err
	}
	r.mu.Lock()
	if r.fullDisk {
		r.mu.Unlock()
		return fmt.Errorf("write record: %w", syscall.ENOSPC)
	}
	r.records[key] = slices.Clone(body)
	r.mu.Unlock()
	return r.event(true)
}

func (r *rig) DeleteRecord(key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.records, key)
	return nil
}

type tripper struct {
	r    *rig
	next http.RoundTripper
}

func (tr tripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet {
		tr.r.mu.Lock()
		defer tr.r.mu.Unlock()
		if tr.r.dead {
			return nil, errKilled
		}
		tr.r.mu.Unlock()
		resp, err := tr.next.RoundTrip(req)
		tr.r.mu.Lock()
		return resp, err
	}
	if err := tr.r.event(false); err != nil {
		return nil, err
	}
	tr.r.mu.Lock()
	tr.r.writes = append(tr.r.writes, req.Method+" "+req.URL.Path)
	tr.r.mu.Unlock()
	resp, err := tr.next.RoundTrip(req)
	if killed := tr.r.event(true); killed != nil && err == nil {
		resp.Body.Close()
		return nil, killed
	}
	return resp, err
}

func (r *rig) start() {
	r.t.Helper()
	r.mu.Lock()
	r.dead = false
	r.reports = make(map[string][]wire.Report)
	r.mu.Unlock()
	cfg := rest.CopyConfig(r.cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return tripper{r, next} })
	log := zaptest.NewLogger(r.t)
	var engine *apply.Engine
	observer, err := observe.New(observe.Config{
		Kubernetes: r.cfg, Log: log,
		Changed: func(resource schema.GroupVersionResource, name types.NamespacedName, live *unstructured.Unstructured) {
			engine.Changed(resource, name, live)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	engine, err = apply.New(apply.Config{
		Kubernetes: cfg, Records: r, Log: log, Judge: health.New(), Observer: observer,
		Content: func(_ context.Context, digest string) ([]byte, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if data, ok := r.contents[digest]; ok {
				return data, nil
			}
			return nil, errors.New("no such content")
		},
		Bundle: func(_ context.Context, digest string) (io.ReadCloser, error) {
			return os.Open(filepath.Join(r.bundles, digest))
		},
		Report: func(report wire.Report) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports[report.Name] = append(r.reports[report.Name], report)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- engine.Run(ctx) }()
	go func() { done <- observer.Run(ctx) }()
	r.engine = engine
	stop := sync.OnceFunc(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				r.t.Errorf("run: %v", err)
			}
		}
	})
	r.stop = stop
	r.t.Cleanup(stop)
}

// item stores a spec with these manifests and returns an item of it. extra are
// further fields of the spec, as JSON.
func (r *rig) item(name string, generation int64, extra string, manifests ...string) wire.Item {
	r.t.Helper()
	spec := map[string]any{}
	if extra != "" {
		if err := json.Unmarshal([]byte(extra), &spec); err != nil {
			r.t.Fatal(err)
		}
	}
	var raw []json.RawMessage
	for _, m := range manifests {
		raw = append(raw, json.RawMessage(m))
	}
	spec["workload"] = map[string]any{"manifests": raw}
	data, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	r.mu.Lock()
	r.contents[digest] = data
	r.mu.Unlock()
	return wire.Item{Name: name, UID: "uid-" + r.ns + "-" + name, Generation: generation, Digest: digest}
}

func (r *rig) newest(name string) (wire.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.reports[name]
	if len(all) == 0 {
		return wire.Report{}, false
	}
	return all[len(all)-1], true
}

// await waits for a report of the item that satisfies ok.
func (r *rig) await(item wire.Item, what string, ok func(wire.Report) bool) wire.Report {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		report, found := r.newest(item.Name)
		if found && report.Generation == item.Generation && report.Digest == item.Digest && ok(report) {
			return report
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s of %s: not in time; newest report: %+v", what, item.Name, report)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) awaitCurrent(item wire.Item) wire.Report {
	r.t.Helper()
	return r.await(item, "current", func(report wire.Report) bool {
		for _, m := range report.Manifests {
			if !m.Applied || !m.Available || m.Health != wire.HealthCurrent {
				return false
			}
		}
		return report.Error == "" && len(report.Manifests) > 0
	})
}

func (r *rig) awaitDeleted(item wire.Item) {
	r.t.Helper()
	r.await(item, "deleted", func(report wire.Report) bool { return report.Deleted })
}

func (r *rig) takeWrites() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	writes := r.writes
	r.writes = nil
	return writes
}

var (
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	crds        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
)

func (r *rig) create(gvr schema.GroupVersionResource, ns, body string) *unstructured.Unstructured {
	r.t.Helper()
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(body), &u.Object); err != nil {
		r.t.Fatal(err)
	}
	var client dynamic.ResourceInterface = r.live.Resource(gvr)
	if ns != "" {
		client = r.live.Resource(gvr).Namespace(ns)
	}
	got, err := client.Create(context.Background(), u, metav1.CreateOptions{FieldManager: "local-admin"})
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// get returns nil when the object does not exist.
func (r *rig) get(gvr schema.GroupVersionResource, ns, name string) *unstructured.Unstructured {
	r.t.Helper()
	got, err := r.live.Resource(gvr).Namespace(ns).Get(context.Background(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *rig) awaitGone(gvr schema.GroupVersionResource, ns, name string) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.get(gvr, ns, name) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s %s/%s still exists", gvr.Resource, ns, name)
		}
	}
}

func configMap(ns, name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":%q},"data":{"level":%q}}`, name, ns, value)
}

func deployment(ns, name, selector string) string {
	return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%[2]q,"namespace":%[1]q},
		"spec":{"replicas":2,"progressDeadlineSeconds":3,"selector":{"matchLabels":{"app":%[2]q}},
		"template":{"metadata":{"labels":{"app":%[2]q}},"spec":{"nodeSelector":%[3]s,
		"containers":[{"name":"c","image":"registry.invalid/web:1"}]}}}}`, ns, name, selector)
}
