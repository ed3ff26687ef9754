// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// TestBuiltinRoles holds the promises that each role's description makes.
func TestBuiltinRoles(t *testing.T) {
	t.Parallel()
	o := Objects{ClusterRoles: BuiltinRoles()}
	everybody := []string{RoleViewer, RoleOperator, RoleAddonAuthor, RoleApprover, RoleAdmin}
	for _, name := range everybody {
		o.ClusterRoleBindings = append(o.ClusterRoleBindings, everywhere("ClusterRole/"+name, "User/"+name))
	}
	p := NewPolicy(o)
	const (
		clusters = "cluster.open-cluster-management.io/managedclusters"
		works    = "work.open-cluster-management.io/manifestworks"
		fl       = "fleet.drover.io/"
		rbac     = "rbac.authorization.k8s.io/"
	)
	v, op, author, approver, admin := RoleViewer, RoleOperator, RoleAddonAuthor, RoleApprover, RoleAdmin
	tests := []struct {
		ask string
		who []string
	}{
		{"list " + clusters, everybody},
		{"list -/namespaces", everybody},
		{"get " + fl + "clustermetrics -/c1", []string{v, op, author, admin}},
		{"update " + clusters + " -/c1", []string{op, approver, admin}},
		{"create " + clusters + " -/c1", []string{approver, admin}},
		{"delete " + clusters + " -/c1", []string{approver, admin}},
		{"accept " + clusters + " -/c1", []string{approver, admin}},
		{"update " + clusters + "/accept -/c1", []string{approver, admin}},
		{"update " + clusters + "/status -/c1", []string{admin}},
		{"get " + works + " c1/w", []string{op, admin}},
		{"create " + works + " c1/w", []string{op, admin}},
		{"update " + works + "/status c1/w", []string{admin}},
		{"create " + fl + "jointokens", []string{approver, admin}},
		{"list " + fl + "jointokens", []string{approver, admin}},
		{"approve " + fl + "joinrequests -/j", []string{approver, admin}},
		{"update " + fl + "joinrequests -/j", []string{approver, admin}},
		{"revoke " + fl + "agentidentities -/c1", []string{approver, admin}},
		{"create addon.open-cluster-management.io/clustermanagementaddons", []string{author, admin}},
		{"create addon.open-cluster-management.io/managedclusteraddons c1/a", []string{op, admin}},
		{"create " + fl + "addonversions", []string{author, admin}},
		{"list " + fl + "addonconfigs", []string{op, author, admin}},
		{"get " + rbac + "clusterroles -/x", []string{admin}},
		{"bind " + rbac + "clusterroles -/x", []string{admin}},
		{"escalate " + rbac + "clusterroles -/x", []string{admin}},
		{"create " + rbac + "clusterrolebindings", []string{admin}},
		{"impersonate -/users -/x", []string{admin}},
		{"get /metrics", []string{admin}},
	}
	for _, tt := range tests {
		t.Run(tt.ask, func(t *testing.T) {
			t.Parallel()
			for _, name := range everybody {
				got, reason := p.Allow(person(name), ask(nil, tt.ask))
				if want := slices.Contains(tt.who, name); (got == authorizer.DecisionAllow) != want {
					t.Errorf("%s: got %v (%s), want allowed = %t", name, got, reason, want)
				}
			}
		})
	}
	for _, r := range o.ClusterRoles {
		if r.Name == RoleAdmin {
			continue
		}
		for _, rule := range r.Rules {
			for _, s := range slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources) {
				if strings.Contains(s, all) {
					t.Errorf("%s has a wildcard: kinds to come would be in it unseen", r.Name)
				}
			}
		}
	}
}

// FuzzPolicy sends whatever a store may hold through decoding and all questions:
// nothing panics, and who is in no binding gets nothing.
func FuzzPolicy(f *testing.F) {
	good, err := json.Marshal(Objects{
		ClusterRoles:        append(BuiltinRoles(), labelled(clusterRole("sum"), map[string]string{"a": "b"}, map[string]string{"a": "b"})),
		Roles:               []*rbacv1.Role{nsRole("n1", "r", rule("get", "g", "*/status", "a"), urls("get", "/x*"))},
		RoleBindings:        []*rbacv1.RoleBinding{in("n1", "Role/r", "User/ann", "ServiceAccount/n/s")},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{everywhere("ClusterRole/sum", "Group/devs")},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"ClusterRoles":[{"metadata":{"name":"x","labels":{"a":"b"}},"aggregationRule":{"clusterRoleSelectors":[{"matchExpressions":[{"key":"a","operator":"In"}]},{}]},"rules":[{}]}],"ClusterRoleBindings":[{"roleRef":{"kind":"ClusterRole","name":"x"},"subjects":[{"kind":"User","name":"ann"},{}]}]}`))
	f.Add([]byte(`{"Roles":[{"metadata":{"name":"x","namespace":"n1"},"rules":[{"verbs":["*"],"resources":["*/","/",""],"apiGroups":[""],"nonResourceURLs":["","*","**"]}]}]}`))
	stranger, ann := person("7f2c9d10-stranger"), person("ann", "devs")
	f.Fuzz(func(t *testing.T, data []byte) {
		var o Objects
		if json.Unmarshal(data, &o) != nil {
			return
		}
		// the store's list holds no nils
		o.Roles = slices.DeleteFunc(o.Roles, func(r *rbacv1.Role) bool { return r == nil })
		o.ClusterRoles = slices.DeleteFunc(o.ClusterRoles, func(r *rbacv1.ClusterRole) bool { return r == nil })
		o.RoleBindings = slices.DeleteFunc(o.RoleBindings, func(r *rbacv1.RoleBinding) bool { return r == nil })
		o.ClusterRoleBindings = slices.DeleteFunc(o.ClusterRoleBindings, func(r *rbacv1.ClusterRoleBinding) bool { return r == nil })
		p := NewPolicy(o)
		everybody := len(p.grants[subject{rbacv1.GroupKind, user.AllAuthenticated}]) > 0
		for _, a := range []string{"get g/pods n1/a", "list -/namespaces", "get g/pods/status n1/a", "get /x/y"} {
			p.Allow(ann, ask(ann, a))
			if d, reason := p.Allow(stranger, ask(stranger, a)); d == authorizer.DecisionAllow && !everybody {
				t.Errorf("a stranger may %s: %s", a, reason)
			}
		}
		for _, r := range o.ClusterRoles {
			err := p.CheckClusterRole(ann, r.Name, r, nil)
			if held, _ := p.Rules(ann, ""); len(held) == 0 && err == nil && len(r.Rules) > 0 {
				for _, rule := range Uncovered(baseRules(ann), r.Rules) {
					t.Errorf("gives %v away", rule)
				}
			}
		}
		p.Visible(ann, "list", schema.GroupResource{Group: "g", Resource: "pods"})
		p.Rules(ann, "n1")
	})
}
