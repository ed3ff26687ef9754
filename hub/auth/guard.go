// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Verbs that no request has: they stand for a right that only some hold.
const (
	// VerbBind on a role lets somebody give it away without having its permissions.
	VerbBind = "bind"
	// VerbEscalate on a role lets somebody put permissions into it that they do
	// not have themselves.
	VerbEscalate = "escalate"
	// VerbApprove on joinrequests lets somebody decide who joins.
	VerbApprove = "approve"
	// VerbAccept on managedclusters lets somebody change spec.hubAcceptsClient.
	VerbAccept = "accept"
	// VerbRevoke on agentidentities lets somebody ban an agent.
	VerbRevoke = "revoke"
	// VerbView on managedclustersets gives the permissions of drover:viewer for the
	// clusters in the set.
	VerbView = "view"
	// VerbOperate on managedclustersets gives those of drover:operator.
	VerbOperate = "operate"
)

// Nobody gives away more than they have: the checks below refuse a role or
// binding that would break this, with 403 as Kubernetes does. They say nothing
// about whether the user may write roles at all.
//
// The name of a role is empty while it is created, as in Kubernetes: a right to
// escalate roles of certain names does not help to make them.

// CheckRole refuses a new or changed Role that allows what u may not do in its
// namespace, unless u may escalate it.
func (p *Policy) CheckRole(u user.Info, name string, r *rbacv1.Role) error {
	return p.checkRules(u, roleKey{r.Namespace, name}, r.Name, r.Rules)
}

// CheckClusterRole refuses a new or changed ClusterRole that allows what u may
// not do everywhere, unless u may escalate it. A role that is or was the sum of
// others can gather anything: it needs all permissions. Old is nil for a new one.
func (p *Policy) CheckClusterRole(u user.Info, name string, r, old *rbacv1.ClusterRole) error {
	key := roleKey{"", name}
	if err := p.checkRules(u, key, r.Name, r.Rules); err != nil {
		return err
	}
	if r.AggregationRule == nil && (old == nil || old.AggregationRule == nil) {
		return nil
	}
	if err := p.checkRules(u, key, r.Name, everything()); err != nil {
		return apierrors.NewForbidden(key.resource(), r.Name, errors.New("aggregationRule: a role that is the sum of others can only be written by somebody with all permissions"))
	}
	return nil
}

// CheckBinding refuses a new or changed binding in a namespace, or everywhere
// when that is empty, of a role that allows what u may not do there, unless u may
// bind that role there. A role that does not exist is 404, since nobody can tell
// what it will allow.
func (p *Policy) CheckBinding(u user.Info, namespace, name string, ref rbacv1.RoleRef) error {
	if inGroup(u, user.SystemPrivilegedGroup) {
		return nil
	}
	key, ok := refKey(namespace, ref)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("roleRef: a %s cannot be bound here", ref.Kind))
	}
	if p.may(u, VerbBind, namespace, key.resource(), ref.Name) {
		return nil
	}
	var r *role
	if p != nil {
		r = p.roles[key]
	}
	if r == nil {
		return apierrors.NewNotFound(key.resource(), ref.Name)
	}
	resource := schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterrolebindings"}
	if namespace != "" {
		resource.Resource = "rolebindings"
	}
	return p.checkHeld(u, namespace, resource, name, r.rules)
}

func (k roleKey) resource() schema.GroupResource {
	if k.namespace == "" {
		return schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}
	}
	return schema.GroupResource{Group: rbacv1.GroupName, Resource: "roles"}
}

func (p *Policy) checkRules(u user.Info, key roleKey, name string, rules []rbacv1.PolicyRule) error {
	if inGroup(u, user.SystemPrivilegedGroup) || p.may(u, VerbEscalate, key.namespace, key.resource(), key.name) {
		return nil
	}
	return p.checkHeld(u, key.namespace, key.resource(), name, rules)
}

func (p *Policy) checkHeld(u user.Info, namespace string, resource schema.GroupResource, name string, rules []rbacv1.PolicyRule) error {
	held, _ := p.Rules(u, namespace)
	missing := Uncovered(append(baseRules(u), held...), rules)
	if len(missing) == 0 {
		return nil
	}
	return apierrors.NewForbidden(resource, name, fmt.Errorf(
		"user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", u.GetName(), u.GetGroups(), describe(missing)))
}

// may asks for a virtual verb.
func (p *Policy) may(u user.Info, verb, namespace string, resource schema.GroupResource, name string) bool {
	decision, _ := p.allowByRole(u, authorizer.AttributesRecord{
		User: u, Verb: verb, Namespace: namespace, APIGroup: resource.Group, APIVersion: all,
		Resource: resource.Resource, Name: name, ResourceRequest: true,
	})
	return decision == authorizer.DecisionAllow
}
