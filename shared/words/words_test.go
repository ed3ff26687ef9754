// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package words_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/words"
)

// moment is when everything happened.
var moment = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

func is(typ string, status metav1.ConditionStatus, reason string, generation int64) metav1.Condition {
	return metav1.Condition{Type: typ, Status: status, Reason: reason, Message: "because", ObservedGeneration: generation, LastTransitionTime: moment}
}

const (
	yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
)

func TestCluster(t *testing.T) {
	t.Parallel()
	seen := metav1.NewTime(moment.Add(time.Hour))
	of := func(accepted bool, agent *cluster.AgentStatus, c ...metav1.Condition) *cluster.ManagedCluster {
		return &cluster.ManagedCluster{Spec: cluster.ManagedClusterSpec{HubAcceptsClient: accepted}, Status: cluster.ManagedClusterStatus{Conditions: c, Agent: agent}}
	}
	going := of(true, nil, is(cluster.ConditionAvailable, yes, "", 0))
	going.DeletionTimestamp = &moment
	for name, tt := range map[string]struct {
		in            *cluster.ManagedCluster
		phase, reason string
		since         time.Time
	}{
		"nobody asked":    {of(false, nil), "NotAccepted", "No agent was approved for it.", time.Time{}},
		"joining":         {of(true, nil), "Joining", "Its agent has not reported yet.", time.Time{}},
		"online":          {of(true, &cluster.AgentStatus{Nodes: 3, NodesReady: 3}, is(cluster.ConditionAvailable, yes, "", 0)), "Online", "", moment.Time},
		"degraded":        {of(true, &cluster.AgentStatus{Nodes: 3, NodesReady: 1}, is(cluster.ConditionAvailable, yes, "", 0)), "Degraded", "1 of 3 nodes are ready.", moment.Time},
		"api server down": {of(true, nil, is(cluster.ConditionAvailable, no, "", 0)), "Unhealthy", "because", moment.Time},
		"away":            {of(true, &cluster.AgentStatus{LastSeen: &seen}, is(cluster.ConditionAvailable, unknown, "", 0)), "Offline", "because", seen.Time},
		"away unseen":     {of(true, nil, is(cluster.ConditionAvailable, unknown, "", 0)), "Offline", "because", moment.Time},
		"refused":         {of(false, nil, is(cluster.ConditionAvailable, unknown, "", 0)), "NotAccepted", "Its agent is refused: spec.hubAcceptsClient is false.", moment.Time},
		"going":           {going, "Removing", "It is being removed from the hub.", moment.Time},
	} {
		if got := words.Cluster(tt.in); got.Phase != tt.phase || got.Reason != tt.reason || !got.Since.Equal(tt.since) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWork(t *testing.T) {
	t.Parallel()
	of := func(c ...metav1.Condition) *work.ManifestWork {
		w := &work.ManifestWork{Status: work.ManifestWorkStatus{Conditions: c}}
		w.Generation = 2
		return w
	}
	applied, healthy := is(work.ConditionApplied, yes, "", 2), is(work.ConditionHealthy, yes, "", 2)
	going := of(applied, is(work.ConditionDeleting, yes, "", 2))
	going.DeletionTimestamp = &moment
	for name, tt := range map[string]struct {
		in    *work.ManifestWork
		phase string
	}{
		"sent":        {of(), words.Applying},
		"changed":     {of(is(work.ConditionApplied, yes, "", 1), healthy), words.Applying},
		"refused":     {of(is(work.ConditionApplied, no, "", 2), healthy), words.Failed},
		"on its way":  {of(applied, is(work.ConditionHealthy, no, work.ReasonProgressing, 2)), words.Progressing},
		"nothing yet": {of(applied), words.Progressing},
		"broken":      {of(applied, is(work.ConditionHealthy, no, work.ReasonUnhealthy, 2)), words.Unhealthy},
		"well":        {of(applied, healthy), words.Healthy},
		"drifted":     {of(applied, healthy, is(work.ConditionDrifted, yes, "", 2)), words.Drifted},
		"held":        {of(applied, healthy, is(work.ConditionPruneBlocked, yes, "", 2)), words.Held},
		"finished":    {of(applied, is(work.ConditionHealthy, no, "", 2), is(work.ConditionComplete, yes, "", 2)), words.Complete},
		"going":       {going, words.Removing},
	} {
		if got := words.Work(tt.in); got.Phase != tt.phase {
			t.Errorf("%s: %+v, want %s", name, got, tt.phase)
		}
	}
}

func TestAddOn(t *testing.T) {
	t.Parallel()
	of := func(c ...metav1.Condition) *addon.ManagedClusterAddOn {
		return &addon.ManagedClusterAddOn{Status: addon.ManagedClusterAddOnStatus{Conditions: c}}
	}
	well := is(addon.ConditionAvailable, yes, "", 0)
	for name, tt := range map[string]struct {
		in    *addon.ManagedClusterAddOn
		phase string
	}{
		"new":          {of(), words.AddOnInstalling},
		"on its way":   {of(is(addon.ConditionProgressing, yes, addon.ReasonProgressing, 0)), words.AddOnInstalling},
		"upgrading":    {of(well, is(addon.ConditionProgressing, yes, addon.ReasonProgressing, 0)), words.Progressing},
		"waiting":      {of(is(addon.ConditionProgressing, no, addon.ReasonWaitingForDependency, 0)), words.AddOnWaiting},
		"its turn":     {of(is(addon.ConditionProgressing, no, addon.ReasonWaitingForTurn, 0), is(addon.ConditionAvailable, unknown, addon.ReasonWorkNotFound, 0)), words.AddOnWaiting},
		"sick":         {of(is(addon.ConditionAvailable, no, addon.ReasonProbeUnavailable, 0), is(addon.ConditionProgressing, no, addon.ReasonFailed, 0), is(addon.ConditionDegraded, yes, addon.ReasonUnhealthy, 0)), words.Unhealthy},
		"hook failed":  {of(well, is(addon.ConditionProgressing, no, addon.ReasonFailed, 0)), words.Failed},
		"sent":         {of(is(addon.ConditionAvailable, unknown, addon.ReasonWorkNotApplied, 0)), words.AddOnInstalling},
		"conflict":     {of(well, is(addon.ConditionConfigured, no, "Conflict", 0)), words.Failed},
		"not applied":  {of(is(addon.ConditionManifestApplied, no, addon.ReasonManifestApplyFailed, 0)), words.Failed},
		"no work yet":  {of(is(addon.ConditionManifestApplied, no, addon.ReasonWorkNotFound, 0)), words.AddOnInstalling},
		"well":         {of(well, is(addon.ConditionProgressing, no, addon.ReasonCompleted, 0)), words.Healthy},
		"broken":       {of(is(addon.ConditionAvailable, no, "", 0)), words.Unhealthy},
		"degraded":     {of(well, is(addon.ConditionDegraded, yes, "", 0)), words.Unhealthy},
		"cluster away": {of(is(addon.ConditionAvailable, unknown, "", 0)), words.AddOnUnreachable},
	} {
		if got := words.AddOn(tt.in); got.Phase != tt.phase {
			t.Errorf("%s: %+v, want %s", name, got, tt.phase)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	soon := metav1.NewTime(moment.Add(time.Hour))
	of := func(uses int32, used int, revoked bool) *fleet.JoinToken {
		return &fleet.JoinToken{
			Spec:   fleet.JoinTokenSpec{Uses: uses, Revoked: revoked},
			Status: fleet.JoinTokenStatus{Expires: &soon, Used: make([]fleet.TokenUse, used)},
		}
	}
	for name, tt := range map[string]struct {
		in    *fleet.JoinToken
		at    time.Time
		phase string
	}{
		"open":           {of(0, 0, false), moment.Time, words.TokenOpen},
		"half used":      {of(2, 1, false), moment.Time, words.TokenOpen},
		"used":           {of(0, 1, false), moment.Time, words.TokenUsedUp},
		"too late":       {of(0, 0, false), soon.Time, words.TokenExpired},
		"ended":          {of(0, 0, true), soon.Time, words.TokenRevoked},
		"used, too late": {of(1, 1, false), soon.Time, words.TokenUsedUp},
	} {
		if got := words.Token(tt.in, tt.at); got.Phase != tt.phase {
			t.Errorf("%s: %+v, want %s", name, got, tt.phase)
		}
	}
}

// TestTable: every word is there once, with a tone and a meaning, and every action
// has a verb and names what it is done to.
func TestTable(t *testing.T) {
	t.Parallel()
	all := words.AllPhases()
	for kind, phases := range map[string][]words.Phase{
		"cluster": all.Cluster, "request": all.Request, "token": all.Token, "work": all.Work, "addon": all.AddOn, "version": all.Version,
	} {
		seen := map[string]bool{}
		for _, p := range phases {
			if seen[p.Name] || p.Tone == "" || p.Meaning == "" {
				t.Errorf("%s: %+v", kind, p)
			}
			seen[p.Name] = true
		}
		if phases[len(phases)-1].Tone != words.ToneOK {
			t.Errorf("%s: the last word is %+v, want one of those that need nobody", kind, phases[len(phases)-1])
		}
	}
	for _, a := range words.Actions() {
		if a.Verb == "" || a.Typed && a.Consequence == "" {
			t.Errorf("%+v", a)
		}
	}
	if got := words.Consequence(words.ActionRemoveCluster, "shop-1"); !strings.HasPrefix(got, "Cluster shop-1 will be removed") {
		t.Errorf("%q", got)
	}
}
