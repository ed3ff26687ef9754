// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func withLifecycle(c *Config) { c.Lifecycle = true }

func nsJSON(name string) string {
	return `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + name + `"}}`
}

func workJSON(name string) string {
	return `{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"` + name + `"},` +
		`"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}]}}}`
}

func TestNamespaceLifecycle(t *testing.T) {
	t.Parallel()
	h := newHub(t, withLifecycle)
	refused := func(what string, a answered, code int, want string) {
		t.Helper()
		if a.code != code || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s, want %d with %s", what, a.code, a.body, code, want)
		}
	}
	refused("no namespace", h.do(http.MethodPost, worksPath, workJSON("w")), 404, `namespaces \"c1\" not found`)
	refused("no namespace, by apply", h.do(http.MethodPatch, worksPath+"/w?fieldManager=f", workJSON("w"), "Content-Type", applyPatch), 404, `namespaces \"c1\" not found`)
	ns := h.create(nsPath, nsJSON("c1"))
	if lbls, _ := meta(ns)["labels"].(map[string]any); lbls["kubernetes.io/metadata.name"] != "c1" {
		t.Errorf("labels %v", lbls)
	}
	h.create(worksPath, workJSON("w"))
	a := h.do(http.MethodDelete, nsPath+"/c1", "")
	if a.code != 200 || !strings.Contains(a.body, `"phase":"Terminating"`) || !strings.Contains(a.body, fleet.FinalizerNamespace) {
		t.Errorf("delete: %d %s", a.code, a.body)
	}
	refused("in a namespace that goes", h.do(http.MethodPost, worksPath, workJSON("w2")), 403, `"reason":"NamespaceTerminating"`)
	if a := h.do(http.MethodGet, worksPath+"/w", ""); a.code != 200 {
		t.Errorf("reading in it: %d", a.code)
	}
	h.create(clustersPath, clusterJSON("c2", ""))
	h.create(strings.ReplaceAll(worksPath, "c1", "c2"), workJSON("early"))
	h.create(nsPath, nsJSON("c2"))
	h.create(nsPath, nsJSON("default"))
	refused("the namespace of a cluster", h.do(http.MethodDelete, nsPath+"/c2", ""), 409, "delete the ManagedCluster first")
	refused("default", h.do(http.MethodDelete, nsPath+"/default", ""), 403, "may not be deleted")
}

func TestPropagation(t *testing.T) {
	t.Parallel()
	h := newHub(t, withLifecycle)
	const orphan, foreground = metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents
	tests := []struct {
		name, before, query, body string
		want                      string // finalizers left, or "gone"
	}{
		{"default", ``, "", "", "gone"},
		{"background", ``, "propagationPolicy=Background", "", "gone"},
		{"foreground", ``, "", `{"propagationPolicy":"Foreground"}`, foreground},
		{"orphan", ``, "propagationPolicy=Orphan", "", orphan},
		{"the old way to orphan", ``, "orphanDependents=true", "", orphan},
		{"default keeps what was asked for", `"foregroundDeletion"`, "", "", foreground},
		{"background takes it back", `"foregroundDeletion"`, "propagationPolicy=Background", "", "gone"},
		{"others stay", `"a.b/c","orphan"`, "propagationPolicy=Foreground", "", "a.b/c " + foreground},
		{"dry run", ``, "propagationPolicy=Foreground&dryRun=All", "", ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := fmt.Sprintf("%s/p%d", clustersPath, i)
			body := strings.Replace(clusterJSON(fmt.Sprintf("p%d", i), ""), `"metadata":{`, `"metadata":{"finalizers":[`+tt.before+`],`, 1)
			h.create(clustersPath, body)
			if a := h.do(http.MethodDelete, path+"?"+tt.query, tt.body); a.code != 200 {
				t.Fatalf("%d %s", a.code, a.body)
			}
			a := h.do(http.MethodGet, path, "")
			got := "gone"
			if a.code == 200 {
				var words []string
				for _, f := range finalizers(a.object(t)) {
					words = append(words, fmt.Sprint(f))
				}
				got = strings.Join(words, " ")
				if deleting(a.object(t)) != (tt.want != "") {
					t.Errorf("deletionTimestamp %q", metaString(a.object(t), "deletionTimestamp"))
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	// who changes their mind is heard
	h.create(clustersPath, clusterJSON("mind", ""))
	h.do(http.MethodDelete, clustersPath+"/mind?propagationPolicy=Foreground", "")
	if a := h.do(http.MethodDelete, clustersPath+"/mind?propagationPolicy=Background", ""); a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := h.do(http.MethodGet, clustersPath+"/mind", ""); a.code != 404 {
		t.Errorf("still there: %d %s", a.code, a.body)
	}
	if a := h.do(http.MethodDelete, clustersPath+"/x?propagationPolicy=Never", ""); a.code != 422 {
		t.Errorf("an unknown policy: %d %s", a.code, a.body)
	}
}

const registryPath = "/apis/clusterregistry.k8s.io/v1alpha1/clusters"

func registryJSON(name, more string) string {
	return `{"apiVersion":"clusterregistry.k8s.io/v1alpha1","kind":"Cluster","metadata":{"name":"` + name + `"` + more + `},"spec":{}}`
}

// TestCreateByUpdate: a PUT creates where the cluster registry says so, for who
// may create.
func TestCreateByUpdate(t *testing.T) {
	t.Parallel()
	policy := auth.NewPolicy(auth.Objects{
		ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"update", "patch", "get"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
		}}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
			RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}},
		}},
	})
	h := newHub(t, func(c *Config) { c.Authorizer = auth.RBAC{Source: sourceFunc(func() *auth.Policy { return policy })} })
	bob := h.config("bob")
	tests := []struct {
		name, path, body string
		asBob            bool
		code             int
		want             string
	}{
		{"creates", registryPath + "/a", registryJSON("a", ""), false, 201, `"generation":1`},
		{"updates", registryPath + "/a", registryJSON("a", `,"labels":{"x":"y"}`), false, 200, `"x":"y"`},
		{"dry run", registryPath + "/b?dryRun=All", registryJSON("b", ""), false, 201, `"name":"b"`},
		{"with a revision", registryPath + "/c", registryJSON("c", `,"resourceVersion":"5"`), false, 409, "does not exist"},
		{"with a uid", registryPath + "/c", registryJSON("c", `,"uid":"u"`), false, 409, "does not exist"},
		{"another name", registryPath + "/c", registryJSON("d", ""), false, 400, "does not match"},
		{"without the right to create", registryPath + "/e", registryJSON("e", ""), true, 403, "cannot create"},
		{"another kind", clustersPath + "/e", clusterJSON("e", ""), false, 404, "not found"},
		{"another kind, no right", clustersPath + "/e", clusterJSON("e", ""), true, 404, "not found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := h.admin()
			if tt.asBob {
				cfg = bob
			}
			if a := h.doAs(cfg, http.MethodPut, tt.path, tt.body); a.code != tt.code || !strings.Contains(a.body, tt.want) {
				t.Errorf("%d %s, want %d with %s", a.code, a.body, tt.code, tt.want)
			}
		})
	}
	if a := h.do(http.MethodGet, registryPath+"/b", ""); a.code != 404 {
		t.Errorf("a dry run stored something: %d", a.code)
	}
	// an apply creates too, and needs the same right
	if a := h.doAs(bob, http.MethodPatch, clustersPath+"/f?fieldManager=f", clusterJSON("f", ""), "Content-Type", applyPatch); a.code != 403 || !strings.Contains(a.body, "cannot create") {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// TestReviewsOfOthers: what a SubjectAccessReview says of somebody is what they
// would be answered.
func TestReviewsOfOthers(t *testing.T) {
	t.Parallel()
	policy := auth.NewPolicy(auth.Objects{
		ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"events"}},
		}}},
		RoleBindings: []*rbacv1.RoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "n1"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"},
			Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}, {Kind: "Group", Name: "ops"}},
		}},
	})
	h := newHub(t, func(c *Config) { c.Authorizer = auth.RBAC{Source: sourceFunc(func() *auth.Policy { return policy })} })
	const whole, local = "/apis/authorization.k8s.io/v1/subjectaccessreviews", "/apis/authorization.k8s.io/v1/namespaces/n1/localsubjectaccessreviews"
	attrs := func(ns string) string {
		return `"resourceAttributes":{"verb":"get","resource":"events","name":"e","namespace":"` + ns + `"}`
	}
	tests := []struct {
		name, path, spec string
		code             int
		want             string
	}{
		{"may", whole, `"user":"bob",` + attrs("n1"), 201, `"allowed":true`},
		{"may by group", whole, `"user":"eve","groups":["ops"],` + attrs("n1"), 201, `"allowed":true`},
		{"group alone", whole, `"groups":["ops"],` + attrs("n1"), 201, `"allowed":true`},
		{"elsewhere", whole, `"user":"bob",` + attrs("n2"), 201, `"allowed":false`},
		{"somebody else", whole, `"user":"eve",` + attrs("n1"), 201, `"allowed":false`},
		{"masters", whole, `"user":"eve","groups":["system:masters"],` + attrs("n2"), 201, `"allowed":true`},
		{"a path", whole, `"user":"bob","groups":["system:authenticated"],"nonResourceAttributes":{"verb":"get","path":"/apis"}`, 201, `"allowed":true`},
		{"local", local, `"user":"bob",` + attrs("n1"), 201, `"allowed":true`},
		{"local, of elsewhere", local, `"user":"bob",` + attrs("n2"), 422, "must match metadata.namespace"},
		{"local, of a path", local, `"user":"bob","nonResourceAttributes":{"verb":"get","path":"/apis"}`, 422, "disallowed"},
		{"nobody", whole, attrs("n1"), 422, "user or group"},
		{"nothing", whole, `"user":"bob"`, 422, "exactly one of"},
		{"both", whole, `"user":"bob","nonResourceAttributes":{"verb":"get","path":"/"},` + attrs("n1"), 422, "in combination"},
		{"local without a namespace", strings.Replace(local, "/namespaces/n1", "", 1), `"user":"bob",` + attrs("n1"), 404, "NotFound"},
		{"in a namespace", strings.Replace(whole, "v1/", "v1/namespaces/n1/", 1), `"user":"bob",` + attrs("n1"), 404, "NotFound"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.do(http.MethodPost, tt.path, `{"spec":{`+tt.spec+`}}`)
			if a.code != tt.code || !strings.Contains(a.body, tt.want) || !json.Valid([]byte(a.body)) {
				t.Errorf("%d %s, want %d with %s", a.code, a.body, tt.code, tt.want)
			}
		})
	}
	if a := h.doAs(h.config("bob"), http.MethodPost, whole, `{"spec":{"user":"eve",`+attrs("n1")+`}}`); a.code != 403 {
		t.Errorf("bob asks about eve: %d", a.code)
	}
	if a := h.doAs(h.config("bob"), http.MethodPost, "/apis/authentication.k8s.io/v1beta1/selfsubjectreviews", `{}`); a.code != 201 || !strings.Contains(a.body, user.AllAuthenticated) {
		t.Errorf("whoami of old: %d %s", a.code, a.body)
	}
}
