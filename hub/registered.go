// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/registry"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/clusterregistry"
)

// withRegistry puts the permissions of the registry before its hook.
func withRegistry(source *auth.Stored, s *store.Store, base map[string]api.Hook) map[string]api.Hook {
	p := &registered{permissions{authorizer: auth.RBAC{Source: source}, fresh: source.Fresh}, s}
	base[clusterregistry.Resource] = before(hookFunc(p.admit), base[clusterregistry.Resource])
	return base
}

// registered are the rules of who may change which Cluster of the registry.
type registered struct {
	permissions
	store *store.Store
}

// admit: a Cluster of the registry is a view of a ManagedCluster. As long as
// nothing but the registry knows of a cluster, a right on the registry is enough;
// once its agent was accepted, who changes or removes it here needs the right to
// do so there.
func (p *registered) admit(ctx context.Context, r *api.Admission) error {
	if err := p.joinSet(ctx, r); err != nil {
		return err
	}
	if r.Operation == api.Create {
		return nil
	}
	name := nameIn(r.Old)
	if !p.accepted(name) {
		return nil
	}
	verb, sub := "update", ""
	switch r.Operation {
	case api.Delete:
		verb = "delete"
	case api.UpdateStatus:
		sub = "status"
	}
	clusters := schema.GroupResource{Group: cluster.Group, Resource: "managedclusters"}
	ok, err := p.may(ctx, r.User, verb, clusters, sub, name)
	if err != nil || ok {
		return err
	}
	return apierrors.NewForbidden(clusters, name, fmt.Errorf(
		"its agent is accepted, so a change in the registry needs the right to %s the ManagedCluster, which user %q has not", verb, r.User.GetName()))
}

// accepted reports whether the hub accepts the agent of a cluster.
func (p *registered) accepted(name string) bool {
	e, ok := p.store.Cached(store.Key{Resource: cluster.Resource, Name: name})
	if !ok {
		return false
	}
	var mc struct {
		Spec struct {
			HubAcceptsClient bool `json:"hubAcceptsClient"`
		} `json:"spec"`
	}
	return json.Unmarshal(e.Data, &mc) != nil || mc.Spec.HubAcceptsClient
}

// admitRegistered holds a Cluster to what a ManagedCluster can be, and keeps
// credentials out.
func admitRegistered(_ context.Context, r *api.Admission) error {
	if r.Object == nil || r.Operation == api.UpdateStatus {
		return nil
	}
	errs := registry.Validate(r.Object)
	if r.Operation == api.Create {
		if err := identity.ValidName(nameIn(r.Object)); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), nameIn(r.Object), err.Error()))
		}
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	if r.Operation == api.Create {
		place(r.Object)
	}
	return nil
}

// keepRecord keeps what the registry knows of a cluster through writes to the
// ManagedCluster that do not know of it.
func keepRecord(r *api.Admission) {
	meta, _ := r.Object["metadata"].(map[string]any)
	text, ok := at(r.Old, "metadata", "annotations", registry.AnnotationRecord).(string)
	if !ok || meta == nil {
		return
	}
	annotations, _ := meta["annotations"].(map[string]any)
	if annotations == nil {
		annotations = map[string]any{}
		meta["annotations"] = annotations
	}
	annotations[registry.AnnotationRecord] = text
}
