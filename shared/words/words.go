// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package words says in one word, and in one sentence, how something is. The
// command line, the tables of the hub and the dashboard all use it, so that the
// same thing is called the same everywhere. Everything here is pure.
package words

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// State is how something is: the word, why, and since when as far as is known.
type State struct {
	Phase string
	// Reason is a sentence for people; empty where the phase says it all.
	Reason string
	Since  time.Time
}

// Phases of a cluster.
const (
	ClusterOnline      = "Online"      // connected and as it should be
	ClusterDegraded    = "Degraded"    // connected, with nodes that are not ready
	ClusterUnhealthy   = "Unhealthy"   // connected, its API server does not answer well
	ClusterOffline     = "Offline"     // its agent is not connected
	ClusterJoining     = "Joining"     // accepted, and its agent was never heard of
	ClusterNotAccepted = "NotAccepted" // no agent may speak for it
	ClusterRemoving    = "Removing"    // being deleted
)

// Cluster is how a managed cluster is.
func Cluster(mc *cluster.ManagedCluster) State {
	c := meta.FindStatusCondition(mc.Status.Conditions, cluster.ConditionAvailable)
	switch {
	case mc.DeletionTimestamp != nil:
		return State{ClusterRemoving, "It is being removed from the hub.", mc.DeletionTimestamp.Time}
	case !mc.Spec.HubAcceptsClient && c == nil:
		return State{ClusterNotAccepted, "No agent was approved for it.", mc.CreationTimestamp.Time}
	case !mc.Spec.HubAcceptsClient:
		return State{ClusterNotAccepted, "Its agent is refused: spec.hubAcceptsClient is false.", c.LastTransitionTime.Time}
	case c == nil:
		return State{ClusterJoining, "Its agent has not reported yet.", mc.CreationTimestamp.Time}
	case c.Status == metav1.ConditionFalse:
		return State{ClusterUnhealthy, c.Message, c.LastTransitionTime.Time}
	case c.Status != metav1.ConditionTrue:
		return State{ClusterOffline, c.Message, lastSeen(mc, c)}
	}
	if a := mc.Status.Agent; a != nil && a.NodesReady < a.Nodes {
		return State{ClusterDegraded, fmt.Sprintf("%d of %d nodes are ready.", a.NodesReady, a.Nodes), c.LastTransitionTime.Time}
	}
	return State{ClusterOnline, "", c.LastTransitionTime.Time}
}

func lastSeen(mc *cluster.ManagedCluster, c *metav1.Condition) time.Time {
	if a := mc.Status.Agent; a != nil && a.LastSeen != nil {
		return a.LastSeen.Time
	}
	return c.LastTransitionTime.Time
}

// Phases of a work, and of what was installed by an addon.
const (
	Healthy     = "Healthy"     // all of it is as desired and ready
	Progressing = "Progressing" // applied, not all of it ready yet
	Unhealthy   = "Unhealthy"   // applied, and something will not get ready by itself
	Failed      = "Failed"      // not applied: the reason says what was refused
	Held        = "Held"        // waits for the approval of a removal
	Drifted     = "Drifted"     // applied and ready, but for what others changed
	Applying    = "Applying"    // what is desired now was not reported on yet
	Removing    = "Removing"
	Complete    = "Complete" // finished for good
)

// Work is how a work is, as far as its cluster reported. Whether the cluster can
// be reached is the cluster's state.
func Work(w *work.ManifestWork) State {
	find := func(typ string) *metav1.Condition { return meta.FindStatusCondition(w.Status.Conditions, typ) }
	current := func(c *metav1.Condition) bool { return c != nil && c.ObservedGeneration >= w.Generation }
	if w.DeletionTimestamp != nil {
		s := State{Removing, "", w.DeletionTimestamp.Time}
		if c := find(work.ConditionDeleting); c != nil {
			s.Reason = c.Message
		}
		return s
	}
	if c := find(work.ConditionPruneBlocked); c != nil && c.Status == metav1.ConditionTrue {
		return State{Held, c.Message, c.LastTransitionTime.Time}
	}
	applied, healthy := find(work.ConditionApplied), find(work.ConditionHealthy)
	switch {
	case !current(applied):
		return State{Applying, "", since(applied, w.CreationTimestamp)}
	case applied.Status != metav1.ConditionTrue:
		return State{Failed, applied.Message, applied.LastTransitionTime.Time}
	}
	if c := find(work.ConditionComplete); c != nil && c.Status == metav1.ConditionTrue {
		return State{Complete, c.Message, c.LastTransitionTime.Time}
	}
	switch {
	case healthy == nil:
		return State{Progressing, "", applied.LastTransitionTime.Time}
	case healthy.Status == metav1.ConditionTrue:
	case healthy.Reason == work.ReasonUnhealthy:
		return State{Unhealthy, healthy.Message, healthy.LastTransitionTime.Time}
	default:
		return State{Progressing, healthy.Message, healthy.LastTransitionTime.Time}
	}
	if c := find(work.ConditionDrifted); c != nil && c.Status == metav1.ConditionTrue {
		return State{Drifted, c.Message, c.LastTransitionTime.Time}
	}
	return State{Healthy, "", healthy.LastTransitionTime.Time}
}

// Phases of an installed addon beside those of a work.
const (
	AddOnWaiting     = "Waiting"     // for another addon, its turn, or the cluster
	AddOnInstalling  = "Installing"  // on its way for the first time
	AddOnUnreachable = "Unreachable" // nothing was heard of it since its cluster is away
)

// AddOn is how an addon is on one cluster.
func AddOn(a *addon.ManagedClusterAddOn) State {
	find := func(typ string) *metav1.Condition { return meta.FindStatusCondition(a.Status.Conditions, typ) }
	is := func(c *metav1.Condition, status metav1.ConditionStatus) bool { return c != nil && c.Status == status }
	of := func(phase string, c *metav1.Condition) State {
		return State{phase, c.Message, c.LastTransitionTime.Time}
	}
	available, progressing := find(addon.ConditionAvailable), find(addon.ConditionProgressing)
	if a.DeletionTimestamp != nil {
		s := State{Removing, "", a.DeletionTimestamp.Time}
		if is(progressing, metav1.ConditionTrue) {
			s.Reason = progressing.Message
		}
		return s
	}
	configured, applied, degraded := find(addon.ConditionConfigured), find(addon.ConditionManifestApplied), find(addon.ConditionDegraded)
	switch {
	case is(configured, metav1.ConditionFalse):
		return of(Failed, configured)
	case is(progressing, metav1.ConditionFalse) && is(degraded, metav1.ConditionTrue):
		return of(Unhealthy, degraded)
	case is(progressing, metav1.ConditionFalse) && (progressing.Reason == addon.ReasonFailed || progressing.Reason == addon.ReasonConfigurationUnsupported):
		return of(Failed, progressing)
	case is(applied, metav1.ConditionFalse) && applied.Reason != addon.ReasonWorkNotFound && applied.Reason != addon.ReasonWorkNotApplied:
		return of(Failed, applied)
	case is(available, metav1.ConditionUnknown) && !unreported(available.Reason):
		return of(AddOnUnreachable, available)
	case is(progressing, metav1.ConditionFalse) && waits(progressing.Reason):
		return of(AddOnWaiting, progressing)
	case is(progressing, metav1.ConditionTrue) && is(available, metav1.ConditionTrue):
		return of(Progressing, progressing)
	case is(progressing, metav1.ConditionTrue):
		return of(AddOnInstalling, progressing)
	case is(available, metav1.ConditionFalse):
		return of(Unhealthy, available)
	case available == nil:
		return State{AddOnInstalling, "", a.CreationTimestamp.Time}
	case is(available, metav1.ConditionUnknown):
		return of(AddOnInstalling, available)
	case is(degraded, metav1.ConditionTrue):
		return of(Unhealthy, degraded)
	}
	return State{Healthy, "", available.LastTransitionTime.Time}
}

// unreported says of a reason of Available that nothing is known yet, which is not
// the same as nothing being known any more.
func unreported(reason string) bool {
	return reason == addon.ReasonWorkNotFound || reason == addon.ReasonWorkNotApplied || reason == addon.ReasonNoProbeResult
}

func waits(reason string) bool {
	switch reason {
	case addon.ReasonWaitingForDependency, addon.ReasonWaitingForDependents, addon.ReasonWaitingForTurn, addon.ReasonWaitingForCluster:
		return true
	}
	return false
}

// Phases of a join token.
const (
	TokenOpen    = "Open"
	TokenUsedUp  = "UsedUp"
	TokenExpired = "Expired"
	TokenRevoked = "Revoked"
)

// Token is how a join token is at a time.
func Token(t *fleet.JoinToken, now time.Time) State {
	s := State{Phase: TokenOpen, Since: t.CreationTimestamp.Time}
	switch {
	case t.Spec.Revoked || t.DeletionTimestamp != nil:
		s.Phase, s.Since = TokenRevoked, time.Time{}
	case len(t.Status.Used) >= int(max(t.Spec.Uses, 1)):
		s.Phase, s.Since = TokenUsedUp, t.Status.Used[len(t.Status.Used)-1].Time.Time
	case t.Status.Expires != nil && !now.Before(t.Status.Expires.Time):
		s.Phase, s.Since = TokenExpired, t.Status.Expires.Time
	}
	return s
}

// Request is how a join request is.
func Request(r *fleet.JoinRequest) State {
	s := State{Phase: r.Status.Phase, Reason: r.Status.Message, Since: r.CreationTimestamp.Time}
	if s.Phase == "" {
		s.Phase = fleet.PhasePending
	}
	return s
}

// Phases of a version of an addon.
const (
	VersionReady    = "Published"
	VersionInactive = "Inactive" // runs where it runs, cannot be installed anew
	VersionBroken   = "Broken"   // its content cannot be read
)

// Version is how a version of an addon is.
func Version(v *fleet.AddOnVersion) State {
	for _, c := range v.Status.Conditions {
		if c.Status == metav1.ConditionFalse {
			return State{VersionBroken, c.Message, c.LastTransitionTime.Time}
		}
	}
	if v.Spec.Active != nil && !*v.Spec.Active {
		return State{Phase: VersionInactive, Since: v.CreationTimestamp.Time}
	}
	return State{Phase: VersionReady, Since: v.CreationTimestamp.Time}
}

func since(c *metav1.Condition, otherwise metav1.Time) time.Time {
	if c == nil {
		return otherwise.Time
	}
	return c.LastTransitionTime.Time
}
