// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work holds the kinds of work.open-cluster-management.io/v1 as Go
// structs for controllers. Fields, conditions and reasons are those of Open
// Cluster Management; the condition Healthy is Drover's addition.
package work

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Group, Version and the resource as the store and the API name it.
const (
	Group    = "work.open-cluster-management.io"
	Version  = "v1"
	Kind     = "ManifestWork"
	Resource = "manifestworks." + Group
)

// Finalizer keeps a ManifestWork until its agent has removed what it applied.
const Finalizer = "cluster.open-cluster-management.io/manifest-work-cleanup"

// Annotations of a ManifestWork. They are Drover's, so that the same YAML means
// the same to Open Cluster Management.
const (
	// AnnotationAdoption: Always (default), IfNoDiff or Never.
	AnnotationAdoption = "fleet.drover.io/adoption"
	// AnnotationDrift: Correct (default) or Report.
	AnnotationDrift = "fleet.drover.io/drift"
	// AnnotationPrune: Guarded (default) or Unguarded.
	AnnotationPrune = "fleet.drover.io/prune"
	// AnnotationApprovePrune names the plan that may be carried out.
	AnnotationApprovePrune = "fleet.drover.io/approve-prune"
	// AnnotationTakeFrom names works whose objects this one takes over, by name
	// and separated by commas.
	AnnotationTakeFrom = "fleet.drover.io/take-from"
	// AnnotationBundle is the digest of a bundle whose manifests follow those in
	// spec.workload.
	AnnotationBundle = "fleet.drover.io/bundle"
)

// Annotations of a manifest inside a work.
const (
	// AnnotationWave is an integer, 0 by default: a wave is applied when all
	// objects of the lower ones are Current.
	AnnotationWave = "fleet.drover.io/wave"
)

// Condition types, of the work and of each manifest.
const (
	ConditionApplied   = "Applied"
	ConditionAvailable = "Available"
	// ConditionHealthy says whether every object is as desired and ready, by
	// kstatus, at the applied generation. OCM's Available means existence only.
	ConditionHealthy = "Healthy"
)

// Reasons of the conditions of a work.
const (
	ReasonWorkComplete  = "AppliedManifestWorkComplete"
	ReasonWorkFailed    = "AppliedManifestWorkFailed"
	ReasonAvailable     = "ResourcesAvailable"
	ReasonNotAvailable  = "ResourcesNotAvailable"
	ReasonStatusUnknown = "ResourcesStatusUnknown"
	ReasonHealthy       = "ResourcesHealthy"
	ReasonProgressing   = "ResourcesProgressing"
	ReasonUnhealthy     = "ResourcesFailed"
)

// Reasons of the conditions of one manifest.
const (
	ReasonManifestComplete     = "AppliedManifestComplete"
	ReasonManifestFailed       = "AppliedManifestFailed"
	ReasonResourceAvailable    = "ResourceAvailable"
	ReasonResourceNotAvailable = "ResourceNotAvailable"
)

// Propagation policies of DeleteOption.
const (
	Foreground         = "Foreground"
	Orphan             = "Orphan"
	SelectivelyOrphan  = "SelectivelyOrphan"
	StrategyUpdate     = "Update"
	StrategyCreateOnly = "CreateOnly"
	StrategyServerSide = "ServerSideApply"
	StrategyReadOnly   = "ReadOnly"
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
	// Executor is accepted and stored; the agent refuses to apply a work that
	// names one, since it does not impersonate yet.
	Executor *runtime.RawExtension `json:"executor,omitempty"`
}

// Workload is the list of manifests.
type Workload struct {
	Manifests []runtime.RawExtension `json:"manifests,omitempty"`
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

// ManifestConfig is how one object is applied; the first match wins.
type ManifestConfig struct {
	ResourceIdentifier ResourceIdentifier `json:"resourceIdentifier"`
	UpdateStrategy     *UpdateStrategy    `json:"updateStrategy,omitempty"`
}

// UpdateStrategy is one of the Strategy constants.
type UpdateStrategy struct {
	Type            string           `json:"type"`
	ServerSideApply *ServerSideApply `json:"serverSideApply,omitempty"`
}

// ServerSideApply tunes the strategy of that name.
type ServerSideApply struct {
	Force        bool   `json:"force,omitempty"`
	FieldManager string `json:"fieldManager,omitempty"`
}

// ManifestWorkStatus is what the agent reported, and when it was true.
type ManifestWorkStatus struct {
	Conditions     []metav1.Condition `json:"conditions,omitempty"`
	ResourceStatus ResourceStatus     `json:"resourceStatus,omitempty"`
	// AppliedDigest is Drover's addition: the digest of the content that the
	// conditions speak of.
	AppliedDigest string `json:"appliedDigest,omitempty"`
}

// ResourceStatus holds one entry a manifest.
type ResourceStatus struct {
	Manifests []ManifestCondition `json:"manifests,omitempty"`
}

// ManifestCondition is the state of one manifest.
type ManifestCondition struct {
	ResourceMeta ResourceMeta       `json:"resourceMeta"`
	Conditions   []metav1.Condition `json:"conditions"`
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
