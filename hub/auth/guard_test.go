// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
)

func TestUncovered(t *testing.T) {
	t.Parallel()
	type rules = []rbacv1.PolicyRule
	tests := []struct {
		name         string
		held, wanted rules
		missing      rules
	}{
		{"nothing", nil, nil, nil},
		{"of nothing", nil, rules{rule("get", "g", "pods")}, rules{rule("get", "g", "pods")}},
		{"same", rules{rule("get", "g", "pods")}, rules{rule("get", "g", "pods")}, nil},
		{"fewer", rules{rule("get,list", "g,h", "pods,nodes")}, rules{rule("list", "h", "nodes")}, nil},
		{"by several", rules{rule("get", "g", "pods"), rule("list", "g", "pods,nodes"), rule("get", "g", "nodes")}, rules{rule("get,list", "g", "pods,nodes")}, nil},
		{"one short", rules{rule("get", "g", "pods"), rule("list", "g", "pods,nodes")}, rules{rule("get,list", "g", "pods,nodes")}, rules{rule("get", "g", "nodes")}},
		{"all verbs", rules{rule("*", "g", "pods")}, rules{rule("get,bind", "g", "pods")}, nil},
		{"wants all verbs", rules{rule("get,list,watch", "g", "pods")}, rules{rule("*", "g", "pods")}, rules{rule("*", "g", "pods")}},
		{"wants all groups", rules{rule("get", "g,-", "pods")}, rules{rule("get", "*", "pods")}, rules{rule("get", "*", "pods")}},
		{"wants all resources", rules{rule("get", "g", "pods,pods/status,*/status")}, rules{rule("get", "g", "*")}, rules{rule("get", "g", "*")}},
		{"subresource by all", rules{rule("get", "g", "*")}, rules{rule("get", "g", "pods/status,*/scale")}, nil},
		{"subresource by its wildcard", rules{rule("get", "g", "*/status")}, rules{rule("get", "g", "pods/status")}, nil},
		{"wildcard by one subresource", rules{rule("get", "g", "pods/status")}, rules{rule("get", "g", "*/status")}, rules{rule("get", "g", "*/status")}},
		{"subresource by resource", rules{rule("get", "g", "pods")}, rules{rule("get", "g", "pods/status")}, rules{rule("get", "g", "pods/status")}},
		{"names by all", rules{rule("get", "g", "pods")}, rules{rule("get", "g", "pods", "a", "b")}, nil},
		{"all by names", rules{rule("get", "g", "pods", "a")}, rules{rule("get", "g", "pods")}, rules{rule("get", "g", "pods")}},
		{"names by names of several", rules{rule("get", "g", "pods", "a"), rule("get", "g", "pods", "b")}, rules{rule("get", "g", "pods", "a", "b")}, nil},
		{"one name short", rules{rule("get", "g", "pods", "a")}, rules{rule("get", "g", "pods", "a", "b")}, rules{rule("get", "g", "pods", "a", "b")}},
		{"paths", rules{urls("get", "/x/*")}, rules{urls("get", "/x/y", "/x/y/*", "/x/*")}, nil},
		{"wider path", rules{urls("get", "/x/*")}, rules{urls("get", "/x*")}, rules{urls("get", "/x*")}},
		{"paths by resources", rules{rule("*", "*", "*")}, rules{urls("get", "/x")}, rules{urls("get", "/x")}},
		{"resources by paths", rules{urls("*", "*")}, rules{rule("get", "g", "pods")}, rules{rule("get", "g", "pods")}},
		{"everything", everything(), rules{rule("*", "*", "*"), urls("*", "*"), rule("x", "y", "z/a", "n")}, nil},
		{"no verbs is nothing", nil, rules{rule("", "g", "pods")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.missing, Uncovered(tt.held, tt.wanted)); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUncoveredHolds: whoever has all that a role wants may do all that it allows.
func TestUncoveredHolds(t *testing.T) {
	t.Parallel()
	r := random{rand.New(rand.NewPCG(3, 4))}
	covered, tried := 0, 0
	for range 5_000 {
		held, wanted := r.rules(), r.rules()
		if len(Uncovered(held, wanted)) > 0 {
			continue
		}
		covered++
		for range 50 {
			a := r.ask()
			for i := range wanted {
				if !ruleAllows(&wanted[i], a) {
					continue
				}
				tried++
				ok := false
				for j := range held {
					ok = ok || ruleAllows(&held[j], a)
				}
				if !ok {
					t.Fatalf("%+v is allowed by %+v and not by %+v", a, wanted, held)
				}
			}
		}
	}
	if covered < 200 || tried < 100 {
		t.Errorf("only %d covered, %d tried", covered, tried)
	}
}

// TestUncoveredGivesUp: a role that multiplies to billions does not keep the hub busy.
func TestUncoveredGivesUp(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 20_000 {
		many = append(many, fmt.Sprint("x", i))
	}
	huge := rbacv1.PolicyRule{Verbs: many, APIGroups: many, Resources: many, ResourceNames: many}
	held := []rbacv1.PolicyRule{rule("get", "g", "pods"), {Verbs: many[1:], APIGroups: many, Resources: many}}
	start := time.Now()
	if missing := Uncovered(held, []rbacv1.PolicyRule{huge, huge}); len(missing) != 2 {
		t.Errorf("%d rules are missing, want 2", len(missing))
	}
	if missing := Uncovered(everything(), []rbacv1.PolicyRule{huge}); len(missing) != 0 {
		t.Errorf("everything does not cover it")
	}
	if took := time.Since(start); took > patience {
		t.Errorf("took %v", took)
	}
	if text := describe([]rbacv1.PolicyRule{huge}); len(text) > 10_000 {
		t.Errorf("the message has %d bytes", len(text))
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	type l = map[string]string
	rbac := rbacv1.GroupName
	p := NewPolicy(Objects{
		ClusterRoles: []*rbacv1.ClusterRole{
			clusterRole("reader", rule("get", "g", "pods")),
			clusterRole("powerful", rule("*", "*", "*")),
			clusterRole("all", everything()...),
			clusterRole("binder", rule("bind", rbac, "clusterroles", "powerful")),
			clusterRole("binds-roles", rule("bind", rbac, "roles")),
			clusterRole("escalator", rule("escalate", rbac, "clusterroles")),
			clusterRole("escalates-x", rule("escalate", rbac, "clusterroles", "x")),
			labelled(clusterRole("part", rule("get", "g", "pods")), l{"to": "sum"}),
			labelled(clusterRole("sum"), nil, l{"to": "sum"}),
			clusterRole("scrape", urls("get", "/metrics")),
			clusterRole("discovery", urls("get", "/apis/*")),
		},
		Roles: []*rbacv1.Role{nsRole("n1", "local", rule("delete", "g", "pods"))},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			everywhere("ClusterRole/reader", "User/ann"),
			everywhere("ClusterRole/all", "User/admin"),
			everywhere("ClusterRole/binder", "User/binder"),
			everywhere("ClusterRole/binds-roles", "User/rolebinder"),
			everywhere("ClusterRole/escalator", "User/esc"),
			everywhere("ClusterRole/escalates-x", "User/escx"),
		},
		RoleBindings: []*rbacv1.RoleBinding{
			in("n1", "ClusterRole/reader", "User/nan"),
			in("n1", "ClusterRole/binder", "User/nbinder"),
			in("n1", "ClusterRole/escalator", "User/nesc"),
		},
	})
	root, ann, admin := person("root", user.SystemPrivilegedGroup), person("ann"), person("admin")
	x := func(rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole { return clusterRole("x", rules...) }
	pods, more := rule("get", "g", "pods"), rule("get,list", "g", "pods")
	sum := func() *rbacv1.ClusterRole { return labelled(x(), nil, l{"to": "sum"}) }
	tests := []struct {
		name string
		err  error
		want string // part of the error, "" for none
	}{
		{"own rules", p.CheckClusterRole(ann, "", x(pods), nil), ""},
		{"narrower by name", p.CheckClusterRole(ann, "", x(rule("get", "g", "pods", "a")), nil), ""},
		{"no rules", p.CheckClusterRole(ann, "", x(), nil), ""},
		{"base rules", p.CheckClusterRole(ann, "", x(urls("get", "/apis/*"), rule("create", "authorization.k8s.io", "selfsubjectaccessreviews")), nil), ""},
		{"more", p.CheckClusterRole(ann, "", x(more), nil), `{APIGroups:["g"], Resources:["pods"], Verbs:["list"]}`},
		{"more, masters", p.CheckClusterRole(root, "", x(more), nil), ""},
		{"more, masters, nothing known", (*Policy)(nil).CheckClusterRole(root, "", x(more), nil), ""},
		{"nothing known", (*Policy)(nil).CheckClusterRole(ann, "", x(pods), nil), "not currently held"},
		{"more, all permissions", p.CheckClusterRole(admin, "", x(more), nil), ""},
		{"rules already there count", p.CheckClusterRole(ann, "x", x(more), x(more)), "not currently held"},
		{"escalate", p.CheckClusterRole(person("esc"), "", x(more), nil), ""},
		{"escalate of a name, change", p.CheckClusterRole(person("escx"), "x", x(more), x()), ""},
		{"escalate of a name, another", p.CheckClusterRole(person("escx"), "y", clusterRole("y", more), x()), "not currently held"},
		{"escalate of a name, create", p.CheckClusterRole(person("escx"), "", x(more), nil), "not currently held"},
		{"escalate in a namespace", p.CheckClusterRole(person("nesc"), "", x(more), nil), "not currently held"},
		{"escalate cluster roles is not roles", p.CheckRole(person("esc"), "", nsRole("n1", "r", more)), "not currently held"},
		{"rules of a namespace everywhere", p.CheckClusterRole(person("nan"), "", x(pods), nil), "not currently held"},
		{"rules of a namespace there", p.CheckRole(person("nan"), "", nsRole("n1", "r", pods)), ""},
		{"rules of a namespace elsewhere", p.CheckRole(person("nan"), "", nsRole("n2", "r", pods)), "not currently held"},
		{"rules of everywhere in a namespace", p.CheckRole(ann, "", nsRole("n2", "r", pods)), ""},

		{"sum", p.CheckClusterRole(ann, "", sum(), nil), "all permissions"},
		{"sum, all permissions", p.CheckClusterRole(admin, "", sum(), nil), ""},
		{"sum, escalate", p.CheckClusterRole(person("esc"), "", sum(), nil), ""},
		{"sum, taken away", p.CheckClusterRole(ann, "x", x(), sum()), "all permissions"},
		{"sum, masters", p.CheckClusterRole(root, "x", x(), sum()), ""},

		{"bind own", p.CheckBinding(ann, "", "b", ref("ClusterRole/reader")), ""},
		{"bind own in a namespace", p.CheckBinding(ann, "n1", "b", ref("ClusterRole/reader")), ""},
		{"bind a sum of own", p.CheckBinding(ann, "", "b", ref("ClusterRole/sum")), ""},
		{"bind more", p.CheckBinding(ann, "", "b", ref("ClusterRole/powerful")), "not currently held"},
		{"bind more, all permissions", p.CheckBinding(admin, "", "b", ref("ClusterRole/powerful")), ""},
		{"bind paths", p.CheckBinding(ann, "", "b", ref("ClusterRole/scrape")), "/metrics"},
		{"bind what all have", p.CheckBinding(ann, "", "b", ref("ClusterRole/discovery")), ""},
		{"bind a local role", p.CheckBinding(ann, "n1", "b", ref("Role/local")), "not currently held"},
		{"verb bind", p.CheckBinding(person("binder"), "", "b", ref("ClusterRole/powerful")), ""},
		{"verb bind in any namespace", p.CheckBinding(person("binder"), "n2", "b", ref("ClusterRole/powerful")), ""},
		{"verb bind, another role", p.CheckBinding(person("binder"), "", "b", ref("ClusterRole/reader")), "not currently held"},
		{"verb bind in its namespace", p.CheckBinding(person("nbinder"), "n1", "b", ref("ClusterRole/powerful")), ""},
		{"verb bind in another namespace", p.CheckBinding(person("nbinder"), "n2", "b", ref("ClusterRole/powerful")), "not currently held"},
		{"verb bind of a namespace, everywhere", p.CheckBinding(person("nbinder"), "", "b", ref("ClusterRole/powerful")), "not currently held"},
		{"verb bind of roles", p.CheckBinding(person("rolebinder"), "n1", "b", ref("Role/local")), ""},
		{"verb bind of roles is not cluster roles", p.CheckBinding(person("rolebinder"), "n1", "b", ref("ClusterRole/reader")), "not currently held"},
		{"verb bind before the role", p.CheckBinding(person("rolebinder"), "n1", "b", ref("Role/later")), ""},
		{"missing role", p.CheckBinding(ann, "", "b", ref("ClusterRole/none")), "not found"},
		{"missing role, all permissions", p.CheckBinding(admin, "", "b", ref("ClusterRole/none")), ""},
		{"missing role, masters", p.CheckBinding(root, "", "b", ref("ClusterRole/none")), ""},
		{"local role everywhere", p.CheckBinding(admin, "", "b", ref("Role/local")), "cannot be bound here"},
		{"role of another namespace", p.CheckBinding(ann, "n2", "b", ref("Role/local")), "not found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if (tt.err == nil) != (tt.want == "") || tt.err != nil && !strings.Contains(tt.err.Error(), tt.want) {
				t.Errorf("got %v, want %q", tt.err, tt.want)
			}
			if tt.err != nil && apierrors.ReasonForError(tt.err) == "" {
				t.Errorf("%v is not an error that clients see", tt.err)
			}
		})
	}
}
