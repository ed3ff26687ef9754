// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// credential is a client certificate and its key, PEM.
type credential struct{ chain, key []byte }

// signUsers makes client certificates with the CA of a hub that does not run.
func signUsers(t *testing.T, dir string, users map[string][]string) map[string]credential {
	t.Helper()
	h, err := New(Config{DataDir: dir, Listen: "127.0.0.1:0", Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{urls: []string{"https://127.0.0.1:1"}}
	if p.broker, err = broker.Open(broker.Config{Dir: h.cfg.path("nats"), Log: h.log}); err != nil {
		t.Fatal(err)
	}
	defer p.broker.Close()
	if err := h.openStores(timeout(t), p); err != nil {
		t.Fatal(err)
	}
	out := map[string]credential{}
	for name, groups := range users {
		key, err := identity.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := identity.NewUserRequest(key, name)
		if err != nil {
			t.Fatal(err)
		}
		issued, err := p.ca.SignUser(timeout(t), csr, name, groups)
		if err != nil {
			t.Fatal(err)
		}
		text, err := identity.MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = credential{issued.ChainPEM, text}
	}
	return out
}

// as is a client with a user's certificate; change edits its configuration.
func (r *running) as(c credential, change ...func(*rest.Config)) dynamic.Interface {
	r.t.Helper()
	cfg := r.config()
	if c.chain != nil {
		cfg.CertData, cfg.KeyData = c.chain, c.key
	}
	for _, f := range change {
		f(cfg)
	}
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(hc.CloseIdleConnections)
	d, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func sets() schema.GroupVersionResource {
	return of(cluster.Group, cluster.VersionSets, "managedclustersets")
}

// names of what a client sees of a resource, or the reason why it sees nothing.
func names(ctx context.Context, c dynamic.Interface, resource schema.GroupVersionResource) string {
	list, err := c.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return string(apierrors.ReasonForError(err))
	}
	var out []string
	for _, o := range list.Items {
		out = append(out, strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestTenants: two people who may look into one set of clusters each, over the
// real port with real client certificates.
func TestTenants(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	who := signUsers(t, dir, map[string][]string{"ann": nil, "bob": {"red-team"}, "eve": nil})
	r := start(t, dir, nil)
	ctx, admin := timeout(t), r.client()
	ann, bob, eve := r.as(who["ann"]), r.as(who["bob"]), r.as(who["eve"])
	events, namespaces := of("", "v1", "events"), of("", "v1", "namespaces")
	rbac := func(resource string) schema.GroupVersionResource {
		return of("rbac.authorization.k8s.io", "v1", resource)
	}
	create := func(resource schema.GroupVersionResource, ns, text string) {
		t.Helper()
		if _, err := admin.Resource(resource).Namespace(ns).Create(ctx, object(t, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, set := range map[string]string{"a1": "blue", "a2": "blue", "b1": "red"} {
		create(clusters(), "", fmt.Sprintf("{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: %s, labels: {cluster.open-cluster-management.io/clusterset: %s}}, spec: {hubAcceptsClient: false}}", name, set))
		create(events, name, fmt.Sprintf("{apiVersion: v1, kind: Event, metadata: {name: e}, involvedObject: {kind: ManagedCluster, name: %s, namespace: %s}, reason: Seen, message: x, type: Normal}", name, name))
		create(works(), name, "{apiVersion: work.open-cluster-management.io/v1, kind: ManifestWork, metadata: {name: w}, spec: {workload: {manifests: [{apiVersion: v1, kind: Secret, metadata: {name: x}}]}}}")
	}
	for set, subject := range map[string]string{"blue": "{kind: User, name: ann}", "red": "{kind: Group, name: red-team}"} {
		create(sets(), "", "{apiVersion: cluster.open-cluster-management.io/v1beta2, kind: ManagedClusterSet, metadata: {name: "+set+"}, spec: {}}")
		create(rbac("clusterroles"), "", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: view-"+set+"}, rules: [{apiGroups: [cluster.open-cluster-management.io], resources: [managedclustersets], resourceNames: ["+set+"], verbs: [view]}]}")
		create(rbac("clusterrolebindings"), "", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: view-"+set+"}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view-"+set+"}, subjects: ["+subject+"]}")
	}
	see := func(what string, c dynamic.Interface, resource schema.GroupVersionResource, want string) {
		t.Helper()
		until(t, what, func() bool {
			got := names(ctx, c, resource)
			if got != want {
				t.Logf("%s: %q, want %q", what, got, want)
			}
			return got == want
		})
	}
	see("ann's clusters", ann, clusters(), "a1 a2")
	see("bob's clusters", bob, clusters(), "b1")
	see("ann's events", ann, events, "a1/e a2/e")
	see("bob's events", bob, events, "b1/e")
	see("ann's namespaces", ann, namespaces, "a1 a2")
	see("ann's sets", ann, sets(), "blue")
	see("metrics while no agent is connected", ann, of(fleet.Group, fleet.Version, "clustermetrics"), "")
	see("works may hold secrets", ann, works(), "Forbidden")
	see("eve", eve, clusters(), "Forbidden")
	if _, err := ann.Resource(clusters()).Get(ctx, "a1", metav1.GetOptions{}); err != nil {
		t.Errorf("ann gets a1: %v", err)
	}
	if _, err := ann.Resource(clusters()).Get(ctx, "b1", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("ann gets b1: %v", err)
	}
	see("the admin as ann", r.as(credential{}, func(c *rest.Config) { c.Impersonate.UserName = "ann" }), clusters(), "a1 a2")
	see("ann as the admin", r.as(who["ann"], func(c *rest.Config) { c.Impersonate.UserName = "admin" }), clusters(), "Forbidden")

	follow := func(c dynamic.Interface, resource schema.GroupVersionResource) func(want ...string) {
		t.Helper()
		list, err := c.Resource(resource).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.Resource(resource).Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return func(want ...string) {
			t.Helper()
			for _, line := range want {
				select {
				case ev := <-w.ResultChan():
					got := string(ev.Type)
					if ev.Type == watch.Error {
						got += " " + string(apierrors.ReasonForError(apierrors.FromObject(ev.Object)))
					} else if ev.Object != nil {
						got += " " + ev.Object.(metav1.Object).GetName()
					}
					if got != line {
						t.Fatalf("watch of %s: %q, want %q", resource.Resource, got, line)
					}
				case <-ctx.Done():
					t.Fatalf("watch of %s: no %q", resource.Resource, line)
				}
			}
		}
	}
	annClusters, bobClusters, annEvents := follow(ann, clusters()), follow(bob, clusters()), follow(ann, events)
	patch := `{"metadata":{"labels":{"cluster.open-cluster-management.io/clusterset":"red"}}}`
	if _, err := admin.Resource(clusters()).Patch(ctx, "a2", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	annClusters("DELETED a2")
	bobClusters("ADDED a2")
	annEvents("ERROR Expired")
	see("ann's events afterwards", ann, events, "a1/e")
	see("bob's events afterwards", bob, events, "a2/e b1/e")
	if err := admin.Resource(rbac("clusterrolebindings")).Delete(ctx, "view-blue", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	annClusters("ERROR Expired")
	see("ann without a binding", ann, clusters(), "Forbidden")

	// who may change a set must not see more by it
	create(rbac("clusterroles"), "", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: red-sets}, rules: [{apiGroups: [cluster.open-cluster-management.io], resources: [managedclustersets], resourceNames: [red], verbs: [get, update, patch]}]}")
	create(rbac("clusterrolebindings"), "", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: red-sets}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: red-sets}, subjects: [{kind: Group, name: red-team}]}")
	until(t, "bob may change his set, but not its selector", func() bool {
		_, err := bob.Resource(sets()).Patch(ctx, "red", types.MergePatchType, []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{})
		return err == nil
	})
	_, err := bob.Resource(sets()).Patch(ctx, "red", types.MergePatchType, []byte(`{"spec":{"clusterSelector":{"selectorType":"LabelSelector","labelSelector":{}}}}`), metav1.PatchOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "labelSelector") {
		t.Errorf("bob widens his set: %v", err)
	}
}
