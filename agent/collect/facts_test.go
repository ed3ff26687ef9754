// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/wire"
)

const claimCRD = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
"metadata":{"name":"clusterclaims.cluster.open-cluster-management.io"},
"spec":{"group":"cluster.open-cluster-management.io","scope":"Cluster",
"names":{"kind":"ClusterClaim","listKind":"ClusterClaimList","plural":"clusterclaims","singular":"clusterclaim"},
"versions":[{"name":"v1alpha1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object",
"properties":{"spec":{"type":"object","properties":{"value":{"type":"string"}}}}}}}]}}`

// What a real cluster serves and claims, as it changes.
func TestFactsOfCluster(t *testing.T) {
	t.Parallel()
	cfg := shared.Cluster(t).RESTConfig()
	k, err := NewKubernetes(cfg)
	if err != nil {
		t.Fatal(err)
	}
	collect := func() wire.KubernetesStatus {
		t.Helper()
		k.served.next = time.Time{} // not to wait for the next look
		_, status, err := k.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	first := collect()
	digest, apis := k.APIs()
	if digest == "" || first.APIs != digest || wire.CheckAPIs(wire.APIs{Digest: digest, APIs: apis}) != "" {
		t.Fatalf("APIs %s: %s", digest, wire.CheckAPIs(wire.APIs{Digest: digest, APIs: apis}))
	}
	for _, api := range []string{"v1", "v1/Pod", "apps/v1", "apps/v1/Deployment", "autoscaling/v2/HorizontalPodAutoscaler", "apiextensions.k8s.io/v1/CustomResourceDefinition"} {
		if !slices.Contains(apis, api) {
			t.Errorf("%s is not among %d APIs", api, len(apis))
		}
	}
	if first.Claims != nil {
		t.Errorf("claims without the kind: %v", first.Claims)
	}
	if diff := cmp.Diff([]string{"amd64"}, first.Architectures); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d APIs; systems %v, runtimes %v", len(apis), first.OperatingSystems, first.ContainerRuntimes)

	// The same cluster asked group by group says the same.
	all, err := k.byGroup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	if diff := cmp.Diff(apis, slices.Compact(all)); diff != "" {
		t.Error(diff)
	}

	live := dynamic.NewForConfigOrDie(cfg)
	create := func(gvr schema.GroupVersionResource, body string) {
		t.Helper()
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(body)); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			_, err := live.Resource(gvr).Create(t.Context(), u, metav1.CreateOptions{})
			if err == nil {
				return
			}
			if time.Now().After(deadline) { // a CRD takes a moment
				t.Fatal(err)
			}
		}
	}
	create(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, claimCRD)
	claims := schema.GroupVersionResource{Group: "cluster.open-cluster-management.io", Version: "v1alpha1", Resource: "clusterclaims"}
	create(claims, `{"apiVersion":"cluster.open-cluster-management.io/v1alpha1","kind":"ClusterClaim","metadata":{"name":"region"},"spec":{"value":"eu"}}`)
	create(claims, `{"apiVersion":"cluster.open-cluster-management.io/v1alpha1","kind":"ClusterClaim","metadata":{"name":"inner","labels":{"open-cluster-management.io/spoke-only":""}},"spec":{"value":"x"}}`)
	var status wire.KubernetesStatus
	for deadline := time.Now().Add(time.Minute); len(status.Claims) == 0; time.Sleep(50 * time.Millisecond) {
		if status = collect(); time.Now().After(deadline) {
			t.Fatal("the claims are never seen")
		}
	}
	if diff := cmp.Diff(map[string]string{"region": "eu"}, status.Claims); diff != "" || status.APIs == digest {
		t.Errorf("digest %s:\n%s", status.APIs, diff)
	}
}

// An answer that did not change is not read again, and an API whose server is away
// stays.
func TestDiscover(t *testing.T) {
	t.Parallel()
	const (
		core = `{"kind":"APIGroupDiscoveryList","metadata":{},"items":[{"metadata":{},"versions":[{"version":"v1","resources":[
			{"resource":"pods","responseKind":{"group":"","version":"","kind":"Pod"},"subresources":[{"subresource":"log"}]},{"resource":"odd"}]}]}]}`
		widgets = `{"items":[{"metadata":{"name":"example.com"},"versions":[
			{"version":"v1","freshness":"Current","resources":[{"resource":"widgets","responseKind":{"group":"example.com","version":"v1","kind":"Widget"}}]},
			{"version":"v1beta1","freshness":"Current","resources":[]}]}]}`
		stale = `{"items":[{"metadata":{"name":"example.com"},"versions":[{"version":"v1","freshness":"Stale"}]}]}`
	)
	answers := map[string]string{"/api": core, "/apis": widgets}
	asked, unchanged := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		body := answers[r.URL.Path]
		tag := `"` + wire.DigestAPIs([]string{body}) + `"`
		if r.Header.Get("If-None-Match") == tag {
			unchanged++
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if body == "" || !strings.Contains(r.Header.Get("Accept"), "as=APIGroupDiscoveryList") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		w.Header().Set("Etag", tag)
		w.Write([]byte(body)) //nolint:errcheck // a test
	}))
	defer server.Close()
	k, err := NewKubernetes(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	look := func(what string, want ...string) {
		t.Helper()
		now = now.Add(discoverEvery)
		err := k.discover(t.Context(), now)
		if got := k.served.apis; !slices.Equal(got, want) || (err != nil) != (answers["/apis"] == "") {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	all := []string{"example.com/v1", "example.com/v1/Widget", "example.com/v1beta1", "v1", "v1/Pod"}
	look("first", all...)
	if err := k.discover(t.Context(), now.Add(discoverEvery/2)); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	look("again", all...)
	if unchanged != 2 {
		t.Errorf("%d answers said that nothing changed, want 2", unchanged)
	}
	answers["/apis"] = ""
	look("away", all...)
	answers["/apis"] = stale
	look("server of the group away", "example.com/v1", "example.com/v1/Widget", "v1", "v1/Pod")
}

func FuzzReadGroups(f *testing.F) {
	f.Add(`{"items":[{"metadata":{"name":"a"},"versions":[{"version":"v1","freshness":"Stale"}]}]}`)
	f.Add(`{"x":{"y":[]},"items":[]}`)
	f.Add(`{"items":{}}`)
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = readGroups(strings.NewReader(text), []string{"a/v1/B", "/"})
	})
}

func TestProductAndPlatform(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ version, api, product string }{
		{"v1.36.3", "v1", ""},
		{"v1.30.2-eks-1552ad0", "v1", "EKS"},
		{"v1.30.2-gke.1587000", "v1", "GKE"},
		{"v1.30.2+k3s1", "v1", "K3S"},
		{"v1.30.2+rke2r1", "v1", "RKE2"},
		{"v1.30.2", "config.openshift.io/v1", "OpenShift"},
	} {
		if got := product(tt.version, []string{tt.api}); got != tt.product {
			t.Errorf("%s %s: %q, want %q", tt.version, tt.api, got, tt.product)
		}
	}
	for id, want := range map[string]string{"aws:///eu-west-1a/i-1": "AWS", "kind://docker/k/k": "", "": "", "azure:///subscriptions/x": "Azure"} {
		if got := platform(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}
