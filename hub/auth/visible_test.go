// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"math/rand/v2"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Group: "g", Resource: "pods"}
	ns := schema.GroupResource{Resource: "namespaces"}
	tests := []struct {
		name     string
		rule     rbacv1.PolicyRule
		in       string // namespaces of the bindings, "-" everywhere
		resource schema.GroupResource
		// of "/a /b n1/a n1/b n2/a"
		want string
		all  bool
	}{
		{"nothing", rule("create", "g", "pods"), "-", pods, "", false},
		{"list", rule("list", "g", "pods"), "-", pods, "/a /b n1/a n1/b n2/a", true},
		{"all verbs", rule("*", "*", "*"), "-", pods, "/a /b n1/a n1/b n2/a", true},
		{"get all", rule("get", "g", "pods"), "-", pods, "/a /b n1/a n1/b n2/a", true},
		{"other group", rule("list,get", "h", "pods"), "-", pods, "", false},
		{"other resource", rule("list,get", "g", "nodes"), "-", pods, "", false},
		{"subresource", rule("list,get", "g", "pods/status"), "-", pods, "", false},
		{"get by name", rule("get", "g", "pods", "a"), "-", pods, "/a n1/a n2/a", false},
		{"get and list by name", rule("get,list", "g", "pods", "b"), "-", pods, "/b n1/b", false},
		// as the list with the field selector metadata.name=a, which Kubernetes allows
		{"list by name only", rule("list", "g", "pods", "a"), "-", pods, "/a n1/a n2/a", false},
		{"watch is no list", rule("watch", "g", "pods"), "-", pods, "", false},
		{"empty name", rule("get", "g", "pods", ""), "-", pods, "", false},
		{"get in a namespace", rule("get", "g", "pods"), "n1", pods, "n1/a n1/b", false},
		// the list of that namespace shows them
		{"list in a namespace", rule("list", "g", "pods"), "n1", pods, "n1/a n1/b", false},
		{"get in two namespaces", rule("get,list", "g", "pods"), "n1,n2", pods, "n1/a n1/b n2/a", false},
		{"get by name in a namespace", rule("get", "g", "pods", "b"), "n1", pods, "n1/b", false},
		{"namespaces by binding", rule("get", "-", "namespaces"), "b", ns, "/b", false},
		{"namespaces by binding, named another", rule("get", "-", "namespaces", "a"), "b", ns, "", false},
		{"namespaces by binding, list", rule("list", "-", "namespaces"), "b", ns, "", false},
		{"namespaces by name", rule("get", "-", "namespaces", "a"), "-", ns, "/a", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Objects{ClusterRoles: []*rbacv1.ClusterRole{clusterRole("r", tt.rule)}}
			for _, n := range strings.Split(tt.in, ",") {
				if n == "-" {
					o.ClusterRoleBindings = append(o.ClusterRoleBindings, everywhere("ClusterRole/r", "Group/devs"))
				} else {
					o.RoleBindings = append(o.RoleBindings, in(n, "ClusterRole/r", "Group/devs"))
				}
			}
			f := NewPolicy(o).Visible(person("ann", "devs"), "list", tt.resource)
			objects := "/a /b n1/a n1/b n2/a"
			if tt.resource == ns {
				objects = "/a /b"
			}
			var got []string
			for _, s := range strings.Fields(objects) {
				if n, name, _ := strings.Cut(s, "/"); f.Match(n, name, nil) {
					got = append(got, s)
				}
			}
			if strings.Join(got, " ") != tt.want || f.All() != tt.all || f.None() != (tt.want == "") {
				t.Errorf("got %q, all %t, none %t", got, f.All(), f.None())
			}
			if !f.Equal(NewPolicy(o).Visible(person("bob", "devs"), "list", tt.resource)) {
				t.Error("the same permissions show something else")
			}
			if none := NewPolicy(o).Visible(person("bob"), "list", tt.resource); !none.None() || none.Equal(f) != f.None() {
				t.Error("a stranger sees something")
			}
		})
	}
	var unknown *Policy
	if !unknown.Visible(person("ann"), "list", pods).None() || !unknown.Visible(nil, "list", pods).None() || !(RBAC{fixed{}}).Visible(person("ann"), "list", pods).None() {
		t.Error("something is visible while nothing is known")
	}
	if f := unknown.Visible(person("root", user.SystemPrivilegedGroup), "list", pods); !f.All() || !f.Match("n", "x", nil) {
		t.Error("masters do not see everything")
	}
}

// TestVisibleIsAllowed: what a filter shows is exactly what a list or a get of one
// object would.
func TestVisibleIsAllowed(t *testing.T) {
	t.Parallel()
	r := random{rand.New(rand.NewPCG(5, 6))}
	resource := schema.GroupResource{Group: "g", Resource: "pods"}
	u := person("ann", "devs")
	some := 0
	for range 5_000 {
		var o Objects
		o.ClusterRoles = []*rbacv1.ClusterRole{clusterRole("r1", r.rules()...), clusterRole("r2", r.rules()...)}
		o.RoleBindings = []*rbacv1.RoleBinding{in("n1", "ClusterRole/r1", "User/ann"), in(r.one("n1", "n2"), "ClusterRole/r2", "Group/devs")}
		if r.IntN(2) == 0 {
			o.ClusterRoleBindings = []*rbacv1.ClusterRoleBinding{everywhere(r.one("ClusterRole/r1", "ClusterRole/r2"), "Group/devs")}
		}
		p := NewPolicy(o)
		may := func(verb, ns, name string) bool {
			got, _ := p.Allow(u, authorizer.AttributesRecord{Verb: verb, APIGroup: "g", Resource: "pods", Namespace: ns, Name: name, ResourceRequest: true})
			return got == authorizer.DecisionAllow
		}
		f := p.Visible(u, "list", resource)
		for _, ns := range []string{"", "n1", "n2", "n3"} {
			if may("list", ns, "") && !f.AllIn(ns) {
				t.Fatalf("may list %q and is filtered: %+v", ns, o)
			}
			for _, name := range []string{"a", "b", "c", "d"} {
				want := may("list", ns, name) || may("get", ns, name)
				if f.Match(ns, name, nil) != want || want && f.NoneIn(ns) {
					t.Fatalf("%s/%s: visible %t, want %t: %+v", ns, name, !want, want, o)
				}
			}
		}
		if !f.None() && !f.All() {
			some++
		}
	}
	if some < 100 {
		t.Errorf("only %d filters hide something", some)
	}
}
