// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

func (e *Enroll) runRequests(ctx context.Context) error {
	return e.follow(ctx, fleet.ResourceJoinRequests, func(ctx context.Context, ev store.Event) error {
		if ev.Type == store.Deleted {
			return nil
		}
		jr, err := e.requests.Get(ctx, "", ev.Entry.Key.Name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return e.decide(ctx, jr)
	})
}

// decide carries out the decision on a request, if there is one and it is not
// carried out yet.
func (e *Enroll) decide(ctx context.Context, jr *fleet.JoinRequest) error {
	a := jr.Spec.Approval
	switch {
	case a == nil || final(jr):
		return nil
	case a.Decision == fleet.Deny:
		e.log.Info("join request denied", zap.String("request", jr.Name), zap.String("cluster", jr.Spec.ClusterName), zap.String("by", a.By))
		return e.finish(ctx, jr.Name, fleet.JoinRequestStatus{Phase: fleet.PhaseDenied, Message: a.Reason})
	}
	return e.approve(ctx, jr)
}

// approve signs the request's key and makes it the cluster's identity. Every
// step can be repeated: the record keeps the chain it was made with.
func (e *Enroll) approve(ctx context.Context, jr *fleet.JoinRequest) error {
	e.identity.Lock()
	defer e.identity.Unlock()
	name := jr.Spec.ClusterName
	record, err := e.identities.Get(ctx, "", name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		record = nil
	case err != nil:
		return fmt.Errorf("read identity: %w", err)
	case record.Status.Request != jr.Name && !jr.Spec.Approval.Replace:
		return e.finish(ctx, jr.Name, fleet.JoinRequestStatus{
			Phase: fleet.PhaseDenied, Message: fmt.Sprintf("cluster %s was enrolled by another request meanwhile", name),
		})
	}
	if record == nil || record.Status.Request != jr.Name {
		if record, err = e.issue(ctx, jr, record); err != nil {
			return err
		}
	}
	if err := e.admitCluster(ctx, jr); err != nil {
		return fmt.Errorf("write managed cluster: %w", err)
	}
	e.recordIssued(ctx, jr, record.Status.Serial)
	e.log.Info("cluster joined", zap.String("cluster", name), zap.String("request", jr.Name),
		zap.String("by", jr.Spec.Approval.By), zap.String("serial", record.Status.Serial))
	return e.finish(ctx, jr.Name, fleet.JoinRequestStatus{
		Phase: fleet.PhaseJoined, Chain: record.Status.Chain, Serial: record.Status.Serial, Expires: record.Status.Expires,
	})
}

// issue signs, and writes the record. A former holder of the name loses its
// certificates first, so that there are never two.
func (e *Enroll) issue(ctx context.Context, jr *fleet.JoinRequest, former *fleet.AgentIdentity) (*fleet.AgentIdentity, error) {
	name := jr.Spec.ClusterName
	if former != nil {
		if err := e.revokeSerials(ctx, former, ca.CodeSuperseded, "replaced by join request "+jr.Name); err != nil {
			return nil, err
		}
	}
	issued, err := e.cfg.CA.SignAgent(ctx, []byte(jr.Spec.CSR), name)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	status := fleet.AgentIdentityStatus{
		Serial: issued.Serial, Fingerprint: jr.Spec.Fingerprint, Request: jr.Name,
		Chain: string(issued.ChainPEM), Expires: metaTime(issued.NotAfter),
	}
	if former == nil {
		return e.identities.Create(ctx, &fleet.AgentIdentity{
			TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindAgentIdentity},
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status:     status,
		})
	}
	record, err := e.identities.Update(ctx, "", name, func(r *fleet.AgentIdentity) error {
		r.Spec = fleet.AgentIdentitySpec{}
		r.Status = status
		return nil
	})
	e.cfg.CloseSessions(name, "replaced: the cluster was enrolled anew")
	return record, err
}

// admitCluster makes or updates the ManagedCluster of an approved request. One
// approval is both of OCM's opt-ins.
func (e *Enroll) admitCluster(ctx context.Context, jr *fleet.JoinRequest) error {
	_, err := e.clusters.Create(ctx, &cluster.ManagedCluster{
		TypeMeta:   metav1.TypeMeta{APIVersion: cluster.Group + "/" + cluster.Version, Kind: cluster.Kind},
		ObjectMeta: metav1.ObjectMeta{Name: jr.Spec.ClusterName, Labels: jr.Spec.Labels},
		Spec:       cluster.ManagedClusterSpec{HubAcceptsClient: true, LeaseDurationSeconds: 60},
		Status:     joinedStatus(cluster.ManagedClusterStatus{}),
	})
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	_, err = e.clusters.Update(ctx, "", jr.Spec.ClusterName, func(mc *cluster.ManagedCluster) error {
		if mc.Labels == nil {
			mc.Labels = map[string]string{}
		}
		for k, v := range jr.Spec.Labels {
			if _, set := mc.Labels[k]; !set {
				mc.Labels[k] = v
			}
		}
		mc.Spec.HubAcceptsClient = true
		mc.Status = joinedStatus(mc.Status)
		return nil
	})
	return err
}

func joinedStatus(s cluster.ManagedClusterStatus) cluster.ManagedClusterStatus {
	for _, c := range []metav1.Condition{
		{Type: cluster.ConditionHubAccepted, Status: metav1.ConditionTrue, Reason: cluster.ReasonAccepted, Message: "Accepted by hub cluster admin"},
		{Type: cluster.ConditionJoined, Status: metav1.ConditionTrue, Reason: cluster.ReasonJoined, Message: "Managed cluster joined"},
	} {
		meta.SetStatusCondition(&s.Conditions, c)
	}
	return s
}

func (e *Enroll) finish(ctx context.Context, request string, status fleet.JoinRequestStatus) error {
	_, err := e.requests.UpdateStatus(ctx, "", request, func(jr *fleet.JoinRequest) error {
		jr.Status = status
		return nil
	})
	return err
}

func (e *Enroll) revokeSerials(ctx context.Context, r *fleet.AgentIdentity, code int, reason string) error {
	for _, serial := range []string{r.Status.Serial, r.Status.NextSerial} {
		if serial == "" {
			continue
		}
		// Revoking is repeated at every start; it is recorded once.
		done, err := e.cfg.CA.Revoked(ctx, serial)
		known := done && err == nil
		if err := e.cfg.CA.Revoke(ctx, serial, code, reason); err != nil {
			return fmt.Errorf("revoke certificate %s: %w", serial, err)
		}
		if !known {
			e.recordRevoked(ctx, r.Name, serial, reason)
		}
	}
	return nil
}

// runExpiry ends requests that nobody decided, removes decided ones and dead
// tokens once they are old, and identities that lost their cluster.
func (e *Enroll) runExpiry(ctx context.Context) error {
	for {
		if err := e.expire(ctx, time.Now()); err != nil && ctx.Err() == nil {
			e.log.Warn("expiring join requests failed, will try again", zap.Error(err))
		}
		if !daemon.Sleep(ctx, expiryInterval) {
			return ctx.Err()
		}
	}
}

func (e *Enroll) expire(ctx context.Context, now time.Time) error {
	requests, _, err := e.requests.List(ctx, store.Selection{})
	if err != nil {
		return err
	}
	for _, jr := range requests {
		switch age := now.Sub(jr.CreationTimestamp.Time); {
		case undecided(jr) && age >= pendingLifetime:
			_, err = e.requests.UpdateStatus(ctx, "", jr.Name, func(jr *fleet.JoinRequest) error {
				// The list may be older than a decision.
				if undecided(jr) {
					jr.Status = fleet.JoinRequestStatus{
						Phase: fleet.PhaseExpired, Message: "nobody decided within 24 hours; join again with a new token",
					}
				}
				return nil
			})
		case final(jr) && age >= keepDecided:
			err = e.requests.Delete(ctx, "", jr.Name)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	if err := e.forgetTokens(ctx, now); err != nil {
		return err
	}
	return e.removeOrphans(ctx)
}

func (e *Enroll) forgetTokens(ctx context.Context, now time.Time) error {
	tokens, _, err := e.tokens.List(ctx, store.Selection{})
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Status.Expires == nil || now.Sub(t.Status.Expires.Time) < keepDecided {
			continue
		}
		if err := e.tokens.Delete(ctx, "", t.Name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// removeOrphans ends identities whose cluster went away without runClusters
// having finished with it: the hub died, or the store failed.
func (e *Enroll) removeOrphans(ctx context.Context) error {
	identities, _, err := e.identities.List(ctx, store.Selection{})
	if err != nil {
		return err
	}
	for _, r := range identities {
		if _, ok := e.cfg.Store.Cached(store.Key{Resource: cluster.Resource, Name: r.Name}); ok {
			continue
		}
		if err := e.remove(ctx, r.Name); err != nil {
			return err
		}
	}
	return nil
}

func undecided(jr *fleet.JoinRequest) bool {
	return jr.Status.Phase == fleet.PhasePending && jr.Spec.Approval == nil
}

func final(jr *fleet.JoinRequest) bool {
	switch jr.Status.Phase {
	case fleet.PhaseJoined, fleet.PhaseDenied, fleet.PhaseExpired:
		return true
	}
	return false
}
