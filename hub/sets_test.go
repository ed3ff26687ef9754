// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"strings"
	"testing"

	"github.com/drover-io/drover/shared/apis/cluster"
)

const (
	clustersPath = "/apis/cluster.open-cluster-management.io/v1/managedclusters"
	registryPath = "/apis/clusterregistry.k8s.io/v1alpha1/clusters"
)

// TestRightsOnSets: moving a cluster needs a right on the set it leaves and on the
// one it joins, and binding a set a right on it.
func TestRightsOnSets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	writes := allow("get create update patch", cluster.Group, "managedclusters managedclustersetbindings")
	r.grant("writer", writes)
	one := allow("create", cluster.Group, "managedclustersets/join managedclustersets/bind")
	one.ResourceNames = []string{"shops"}
	r.grant("shops", writes, one)
	r.grant("all", writes, allow("create", cluster.Group, "managedclustersets/join managedclustersets/bind"))
	label := func(set string) string {
		return `{"metadata":{"labels":{"cluster.open-cluster-management.io/clusterset":` + set + `}}}`
	}
	mc := func(name, set string) string {
		return `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"` + name + `","labels":{"cluster.open-cluster-management.io/clusterset":"` + set + `"}},"spec":{"hubAcceptsClient":false}}`
	}
	binding := func(set string) string {
		return `{"apiVersion":"cluster.open-cluster-management.io/v1beta2","kind":"ManagedClusterSetBinding","metadata":{"name":"` + set + `"},"spec":{"clusterSet":"` + set + `"}}`
	}
	const bindings = "/apis/cluster.open-cluster-management.io/v1beta2/namespaces/apps/managedclustersetbindings"
	r.steps([]step{
		{"default needs nothing", "writer", "POST", clustersPath, mc("a", "default"), 201, ""},
		{"create in a set", "writer", "POST", clustersPath, mc("b", "shops"), 403, "managedclustersets/join"},
		{"create with the right", "shops", "POST", clustersPath, mc("b", "shops"), 201, ""},
		{"leave", "writer", "PATCH", clustersPath + "/b", label("null"), 403, "managedclustersets/join"},
		{"other set", "shops", "PATCH", clustersPath + "/b", label(`"labs"`), 403, `"labs"`},
		{"other label", "writer", "PATCH", clustersPath + "/b", `{"metadata":{"labels":{"x":"y"}}}`, 200, ""},
		{"move", "all", "PATCH", clustersPath + "/b", label(`"labs"`), 200, ""},
		{"leave default, which the hub puts back", "writer", "PATCH", clustersPath + "/a", label("null"), 200, ""},
		{"through the registry", "root/system:masters", "PATCH", registryPath + "/b", label(`"shops"`), 200, ""},
		{"bind", "writer", "POST", bindings, binding("shops"), 403, "managedclustersets/bind"},
		{"bind another", "shops", "POST", bindings, binding("labs"), 403, "managedclustersets/bind"},
		{"bind with the right", "shops", "POST", bindings, binding("shops"), 201, ""},
	})
}

// TestTaintTimes: when a taint was added is the hub's to say.
func TestTaintTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const taint = `{"key":"k","effect":"NoSelect","timeAdded":"2001-01-01T00:00:00Z"}`
	code, text := r.do(rigRoot, "POST", clustersPath, `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"a"},"spec":{"hubAcceptsClient":false,"taints":[`+taint+`]}}`)
	if code != 201 || strings.Contains(text, "2001-") {
		t.Fatalf("create: %d %s", code, text)
	}
	_, added, _ := strings.Cut(text, `"timeAdded":"`)
	added = added[:20]
	code, text = r.do(rigRoot, "PATCH", clustersPath+"/a", `{"spec":{"taints":[`+taint+`,{"key":"l","effect":"NoSelect"}]}}`)
	if code != 200 || !strings.Contains(text, added) || strings.Count(text, "timeAdded") != strings.Count(text, "effect") {
		t.Errorf("update: %d, want %s kept in %s", code, added, text)
	}
}

// TestRegistryRights: the registry gives no rights over clusters whose agents are accepted.
func TestRegistryRights(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	all := "get create update patch delete"
	r.grant("registrar", allow(all, "clusterregistry.k8s.io", "clusters clusters/status"))
	r.grant("updater", allow("update", "clusterregistry.k8s.io", "clusters"))
	r.grant("both", allow(all, "clusterregistry.k8s.io", "clusters"), allow(all, cluster.Group, "managedclusters"))
	body := func(name, more string) string {
		return `{"apiVersion":"clusterregistry.k8s.io/v1alpha1","kind":"Cluster","metadata":{"name":"` + name + `"` + more + `},"spec":{"kubernetesApiEndpoints":{"serverEndpoints":[{"clientCIDR":"10.0.0.0/8","serverAddress":"10.1.1.1:6443"}]}}}`
	}
	const edit = `{"spec":{"authInfo":{"user":{"kind":"ServiceAccount","name":"viewer"}}}}`
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.sig"
	r.steps([]step{
		{"clusterName", "registrar", "POST", registryPath, body("a", `,"clusterName":"a"`), 422, "clusterName is not used and must not be set."},
		{"dots", "registrar", "POST", registryPath, body("a.b", ""), 422, "metadata.name"},
		{"credential", "registrar", "POST", registryPath, strings.Replace(body("a", ""), `"spec":{`, `"spec":{"authInfo":{"user":{"name":"`+jwt+`"}},`, 1), 422, "looks like a credential"},
		{"put without create", "updater", "PUT", registryPath + "/a", body("a", ""), 403, "create"},
		{"put with a revision", "registrar", "PUT", registryPath + "/a", body("a", `,"resourceVersion":"7"`), 409, ""},
		{"put creates", "registrar", "PUT", registryPath + "/a", body("a", ""), 201, ""},
		{"managed cluster", rigRoot, "GET", clustersPath + "/a", "", 200, `"hubAcceptsClient":false`},
		{"endpoint", rigRoot, "GET", clustersPath + "/a", "", 200, `"url":"https://10.1.1.1:6443"`},
		{"edit", "registrar", "PATCH", registryPath + "/a", edit, 200, "viewer"},
		{"status", "registrar", "PATCH", registryPath + "/a/status", `{"status":{"conditions":[{"type":"OK","status":"True","reason":"Checked"}]}}`, 200, "Checked"},
		{"a replace that knows nothing of the registry", rigRoot, "PATCH", clustersPath + "/a", `{"metadata":{"annotations":null}}`, 200, ""},
		{"loses nothing", "registrar", "GET", registryPath + "/a", "", 200, "viewer"},
		{"accept", rigRoot, "PATCH", clustersPath + "/a", `{"spec":{"hubAcceptsClient":true}}`, 200, ""},
		{"edit of an accepted one", "registrar", "PATCH", registryPath + "/a", `{"metadata":{"labels":{"x":"y"}}}`, 403, "its agent is accepted"},
		{"deletion of an accepted one", "registrar", "DELETE", registryPath + "/a", "", 403, "its agent is accepted"},
		{"edit with both rights", "both", "PATCH", registryPath + "/a", `{"metadata":{"labels":{"x":"y"}}}`, 200, ""},
		{"deletion with both rights", "both", "DELETE", registryPath + "/a", "", 200, ""},
		{"is gone", rigRoot, "GET", clustersPath + "/a", "", 404, ""},
	})
}
