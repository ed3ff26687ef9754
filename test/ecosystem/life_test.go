// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// binaries is the folder of the programs under test.
var binaries string //nolint:gochecknoglobals // set once, before any test

var shared = &kube.Shared{}

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, func() int { return shared.Main(m) })) }

// patience bounds every wait; it is reached only when the test fails.
const patience = 4 * time.Minute

// world is a hub, and a Kubernetes with an agent.
type world struct {
	hub     *local.Hub
	objects dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	mapping sync.Mutex
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cluster := shared.Cluster(t)
	hub, err := local.Programs(binaries).StartHub(t.Context(), t.TempDir(), "127.0.0.1:0", local.Unlimited()...)
	t.Cleanup(func() {
		if hub.Process == nil {
			return
		}
		hub.Process.Kill()
		if t.Failed() {
			t.Logf("the hub's log ends with:\n%s", hub.Process.Tail())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Join(t.Context(), "shop", "--kubeconfig", cluster.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	agent, err := hub.StartAgent("shop", "--kubeconfig", cluster.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Kill)
	if err := hub.Available(t.Context(), "shop", agent); err != nil {
		t.Fatal(err)
	}
	w := &world{hub: hub}
	typed, err := kubernetes.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	// what these addons ask for, and the fake node lacks
	_, err = typed.CoreV1().Nodes().Patch(t.Context(), "node-0", types.MergePatchType,
		[]byte(`{"status":{"capacity":{"ephemeral-storage":"100Gi"},"allocatable":{"ephemeral-storage":"100Gi"}}}`), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	w.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(typed.Discovery()))
	if w.objects, err = dynamic.NewForConfig(cluster.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	return w
}

// drover runs a command that must succeed.
func (w *world) drover(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := w.hub.Drover(ctx, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// live reads an object of the cluster; nil when it is not there.
func (w *world) live(t *testing.T, u *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	w.mapping.Lock()
	defer w.mapping.Unlock()
	gvk := u.GroupVersionKind()
	mapping, err := w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		w.mapper.Reset()
		mapping, err = w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var client dynamic.ResourceInterface = w.objects.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		ns := u.GetNamespace()
		if ns == "" {
			ns = installed
		}
		client = w.objects.Resource(mapping.Resource).Namespace(ns)
	}
	found, err := client.Get(t.Context(), u.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// installed is where addons go unless their content says otherwise.
const installed = "open-cluster-management-agent-addon"

// images of the containers of a workload.
func images(u *unstructured.Unstructured) string {
	var out []string
	list, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			out = append(out, fmt.Sprint(m["image"]))
		}
	}
	return strings.Join(out, " ")
}

// runs waits until the cluster has every object of a rendering, with its images.
func (w *world) runs(t *testing.T, what string, want []*unstructured.Unstructured) {
	t.Helper()
	var last string
	deadline := time.Now().Add(patience)
	for {
		last = ""
		for _, u := range want {
			if u.GetAnnotations()["helm.sh/hook"] != "" && u.GetKind() == "Job" {
				continue // it may be gone when it is done
			}
			switch got := w.live(t, u); {
			case got == nil:
				last = fmt.Sprintf("%s %s is not there", u.GetKind(), u.GetName())
			case images(got) != images(u):
				last = fmt.Sprintf("%s %s has %s, want %s", u.GetKind(), u.GetName(), images(got), images(u))
			}
		}
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: never: %s", what, last)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// served checks that the cluster serves a kind of the addon's.
func (w *world) served(t *testing.T, name string) {
	t.Helper()
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": name},
	}}
	got := w.live(t, definition)
	if got == nil {
		t.Fatalf("no definition %s", name)
	}
	list, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
			return
		}
	}
	t.Errorf("%s is not served: %v", name, list)
}

// gone waits until none of the objects is left.
func (w *world) gone(t *testing.T, list []*unstructured.Unstructured) {
	t.Helper()
	for _, u := range list {
		deadline := time.Now().Add(patience)
		for w.live(t, u) != nil {
			if time.Now().After(deadline) {
				t.Fatalf("left behind: %s %s/%s", u.GetKind(), u.GetNamespace(), u.GetName())
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
}

// TestLife: each addon is pushed, installed, configured and taken back, upgraded and
// taken back, and removed without a residue.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, m := range materials() {
		t.Run(m.name, func(t *testing.T) {
			began := time.Now()
			w.life(t, m)
			t.Logf("%s: %v", m.name, time.Since(began).Round(time.Second))
		})
	}
}

func (w *world) life(t *testing.T, m material) {
	var content [2][]*unstructured.Unstructured
	values := filepath.Join(t.TempDir(), "values.yaml")
	text, err := yaml.Marshal(m.values)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(values, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, r := range m.releases {
		dir := m.fetch(t, r)
		args := []string{"addon", "push", m.name + "@" + r.version, dir}
		if m.values != nil {
			args = append(args, "--values", values)
		}
		w.drover(t, args...)
		content[i] = m.reference(t, dir, installed)
	}
	older, newer := m.name+"@"+m.releases[0].version, m.name+"@"+m.releases[1].version
	w.allowReturn(t, m)

	w.install(t, older)
	w.runs(t, "installed", content[0])
	if m.custom != "" {
		w.served(t, m.custom)
	}

	if m.manager == fleet.ManagerHelm {
		w.configure(t, m, older, content[0])
	}

	w.install(t, newer)
	w.runs(t, "upgraded", content[1])
	w.install(t, older)
	w.runs(t, "taken back", content[0])

	w.drover(t, "addon", "remove", m.name, "--cluster", "shop", "--yes", "--wait", "--timeout", "3m")
	w.gone(t, content[0])
	w.gone(t, content[1])
	if out := w.drover(t, "works", "-o", "name"); strings.Contains(out, "addon-"+m.name+"-") {
		t.Errorf("works are left: %s", out)
	}
}

// allowReturn lets the older version replace the newer one.
func (w *world) allowReturn(t *testing.T, m material) {
	t.Helper()
	for _, r := range m.releases {
		out := w.drover(t, "addon", "show", m.name+"@"+r.version, "-o", "yaml")
		var v map[string]any
		if err := yaml.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		delete(v, "status")
		meta := v["metadata"].(map[string]any)
		v["metadata"] = map[string]any{"name": meta["name"]}
		v["spec"].(map[string]any)["upgrade"] = map[string]any{"downgrade": true}
		text, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "version.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		w.drover(t, "apply", "-f", file)
	}
}

// install brings a version to the cluster, and approves what it takes away there.
func (w *world) install(t *testing.T, version string, more ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name, _, _ := strings.Cut(version, "@")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			// only a plan that waits can be approved
			_, _ = w.hub.Drover(ctx, "work", "approve-prune", "shop", "addon-"+name+"-deploy-0", "--yes")
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	out, err := w.hub.Drover(ctx, append([]string{"addon", "install", version, "--cluster", "shop", "--wait", "--timeout", "3m"}, more...)...)
	cancel()
	<-done
	if err != nil {
		t.Fatalf("install %s: %v\n%s", version, err, out)
	}
}

// configure labels the pods by a value, changes that, and takes the change back.
func (w *world) configure(t *testing.T, m material, version string, content []*unstructured.Unstructured) {
	t.Helper()
	var deployment *unstructured.Unstructured
	for _, u := range content {
		if u.GetKind() == "Deployment" && u.GetName() == m.name {
			deployment = u
		}
	}
	if deployment == nil {
		t.Fatalf("no Deployment %s", m.name)
	}
	labelled := func() string {
		if got := w.live(t, deployment); got != nil {
			labels, _, _ := unstructured.NestedStringMap(got.Object, "spec", "template", "metadata", "labels")
			return labels["tier"]
		}
		return ""
	}
	until := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); labelled() != want; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the label is %q, never %q", labelled(), want)
			}
		}
	}
	w.install(t, version, "--set", "podLabels.tier=one")
	until("one")
	w.install(t, version, "--set", "podLabels.tier=two")
	until("two")
	w.drover(t, "addon", "config", "rollback", "AddOnConfig/shop/"+m.name, "--to", "1", "--yes")
	until("one")
}
