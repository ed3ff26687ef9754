// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
)

// FuzzSight: no query, and no continue token that somebody made up, shows an
// object that its caller may not see.
func FuzzSight(f *testing.F) {
	authz := auth.RBAC{Source: sourceFunc(func() *auth.Policy { return nil })}
	policy := auth.NewPolicy(auth.Objects{
		ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"managedclusters"}, ResourceNames: []string{"c1", "c3"}},
		}}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
			RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "ann"}},
		}},
	})
	authz.Source = sourceFunc(func() *auth.Policy { return policy })
	h := newHub(f, func(c *Config) {
		c.Authorizer, c.Sight = authz, authz
		c.Authenticator = authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			if r.TLS != nil {
				return everybody(r)
			}
			return &authenticator.Response{User: &user.DefaultInfo{Name: "ann", Groups: []string{user.AllAuthenticated}}}, true, nil
		})
	})
	for _, name := range []string{"c1", "c2", "c3", "c4"} {
		h.create(clustersPath, strings.Replace(clusterJSON(name, ""), `"metadata":{`, `"metadata":{"labels":{"mark":"`+name+`x"},`, 1))
	}
	page, err := h.store.List(f.Context(), store.Selection{Resource: clusters.Resource + "." + clusters.Group, Limit: 1})
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []string{
		"", "limit=1", "continue=" + url.QueryEscape(page.Continue), "continue=AAAA", "fieldSelector=metadata.name=c2", "labelSelector=mark=c2x",
		"labelSelector=mark!=c1x", "resourceVersion=0", "includeObject=Object", "limit=1&continue=" + url.QueryEscape(page.Continue),
	} {
		f.Add(q, false)
		f.Add(q, true)
	}
	f.Fuzz(func(t *testing.T, query string, asTable bool) {
		r, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		r.Del("watch")
		if len(r.Get("resourceVersion")) > 2 {
			r.Del("resourceVersion") // waiting for the future takes 3 s
		}
		if asTable {
			r.Set("includeObject", "Object")
		}
		w := ask(t, h, http.MethodGet, clustersPath+"?"+r.Encode(), mediaJSON, nil)
		if body := w.Body.String(); w.Code == http.StatusOK && (strings.Contains(body, "c2x") || strings.Contains(body, "c4x") || strings.Contains(body, "remainingItemCount")) {
			t.Fatalf("%s: %s", query, body)
		}
	})
}

// FuzzStrategicPatch: whatever the patch, what is stored stays valid.
func FuzzStrategicPatch(f *testing.F) {
	h := newFuzzHub(f)
	const path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
	h.create(path, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"r","finalizers":["a.b/c"]},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["events"]}]}`)
	for _, seed := range []string{
		`{}`, `{"rules":null}`, `{"rules":[{"$patch":"replace"}]}`, `{"$patch":"delete"}`, `{"metadata":{"$retainKeys":["name"]}}`,
		`{"metadata":{"$deleteFromPrimitiveList/finalizers":["a.b/c"],"$setElementOrder/finalizers":["x"]}}`, `{"rules":[{"verbs":["get"],"$patch":"merge"}]}`,
		`{"metadata":{"labels":{"a":null}}}`, `{"a":1,"a":2}`, `[]`, `{"$setElementOrder/rules":[{}]}`, `{"aggregationRule":{"clusterRoleSelectors":[{}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ask(t, h, http.MethodPatch, path+"/r?fieldManager=f", "application/strategic-merge-patch+json", body)
		entry, err := h.store.Get(t.Context(), store.Key{Resource: auth.ResourceClusterRoles, Name: "r"})
		if err != nil {
			t.Fatal(err)
		}
		r := h.api.current.Load().resources[rbacv1.SchemeGroupVersion.WithResource("clusterroles")]
		obj, err := r.decodeStored(entry.Data, entry.Revision)
		if err != nil {
			t.Fatal(err)
		}
		if errs, err := r.Validate(t.Context(), obj); err != nil || len(errs) > 0 {
			t.Fatalf("stored an invalid object: %v %v\n%s", errs, err, entry.Data)
		}
	})
}
