// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/agent/observe"
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

var (
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secrets     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	pods        = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	claims      = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
	classes     = schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	crds        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

type key struct {
	resource schema.GroupVersionResource
	name     types.NamespacedName
}

// sight is one call of Changed.
type sight struct {
	live *unstructured.Unstructured
	at   time.Time
}

// rig is an observer of a real cluster, and what it saw.
type rig struct {
	t        *testing.T
	cfg      *rest.Config
	live     dynamic.Interface
	observer *observe.Observer
	stop     func()

	mu   sync.Mutex
	seen map[key][]sight
}

func newRig(t *testing.T, cfg *rest.Config) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, seen: make(map[key][]sight)}
	own := rest.CopyConfig(cfg)
	own.QPS = -1
	r.live = dynamic.NewForConfigOrDie(own)
	var err error
	r.observer, err = observe.New(observe.Config{
		Kubernetes: cfg, Log: zaptest.NewLogger(t),
		Changed: func(resource schema.GroupVersionResource, name types.NamespacedName, live *unstructured.Unstructured) {
			r.mu.Lock()
			defer r.mu.Unlock()
			k := key{resource, name}
			r.seen[k] = append(r.seen[k], sight{live, time.Now()})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.observer.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) in(resource schema.GroupVersionResource, ns string) dynamic.ResourceInterface {
	if ns == "" {
		return r.live.Resource(resource)
	}
	return r.live.Resource(resource).Namespace(ns)
}

func (r *rig) create(resource schema.GroupVersionResource, ns, body string) *unstructured.Unstructured {
	r.t.Helper()
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(body), &u.Object); err != nil {
		r.t.Fatal(err)
	}
	got, err := r.in(resource, ns).Create(context.Background(), u, metav1.CreateOptions{FieldManager: "tester"})
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *rig) namespace(name string) {
	r.create(namespaces, "", fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, name))
}

func (r *rig) patch(resource schema.GroupVersionResource, ns, name, body string, subresources ...string) {
	r.t.Helper()
	_, err := r.in(resource, ns).Patch(context.Background(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "tester"}, subresources...)
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) delete(resource schema.GroupVersionResource, ns, name string) {
	r.t.Helper()
	if err := r.in(resource, ns).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// await waits for a sight of the object that satisfies ok.
func (r *rig) await(resource schema.GroupVersionResource, ns, name, what string, ok func(*unstructured.Unstructured) bool) sight {
	r.t.Helper()
	k := key{resource, types.NamespacedName{Namespace: ns, Name: name}}
	next := 0
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		r.mu.Lock()
		all := r.seen[k]
		r.mu.Unlock()
		for ; next < len(all); next++ {
			if ok(all[next].live) {
				return all[next]
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s %s/%s: %s not seen in time; %d sights", resource.Resource, ns, name, what, len(all))
		}
	}
}

func (r *rig) count(resource schema.GroupVersionResource, ns, name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen[key{resource, types.NamespacedName{Namespace: ns, Name: name}}])
}

func (r *rig) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = make(map[key][]sight)
}

func exists(live *unstructured.Unstructured) bool { return live != nil }

func isGone(live *unstructured.Unstructured) bool { return live == nil }

func level(want string) func(*unstructured.Unstructured) bool {
	return func(live *unstructured.Unstructured) bool {
		if live == nil {
			return false
		}
		got, _, _ := unstructured.NestedString(live.Object, "data", "level")
		return got == want
	}
}

func objects(resource schema.GroupVersionResource, ns string, names ...string) observe.Objects {
	list := make([]types.NamespacedName, len(names))
	for i, n := range names {
		list[i] = types.NamespacedName{Namespace: ns, Name: n}
	}
	return observe.Objects{resource: list}
}

func configMap(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"level":%q}}`, name, value)
}
