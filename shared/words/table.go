// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package words

import (
	"fmt"
	"strings"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// Tone is how much a phase asks for attention.
type Tone string

// Tones, from nothing to do to look now.
const (
	ToneOK   Tone = "ok"
	ToneBusy Tone = "busy" // on its way by itself
	ToneNone Tone = "none" // over, or none of anybody's business
	ToneWarn Tone = "warn" // waits for a person, or will soon
	ToneBad  Tone = "bad"
)

// Phase is a word with its tone and what it means.
type Phase struct {
	Name    string `json:"name"`
	Tone    Tone   `json:"tone"`
	Meaning string `json:"meaning"`
}

// Phases of each kind of thing, those that need somebody first.
type Phases struct {
	Cluster []Phase `json:"cluster"`
	Request []Phase `json:"request"`
	Token   []Phase `json:"token"`
	Work    []Phase `json:"work"`
	AddOn   []Phase `json:"addon"`
	Version []Phase `json:"version"`
}

// AllPhases is the table of all words for states.
func AllPhases() Phases {
	return Phases{
		Cluster: []Phase{
			{ClusterUnhealthy, ToneBad, "its API server does not answer well"},
			{ClusterOffline, ToneBad, "its agent is not connected"},
			{ClusterDegraded, ToneWarn, "some of its nodes are not ready"},
			{ClusterJoining, ToneBusy, "its agent has not reported yet"},
			{ClusterRemoving, ToneBusy, "it is being removed from the hub"},
			{ClusterNotAccepted, ToneNone, "no agent may speak for it"},
			{ClusterOnline, ToneOK, "connected and as it should be"},
		},
		Request: []Phase{
			{fleet.PhasePending, ToneWarn, "waits for a decision"},
			{fleet.PhaseApproved, ToneBusy, "approved, its certificate is being made"},
			{fleet.PhaseDenied, ToneNone, "refused"},
			{fleet.PhaseExpired, ToneNone, "nobody decided in time"},
			{fleet.PhaseJoined, ToneOK, "has its certificate"},
		},
		Token: []Phase{
			{TokenRevoked, ToneNone, "ended by somebody"},
			{TokenExpired, ToneNone, "its time is over"},
			{TokenUsedUp, ToneNone, "used as often as it may be"},
			{TokenOpen, ToneOK, "agents can join with it"},
		},
		Work: workPhases(),
		AddOn: append([]Phase{
			{AddOnUnreachable, ToneBad, "its cluster is away"},
			{AddOnWaiting, ToneWarn, "waits for another addon, its turn, or the cluster"},
			{AddOnInstalling, ToneBusy, "on its way for the first time"},
		}, workPhases()...),
		Version: []Phase{
			{VersionBroken, ToneBad, "its content cannot be read"},
			{VersionInactive, ToneNone, "runs where it runs, cannot be installed anew"},
			{VersionReady, ToneOK, "can be installed"},
		},
	}
}

func workPhases() []Phase {
	return []Phase{
		{Failed, ToneBad, "could not be applied"},
		{Unhealthy, ToneBad, "applied, and something will not get ready by itself"},
		{Held, ToneWarn, "waits for the approval of a removal"},
		{Drifted, ToneWarn, "others changed something"},
		{Applying, ToneBusy, "sent, not reported on yet"},
		{Progressing, ToneBusy, "applied, not all of it ready yet"},
		{Removing, ToneBusy, "being removed"},
		{Complete, ToneOK, "finished for good"},
		{Healthy, ToneOK, "all of it is as desired and ready"},
	}
}

// Action is something that people do, by the word on its button, and what they
// must know before they do it. The name of the thing stands for {name} in it.
type Action struct {
	ID          string `json:"id"`
	Verb        string `json:"verb"`
	Consequence string `json:"consequence,omitempty"`
	// Typed actions cannot be undone: the name is typed before.
	Typed bool `json:"typed,omitempty"`
}

// IDs of actions.
const (
	ActionApprove       = "approve"
	ActionDeny          = "deny"
	ActionRevokeToken   = "revoke-token"
	ActionRemoveCluster = "remove-cluster"
	ActionRevokeCluster = "revoke-cluster"
	ActionRemoveWork    = "remove-work"
	ActionApprovePrune  = "approve-prune"
	ActionInstall       = "install-addon"
	ActionUninstall     = "remove-addon"
	ActionEndSession    = "end-session"
)

// Actions is the table of all words for what people do.
func Actions() []Action {
	return []Action{
		{ActionApprove, "Approve", "Whoever holds the key with this fingerprint becomes cluster {name}.", false},
		{ActionDeny, "Deny", "The agent is told no; with a new token it can ask again.", false},
		{ActionRevokeToken, "Revoke", "No agent can join with token {name} any more. Those that joined stay.", false},
		{ActionRemoveCluster, "Remove", "Cluster {name} will be removed from the hub and its agent's certificate revoked.\n" +
			"What was applied on the cluster stays there. To come back it needs a new token.", true},
		{ActionRevokeCluster, "Revoke", "The agent of cluster {name} will be cut off now and its certificate refused for good.\n" +
			"The cluster stays in the list; to come back it needs a new token and an approval with --replace.", true},
		{ActionRemoveWork, "Remove", "Work {name} will be removed, and what it applied deleted from the cluster.", true},
		{ActionApprovePrune, "Approve removal", "Exactly the objects listed are deleted from the cluster.", true},
		{ActionInstall, "Install", "", false},
		{ActionUninstall, "Remove", "Addon {name} will be removed, and what it applied deleted from the clusters.", true},
		{ActionEndSession, "End", "The browser of this session is logged out at once.", false},
	}
}

// Consequence is what people must know before they do an action to something; an
// action that is not in the table is a mistake of the caller.
func Consequence(id, name string) string {
	for _, a := range Actions() {
		if a.ID == id {
			return strings.ReplaceAll(a.Consequence, "{name}", name)
		}
	}
	return fmt.Sprintf("unknown action %q on %s", id, name)
}
