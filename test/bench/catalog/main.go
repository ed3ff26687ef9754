// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command catalog fills the addon catalog of a real hub and prints figures: how long
// it takes to publish, list, read, resolve and render, what the hub needs for it, and
// what hostile content costs. It judges nothing: machines differ.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/test/local"
)

type options struct {
	bin                        string
	addons, versions, clusters int
	writers                    int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.IntVar(&o.addons, "addons", 500, "addons in the catalog")
	flag.IntVar(&o.versions, "versions", 20, "versions of each")
	flag.IntVar(&o.clusters, "clusters", 1000, "clusters to render for")
	flag.IntVar(&o.writers, "writers", 8, "who publish at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "catalog: error:", err)
		os.Exit(1)
	}
}

func figure(name, format string, args ...any) {
	fmt.Printf("%-66s %s\n", name, fmt.Sprintf(format, args...))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

type bench struct {
	options
	hub *local.Hub
	web *http.Client
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "drover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := os.Stat(filepath.Join(o.bin, "drover-hub")); err != nil {
		return fmt.Errorf("%w; run `make build`", err)
	}
	fmt.Printf("%s/%s, %d CPUs, %s; %d addons of %d versions, %d clusters\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), o.addons, o.versions, o.clusters)
	hub, err := local.Programs(o.bin).StartHub(ctx, dir, "127.0.0.1:0", local.Unlimited()...)
	if hub.Process != nil {
		defer func() { hub.Process.Stop(30 * time.Second) }()
	}
	if err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", hub.Kubeconfig())
	if err != nil {
		return err
	}
	b := &bench{options: o, hub: hub}
	if b.web, err = rest.HTTPClientFor(cfg); err != nil {
		return err
	}
	defer b.web.CloseIdleConnections()
	b.memory("RSS of the empty hub")
	for _, step := range []func(context.Context) error{b.makeClusters, b.publish, b.read, b.resolve, b.render, b.hostile} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// memory prints the hub's resident memory now, and its highest so far.
func (b *bench) memory(what string) {
	now, high := b.resident()
	figure(what, "%d MiB, highest so far %d MiB", now>>20, high>>20)
}

func (b *bench) resident() (now, high int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.hub.Process.Pid()))
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			now = kib << 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			high = kib << 10
		}
	}
	return now, high
}

// all does something for each number below n, by several at once.
func (b *bench) all(ctx context.Context, n int, do func(context.Context, int) error) (time.Duration, error) {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for range b.writers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := do(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

func name(i int) string { return fmt.Sprintf("addon-%03d", i) }

func (b *bench) makeClusters(ctx context.Context) error {
	took, err := b.all(ctx, b.clusters, func(ctx context.Context, i int) error {
		return b.send(ctx, http.MethodPost, "/apis/"+cluster.Group+"/"+cluster.Version+"/managedclusters", map[string]any{
			"apiVersion": cluster.Group + "/" + cluster.Version, "kind": "ManagedCluster",
			"metadata": map[string]any{"name": fmt.Sprintf("c%04d", i), "labels": map[string]any{"region": fmt.Sprintf("r%d", i%10)}},
			"spec":     map[string]any{"hubAcceptsClient": false},
		}, nil)
	})
	figure("clusters made", "%.0f/s", float64(b.clusters)/took.Seconds())
	return err
}

const versionsPath = "/apis/" + fleet.Group + "/" + fleet.Version + "/addonversions"

// version is one of an addon, which needs the one before it, in chains of ten.
func version(i, n int) map[string]any {
	where := map[string]any{"region": "{{ .Cluster.Labels.region }}"}
	if i%2 == 1 {
		where["cluster"] = "{{ .Cluster.Name }}" // another rendering for every cluster
	}
	spec := map[string]any{
		"addOn": name(i), "version": fmt.Sprintf("1.%d.0", n), "default": n == 0, "channel": "stable",
		"values": map[string]any{"replicas": 1, "level": "info"},
		"manifests": []any{
			map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name(i), "annotations": where}, "data": map[string]any{"level": "{{ .Values.level }}", "version": fmt.Sprint(n)}},
			map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": name(i)}},
			map[string]any{
				"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name(i), "annotations": where},
				"spec": map[string]any{
					"replicas": "{{ .Values.replicas }}", "selector": map[string]any{"matchLabels": map[string]any{"app": name(i)}},
					"template": map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": name(i)}}, "spec": map[string]any{
						"serviceAccountName": name(i), "containers": []any{map[string]any{"name": "main", "image": "registry.example/main:" + fmt.Sprint(n)}},
					}},
				},
			},
		},
	}
	if i%10 != 0 {
		spec["dependencies"] = []any{map[string]any{"addOn": name(i - 1), "versionRange": fmt.Sprintf(">=1.0.0 <=1.%d.0", n)}}
	}
	return map[string]any{
		"apiVersion": fleet.Group + "/" + fleet.Version, "kind": fleet.KindAddOnVersion,
		"metadata": map[string]any{"name": fmt.Sprintf("%s-1.%d.0", name(i), n)}, "spec": spec,
	}
}

func (b *bench) publish(ctx context.Context) error {
	var took time.Duration
	// what others need comes first: the beginning of every chain, then the next
	for step := range 10 {
		of := (b.addons - step + 9) / 10
		d, err := b.all(ctx, of*b.versions, func(ctx context.Context, k int) error {
			return b.send(ctx, http.MethodPost, versionsPath, version(k/b.versions*10+step, k%b.versions), nil)
		})
		if err != nil {
			return err
		}
		took += d
	}
	figure("versions published, checked and rendered", "%.0f/s", float64(b.addons*b.versions)/took.Seconds())
	b.memory("RSS with the catalog")
	return nil
}

// times does something n times and prints how long it took.
func times(what string, n int, do func(i int) error) error {
	var all []time.Duration
	for i := range n {
		began := time.Now()
		if err := do(i); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	figure(what, "p50 %s, p90 %s, max %s", ms(all[n/2]), ms(all[n*9/10]), ms(all[n-1]))
	return nil
}

func (b *bench) read(ctx context.Context) error {
	get := func(path string) func(int) error {
		return func(int) error { return b.send(ctx, http.MethodGet, path, nil, nil) }
	}
	for _, q := range []struct {
		what, path string
		n          int
	}{
		{"list of all versions, whole", versionsPath, 5},
		{"list of 500 versions, a page", versionsPath + "?limit=500", 20},
		{"list of one addon's versions", versionsPath + "?fieldSelector=spec.addOn%3D" + name(b.addons/2), 20},
		{"list of all addons", "/apis/" + addon.Group + "/" + addon.Version + "/clustermanagementaddons", 20},
		{"list of all versions by the management API", "/v1.0/bench/mgmt/datastore-versions", 5},
	} {
		if err := times(q.what, q.n, get(q.path)); err != nil {
			return err
		}
	}
	return times("one version", 200, func(i int) error {
		return b.send(ctx, http.MethodGet, fmt.Sprintf("%s/%s-1.%d.0", versionsPath, name(i%b.addons), i%b.versions), nil, nil)
	})
}

func (b *bench) preview(ctx context.Context, req fleet.PreviewRequest) (*fleet.Preview, error) {
	var out fleet.Preview
	if err := b.send(ctx, http.MethodPost, fleet.PathAddOnPreview, req, &out); err != nil {
		return nil, err
	}
	for _, o := range out.Outcomes {
		if o.Error != "" {
			return nil, fmt.Errorf("preview of %s for %s: %s", req.AddOn, o.Clusters[0], o.Error)
		}
	}
	return &out, nil
}

// resolve asks for the end of chains of ten addons.
func (b *bench) resolve(ctx context.Context) error {
	chain := min(9, b.addons-1)
	return times(fmt.Sprintf("an addon with %d below it resolved, rendered and compared", chain), 20, func(i int) error {
		out, err := b.preview(ctx, fleet.PreviewRequest{AddOn: name((i*10+chain)%b.addons/10*10 + chain), Clusters: []string{"c0000"}})
		if err != nil {
			return err
		}
		if got := len(out.Outcomes[0].Requires); got != chain {
			return fmt.Errorf("it requires %d addons, not %d", got, chain)
		}
		return nil
	})
}

// render asks for an addon on all clusters.
func (b *bench) render(ctx context.Context) error {
	for _, q := range []struct {
		what  string
		addOn int
	}{{"10 outcomes", 0}, {"another outcome for each", 1}} {
		for _, round := range []string{"first", "again"} {
			began := time.Now()
			out, err := b.preview(ctx, fleet.PreviewRequest{AddOn: name(q.addOn), Selector: "region"})
			if err != nil {
				return err
			}
			took := time.Since(began)
			figure(fmt.Sprintf("rendered for %d clusters, %s, %s", b.clusters, q.what, round), "%s a cluster (%d outcomes, %v)",
				ms(took/time.Duration(b.clusters)), len(out.Outcomes), took.Round(time.Millisecond))
		}
	}
	b.memory("RSS after that")
	return nil
}

// statusError is an answer that is no success.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.message) }

// asJSON encodes what is made of constants.
func asJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
