// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// Report says what became of one Item. It is sent until acknowledged; only the
// latest report of an item is kept.
type Report struct {
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Generation int64  `json:"generation"` // of the applied ManifestWork
	Digest     string `json:"digest"`     // of the applied content
	// Deleted is set when everything the item owned is gone.
	Deleted bool `json:"deleted,omitempty"`
	// Error is set when the item as a whole could not be applied.
	Error string `json:"error,omitempty"`
	// Manifests has an entry a manifest, in order, or, when Counts is set, only
	// those that are not applied and Current, the worst first.
	Manifests []ManifestReport `json:"manifests,omitempty"`
	Counts    *Counts          `json:"counts,omitempty"`
	// Prune is a removal that waits for a word.
	Prune *PrunePlan `json:"prune,omitempty"`
	// Remaining are objects being removed that are still there, and why: at most
	// MaxNamed of RemainingTotal.
	Remaining      []ObjectNote `json:"remaining,omitempty"`
	RemainingTotal int          `json:"remainingTotal,omitempty"`
}

// MaxNamed is how many objects a plan or a list of remaining objects names.
const MaxNamed = 50

// Counts sums up a work of so many manifests that they are not listed one by one.
type Counts struct {
	Total     int            `json:"total"`
	Applied   int            `json:"applied"`
	Available int            `json:"available"`
	Health    map[string]int `json:"health,omitempty"` // by Health constant
	Drifted   int            `json:"drifted,omitempty"`
}

// ObjectNote names an object and says something of it.
type ObjectNote struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Message   string `json:"message,omitempty"`
}

// PrunePlan is a removal that needs an explicit word.
type PrunePlan struct {
	// ID is the digest of the sorted list of objects: approving it approves
	// exactly these.
	ID      string       `json:"id"`
	Reason  string       `json:"reason"` // one of the PlanReason constants
	Total   int          `json:"total"`
	Objects []ObjectNote `json:"objects,omitempty"` // at most MaxNamed
}

// Reasons of a PrunePlan.
const (
	PlanReasonBudget    = "BudgetExceeded"
	PlanReasonProtected = "ProtectedKinds"
)

// ManifestReport is the fate of one manifest of a work.
type ManifestReport struct {
	Ordinal   int    `json:"ordinal"` // position in spec.workload.manifests, then in the bundle
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Resource  string `json:"resource,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`

	Applied bool `json:"applied"`
	// ApplyReason is a reason of OCM's condition Applied of a manifest, or one of
	// the Apply constants; empty for the plain success or failure.
	ApplyReason  string `json:"applyReason,omitempty"`
	ApplyMessage string `json:"applyMessage,omitempty"`
	// Available is existence on the cluster, as in OCM.
	Available        bool   `json:"available"`
	AvailableMessage string `json:"availableMessage,omitempty"`
	// Health is the kstatus of the object at the applied revision: one of the
	// Health constants; HealthMessage says what is missing.
	Health        string `json:"health,omitempty"`
	HealthMessage string `json:"healthMessage,omitempty"`
	// Events are the newest warnings about the object and what it owns, and
	// Restarts the container restarts below it; only while it is not Current.
	Events   []EventNote `json:"events,omitempty"`
	Restarts int         `json:"restarts,omitempty"`
	// Drift is what somebody else changed since the digest was applied.
	Drift *Drift `json:"drift,omitempty"`
	// Feedback are the values of OCM's feedback rules, FeedbackError what went
	// wrong with one; FeedbackSynced is nil without rules.
	FeedbackSynced *bool      `json:"feedbackSynced,omitempty"`
	Feedback       []Feedback `json:"feedback,omitempty"`
	FeedbackError  string     `json:"feedbackError,omitempty"`
	// Conditions are the outcomes of OCM's condition rules.
	Conditions []RuleCondition `json:"conditions,omitempty"`
}

// Values of ManifestReport.ApplyReason beside OCM's.
const (
	ApplyConflict       = "ApplyConflict"      // others own the fields and force is not set
	ApplyNotAdopted     = "NotAdopted"         // exists, made by somebody else, and the policy refuses
	ApplyOwnedElsewhere = "OwnedByAnotherWork" // the message names it
	ApplyForbidden      = "ExecutorForbidden"  // the executor may not do it
	ApplyWaiting        = "WaitingForWave"     // an earlier wave is not ready
	ApplyIgnoreField    = "AppliedManifestSSAIgnoreFieldError"
)

// EventNote is one Kubernetes event, or several of the same.
type EventNote struct {
	Object  string    `json:"object"` // "Pod/web-0"
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
	Last    time.Time `json:"last"`
}

// Drift says how an object differs from what was applied.
type Drift struct {
	State string       `json:"state"` // one of the DriftState constants
	Since time.Time    `json:"since"`
	Total int          `json:"total"` // of changed fields
	Diffs []FieldDrift `json:"diffs,omitempty"`
	// Manager is the field manager that made the last change, if the object says.
	Manager string `json:"manager,omitempty"`
	// Corrections counts them since the digest was applied.
	Corrections int `json:"corrections,omitempty"`
}

// States of a Drift.
const (
	DriftStatePresent   = "Present"   // differs now; reported only, or about to be corrected
	DriftStateCorrected = "Corrected" // was put right
	DriftStateFighting  = "Fighting"  // three corrections were undone: not corrected any more
	DriftStateMissing   = "Missing"   // the object was deleted by somebody else
)

// FieldDrift is one field. Values are JSON, cut at 256 bytes; values of Secrets
// are left out.
type FieldDrift struct {
	Path    string `json:"path"` // "spec.replicas"
	Desired string `json:"desired,omitempty"`
	Live    string `json:"live,omitempty"`
}

// Feedback is one value of OCM's statusFeedback.
type Feedback struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"` // Integer, String, Boolean, JsonRaw
	Integer *int64  `json:"integer,omitempty"`
	String  *string `json:"string,omitempty"`
	Boolean *bool   `json:"boolean,omitempty"`
	JSONRaw *string `json:"jsonRaw,omitempty"`
}

// RuleCondition is the outcome of one condition rule.
type RuleCondition struct {
	Type    string `json:"type"`
	Status  string `json:"status"` // True, False, Unknown
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// DiffRequest asks an agent what a change would do. Manifests are the content of
// one work as it would be.
type DiffRequest struct {
	Work   string `json:"work"`
	UID    string `json:"uid,omitempty"` // empty for a work that does not exist yet
	Digest string `json:"digest,omitempty"`
	// Content is the spec of the ManifestWork; when it is too large for a message
	// it is left out and fetched by Digest.
	Content []byte `json:"content,omitempty"`
	Policy  Policy `json:"policy,omitzero"`
}

// DiffAnswer says what each object would become.
type DiffAnswer struct {
	Error   string       `json:"error,omitempty"`
	Objects []ObjectDiff `json:"objects,omitempty"`
}

// ObjectDiff is one object of a DiffAnswer.
type ObjectDiff struct {
	Group     string       `json:"group,omitempty"`
	Kind      string       `json:"kind"`
	Namespace string       `json:"namespace,omitempty"`
	Name      string       `json:"name"`
	Action    string       `json:"action"` // one of the Action constants
	Message   string       `json:"message,omitempty"`
	Total     int          `json:"total,omitempty"` // of changed fields
	Fields    []FieldDrift `json:"fields,omitempty"`
}

// Actions of an ObjectDiff.
const (
	ActionCreate = "create"
	ActionChange = "change"
	ActionNone   = "none"
	ActionDelete = "delete"
	ActionRefuse = "refuse" // Message says why
)

// Health values, after kstatus.
const (
	HealthCurrent     = "Current"     // as desired, and ready
	HealthInProgress  = "InProgress"  // on its way
	HealthFailed      = "Failed"      // will not get there by itself
	HealthTerminating = "Terminating" // being deleted
	HealthNotFound    = "NotFound"
	HealthUnknown     = "Unknown"
)
