// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"math/rand/v2"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// TestRules compares one rule, given to everybody who asks, with one request.
func TestRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		rule rbacv1.PolicyRule
		ask  string
		want bool
	}{
		{"exact", rule("get", "g", "pods"), "get g/pods", true},
		{"other verb", rule("get", "g", "pods"), "list g/pods", false},
		{"verb prefix", rule("get", "g", "pods"), "ge g/pods", false},
		{"other group", rule("get", "g", "pods"), "get h/pods", false},
		{"core group", rule("get", "-", "pods"), "get -/pods", true},
		{"core group is not all groups", rule("get", "-", "pods"), "get g/pods", false},
		{"no group", rule("get", "", "pods"), "get -/pods", false},
		{"other resource", rule("get", "g", "pods"), "get g/nodes", false},
		{"case counts", rule("get", "g", "pods"), "get g/Pods", false},
		{"second of each", rule("list,get", "h,g", "nodes,pods"), "get g/pods", true},
		{"all verbs", rule("*", "g", "pods"), "frobnicate g/pods", true},
		{"all verbs are virtual verbs too", rule("*", "g", "pods"), "approve g/pods -/x", true},
		{"all groups", rule("get", "*", "pods"), "get g/pods", true},
		{"all groups, core", rule("get", "*", "pods"), "get -/pods", true},
		{"all resources", rule("get", "g", "*"), "get g/pods", true},
		{"all resources, subresource", rule("get", "g", "*"), "get g/pods/status", true},
		{"no wildcard inside", rule("get", "g", "po*"), "get g/pods", false},
		{"no wildcard in verbs", rule("ge*", "g", "pods"), "get g/pods", false},
		{"no rule without verbs", rule("", "g", "pods"), "get g/pods", false},

		{"resource is not its subresource", rule("get", "g", "pods"), "get g/pods/status", false},
		{"subresource", rule("get", "g", "pods/status"), "get g/pods/status", true},
		{"subresource is not its resource", rule("get", "g", "pods/status"), "get g/pods", false},
		{"other subresource", rule("get", "g", "pods/status"), "get g/pods/scale", false},
		{"subresource of all", rule("get", "g", "*/status"), "get g/pods/status", true},
		{"subresource of all is not all", rule("get", "g", "*/status"), "get g/pods", false},
		{"subresource of all, other", rule("get", "g", "*/status"), "get g/pods/scale", false},
		{"subresource of all, longer", rule("get", "g", "*/status"), "get g/pods/xstatus", false},
		{"subresource of all, suffix", rule("get", "g", "*/s"), "get g/pods/status", false},
		{"pods/* is no wildcard", rule("get", "g", "pods/*"), "get g/pods/status", false},

		{"named", rule("get", "g", "pods", "a"), "get g/pods n/a", true},
		{"named other", rule("get", "g", "pods", "a"), "get g/pods n/b", false},
		{"named, none asked", rule("get", "g", "pods", "a"), "get g/pods n/-", false},
		{"named never lists", rule("list", "g", "pods", "a"), "list g/pods", false},
		{"named never watches all", rule("watch", "g", "pods", "a"), "watch g/pods", false},
		{"named list by field selector", rule("list", "g", "pods", "a"), "list g/pods -/a", true},
		{"named watch by field selector", rule("watch", "g", "pods", "a"), "watch g/pods -/a", true},
		{"named deletecollection", rule("deletecollection", "g", "pods", "a"), "deletecollection g/pods", false},
		{"named never creates", rule("create", "g", "pods", "a"), "create g/pods n/-", false},
		{"empty name matches nothing", rule("list", "g", "pods", ""), "list g/pods", false},
		{"star is no name", rule("get", "g", "pods", "*"), "get g/pods n/a", false},
		{"second name", rule("get", "g", "pods", "a", "b"), "get g/pods n/b", true},

		{"path", urls("get", "/metrics"), "get /metrics", true},
		{"other path", urls("get", "/metrics"), "get /livez", false},
		{"longer path", urls("get", "/metrics"), "get /metrics/x", false},
		{"path, other verb", urls("get", "/metrics"), "post /metrics", false},
		{"below", urls("get", "/metrics/*"), "get /metrics/x/y", true},
		{"below is not itself", urls("get", "/metrics/*"), "get /metrics", false},
		{"prefix", urls("get", "/met*"), "get /metrics", true},
		{"all paths", urls("get", "*"), "get /x", true},
		{"star inside", urls("get", "/*/x"), "get /a/x", false},
		{"path of resource rule", rule("*", "*", "*"), "get /metrics", false},
		{"resource of path rule", urls("*", "*"), "get g/pods", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := person("ann")
			got, reason := granted("User/ann", tt.rule).Allow(u, ask(u, tt.ask))
			if (got == authorizer.DecisionAllow) != tt.want {
				t.Errorf("got %v (%s), want allowed = %t", got, reason, tt.want)
			}
		})
	}
}

// labelled gives a ClusterRole labels, and selectors when it is a sum.
func labelled(r *rbacv1.ClusterRole, labels map[string]string, selects ...map[string]string) *rbacv1.ClusterRole {
	r.Labels = labels
	if selects != nil {
		r.AggregationRule = &rbacv1.AggregationRule{}
		for _, s := range selects {
			r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: s})
		}
	}
	return r
}

func TestBindings(t *testing.T) {
	t.Parallel()
	type l = map[string]string
	badSelector := labelled(clusterRole("bad-selector"), nil, l{"sum": "x"})
	badSelector.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Sort of"}}
	emptySelector := labelled(clusterRole("empty"), nil)
	emptySelector.AggregationRule = &rbacv1.AggregationRule{}
	emptySelector.Rules = []rbacv1.PolicyRule{rule("get", "g", "own")}
	foreign := everywhere("ClusterRole/reader", "User/eve")
	foreign.RoleRef.APIGroup = "example.io"
	foreignSubject := everywhere("ClusterRole/reader", "User/eve")
	foreignSubject.Subjects[0].APIGroup = "example.io"
	p := NewPolicy(Objects{
		ClusterRoles: []*rbacv1.ClusterRole{
			clusterRole("reader", rule("get,list", "g", "pods"), rule("get", "g", "secrets", "s1"), urls("get", "/metrics")),
			clusterRole("a:b", rule("get", "g", "colons")),
			labelled(clusterRole("part-1", rule("get", "g", "ones")), l{"sum": "x"}),
			labelled(clusterRole("part-2", rule("get", "g", "twos")), l{"sum": "x"}),
			labelled(clusterRole("sum", rule("get", "g", "own")), l{"sum": "y"}, l{"sum": "x"}),
			labelled(clusterRole("sum-of-sums"), l{"sum": "y"}, l{"sum": "y"}, l{"none": "such"}),
			badSelector, emptySelector,
		},
		Roles: []*rbacv1.Role{
			nsRole("n1", "local", rule("get", "g", "maps"), urls("get", "/debug")),
			nsRole("n2", "local", rule("delete", "g", "maps")),
			nsRole("", "nowhere", rule("*", "*", "*")),
		},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			everywhere("ClusterRole/reader", "User/ann", "Group/readers", "ServiceAccount/n1/robot"),
			everywhere("ClusterRole/missing", "User/ann"),
			everywhere("Role/local", "User/ann"),
			everywhere("ClusterRole/a:b", "User/col"),
			everywhere("ClusterRole/sum", "User/sue"),
			everywhere("ClusterRole/sum-of-sums", "User/sos"),
			everywhere("ClusterRole/bad-selector", "User/bad"),
			everywhere("ClusterRole/empty", "User/emp"),
			foreign, foreignSubject,
			everywhere("ClusterRole/reader", "Robot/r2", "User/"),
		},
		RoleBindings: []*rbacv1.RoleBinding{
			in("n1", "Role/local", "User/bob"),
			in("n1", "ClusterRole/reader", "Group/devs"),
			in("", "ClusterRole/reader", "User/lost"),
			in("n2", "Role/elsewhere", "User/bob"),
		},
	})
	tests := []struct {
		name string
		who  *user.DefaultInfo
		ask  string
		want bool
	}{
		{"user, everywhere", person("ann"), "get g/pods n1/x", true},
		{"user, no namespace", person("ann"), "list g/pods", true},
		{"user, path", person("ann"), "get /metrics", true},
		{"another user", person("anna"), "get g/pods n1/x", false},
		{"group", person("zoe", "readers"), "get g/pods n1/x", true},
		{"user named like a group", person("readers"), "get g/pods n1/x", false},
		{"group named like a user", person("zoe", "ann"), "get g/pods n1/x", false},
		{"second of several groups", person("zoe", "others", "readers"), "get g/pods", true},
		{"named object", person("ann"), "get g/secrets n1/s1", true},
		{"other object", person("ann"), "get g/secrets n1/s2", false},
		{"service account", person("system:serviceaccount:n1:robot"), "get g/pods n1/x", false},
		{"service account by name", person("robot"), "get g/pods n1/x", false},
		{"cluster binding to a Role", person("ann"), "get g/maps n1/x", false},

		{"role in its namespace", person("bob"), "get g/maps n1/x", true},
		{"role in another namespace", person("bob"), "get g/maps n2/x", false},
		{"role without a namespace", person("bob"), "get g/maps", false},
		{"role of the same name elsewhere", person("bob"), "delete g/maps n1/x", false},
		{"paths need a cluster binding", person("bob"), "get /debug", false},
		{"paths need a cluster binding, namespace given", person("bob"), "get /debug n1/-", false},
		{"cluster role in a namespace", person("dev", "devs"), "list g/pods n1/-", true},
		{"cluster role in a namespace, not everywhere", person("dev", "devs"), "list g/pods", false},
		{"cluster role in a namespace, not in others", person("dev", "devs"), "list g/pods n2/-", false},
		{"cluster role in a namespace, its paths", person("dev", "devs"), "get /metrics", false},
		{"role binding without a namespace", person("lost"), "get g/pods", false},
		{"role without a namespace grants nothing", person("ann"), "get x/y", false},

		{"colon in a name", person("col"), "get g/colons", true},
		{"sum, first part", person("sue"), "get g/ones", true},
		{"sum, second part", person("sue"), "get g/twos", true},
		{"a sum's own rules", person("sue"), "get g/own", false},
		{"sum of sums", person("sos"), "get g/twos", true},
		{"sum of sums, own rules of a sum", person("sos"), "get g/own", false},
		{"bad selector", person("bad"), "get g/ones", false},
		{"no selector", person("emp"), "get g/ones", false},
		{"no selector, own rules", person("emp"), "get g/own", false},
		{"foreign role or subject", person("eve"), "get g/pods", false},
		{"unknown kind of subject", person("r2"), "get g/pods", false},
		{"nameless user", person(""), "get g/pods", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := ask(tt.who, tt.ask)
			got, reason := p.Allow(tt.who, a)
			if (got == authorizer.DecisionAllow) != tt.want || got == authorizer.DecisionDeny {
				t.Errorf("got %v (%s), want allowed = %t", got, reason, tt.want)
			}
			full, _, err := RBAC{fixed{p}}.Authorize(t.Context(), a)
			if err != nil || full != got {
				t.Errorf("RBAC says %v, %v", full, err)
			}
		})
	}
	_, reason := p.Allow(person("bob"), ask(nil, "get g/x n2/x"))
	if !strings.Contains(reason, `Role "elsewhere" of RoleBinding "n2/b-Role/elsewhere-User/bob" does not exist`) {
		t.Errorf("reason %q does not name the missing role", reason)
	}
	_, reason = p.Allow(person("zoe", "readers"), ask(nil, "list g/pods"))
	if !strings.Contains(reason, `ClusterRole "reader" to Group "readers"`) {
		t.Errorf("reason %q does not name the role", reason)
	}
}

func TestRBAC(t *testing.T) {
	t.Parallel()
	root := person("root", user.SystemPrivilegedGroup)
	loaded, empty := RBAC{fixed{granted("User/ann", rule("get", "g", "pods"))}}, RBAC{fixed{}}
	tests := []struct {
		name string
		rbac RBAC
		who  user.Info
		ask  string
		want bool
		fail bool
	}{
		{"by role", loaded, person("ann"), "get g/pods", true, false},
		{"no role", loaded, person("bob"), "get g/pods", false, false},
		{"discovery", loaded, person("bob"), "get /apis", true, false},
		{"self review", loaded, person("bob"), "create authorization.k8s.io/selfsubjectaccessreviews", true, false},
		{"masters", loaded, root, "delete x/y", true, false},
		{"nobody", loaded, nil, "get g/pods", false, false},
		{"not loaded: masters", empty, root, "delete x/y", true, false},
		{"not loaded: discovery", empty, person("ann"), "get /apis", true, false},
		{"not loaded: by role", empty, person("ann"), "get g/pods", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := tt.rbac.Authorize(t.Context(), ask(tt.who, tt.ask))
			if (got == authorizer.DecisionAllow) != tt.want || (err != nil) != tt.fail {
				t.Errorf("got %v, %v; want allowed = %t, error = %t", got, err, tt.want, tt.fail)
			}
			if err != nil && !apierrors.IsServiceUnavailable(err) {
				t.Errorf("error %v is not temporary for clients", err)
			}
		})
	}
	resources, paths, incomplete, err := loaded.RulesFor(t.Context(), person("ann"), "n1")
	if err != nil || incomplete || len(resources) != 4 || len(paths) != 1 {
		t.Errorf("rules: %v, %v, %t, %v", resources, paths, incomplete, err)
	}
	if _, _, incomplete, err := empty.RulesFor(t.Context(), person("ann"), "n1"); !incomplete || err == nil {
		t.Error("rules that are not loaded pass for complete")
	}
}

// random makes small worlds: few words, so that things meet.
type random struct{ *rand.Rand }

func (r random) some(words ...string) []string {
	var out []string
	for range r.IntN(4) {
		out = append(out, words[r.IntN(len(words))])
	}
	return out
}

func (r random) one(words ...string) string { return words[r.IntN(len(words))] }

func (r random) rule() rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		Verbs: r.some("get", "list", "bind", "*"), APIGroups: r.some("", "g", "h", "*"),
		Resources:       r.some("pods", "pods/status", "*/status", "nodes", "*", "*/scale"),
		NonResourceURLs: r.some("/x", "/x/*", "/x*", "*", "/y"),
	}
}

func (r random) rules() []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for range r.IntN(5) {
		rule := r.rule()
		if r.IntN(2) == 0 {
			rule.ResourceNames = r.some("a", "b", "c")
		}
		out = append(out, rule)
	}
	return out
}

func (r random) ask() authorizer.AttributesRecord {
	if r.IntN(4) == 0 {
		return authorizer.AttributesRecord{Verb: r.one("get", "list", "put"), Path: r.one("/x", "/x/y", "/xy", "/y", "/z")}
	}
	return authorizer.AttributesRecord{
		ResourceRequest: true, Verb: r.one("get", "list", "bind", "put"), APIGroup: r.one("", "g", "h", "i"),
		Resource: r.one("pods", "nodes", "maps"), Subresource: r.one("", "", "status", "scale"),
		Name: r.one("", "a", "b", "c", "d"), Namespace: r.one("", "n1", "n2"),
	}
}

// TestOnlyRulesGrant compares the policy with a reading of Kubernetes' rules that
// is as plain as possible: allowed exactly when one rule of one role, bound to
// one subject of the user in the right place, says so.
func TestOnlyRulesGrant(t *testing.T) {
	t.Parallel()
	r := random{rand.New(rand.NewPCG(1, 2))}
	allowed := 0
	for range 5_000 {
		var o Objects
		for _, name := range []string{"r1", "r2"} {
			o.ClusterRoles = append(o.ClusterRoles, clusterRole(name, r.rules()...))
			o.Roles = append(o.Roles, nsRole(r.one("n1", "n2"), name, r.rules()...))
		}
		for range r.IntN(3) {
			o.ClusterRoleBindings = append(o.ClusterRoleBindings, everywhere(r.one("ClusterRole/r1", "ClusterRole/r3", "Role/r1"), r.some("User/ann", "Group/devs", "User/bob", "ServiceAccount/n1/ann")...))
			o.RoleBindings = append(o.RoleBindings, in(r.one("n1", "n2"), r.one("ClusterRole/r2", "Role/r1", "Role/r2"), r.some("User/ann", "Group/devs", "Group/ops")...))
		}
		u, a := person("ann", "devs"), r.ask()
		got, reason := NewPolicy(o).Allow(u, a)
		if want := plainly(o, u, a); (got == authorizer.DecisionAllow) != want {
			t.Fatalf("got %v (%s), want allowed = %t\n%+v\n%+v", got, reason, want, a, o)
		}
		if got == authorizer.DecisionAllow {
			allowed++
		}
	}
	if allowed < 200 || allowed > 4_800 {
		t.Errorf("%d of 5000 allowed: the worlds are too simple", allowed)
	}
}

func plainly(o Objects, u user.Info, a authorizer.AttributesRecord) bool {
	roles := map[string][]rbacv1.PolicyRule{}
	for _, r := range o.ClusterRoles {
		roles["/"+r.Name] = r.Rules
	}
	for _, r := range o.Roles {
		roles[r.Namespace+"/"+r.Name] = r.Rules
	}
	try := func(ns string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) bool {
		key := "/" + ref.Name
		if ref.Kind == "Role" {
			if ns == "" {
				return false
			}
			key = ns + key
		}
		for _, s := range subjects {
			mine := s.Kind == "User" && s.Name == u.GetName()
			for _, g := range u.GetGroups() {
				mine = mine || s.Kind == "Group" && s.Name == g
			}
			for _, rule := range roles[key] {
				if mine && plainRule(rule, a) {
					return true
				}
			}
		}
		return false
	}
	for _, b := range o.ClusterRoleBindings {
		if try("", b.RoleRef, b.Subjects) {
			return true
		}
	}
	for _, b := range o.RoleBindings {
		if a.ResourceRequest && b.Namespace == a.Namespace && try(b.Namespace, b.RoleRef, b.Subjects) {
			return true
		}
	}
	return false
}

func plainRule(r rbacv1.PolicyRule, a authorizer.AttributesRecord) bool {
	verb := false
	for _, v := range r.Verbs {
		verb = verb || v == "*" || v == a.Verb
	}
	if !a.ResourceRequest {
		for _, p := range r.NonResourceURLs {
			if verb && (p == a.Path || p[len(p)-1] == '*' && strings.HasPrefix(a.Path, p[:len(p)-1])) {
				return true
			}
		}
		return false
	}
	group, resource, name := false, false, len(r.ResourceNames) == 0
	for _, g := range r.APIGroups {
		group = group || g == "*" || g == a.APIGroup
	}
	for _, s := range r.Resources {
		switch {
		case s == "*":
			resource = true
		case a.Subresource == "":
			resource = resource || s == a.Resource
		default:
			resource = resource || s == a.Resource+"/"+a.Subresource || s == "*/"+a.Subresource
		}
	}
	for _, n := range r.ResourceNames {
		name = name || n == a.Name && n != ""
	}
	return verb && group && resource && name
}
