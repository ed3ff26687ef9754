// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/enroll"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/clusterregistry"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// hookFunc makes a function a hook.
type hookFunc func(ctx context.Context, r *api.Admission) error

func (f hookFunc) Admit(ctx context.Context, r *api.Admission) error { return f(ctx, r) }

// hooks are the rules of single kinds, by resource.
func hooks(p *parts) map[string]api.Hook {
	out := map[string]api.Hook{
		fleet.ResourceJoinTokens:      hookFunc(func(_ context.Context, r *api.Admission) error { return admitToken(p.enroll, r) }),
		fleet.ResourceJoinRequests:    hookFunc(admitRequest),
		fleet.ResourceAgentIdentities: hookFunc(admitIdentity),
		fleet.ResourceAccessTokens:    hookFunc(admitAccessToken),
		fleet.ResourceSessions:        hookFunc(admitSession),
		cluster.Resource:              hookFunc(admitCluster),
		clusterregistry.Resource:      hookFunc(admitRegistered),
		work.Resource:                 hookFunc((&workRules{p.store, p.content, p.delivery}).admit),
		fleet.ResourceWorkRevisions:   hookFunc(admitRevision),

		addon.ResourceManagedClusterAddOns: hookFunc(installedRules{p}.admit),
		fleet.ResourceAPILists:             hookFunc(admitAPIList),
	}
	maps.Copy(out, configHooks(p))
	return out
}

// hubsOwn refuses a write to what only the hub may write.
func hubsOwn(resource, what string) error {
	group := schema.GroupResource{Group: fleet.Group, Resource: resource}
	return apierrors.NewForbidden(group, "", fmt.Errorf("%s is kept by the hub", what))
}

func admitToken(e *enroll.Enroll, r *api.Admission) error {
	switch r.Operation {
	case api.UpdateStatus:
		return hubsOwn("jointokens", "status")
	case api.Create:
	default:
		return nil
	}
	var t fleet.JoinToken
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &t); err != nil {
		return err
	}
	text, err := e.PrepareToken(&t, time.Now())
	if err != nil {
		return err
	}
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&t.Status)
	if err != nil {
		return err
	}
	r.Object["status"] = status
	if !r.DryRun && r.Reveal != nil {
		r.Reveal([]string{"status", "token"}, text)
	}
	return nil
}

func admitRequest(_ context.Context, r *api.Admission) error {
	switch r.Operation {
	case api.Create:
		return hubsOwn("joinrequests", "a JoinRequest is made by an agent that joins; it")
	case api.UpdateStatus:
		return hubsOwn("joinrequests", "status")
	case api.Delete:
		return nil
	}
	var old, changed fleet.JoinRequest
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Old, &old); err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &changed); err != nil {
		return err
	}
	a := changed.Spec.Approval
	if a == nil || (old.Spec.Approval != nil && *a == *old.Spec.Approval) {
		return nil
	}
	if err := enroll.CheckDecision(&old, a); err != nil {
		return err
	}
	a.By = r.User.GetName()
	a.Fingerprint = enroll.CleanFingerprint(a.Fingerprint)
	approval, err := runtime.DefaultUnstructuredConverter.ToUnstructured(a)
	if err != nil {
		return err
	}
	spec, _ := r.Object["spec"].(map[string]any)
	spec["approval"] = approval
	return nil
}

func admitIdentity(_ context.Context, r *api.Admission) error {
	switch r.Operation {
	case api.Create:
		return hubsOwn("agentidentities", "an AgentIdentity is made by an approved join; it")
	case api.UpdateStatus:
		return hubsOwn("agentidentities", "status")
	case api.Delete:
		return hubsOwn("agentidentities", "an AgentIdentity goes with its ManagedCluster; it")
	}
	return nil
}

// admitCluster holds the name to what an identity and a NATS subject can carry.
func admitCluster(_ context.Context, r *api.Admission) error {
	if r.Operation == api.Create {
		place(r.Object)
		taintNew(r.Object)
	}
	if r.Object != nil && r.Operation != api.UpdateStatus {
		stampTaints(r, time.Now())
		keepRecord(r)
	}
	if r.Operation != api.Create {
		return nil
	}
	var meta struct {
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &meta); err != nil {
		return err
	}
	if err := identity.ValidName(meta.Name); err != nil {
		return field.Invalid(field.NewPath("metadata", "name"), meta.Name, err.Error())
	}
	return nil
}
