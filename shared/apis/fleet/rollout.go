// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Kinds and resources of rollouts as the store and the API name them.
const (
	KindAddOnRollout        = "AddOnRollout"
	KindRolloutPolicy       = "RolloutPolicy"
	ResourceAddOnRollouts   = "addonrollouts." + Group
	ResourceRolloutPolicies = "rolloutpolicies." + Group
)

// Values of AddOnRolloutSpec.State.
const (
	RolloutPlan  = "Plan"
	RolloutRun   = "Run"
	RolloutPause = "Pause"
	RolloutAbort = "Abort"
)

// Values of AddOnRolloutStatus.Phase.
const (
	RolloutPlanned    = "Planned"
	RolloutRunning    = "Running"
	RolloutPaused     = "Paused"
	RolloutSucceeded  = "Succeeded"
	RolloutAborting   = "Aborting"
	RolloutRolledBack = "RolledBack"
	RolloutHalted     = "Halted"
	RolloutSuperseded = "Superseded"
)

// Values of RolloutPolicySpec.OnFailure.
const (
	OnFailureRollback = "rollback"
	OnFailurePause    = "pause"
	OnFailureHalt     = "halt"
)

// AddOnRollout moves an addon from one version or configuration to another over
// many clusters, in waves. Only State and Approvals of its spec can change.
type AddOnRollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddOnRolloutSpec   `json:"spec"`
	Status AddOnRolloutStatus `json:"status,omitempty"`
}

// AddOnRolloutSpec is what moves where.
type AddOnRolloutSpec struct {
	AddOn string           `json:"addOn"`
	From  *RolloutRevision `json:"from,omitempty"` // nil for a first installation
	To    RolloutRevision  `json:"to"`
	// Policy is the spec of the RolloutPolicy when the rollout was made.
	Policy    *runtime.RawExtension `json:"policy,omitempty"`
	Targets   *RolloutTargets       `json:"targets,omitempty"`
	State     string                `json:"state,omitempty"` // Run by default
	Approvals []RolloutApproval     `json:"approvals,omitempty"`
}

// RolloutRevision is a version with its configuration.
type RolloutRevision struct {
	Version string          `json:"version,omitempty"` // name of the AddOnVersion
	Digest  string          `json:"digest,omitempty"`  // of its bundle
	Configs []RolloutConfig `json:"configs,omitempty"`
}

// RolloutConfig is one configuration with its hash.
type RolloutConfig struct {
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	SpecHash  string `json:"specHash,omitempty"`
}

// RolloutTargets are the clusters when the rollout was made.
type RolloutTargets struct {
	Placements []NamespacedName `json:"placements,omitempty"`
	Clusters   []string         `json:"clusters,omitempty"`
}

// NamespacedName names an object in a namespace.
type NamespacedName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// RolloutApproval lets a rollout through a gate.
type RolloutApproval struct {
	Stage  string       `json:"stage"`
	Gate   string       `json:"gate,omitempty"` // empty for all of the stage
	By     string       `json:"by,omitempty"`
	At     *metav1.Time `json:"at,omitempty"`
	Reason string       `json:"reason,omitempty"`
}

// AddOnRolloutStatus is how far a rollout is, and why.
type AddOnRolloutStatus struct {
	Phase              string         `json:"phase,omitempty"`
	Reason             string         `json:"reason,omitempty"`
	Message            string         `json:"message,omitempty"`
	StartTime          *metav1.Time   `json:"startTime,omitempty"`
	CompletionTime     *metav1.Time   `json:"completionTime,omitempty"`
	ObservedGeneration int64          `json:"observedGeneration,omitempty"`
	CurrentStage       string         `json:"currentStage,omitempty"`
	Counts             RolloutCounts  `json:"counts,omitempty"`
	Stages             []RolloutStage `json:"stages,omitempty"`
	// Clusters are those that need a look, the worst first.
	Clusters []RolloutCluster `json:"clusters,omitempty"`
	// Decisions are the newest, in order of time.
	Decisions  []RolloutDecision  `json:"decisions,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RolloutCounts counts clusters by verdict.
type RolloutCounts struct {
	Total       int32 `json:"total,omitempty"`
	Pending     int32 `json:"pending,omitempty"`
	Progressing int32 `json:"progressing,omitempty"`
	Healthy     int32 `json:"healthy,omitempty"`
	Failed      int32 `json:"failed,omitempty"`
	TimedOut    int32 `json:"timedOut,omitempty"`
	Unreachable int32 `json:"unreachable,omitempty"`
	Skipped     int32 `json:"skipped,omitempty"`
}

// RolloutStage is how far one stage is.
type RolloutStage struct {
	Name           string        `json:"name"`
	Phase          string        `json:"phase,omitempty"` // Pending, Waiting, Running, Soaking, Succeeded, Failed
	Message        string        `json:"message,omitempty"`
	StartTime      *metav1.Time  `json:"startTime,omitempty"`
	CompletionTime *metav1.Time  `json:"completionTime,omitempty"`
	Counts         RolloutCounts `json:"counts,omitempty"`
}

// RolloutCluster is the verdict on one cluster.
type RolloutCluster struct {
	Name    string       `json:"name"`
	Stage   string       `json:"stage,omitempty"`
	Verdict string       `json:"verdict,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Message string       `json:"message,omitempty"`
	Since   *metav1.Time `json:"since,omitempty"`
}

// RolloutDecision is what was decided, and on which evidence.
type RolloutDecision struct {
	Time     metav1.Time           `json:"time"`
	Action   string                `json:"action"`
	Stage    string                `json:"stage,omitempty"`
	Cluster  string                `json:"cluster,omitempty"`
	By       string                `json:"by,omitempty"`
	Reason   string                `json:"reason,omitempty"`
	Message  string                `json:"message,omitempty"`
	Evidence *runtime.RawExtension `json:"evidence,omitempty"`
}

// RolloutPolicy says how rollouts proceed.
type RolloutPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   RolloutPolicySpec   `json:"spec,omitempty"`
	Status RolloutPolicyStatus `json:"status,omitempty"`
}

// RolloutPolicySpec are the rules.
type RolloutPolicySpec struct {
	Profile           string              `json:"profile,omitempty"` // drover (default) or ocm
	Stages            []PolicyStage       `json:"stages,omitempty"`
	FailureBudget     *intstr.IntOrString `json:"failureBudget,omitempty"`
	UnreachableBudget *intstr.IntOrString `json:"unreachableBudget,omitempty"`
	ProgressDeadline  string              `json:"progressDeadline,omitempty"` // "10m" by default, "None" for ever
	Soak              metav1.Duration     `json:"soak,omitzero"`
	OnFailure         string              `json:"onFailure,omitempty"` // rollback by default
	Windows           []Window            `json:"windows,omitempty"`
	Analysis          []Analysis          `json:"analysis,omitempty"`
	RollbackWindow    int32               `json:"rollbackWindow,omitempty"` // versions
	MaxStaleness      metav1.Duration     `json:"maxStaleness,omitzero"`
	AutoStart         *bool               `json:"autoStart,omitempty"`    // true by default
	HistoryLimit      *int32              `json:"historyLimit,omitempty"` // 10 by default
}

// PolicyStage is one wave.
type PolicyStage struct {
	Name            string                `json:"name"`
	ClusterSelector *metav1.LabelSelector `json:"clusterSelector,omitempty"`
	DecisionGroup   string                `json:"decisionGroup,omitempty"`
	Clusters        *intstr.IntOrString   `json:"clusters,omitempty"`
	OrderLabel      string                `json:"orderLabel,omitempty"`
	MaxConcurrency  *intstr.IntOrString   `json:"maxConcurrency,omitempty"`
	Soak            *metav1.Duration      `json:"soak,omitempty"`
	Gates           []Gate                `json:"gates,omitempty"`
	Analysis        []Analysis            `json:"analysis,omitempty"`
}

// Gate is what must be passed before a stage: Approval, Window or Webhook.
type Gate struct {
	Type    string          `json:"type"`
	Name    string          `json:"name,omitempty"`
	URL     string          `json:"url,omitempty"`
	Timeout metav1.Duration `json:"timeout,omitzero"`
}

// Window is when clusters may change.
type Window struct {
	Name     string          `json:"name"`
	Schedule string          `json:"schedule"` // cron expression of five fields
	Duration metav1.Duration `json:"duration"`
	TimeZone string          `json:"timeZone,omitempty"` // UTC by default
}

// Analysis is a measurement that must be good.
type Analysis struct {
	Name    string `json:"name"`
	Source  string `json:"source,omitempty"` // Metrics (default), Health, Prometheus, Webhook
	Query   string `json:"query,omitempty"`  // PromQL
	URL     string `json:"url,omitempty"`
	Compare string `json:"compare,omitempty"` // Threshold (default), Control, Past
	// Min and Max are decimal numbers.
	Min          string          `json:"min,omitempty"`
	Max          string          `json:"max,omitempty"`
	Interval     metav1.Duration `json:"interval,omitzero"` // 30s by default
	InitialDelay metav1.Duration `json:"initialDelay,omitzero"`
	Count        int32           `json:"count,omitempty"`
	FailureLimit int32           `json:"failureLimit,omitempty"`
	ErrorLimit   *int32          `json:"errorLimit,omitempty"` // in a row, 4 by default
	SuccessLimit int32           `json:"successLimit,omitempty"`
	DryRun       bool            `json:"dryRun,omitempty"`
}

// RolloutPolicyStatus says whether the rules are usable.
type RolloutPolicyStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
