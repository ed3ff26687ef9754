// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Source knows the roles and bindings.
type Source interface {
	// Policy returns the present state, or nil while it is not known.
	Policy() *Policy
}

// RBAC decides by Allow first and by roles and bindings then. While they are
// not known it refuses with 503 what Allow does not allow.
type RBAC struct{ Source Source }

var (
	_ authorizer.UnconditionalAuthorizer = RBAC{}
	_ authorizer.RuleResolver            = RBAC{}
)

// errNotLoaded is temporary, and clients try again.
func errNotLoaded() error {
	return apierrors.NewServiceUnavailable("the roles and bindings are not loaded yet, try again")
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (r RBAC) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	if decision, reason := Allow(u, a); decision == authorizer.DecisionAllow {
		return decision, reason, nil
	}
	p := r.Source.Policy()
	if p == nil {
		return authorizer.DecisionDeny, "", errNotLoaded()
	}
	decision, reason := p.Allow(u, a)
	return decision, reason, nil
}

// RulesFor implements authorizer.RuleResolver.
func (r RBAC) RulesFor(ctx context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	resources, paths, _, err := Authorizer{}.RulesFor(ctx, u, namespace)
	if err != nil {
		return nil, nil, true, err
	}
	p := r.Source.Policy()
	if p == nil {
		return resources, paths, true, errNotLoaded()
	}
	rules, missing := p.Rules(u, namespace)
	rules = append(rules, p.rulesInSet(u, namespace)...)
	for i := range rules {
		rule := &rules[i]
		if len(rule.Resources) > 0 {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			paths = append(paths, &authorizer.DefaultNonResourceRuleInfo{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	if len(missing) > 0 {
		err = errors.New("RBAC: " + strings.Join(missing, "; "))
	}
	return resources, paths, false, err
}

// Visible returns which objects of a resource u may see with list or watch, from the
// present state; see Policy.Visible. While that is not known, none.
func (r RBAC) Visible(u user.Info, verb string, resource schema.GroupResource) Filter {
	return r.Source.Policy().Visible(u, verb, resource)
}

// Changed returns a context that ends when what Visible and Authorize say may be
// something else; taken before them, no change is missed. Without a Source that
// can change it never ends.
func (r RBAC) Changed() context.Context {
	if s, ok := r.Source.(interface{ Changed() context.Context }); ok {
		return s.Changed()
	}
	return context.Background()
}

// Since is the revision of the store up to which lists may have shown u something
// else than they do now; 0 when what u sees never changes.
func (r RBAC) Since(u user.Info) uint64 {
	if s, ok := r.Source.(interface{ Since() uint64 }); ok && !inGroup(u, user.SystemPrivilegedGroup) {
		return s.Since()
	}
	return 0
}

// baseRules are what Allow allows, as rules.
func baseRules(u user.Info) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	if inGroup(u, user.SystemPrivilegedGroup) {
		rules = everything()
	}
	if inGroup(u, user.AllAuthenticated) {
		for _, r := range reviews() {
			rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"create"}, APIGroups: []string{r.group}, Resources: []string{r.resource}})
		}
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"get", "head"}, NonResourceURLs: discoveryPaths()})
	}
	return rules
}

// everything is the rules of who may do everything.
func everything() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{all}, APIGroups: []string{all}, Resources: []string{all}},
		{Verbs: []string{all}, NonResourceURLs: []string{all}},
	}
}
