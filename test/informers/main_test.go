// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package informers runs Kubernetes' own informers and reflectors against the
// real hub: what they hold must be what the hub has, whatever happens to it.
package informers

import (
	"context"
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/test/local"
)

// binaries is the folder of the program under test.
var binaries string //nolint:gochecknoglobals // set once, before any test

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, m.Run)) }

// patience bounds every wait; it is reached only when the test fails.
const patience = 60 * time.Second

// kind is one that the test writes.
type kind struct {
	schema.GroupVersionResource
	kind      string
	namespace string
}

func kinds() []kind {
	return []kind{
		{schema.GroupVersionResource{Group: cluster.Group, Version: cluster.Version, Resource: "managedclusters"}, cluster.Kind, ""},
		{schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}, work.Kind, "shop"},
		{schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "Namespace", ""},
		{schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}, "ClusterRole", ""},
	}
}

func (k kind) of(c dynamic.Interface) dynamic.ResourceInterface {
	if k.namespace == "" {
		return c.Resource(k.GroupVersionResource)
	}
	return c.Resource(k.GroupVersionResource).Namespace(k.namespace)
}

func (k kind) object(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(k.GroupVersion().String())
	u.SetKind(k.kind)
	u.SetName(name)
	u.SetNamespace(k.namespace)
	switch k.kind {
	case cluster.Kind:
		u.Object["spec"] = map[string]any{"hubAcceptsClient": false}
	case work.Kind:
		u.Object["spec"] = map[string]any{"workload": map[string]any{"manifests": []any{}}}
	case "ClusterRole":
		u.Object["rules"] = []any{}
	}
	return u
}

func startHub(t *testing.T) *local.Hub {
	t.Helper()
	h, err := local.Programs(binaries).StartHub(t.Context(), t.TempDir(), "127.0.0.1:0", local.Unlimited()...)
	if h.Process != nil {
		t.Cleanup(func() {
			h.Process.Stop(20 * time.Second)
			if t.Failed() {
				t.Logf("the hub's log:\n%s", h.Process.Tail())
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds() {
		if k.namespace == "" {
			continue
		}
		namespaces := newClient(t, h).Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": k.namespace}}}
		if _, err := namespaces.Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// newClient has connections of its own.
func newClient(t *testing.T, h *local.Hub) dynamic.Interface {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", h.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{} // the works are for nobody on purpose
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually polls until f returns no error.
func eventually(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// present is what the hub has of a kind, by key.
func present(ctx context.Context, c dynamic.Interface, k kind) (map[string]*unstructured.Unstructured, error) {
	list, err := c.Resource(k.GroupVersionResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		all[key(&list.Items[i])] = &list.Items[i]
	}
	return all, nil
}

func key(u *unstructured.Unstructured) string { return u.GetNamespace() + "/" + u.GetName() }
