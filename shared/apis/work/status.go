// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ManifestWorkStatus is what the agent reported, and when it was true. All
// fields but the first two are Drover's additions.
type ManifestWorkStatus struct {
	Conditions     []metav1.Condition `json:"conditions,omitempty"`
	ResourceStatus ResourceStatus     `json:"resourceStatus,omitempty"`
	// AppliedDigest is the digest of the content that the conditions speak of.
	AppliedDigest string `json:"appliedDigest,omitempty"`
	// Summary counts all manifests of a work that has too many to list; the list
	// then holds those that need a look.
	Summary *Summary `json:"summary,omitempty"`
	// PrunePlan is a removal that waits for AnnotationApprovePrune.
	PrunePlan *PrunePlan `json:"prunePlan,omitempty"`
	// Remaining are objects being removed that are still there.
	Remaining *Remaining `json:"remaining,omitempty"`
}

// Summary counts the manifests of a work.
type Summary struct {
	Total     int32            `json:"total,omitempty"`
	Applied   int32            `json:"applied,omitempty"`
	Available int32            `json:"available,omitempty"`
	Drifted   int32            `json:"drifted,omitempty"`
	Health    map[string]int32 `json:"health,omitempty"` // by wire's Health constants
}

// PrunePlan is a removal that needs an explicit word.
type PrunePlan struct {
	// ID is the digest of the list of objects: approving it approves exactly these.
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"` // BudgetExceeded or ProtectedKinds
	Total  int32  `json:"total,omitempty"`
	// Objects are the first 50 of them.
	Objects []ObjectNote `json:"objects,omitempty"`
}

// Remaining are objects that are not gone yet, at most 50 of Total.
type Remaining struct {
	Total   int32        `json:"total,omitempty"`
	Objects []ObjectNote `json:"objects,omitempty"`
}

// ObjectNote names an object and says something of it.
type ObjectNote struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Message   string `json:"message,omitempty"`
}

// ResourceStatus holds one entry a manifest.
type ResourceStatus struct {
	Manifests []ManifestCondition `json:"manifests,omitempty"`
}

// ManifestCondition is the state of one manifest. All fields from Health on are
// Drover's additions.
type ManifestCondition struct {
	ResourceMeta   ResourceMeta       `json:"resourceMeta"`
	StatusFeedback StatusFeedback     `json:"statusFeedback,omitzero"`
	Conditions     []metav1.Condition `json:"conditions"`

	// Health is the kstatus of the object at the applied revision: one of wire's
	// Health constants.
	Health        string `json:"health,omitempty"`
	HealthMessage string `json:"healthMessage,omitempty"`
	// Warnings are the newest warning events about the object and what it owns,
	// and Restarts the container restarts below it, while it is not Current.
	Warnings []Warning `json:"warnings,omitempty"`
	Restarts int32     `json:"restarts,omitempty"`
	// Drift is what somebody else changed since the content was applied.
	Drift *Drift `json:"drift,omitempty"`
}

// ResourceMeta names the object of a manifest as the cluster knows it.
type ResourceMeta struct {
	Ordinal   int32  `json:"ordinal"`
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Resource  string `json:"resource,omitempty"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// StatusFeedback holds the values that feedback rules ask for.
type StatusFeedback struct {
	Values []FeedbackValue `json:"values,omitempty"`
}

// FeedbackValue is one value under the name that its rule gives it.
type FeedbackValue struct {
	Name       string     `json:"name"`
	FieldValue FieldValue `json:"fieldValue"`
}

// FieldValue is a value of the type that Type says: Integer, String, Boolean or
// JsonRaw.
type FieldValue struct {
	Type    string  `json:"type"`
	Integer *int64  `json:"integer,omitempty"`
	String  *string `json:"string,omitempty"`
	Boolean *bool   `json:"boolean,omitempty"`
	// JSONRaw is JSON of a list or an object, at most 1024 bytes.
	JSONRaw *string `json:"jsonRaw,omitempty"`
}

// Warning is one warning event, or several of the same.
type Warning struct {
	Object   string       `json:"object"` // "Pod/web-0"
	Reason   string       `json:"reason"`
	Message  string       `json:"message,omitempty"`
	Count    int32        `json:"count,omitempty"`
	LastSeen *metav1.Time `json:"lastSeen,omitempty"`
}

// Drift says how an object differs from what was applied.
type Drift struct {
	State string       `json:"state"` // one of wire's DriftState constants
	Since *metav1.Time `json:"since,omitempty"`
	Total int32        `json:"total,omitempty"` // of fields that differ
	// Fields are the first of them.
	Fields []FieldDrift `json:"fields,omitempty"`
	// Manager is the field manager that made the last change, if the object says.
	Manager string `json:"manager,omitempty"`
	// Corrections counts them since the content was applied.
	Corrections int32 `json:"corrections,omitempty"`
}

// FieldDrift is one field. Values are JSON, cut at 256 bytes.
type FieldDrift struct {
	Path    string `json:"path"`
	Desired string `json:"desired,omitempty"`
	Live    string `json:"live,omitempty"`
}
