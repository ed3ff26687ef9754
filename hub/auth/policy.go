// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Objects are the roles and bindings of one moment.
type Objects struct {
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
}

// Policy answers questions about the roles and bindings of one moment. It never
// changes, and is safe for concurrent use. Everything in it only ever adds
// permissions: an object that is missing or makes no sense grants nothing.
//
// A nil Policy knows nothing and grants nothing.
type Policy struct {
	roles  map[roleKey]*role
	grants map[subject]map[string][]grant // by namespace, "" for everywhere
	// inSets are the rules that a verb on a set of clusters gives for its members.
	inSets  map[string][]rbacv1.PolicyRule
	members *Members
}

// roleKey names a role; namespace is empty for a ClusterRole.
type roleKey struct{ namespace, name string }

func (k roleKey) String() string {
	if k.namespace == "" {
		return fmt.Sprintf("ClusterRole %q", k.name)
	}
	return fmt.Sprintf("Role %q", k.name)
}

// role is a role with its rules in effect.
type role struct{ rules []rbacv1.PolicyRule }

type subject struct{ kind, name string }

// grant is one binding, as one of its subjects sees it.
type grant struct {
	binding string // for messages
	key     roleKey
	role    *role // nil: there is no such role
}

// NewPolicy compiles roles and bindings. They must not be changed afterwards.
func NewPolicy(o Objects) *Policy {
	p := &Policy{
		roles:  make(map[roleKey]*role, len(o.Roles)+len(o.ClusterRoles)),
		grants: map[subject]map[string][]grant{}, inSets: rulesInSets(),
	}
	for _, r := range o.Roles {
		if r.Namespace != "" {
			p.roles[roleKey{r.Namespace, r.Name}] = &role{rules: r.Rules}
		}
	}
	for name, rules := range aggregate(o.ClusterRoles) {
		p.roles[roleKey{"", name}] = &role{rules: rules}
	}
	for _, b := range o.ClusterRoleBindings {
		if b.RoleRef.Kind == "ClusterRole" {
			p.bind(fmt.Sprintf("ClusterRoleBinding %q", b.Name), "", b.RoleRef, b.Subjects)
		}
	}
	for _, b := range o.RoleBindings {
		if b.Namespace != "" {
			p.bind(fmt.Sprintf("RoleBinding %q", b.Namespace+"/"+b.Name), b.Namespace, b.RoleRef, b.Subjects)
		}
	}
	return p
}

// With returns the same policy with other members of sets.
func (p *Policy) With(m *Members) *Policy {
	if p == nil {
		return nil
	}
	q := *p
	q.members = m
	return &q
}

func (p *Policy) bind(name, namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
	key, ok := refKey(namespace, ref)
	if !ok {
		return
	}
	g := grant{binding: name, key: key, role: p.roles[key]}
	seen := map[subject]bool{}
	for _, s := range subjects {
		to := subject{s.Kind, s.Name}
		// A ServiceAccount of some cluster is nobody here.
		if s.Name == "" || s.Kind != rbacv1.UserKind && s.Kind != rbacv1.GroupKind || s.APIGroup != "" && s.APIGroup != rbacv1.GroupName || seen[to] {
			continue
		}
		seen[to] = true
		if p.grants[to] == nil {
			p.grants[to] = map[string][]grant{}
		}
		p.grants[to][namespace] = append(p.grants[to][namespace], g)
	}
}

// refKey is the role that a binding of a namespace means.
func refKey(namespace string, ref rbacv1.RoleRef) (roleKey, bool) {
	if ref.Name == "" || ref.APIGroup != "" && ref.APIGroup != rbacv1.GroupName {
		return roleKey{}, false
	}
	switch {
	case ref.Kind == "ClusterRole":
		return roleKey{"", ref.Name}, true
	case ref.Kind == "Role" && namespace != "":
		return roleKey{namespace, ref.Name}, true
	}
	return roleKey{}, false
}

// aggregate returns the rules in effect of every ClusterRole: its own, or those
// of the roles it selects. A role that selects itself, over others or directly,
// adds nothing to itself.
func aggregate(list []*rbacv1.ClusterRole) map[string][]rbacv1.PolicyRule {
	selects := make(map[string][]labels.Selector)
	byName := make(map[string]*rbacv1.ClusterRole, len(list))
	for _, r := range list {
		byName[r.Name] = r
		if r.AggregationRule == nil {
			continue
		}
		selects[r.Name] = []labels.Selector{}
		for i := range r.AggregationRule.ClusterRoleSelectors {
			s, err := metav1.LabelSelectorAsSelector(&r.AggregationRule.ClusterRoleSelectors[i])
			if err == nil { // one that cannot be read selects nothing
				selects[r.Name] = append(selects[r.Name], s)
			}
		}
	}
	out := make(map[string][]rbacv1.PolicyRule, len(byName))
	for name, r := range byName {
		if _, ok := selects[name]; !ok {
			out[name] = r.Rules
			continue
		}
		var sum []rbacv1.PolicyRule
		seen := map[string]bool{name: true}
		for todo := []string{name}; len(todo) > 0; todo = todo[1:] {
			for _, other := range list {
				if seen[other.Name] || !selected(selects[todo[0]], other) {
					continue
				}
				seen[other.Name] = true
				if _, sums := selects[other.Name]; sums {
					todo = append(todo, other.Name)
				} else {
					sum = append(sum, other.Rules...)
				}
			}
		}
		out[name] = sum
	}
	return out
}

func selected(selectors []labels.Selector, r *rbacv1.ClusterRole) bool {
	for _, s := range selectors {
		if s.Matches(labels.Set(r.Labels)) {
			return true
		}
	}
	return false
}

// subjects are the names under which permissions are given to u.
func subjects(u user.Info) []subject {
	groups := u.GetGroups()
	out := make([]subject, 1, len(groups)+1)
	out[0] = subject{rbacv1.UserKind, u.GetName()}
	for _, g := range groups {
		out = append(out, subject{rbacv1.GroupKind, g})
	}
	return out
}

// visit calls f with every grant of u that counts in the namespace, until f
// returns false. An empty namespace leaves those that count everywhere.
func (p *Policy) visit(u user.Info, namespace string, f func(s subject, g *grant) bool) {
	if p == nil || u == nil {
		return
	}
	for _, s := range subjects(u) {
		in := p.grants[s]
		for i := range in[""] {
			if !f(s, &in[""][i]) {
				return
			}
		}
		if namespace == "" {
			continue
		}
		for i := range in[namespace] {
			if !f(s, &in[namespace][i]) {
				return
			}
		}
	}
}

// Allow decides one request by roles and sets of clusters alone, and says by
// which. Without a grant it has no opinion, and names the roles that are bound
// but missing.
func (p *Policy) Allow(u user.Info, a authorizer.Attributes) (decision authorizer.Decision, reason string) {
	decision, reason = p.allowByRole(u, a)
	if decision == authorizer.DecisionAllow || p == nil || u == nil || !a.IsResourceRequest() {
		return decision, reason
	}
	if d, why := p.allowInSet(u, a); d == authorizer.DecisionAllow {
		return d, why
	}
	return decision, reason
}

func (p *Policy) allowByRole(u user.Info, a authorizer.Attributes) (decision authorizer.Decision, reason string) {
	namespace := a.GetNamespace()
	if !a.IsResourceRequest() {
		namespace = ""
	}
	decision = authorizer.DecisionNoOpinion
	p.visit(u, namespace, func(s subject, g *grant) bool {
		if g.role == nil {
			if reason == "" {
				reason = fmt.Sprintf("RBAC: %s of %s does not exist", g.key, g.binding)
			}
			return true
		}
		for i := range g.role.rules {
			if ruleAllows(&g.role.rules[i], a) {
				decision = authorizer.DecisionAllow
				reason = fmt.Sprintf("RBAC: allowed by %s of %s to %s %q", g.binding, g.key, s.kind, s.name)
				return false
			}
		}
		return true
	})
	return decision, reason
}

// Rules returns all rules of u that count in the namespace, and the roles that
// are bound to u but missing.
func (p *Policy) Rules(u user.Info, namespace string) (rules []rbacv1.PolicyRule, missing []string) {
	p.visit(u, namespace, func(_ subject, g *grant) bool {
		if g.role == nil {
			missing = append(missing, fmt.Sprintf("%s of %s does not exist", g.key, g.binding))
			return true
		}
		rules = append(rules, g.role.rules...)
		return true
	})
	return rules, missing
}
