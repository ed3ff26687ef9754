// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubediscovery "k8s.io/client-go/discovery"
)

const (
	acceptTable   = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
	acceptPartial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

// fixed replaces what differs between runs.
func fixed(text string) string {
	for pattern, with := range map[string]string{
		`"uid": ?"[0-9a-f-]{36}"`:            `"uid": "UID"`,
		`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"`: `"TIME"`,
		`"resourceVersion": ?"\d+"`:          `"resourceVersion": "RV"`,
		`"(goVersion|platform)": ?"[^"]*"`:   `"$1": "X"`,
		`(?m)^(\s+)"\d+s"$`:                  `$1"AGE"`,
		`hash=[0-9A-F]{128}`:                 `hash=HASH`,
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	return text
}

// full is a cluster with all that columns show.
func (h *hub) full(name string) {
	h.t.Helper()
	h.create(clustersPath, clusterJSON(name, `"hubAcceptsClient":true,"managedClusterClientConfigs":[{"url":"https://a"},{"url":"https://b"}]`))
	a := h.patch(mergePatch, clustersPath+"/"+name+"/status", `{"status":{"version":{"kubernetes":"v1.36.3"},"agent":{"nodes":3},"conditions":[
		{"type":"ManagedClusterJoined","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},
		{"type":"ManagedClusterConditionAvailable","status":"Unknown","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	if a.code != http.StatusOK {
		h.t.Fatalf("%d %s", a.code, a.body)
	}
}

// TestGolden holds the shapes that clients rely on.
func TestGolden(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.full("c1")
	h.create(tokensPath, tokenJSON("t1"))
	h.create(nsPath, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c1"}}`)
	h.create(nsPath+"/c1/events", `{"apiVersion":"v1","kind":"Event","metadata":{"name":"e1"},"involvedObject":{"kind":"ManagedCluster","name":"c1"},"type":"Warning","reason":"Lost","message":"agent is gone","lastTimestamp":null}`)
	tests := []struct {
		name, path, accept string
	}{
		{"version", "/version", ""},
		{"api", "/api", ""},
		{"apis", "/apis", ""},
		{"api-v1", "/api/v1", ""},
		{"apis-cluster", "/apis/cluster.open-cluster-management.io", ""},
		{"apis-fleet-v1alpha1", "/apis/fleet.drover.io/v1alpha1", ""},
		{"api-aggregated", "/api", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
		{"apis-aggregated", "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"},
		{"openapi-v3", "/openapi/v3", ""},
		{"cluster", clustersPath + "/c1", ""},
		{"cluster-yaml", clustersPath + "/c1", "application/yaml"},
		{"cluster-table", clustersPath + "/c1", acceptTable},
		{"clusters", clustersPath, ""},
		{"clusters-table", clustersPath, acceptTable},
		{"clusters-table-none", clustersPath + "?includeObject=None", acceptTable},
		{"clusters-table-object", clustersPath + "?includeObject=Object", acceptTable},
		{"clusters-partial", clustersPath, acceptPartial},
		{"tokens-table", tokensPath + "?includeObject=None", acceptTable},
		{"namespaces-table", nsPath + "?includeObject=None", acceptTable},
		{"events-table", "/api/v1/events?includeObject=None", acceptTable},
		{"not-found", clustersPath + "/c9", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.do(http.MethodGet, tt.path, "", "Accept", tt.accept)
			body := a.body
			if tt.accept != "application/yaml" {
				body = indent(t, body)
			} else {
				body = regexp.MustCompile(`(?m)(uid|resourceVersion|creationTimestamp|time): .*`).ReplaceAllString(body, "$1: X")
			}
			golden(t, tt.name, fmt.Sprintf("%d %s\n%s", a.code, a.header.Get("Content-Type"), fixed(body)))
		})
	}
}

// TestDiscoveryClient lets client-go read all of discovery.
func TestDiscoveryClient(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	cfg := h.admin()
	cfg.Timeout = 5 * patience // the client's own is short for a slow machine
	client, err := kubediscovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	groups, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, l := range lists {
		for _, r := range l.APIResources {
			found[l.GroupVersion+"/"+r.Name] = true
		}
	}
	for _, want := range []string{
		"v1/namespaces", "v1/events", "cluster.open-cluster-management.io/v1/managedclusters/status",
		"work.open-cluster-management.io/v1/manifestworks", "fleet.drover.io/v1alpha1/jointokens",
	} {
		if !found[want] {
			t.Errorf("%s is not discovered (%d groups)", want, len(groups))
		}
	}
	if found["fleet.drover.io/v1alpha1/clustermetrics"] {
		t.Error("a virtual kind without a provider is discovered")
	}
	if _, err := client.OpenAPISchema(); err != nil {
		t.Errorf("OpenAPI v2: %v", err)
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	for path, gv := range paths {
		for _, form := range []string{"application/json", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"} {
			if data, err := gv.Schema(form); err != nil || len(data) == 0 {
				t.Errorf("OpenAPI v3 of %s as %s: %d bytes, %v", path, form, len(data), err)
			}
		}
	}
	if v, err := client.ServerVersion(); err != nil || v.Major != "1" {
		t.Errorf("version %v, %v", v, err)
	}
}

func TestOpenAPICaching(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal([]byte(h.do(http.MethodGet, "/openapi/v3", "").body), &index); err != nil {
		t.Fatal(err)
	}
	link := index.Paths["apis/cluster.open-cluster-management.io/v1"].ServerRelativeURL
	first := h.do(http.MethodGet, link, "")
	if first.code != 200 || first.header.Get("Cache-Control") != "public, immutable" || first.header.Get("Etag") == "" {
		t.Fatalf("%d %v", first.code, first.header)
	}
	if again := h.do(http.MethodGet, link, "", "If-None-Match", first.header.Get("Etag")); again.code != http.StatusNotModified {
		t.Errorf("with ETag: %d", again.code)
	}
	u, _ := url.Parse(link)
	if old := h.do(http.MethodGet, u.Path+"?hash=OLD", ""); old.code != http.StatusMovedPermanently || old.header.Get("Location") != link {
		t.Errorf("old hash: %d %s", old.code, old.header.Get("Location"))
	}
	if proto := h.do(http.MethodGet, "/openapi/v2", "", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"); proto.header.Get("Content-Type") != "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" {
		t.Errorf("v2: %d %s", proto.code, proto.header.Get("Content-Type"))
	}
}

// TestPaging lists in parts while objects come and go: one snapshot.
func TestPaging(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for i := range 25 {
		h.create(clustersPath, clusterJSON(fmt.Sprintf("c%02d", i), ``))
	}
	client := h.dynamic().Resource(clusters)
	var names []string
	token := ""
	for page := 0; ; page++ {
		list, err := client.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			names = append(names, item.GetName())
		}
		if page == 0 {
			if n := list.GetRemainingItemCount(); n == nil || *n != 15 {
				t.Errorf("remaining = %v, want 15", n)
			}
			h.do(http.MethodDelete, clustersPath+"/c20", "")
			h.create(clustersPath, clusterJSON("c11a", ``))
		}
		if token = list.GetContinue(); token == "" {
			break
		}
	}
	if len(names) != 25 || names[20] != "c20" {
		t.Errorf("got %d: %v", len(names), names)
	}
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for i, labels := range []string{`{"env":"prod","n":"1"}`, `{"env":"test"}`, `{}`} {
		h.create(clustersPath, fmt.Sprintf(`{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"c%d","labels":%s},"spec":{}}`, i, labels))
	}
	for i, name := range []string{"c0", "c1"} {
		h.create(nsPath+"/c0/events", fmt.Sprintf(`{"apiVersion":"v1","kind":"Event","metadata":{"name":"e%d"},"involvedObject":{"kind":"ManagedCluster","name":%q,"uid":"u%d"},"reason":"R"}`, i, name, i))
	}
	tests := []struct {
		name, path, query string
		want              string
	}{
		{"equal", clustersPath, "labelSelector=env=prod", "c0"},
		{"not equal", clustersPath, "labelSelector=env!=prod", "c1 c2"},
		{"set", clustersPath, "labelSelector=env in (prod,test),!n", "c1"},
		{"name", clustersPath, "fieldSelector=metadata.name=c1", "c1"},
		{"not name", clustersPath, "fieldSelector=metadata.name!=c1", "c0 c2"},
		{"both", clustersPath, "fieldSelector=metadata.name=c1&labelSelector=env=prod", ""},
		{"any state", clustersPath, "resourceVersion=0", "c0 c1 c2"},
		{"involved", "/api/v1/events", "fieldSelector=involvedObject.name=c1,involvedObject.uid=u1", "e1"},
		{"namespace", "/api/v1/events", "fieldSelector=metadata.namespace=c0", "e0 e1"},
		{"other namespace", nsPath + "/c1/events", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			a := h.do(http.MethodGet, tt.path+"?"+q.Encode(), "")
			var names []string
			items, _ := a.object(t)["items"].([]any)
			for _, item := range items {
				names = append(names, metaString(item.(map[string]any), "name"))
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got %q, want %q: %s", got, tt.want, a.body)
			}
		})
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	pad := strings.Repeat("x", 100<<10)
	for i := range 3 {
		h.create(clustersPath, clusterJSON(fmt.Sprintf("c%d", i), `"managedClusterClientConfigs":[{"url":"u","caBundle":"`+pad+`"}]`))
	}
	plain := h.do(http.MethodGet, clustersPath, "", "Accept-Encoding", "identity")
	if plain.header.Get("Content-Encoding") != "" || len(plain.body) < 300<<10 {
		t.Fatalf("plain: %v, %d bytes", plain.header, len(plain.body))
	}
	small := h.do(http.MethodGet, clustersPath+"/c0", "", "Accept-Encoding", "gzip")
	if small.header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
	packed := h.do(http.MethodGet, clustersPath, "", "Accept-Encoding", "gzip")
	if packed.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("headers %v", packed.header)
	}
	r, err := gzip.NewReader(strings.NewReader(packed.body))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(data, []byte(plain.body)) {
		t.Errorf("unpacked %d bytes, %v; want %d", len(data), err, len(plain.body))
	}
}

// samples is a provider of two clusters' metrics.
type samples struct{}

func (samples) Get(_ context.Context, _, name string) (map[string]any, error) {
	if name != "c1" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: metrics.Group, Resource: metrics.Resource}, name)
	}
	return map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"a": "b"}}, "connected": true, "kubernetes": map[string]any{"nodes": int64(3)}}, nil
}

func (s samples) List(ctx context.Context, ns string) ([]map[string]any, error) {
	one, err := s.Get(ctx, ns, "c1")
	return []map[string]any{one, {"metadata": map[string]any{"name": "c2"}, "connected": false}}, err
}

func TestVirtual(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.Virtual = map[schema.GroupVersionResource]Provider{metrics: samples{}} })
	path := "/apis/fleet.drover.io/v1alpha1/clustermetrics"
	tests := []struct {
		name, method, path, accept string
		code                       int
		want                       string
	}{
		{"get", "GET", path + "/c1", "", 200, `"apiVersion":"fleet.drover.io/v1alpha1","kind":"ClusterMetrics"`},
		{"missing", "GET", path + "/c9", "", 404, "not found"},
		{"list", "GET", path, "", 200, `"kind":"ClusterMetricsList"`},
		{"selector", "GET", path + "?labelSelector=a%3Db&fieldSelector=metadata.name%3Dc2", "", 200, `"items":[]`},
		{"table", "GET", path, acceptTable, 200, `"cells":["c1",true,null,3,null,null,null]`},
		{"watch", "GET", path + "?watch=true", "", 405, "MethodNotAllowed"},
		{"create", "POST", path, "", 405, "MethodNotAllowed"},
		{"delete", "DELETE", path + "/c1", "", 405, "MethodNotAllowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.do(tt.method, tt.path, "", "Accept", tt.accept)
			if a.code != tt.code || !strings.Contains(a.body, tt.want) {
				t.Errorf("%d %s, want %d %s", a.code, a.body, tt.code, tt.want)
			}
		})
	}
}
