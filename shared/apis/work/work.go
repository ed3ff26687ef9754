// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work holds the kinds of work.open-cluster-management.io as Go structs
// for controllers. Fields, conditions and reasons are those of Open Cluster
// Management; what Drover adds to them is marked.
package work

// Group, versions and resources as the store and the API name them.
const (
	Group    = "work.open-cluster-management.io"
	Version  = "v1"
	Kind     = "ManifestWork"
	Resource = "manifestworks." + Group

	VersionReplicaSet   = "v1alpha1"
	KindReplicaSet      = "ManifestWorkReplicaSet"
	ResourceReplicaSets = "manifestworkreplicasets." + Group
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
	// AnnotationHealthRules is a JSON list of health rules as spec.health of an
	// AddOnVersion has them. An object that a rule is for counts as Current when it
	// is so by kstatus and the rule's CEL expression over object is true. Until then
	// it is InProgress, and from the rule's timeout on, counted from when the content
	// was applied, Failed, with the rule's message; with no timeout it waits for
	// good. An expression that cannot be evaluated makes an object that is Current
	// by kstatus Unknown, with the error. The rules are part of the content that
	// status.digest names.
	AnnotationHealthRules = "fleet.drover.io/health-rules"
	// AnnotationProtected is a JSON list of object patterns as spec.protected of an
	// AddOnVersion has them. Like a Namespace, what they match is not removed before
	// the plan of its removal is approved, also by content that does not name the
	// pattern any more. An agent older than protocol version 3 does not get works
	// with it: what it has of them stays as it is.
	AnnotationProtected = "fleet.drover.io/protected"
)

// BesideSpec are the values of the annotations of a work that are part of what its
// agent applies, as the spec is: another value counts up the generation.
func BesideSpec(annotations map[string]string) [3]string {
	return [3]string{annotations[AnnotationBundle], annotations[AnnotationHealthRules], annotations[AnnotationProtected]}
}

// Limits of the annotations.
const (
	MaxHealthRules      = 64
	MaxHealthRulesBytes = 32 << 10
	MaxProtected        = 128
	MaxProtectedBytes   = 16 << 10
)

// Annotations of a manifest inside a work.
const (
	// AnnotationWave is an integer, 0 by default: a wave is applied when all
	// objects of the lower ones are Current.
	AnnotationWave = "fleet.drover.io/wave"
)

// AnnotationMadeBy is on objects of clusters whose manifests say nothing but a name:
// without it nothing would tell that an agent made them.
const AnnotationMadeBy = "fleet.drover.io/made-by"

// Condition types, of the work and of each manifest.
const (
	ConditionApplied   = "Applied"
	ConditionAvailable = "Available"
	// ConditionHealthy says whether every object is as desired and ready, by
	// kstatus, at the applied generation. OCM's Available means existence only.
	ConditionHealthy = "Healthy"

	ConditionProgressing = "Progressing"
	ConditionDegraded    = "Degraded"
	// ConditionComplete is true when a condition rule says so: the work is not
	// applied again.
	ConditionComplete = "Complete"
	ConditionDeleting = "Deleting"
	// ConditionPruneBlocked and ConditionDrifted are Drover's own, and stand only
	// while they are true: a removal waits for a word; somebody else changed objects,
	// and they are not put right.
	ConditionPruneBlocked = "PruneBlocked"
	ConditionDrifted      = "Drifted"
	// ConditionFeedbackSynced is of a manifest with feedback rules.
	ConditionFeedbackSynced = "StatusFeedbackSynced"
)

// Reasons of the conditions of a work.
const (
	ReasonWorkComplete  = "AppliedManifestWorkComplete"
	ReasonWorkFailed    = "AppliedManifestWorkFailed"
	ReasonAgentTooOld   = "AgentTooOld" // its protocol version does not know what the work needs
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
