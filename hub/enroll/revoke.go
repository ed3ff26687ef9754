// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// runIdentities bans whoever a person revoked.
func (e *Enroll) runIdentities(ctx context.Context) error {
	return e.follow(ctx, fleet.ResourceAgentIdentities, func(ctx context.Context, ev store.Event) error {
		name := ev.Entry.Key.Name
		if ev.Type == store.Deleted {
			e.cfg.CloseSessions(name, "removed: the cluster is no longer enrolled")
			return nil
		}
		record, err := e.identities.Get(ctx, "", name)
		if errors.Is(err, store.ErrNotFound) || (err == nil && !record.Spec.Revoked) {
			return nil
		}
		if err != nil {
			return err
		}
		e.cfg.CloseSessions(name, "revoked: "+record.Spec.Reason)
		return e.revokeSerials(ctx, record, ca.CodeKeyCompromise, record.Spec.Reason)
	})
}

// runClusters follows the ManagedClusters: one that is gone takes its identity
// along, one that is not accepted loses its connections.
func (e *Enroll) runClusters(ctx context.Context) error {
	return e.follow(ctx, cluster.Resource, func(ctx context.Context, ev store.Event) error {
		name := ev.Entry.Key.Name
		mc, err := e.clusters.Get(ctx, "", name)
		if errors.Is(err, store.ErrNotFound) {
			return e.remove(ctx, name)
		}
		if err != nil {
			return err
		}
		if !mc.Spec.HubAcceptsClient {
			e.cfg.CloseSessions(name, "not-accepted: spec.hubAcceptsClient is false")
		}
		return e.markAcceptance(ctx, mc)
	})
}

// remove ends the identity of a cluster that does not exist any more.
func (e *Enroll) remove(ctx context.Context, name string) error {
	e.identity.Lock()
	defer e.identity.Unlock()
	_, err := e.clusters.Get(ctx, "", name)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	record, err := e.identities.Get(ctx, "", name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := e.revokeSerials(ctx, record, ca.CodeCessation, "cluster removed"); err != nil {
		return err
	}
	if err := e.identities.Delete(ctx, "", name); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	e.log.Info("cluster removed", zap.String("cluster", name))
	e.cfg.CloseSessions(name, "removed: the cluster was removed from the hub")
	return nil
}

// markAcceptance keeps the condition equal to the spec. A cluster that nobody
// decided on yet has no condition.
func (e *Enroll) markAcceptance(ctx context.Context, mc *cluster.ManagedCluster) error {
	c := metav1.Condition{
		Type: cluster.ConditionHubAccepted, Status: metav1.ConditionTrue,
		Reason: cluster.ReasonAccepted, Message: "Accepted by hub cluster admin",
	}
	if !mc.Spec.HubAcceptsClient {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, cluster.ReasonDenied, "Denied by hub cluster admin"
	}
	old := meta.FindStatusCondition(mc.Status.Conditions, c.Type)
	if (old == nil && !mc.Spec.HubAcceptsClient) || (old != nil && old.Status == c.Status) {
		return nil
	}
	_, err := e.clusters.UpdateStatus(ctx, "", mc.Name, func(mc *cluster.ManagedCluster) error {
		meta.SetStatusCondition(&mc.Status.Conditions, c)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
