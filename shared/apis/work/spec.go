// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ManifestWork is a set of manifests for the cluster its namespace is named after.
type ManifestWork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ManifestWorkSpec   `json:"spec"`
	Status ManifestWorkStatus `json:"status,omitempty"`
}

// ManifestWorkSpec is what the cluster should run, and how.
type ManifestWorkSpec struct {
	Workload        Workload         `json:"workload,omitempty"`
	DeleteOption    *DeleteOption    `json:"deleteOption,omitempty"`
	ManifestConfigs []ManifestConfig `json:"manifestConfigs,omitempty"`
	// Executor is in whose name the agent acts; nil means its own.
	Executor *Executor `json:"executor,omitempty"`
}

// Workload is the list of manifests.
type Workload struct {
	Manifests []runtime.RawExtension `json:"manifests,omitempty"`
}

// Executor is in whose name the agent acts on the cluster.
type Executor struct {
	Subject *ExecutorSubject `json:"subject,omitempty"`
}

// ExecutorSubject is SubjectServiceAccount and the account.
type ExecutorSubject struct {
	Type           string          `json:"type"`
	ServiceAccount *ServiceAccount `json:"serviceAccount,omitempty"`
}

// SubjectServiceAccount is the only type of an ExecutorSubject.
const SubjectServiceAccount = "ServiceAccount"

// ServiceAccount names one on the managed cluster.
type ServiceAccount struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// DeleteOption says what happens to applied objects when the work is deleted.
type DeleteOption struct {
	PropagationPolicy       string            `json:"propagationPolicy,omitempty"`
	SelectivelyOrphans      *SelectiveOrphans `json:"selectivelyOrphans,omitempty"`
	TTLSecondsAfterFinished *int64            `json:"ttlSecondsAfterFinished,omitempty"`
}

// SelectiveOrphans names the objects that stay.
type SelectiveOrphans struct {
	OrphaningRules []ResourceIdentifier `json:"orphaningRules,omitempty"`
}

// ResourceIdentifier names one object of a work. In manifestConfigs "*" matches any.
type ResourceIdentifier struct {
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// ManifestConfig is how one object is applied and watched. Of several that match
// an object the first counts for each feature, but for FeedbackScrapeType the last.
type ManifestConfig struct {
	ResourceIdentifier ResourceIdentifier `json:"resourceIdentifier"`
	UpdateStrategy     *UpdateStrategy    `json:"updateStrategy,omitempty"`
	FeedbackRules      []FeedbackRule     `json:"feedbackRules,omitempty"`
	// FeedbackScrapeType is kept for OCM's clients: Poll (default) or Watch.
	FeedbackScrapeType string          `json:"feedbackScrapeType,omitempty"`
	ConditionRules     []ConditionRule `json:"conditionRules,omitempty"`
}

// UpdateStrategy is one of the Strategy constants.
type UpdateStrategy struct {
	Type            string           `json:"type"`
	ServerSideApply *ServerSideApply `json:"serverSideApply,omitempty"`
}

// ServerSideApply tunes the strategy of that name.
type ServerSideApply struct {
	Force        bool          `json:"force,omitempty"`
	FieldManager string        `json:"fieldManager,omitempty"`
	IgnoreFields []IgnoreField `json:"ignoreFields,omitempty"`
}

// IgnoreField names fields of a manifest that are not applied.
type IgnoreField struct {
	Condition         string   `json:"condition"` // one of the Ignore constants
	JSONPaths         []string `json:"jsonPaths,omitempty"`
	JSONPointers      []string `json:"jsonPointers,omitempty"`
	JQPathExpressions []string `json:"jqPathExpressions,omitempty"`
}

// Values of IgnoreField.Condition.
const (
	// IgnoreOnSpokePresent leaves the fields out once the object exists.
	IgnoreOnSpokePresent = "OnSpokePresent"
	// IgnoreOnSpokeChange leaves them out once somebody else changed them.
	IgnoreOnSpokeChange = "OnSpokeChange"
)

// FeedbackRule says which fields of an object are reported.
type FeedbackRule struct {
	Type      string     `json:"type"` // one of the Feedback constants
	JSONPaths []JSONPath `json:"jsonPaths,omitempty"`
}

// Types of a FeedbackRule.
const (
	FeedbackWellKnown = "WellKnownStatus"
	FeedbackJSONPaths = "JSONPaths"
)

// JSONPath is one field to report, under a name.
type JSONPath struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // of the API; empty for that of the manifest
	Path    string `json:"path"`
}

// ConditionRule makes a condition of an object.
type ConditionRule struct {
	Condition         string   `json:"condition"`
	Type              string   `json:"type"`                     // one of the Rule constants
	CelExpressions    []string `json:"celExpressions,omitempty"` // all must be true
	Message           string   `json:"message,omitempty"`
	MessageExpression string   `json:"messageExpression,omitempty"`
}

// Types of a ConditionRule.
const (
	RuleCEL       = "CEL"
	RuleWellKnown = "WellKnownConditions"
)
