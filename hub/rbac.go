// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// permissions are the rules of who may make which change, where the verb of the
// request does not say enough.
type permissions struct {
	authorizer authorizer.UnconditionalAuthorizer
	// fresh returns the roles and bindings with everything acknowledged so far.
	fresh func(context.Context) (*auth.Policy, error)
}

// withPermissions puts the permissions before the hooks of the kinds, and adds
// the hooks of roles and bindings.
func withPermissions(source *auth.Stored, base map[string]api.Hook) map[string]api.Hook {
	p := &permissions{authorizer: auth.RBAC{Source: source}, fresh: source.Fresh}
	out := maps.Clone(base)
	for resource, check := range map[string]hookFunc{
		fleet.ResourceJoinTokens:         p.joinToken,
		fleet.ResourceJoinRequests:       p.joinRequest,
		fleet.ResourceAgentIdentities:    p.agentIdentity,
		fleet.ResourceAccessTokens:       p.accessToken,
		cluster.Resource:                 p.managedCluster,
		cluster.ResourceSetBindings:      p.bindSet,
		cluster.ResourceSets:             p.selectSet,
		auth.ResourceRoles:               p.role,
		auth.ResourceClusterRoles:        p.clusterRole,
		auth.ResourceRoleBindings:        p.roleBinding,
		auth.ResourceClusterRoleBindings: p.clusterRoleBinding,
	} {
		out[resource] = before(check, base[resource])
	}
	return out
}

// before calls first, and then the other, which may be nil.
func before(first hookFunc, then api.Hook) api.Hook {
	if then == nil {
		return first
	}
	return hookFunc(func(ctx context.Context, r *api.Admission) error {
		if err := first(ctx, r); err != nil {
			return err
		}
		return then.Admit(ctx, r)
	})
}

// need refuses with 403 unless the user has the verb on the named object.
func (p *permissions) need(ctx context.Context, u user.Info, verb string, resource schema.GroupResource, name, what string) error {
	ok, err := p.may(ctx, u, verb, resource, "", name)
	if err != nil || ok {
		return err
	}
	return apierrors.NewForbidden(resource, name, fmt.Errorf(
		"%s needs the verb %q: User %q cannot %s resource %q in API group %q at the cluster scope", what, verb, u.GetName(), verb, resource.Resource, resource.Group))
}

func (p *permissions) may(ctx context.Context, u user.Info, verb string, resource schema.GroupResource, sub, name string) (bool, error) {
	decision, _, err := p.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: verb, APIGroup: resource.Group, APIVersion: "*", Resource: resource.Resource, Subresource: sub,
		Name: name, ResourceRequest: true,
	})
	if err != nil {
		return false, fmt.Errorf("authorize %s %s: %w", verb, resource, err)
	}
	return decision == authorizer.DecisionAllow, nil
}

func fleetResource(resource string) schema.GroupResource {
	return schema.GroupResource{Group: fleet.Group, Resource: resource}
}

// at returns what an object holds at a path, or nil.
func at(obj map[string]any, path ...string) any {
	v, _, err := unstructured.NestedFieldNoCopy(obj, path...)
	if err != nil {
		return nil // of another type
	}
	return v
}

// isTrue reports whether an object holds true at a path.
func isTrue(obj map[string]any, path ...string) bool { return at(obj, path...) == true }

// joinToken: a token that approves on its own is an approval.
func (p *permissions) joinToken(ctx context.Context, r *api.Admission) error {
	if err := p.tokenSet(ctx, r); err != nil {
		return err
	}
	if r.Object == nil || r.Operation == api.UpdateStatus || !isTrue(r.Object, "spec", "autoApprove") || isTrue(r.Old, "spec", "autoApprove") {
		return nil
	}
	return p.need(ctx, r.User, auth.VerbApprove, fleetResource("joinrequests"), "", "spec.autoApprove")
}

func (p *permissions) joinRequest(ctx context.Context, r *api.Admission) error {
	if r.Operation != api.Update {
		return nil // nobody's to create, and deleting is a verb of its own
	}
	if equality.Semantic.DeepEqual(at(r.Object, "spec", "approval"), at(r.Old, "spec", "approval")) {
		return nil
	}
	if err := p.need(ctx, r.User, auth.VerbApprove, fleetResource("joinrequests"), nameIn(r.Old), "spec.approval"); err != nil {
		return err
	}
	if !isTrue(r.Object, "spec", "approval", "replace") {
		return nil
	}
	name, _ := at(r.Old, "spec", "clusterName").(string)
	return p.need(ctx, r.User, auth.VerbRevoke, fleetResource("agentidentities"), name, "spec.approval.replace")
}

func (p *permissions) agentIdentity(ctx context.Context, r *api.Admission) error {
	if r.Operation != api.Update || isTrue(r.Object, "spec", "revoked") == isTrue(r.Old, "spec", "revoked") {
		return nil
	}
	return p.need(ctx, r.User, auth.VerbRevoke, fleetResource("agentidentities"), nameIn(r.Old), "spec.revoked")
}

// managedCluster: Open Cluster Management asks for update of managedclusters/accept,
// which is as good.
func (p *permissions) managedCluster(ctx context.Context, r *api.Admission) error {
	if err := p.joinSet(ctx, r); err != nil {
		return err
	}
	if r.Object == nil || r.Operation == api.UpdateStatus ||
		isTrue(r.Object, "spec", "hubAcceptsClient") == isTrue(r.Old, "spec", "hubAcceptsClient") {
		return nil
	}
	clusters, name := schema.GroupResource{Group: cluster.Group, Resource: "managedclusters"}, nameIn(r.Object)
	if ok, err := p.may(ctx, r.User, "update", clusters, "accept", name); err != nil || ok {
		return err
	}
	return p.need(ctx, r.User, auth.VerbAccept, clusters, name, "spec.hubAcceptsClient")
}

// guards reports whether a write of a role or binding must be checked: not a
// deletion, and not one of finalizers and owners alone. Then it returns the
// policy to check it with, which system:masters do not need.
func (p *permissions) guards(ctx context.Context, r *api.Admission) (*auth.Policy, bool, error) {
	if r.Object == nil || r.Old != nil && onlyForDeletion(r.Object, r.Old) {
		return nil, false, nil
	}
	for _, group := range r.User.GetGroups() {
		if group == user.SystemPrivilegedGroup {
			return nil, false, nil
		}
	}
	policy, err := p.fresh(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("read roles and bindings: %w", err)
	}
	return policy, true, nil
}

// onlyForDeletion reports whether nothing changes but what lets an object go.
func onlyForDeletion(obj, old map[string]any) bool {
	strip := func(o map[string]any) map[string]any {
		meta, _ := o["metadata"].(map[string]any)
		o, meta = maps.Clone(o), maps.Clone(meta)
		for _, f := range []string{"finalizers", "ownerReferences", "managedFields", "selfLink", "resourceVersion", "generation"} {
			delete(meta, f)
		}
		o["metadata"] = meta
		return o
	}
	return equality.Semantic.DeepEqual(strip(obj), strip(old))
}

// nameBefore is the name of an object that exists.
func nameBefore(r *api.Admission) string {
	if r.Old == nil {
		return ""
	}
	return nameIn(r.Old)
}

func (p *permissions) role(ctx context.Context, r *api.Admission) error {
	policy, check, err := p.guards(ctx, r)
	if err != nil || !check {
		return err
	}
	var obj rbacv1.Role
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &obj); err != nil {
		return err
	}
	return policy.CheckRole(r.User, nameBefore(r), &obj)
}

func (p *permissions) clusterRole(ctx context.Context, r *api.Admission) error {
	policy, check, err := p.guards(ctx, r)
	if err != nil || !check {
		return err
	}
	var obj rbacv1.ClusterRole
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &obj); err != nil {
		return err
	}
	var old *rbacv1.ClusterRole
	if r.Old != nil {
		old = &rbacv1.ClusterRole{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Old, old); err != nil {
			return err
		}
	}
	return policy.CheckClusterRole(r.User, nameBefore(r), &obj, old)
}

func (p *permissions) roleBinding(ctx context.Context, r *api.Admission) error {
	namespace, _ := at(r.Object, "metadata", "namespace").(string)
	if r.Object != nil && namespace == "" {
		return nil // the schema's to refuse; everywhere is not what it asks for
	}
	return p.binding(ctx, r, namespace)
}

func (p *permissions) clusterRoleBinding(ctx context.Context, r *api.Admission) error {
	return p.binding(ctx, r, "")
}

// binding is the rule of both kinds of bindings.
func (p *permissions) binding(ctx context.Context, r *api.Admission, namespace string) error {
	if r.Object == nil {
		return nil
	}
	if defaultGroups(r.Object) {
		r.Warn("subjects of kind ServiceAccount have no effect: the hub knows users and groups")
	}
	policy, check, err := p.guards(ctx, r)
	if err != nil || !check {
		return err
	}
	var obj struct {
		RoleRef rbacv1.RoleRef `json:"roleRef"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &obj); err != nil {
		return err
	}
	if obj.RoleRef.Name == "" || obj.RoleRef.Kind == "" {
		return nil // the schema's to refuse
	}
	return policy.CheckBinding(r.User, namespace, nameIn(r.Object), obj.RoleRef)
}

// defaultGroups fills in the group of roleRef and subjects, as Kubernetes does,
// and reports whether a ServiceAccount is among the subjects.
func defaultGroups(obj map[string]any) (accounts bool) {
	set := func(m map[string]any) {
		if group, _ := m["apiGroup"].(string); group == "" {
			m["apiGroup"] = rbacv1.GroupName
		}
	}
	if ref, ok := obj["roleRef"].(map[string]any); ok {
		set(ref)
	}
	list, _ := obj["subjects"].([]any)
	for _, entry := range list {
		s, ok := entry.(map[string]any)
		switch {
		case !ok:
		case s["kind"] == rbacv1.ServiceAccountKind:
			accounts = true
		case s["kind"] == rbacv1.UserKind, s["kind"] == rbacv1.GroupKind:
			set(s)
		}
	}
	return accounts
}

// readyToAuthorize is an error until roles and bindings are known.
func readyToAuthorize(source auth.Source) error {
	if source.Policy() == nil {
		return errors.New("roles and bindings are not loaded")
	}
	return nil
}
