// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

// Paths of the people's side that are no kinds of the API.
const (
	// PathDiff takes a DiffRequest by POST and answers a Diff.
	PathDiff = "/v1/diff"
	// PathExplain + "/CLUSTER/NAME" answers an Explanation to GET.
	PathExplain = "/v1/explain"
	// PathSamples + "/CLUSTER?from=&step=" answers what was measured over time to GET.
	PathSamples = "/v1/samples"
)

// MaxDiffClusters and MaxDiffWorks bound one DiffRequest.
const (
	MaxDiffClusters = 20_000
	MaxDiffWorks    = 50
)

// DiffRequest asks what works would change if they were applied.
type DiffRequest struct {
	// Works are ManifestWorks as they would be. One goes to the cluster that its
	// namespace names, unless Clusters or Selector say otherwise.
	Works []json.RawMessage `json:"works"`
	// Clusters by name, and Selector by label; both together are an error.
	Clusters []string `json:"clusters,omitempty"`
	Selector string   `json:"selector,omitempty"`
	// TimeoutSeconds is how long to wait for one cluster, default 30.
	TimeoutSeconds int `json:"timeoutSeconds,omitempty"`
}

// Diff answers a DiffRequest: outcomes of each work, the most frequent first.
type Diff struct {
	Works []WorkDiff `json:"works"`
}

// WorkDiff is what one work would do.
type WorkDiff struct {
	Name     string        `json:"name"`
	Outcomes []DiffOutcome `json:"outcomes"`
}

// DiffOutcome is what the work would do on each of these clusters, alike.
type DiffOutcome struct {
	Clusters []string `json:"clusters"`
	// State is one of the Diff constants.
	State   string            `json:"state"`
	Message string            `json:"message,omitempty"` // of DiffFailed
	Objects []wire.ObjectDiff `json:"objects,omitempty"` // those that change or are refused
	// Unchanged counts the objects that stay as they are.
	Unchanged int `json:"unchanged,omitempty"`
}

// States of a DiffOutcome.
const (
	DiffChanges = "changes"
	DiffNone    = "none"
	// DiffRefused: at least one object would be refused.
	DiffRefused = "refused"
	DiffOffline = "offline"
	DiffFailed  = "failed" // Message says why
)

// Explanation is the way of a work from what was wanted to what is.
type Explanation struct {
	Cluster string     `json:"cluster"`
	Name    string     `json:"name"`
	Lines   []Evidence `json:"lines"`
}

// Evidence is one step of an Explanation.
type Evidence struct {
	Stage string `json:"stage"` // one of the Stage constants
	// State is one of the Evidence constants.
	State string `json:"state"`
	Text  string `json:"text"`
	// Time is since when it is so, zero when nobody knows.
	Time time.Time `json:"time,omitzero"`
	// Hint is what to do, where something waits for a person.
	Hint string `json:"hint,omitempty"`
}

// States of an Evidence.
const (
	EvidenceOK      = "ok"
	EvidenceWaiting = "waiting"
	EvidenceProblem = "problem"
	EvidenceInfo    = "info"
)

// Stages of an Explanation, in order.
const (
	StageIntent   = "intent"
	StageSource   = "source"
	StageCluster  = "cluster"
	StageDelivery = "delivery"
	StageSession  = "session"
	StageApply    = "apply"
	StageObject   = "object"
	StageRemoval  = "removal"
	StageDrift    = "drift"
	StageHealth   = "health"

	// Of an addon, between cluster and delivery.
	StageVersion  = "version"
	StageValues   = "values"
	StageNeeds    = "needs"
	StageConflict = "conflict"
	StageGate     = "gate"
	StageWork     = "work"
)
