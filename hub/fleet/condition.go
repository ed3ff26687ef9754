// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/wire"
)

// view is all that decides a cluster's status.
type view struct {
	connected bool
	since     time.Time    // start of the live session
	epoch     uint64       // of the live session
	address   string       // of the live session
	hello     *wire.Hello  // of the live session, nil until it came
	status    *wire.Status // of the live session, nil until it came
	// lost is when the last session ended; for a cluster not seen since the hub
	// started, when the hub started.
	lost time.Time
	// absent is set as long as nothing was heard of an agent since the hub started.
	absent bool
	// apis is the digest of what the cluster serves, once that is stored.
	apis string
	// overdue is set once the end of the grace period was seen.
	overdue bool
}

// Limits of what an agent may put into the status, in bytes.
const (
	maxText      = 128
	maxMessage   = 1024
	maxResources = 64
)

const effectNoSelect = "NoSelect"

// apply writes into s what v says of a cluster at now. A cluster that lost its
// connection keeps its last state for grace, and its last facts for good. Pure.
func apply(s *cluster.ManagedClusterStatus, v view, grace time.Duration, now time.Time) {
	if !v.connected {
		applyLost(s, v, grace, now)
		return
	}
	if s.Agent == nil {
		s.Agent = &cluster.AgentStatus{}
	}
	s.Agent.ConnectedSince, s.Agent.LastSeen = seconds(v.since), nil
	s.Agent.Address = v.address
	if v.hello != nil {
		s.Agent.Version = clip(v.hello.AgentVersion, maxText)
	}
	if v.status == nil {
		return
	}
	applyFacts(s, v.status)
	if v.apis != "" {
		s.Agent.APIs = v.apis
	}
	meta.SetStatusCondition(&s.Conditions, available(v.status))
}

func applyLost(s *cluster.ManagedClusterStatus, v view, grace time.Duration, now time.Time) {
	// An agent that was never here is not lost. One that went before it said how
	// its cluster is has a session in the status, and no condition.
	if s.Agent == nil || now.Sub(v.lost) < grace {
		return
	}
	if s.Agent.ConnectedSince != nil || s.Agent.LastSeen == nil {
		s.Agent.ConnectedSince, s.Agent.LastSeen = nil, seconds(v.lost)
	}
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: cluster.ConditionAvailable, Status: metav1.ConditionUnknown, Reason: cluster.ReasonLeaseUpdateStopped,
		Message: fmt.Sprintf("The agent is not connected since %s.", s.Agent.LastSeen.UTC().Format(time.RFC3339)),
	})
}

func available(status *wire.Status) metav1.Condition {
	c := metav1.Condition{
		Type: cluster.ConditionAvailable, Status: metav1.ConditionTrue,
		Reason: cluster.ReasonAvailable, Message: "Managed cluster is available",
	}
	switch k := status.Kubernetes; {
	case k == nil:
		c.Message = "The agent is connected; it manages no Kubernetes cluster, only the machine it runs on"
	case !k.Healthy:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, cluster.ReasonAPIServerUnavailable, clip(k.HealthMessage, maxMessage)
	}
	return c
}

// applyTaints keeps the taints that the hub sets by itself, by the condition
// Available, as Open Cluster Management does: those of other keys are not touched.
func applyTaints(mc *cluster.ManagedCluster, now time.Time) {
	want := ""
	switch c := meta.FindStatusCondition(mc.Status.Conditions, cluster.ConditionAvailable); {
	case c == nil || c.Status == metav1.ConditionUnknown:
		want = cluster.TaintUnreachable
	case c.Status == metav1.ConditionFalse:
		want = cluster.TaintUnavailable
	}
	found := false
	mc.Spec.Taints = slices.DeleteFunc(mc.Spec.Taints, func(t cluster.Taint) bool {
		if t.Key != cluster.TaintUnreachable && t.Key != cluster.TaintUnavailable {
			return false
		}
		keep := t.Key == want && t.Effect == effectNoSelect && !found
		found = found || keep
		return !keep
	})
	if want != "" && !found {
		mc.Spec.Taints = append(mc.Spec.Taints, cluster.Taint{Key: want, Effect: effectNoSelect, TimeAdded: *seconds(now)})
	}
}

// applyFacts takes over what the agent saw. What it could not see this time,
// because the API server was down, stays as it was.
func applyFacts(s *cluster.ManagedClusterStatus, status *wire.Status) {
	if !status.CertificateNotAfter.IsZero() {
		s.Agent.CertificateExpires = seconds(status.CertificateNotAfter)
	}
	k := status.Kubernetes
	if k == nil {
		return
	}
	if k.Version != "" {
		s.Version.Kubernetes = clip(k.Version, maxText)
	}
	applyClaims(s, k)
	applyNodes(s.Agent, k)
	if len(k.Capacity) > 0 {
		s.Capacity, s.Allocatable = quantities(k.Capacity), quantities(k.Allocatable)
		s.Agent.Nodes, s.Agent.NodesReady = count(k.Nodes), count(k.NodesReady)
	}
}

// quantities drops what is none: one that does not parse would break the list
// of all clusters for every typed client.
func quantities(m map[string]string) map[string]string {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if _, err := resource.ParseQuantity(m[name]); err == nil && len(name) <= maxText && len(m[name]) <= maxText && len(out) < maxResources {
			out[name] = m[name]
		}
	}
	return out
}

func count(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) } //nolint:gosec // bounded

// clip shortens s to at most n bytes, at the edge of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func setClaim(s *cluster.ManagedClusterStatus, name, value string) {
	for i := range s.ClusterClaims {
		if s.ClusterClaims[i].Name == name {
			s.ClusterClaims[i].Value = value
			return
		}
	}
	s.ClusterClaims = append(s.ClusterClaims, cluster.Claim{Name: name, Value: value})
}

func seconds(t time.Time) *metav1.Time {
	m := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &m
}
