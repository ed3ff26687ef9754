// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package addon holds the kinds of addon.open-cluster-management.io as Go
// structs for controllers, in the version that is stored, and the conversion to
// and from the other version that is served. Fields, defaults, conditions and
// reasons are those of Open Cluster Management.
package addon

// Group, versions and resources as the store and the API name them. Objects are
// stored as Version, but for AddOnTemplates, which have only VersionAlpha.
const (
	Group        = "addon.open-cluster-management.io"
	Version      = "v1beta1"
	VersionAlpha = "v1alpha1"

	KindClusterManagementAddOn = "ClusterManagementAddOn"
	KindManagedClusterAddOn    = "ManagedClusterAddOn"
	KindDeploymentConfig       = "AddOnDeploymentConfig"
	KindTemplate               = "AddOnTemplate"

	ResourceClusterManagementAddOns = "clustermanagementaddons." + Group
	ResourceManagedClusterAddOns    = "managedclusteraddons." + Group
	ResourceDeploymentConfigs       = "addondeploymentconfigs." + Group
	ResourceTemplates               = "addontemplates." + Group
)

// Annotations, labels and finalizers.
const (
	// AnnotationInstallNamespace of a ManagedClusterAddOn keeps what v1alpha1 has
	// in spec.installNamespace.
	AnnotationInstallNamespace = Group + "/v1alpha1-install-namespace"
	// AnnotationNoInstall of a ManagedCluster keeps addons from being installed
	// on it by placements.
	AnnotationNoInstall = Group + "/disable-automatic-installation"
	// AnnotationHostingCluster of a ManagedClusterAddOn names another cluster on
	// which its agent runs.
	AnnotationHostingCluster = Group + "/hosting-cluster-name"
	// AnnotationPreDelete marks a Job or Pod that runs before the addon is removed.
	AnnotationPreDelete = Group + "/addon-pre-delete"
	// AnnotationDeletionOrphan marks an object that stays when the addon is removed.
	AnnotationDeletionOrphan = Group + "/deletion-orphan"
	// AnnotationManifestLocation of an object: managed, hosting or none.
	AnnotationManifestLocation = Group + "/hosted-manifest-location"
	// AnnotationSpecHash of a ManifestWork is JSON: the hash of each configuration
	// it was made from, by "group/resource/namespace/name".
	AnnotationSpecHash = "open-cluster-management.io/config-spec-hash"

	LabelAddonName      = "open-cluster-management.io/addon-name"
	LabelAddonNamespace = "open-cluster-management.io/addon-namespace"
	// LabelFeature, followed by the addon's name, is a label of the ManagedCluster
	// with the value available, unhealthy or unreachable.
	LabelFeature = "feature.open-cluster-management.io/addon-"

	FinalizerPreDelete        = Group + "/addon-pre-delete"
	FinalizerHostingPreDelete = Group + "/hosting-addon-pre-delete"
	FinalizerHostingManifests = Group + "/hosting-manifests-cleanup"
)

// DefaultInstallNamespace is where the agent of an addon runs unless something
// says otherwise.
const DefaultInstallNamespace = "open-cluster-management-agent-addon"

// Condition types.
const (
	ConditionAvailable           = "Available"
	ConditionDegraded            = "Degraded"
	ConditionProgressing         = "Progressing"
	ConditionManifestApplied     = "ManifestApplied"
	ConditionConfigured          = "Configured"
	ConditionRegistrationApplied = "RegistrationApplied"
)

// Reasons of the conditions.
const (
	ReasonProgressing              = "Progressing"
	ReasonCompleted                = "Completed"
	ReasonFailed                   = "Failed"
	ReasonConfigurationUnsupported = "ConfigurationUnsupported"
	ReasonWaitingForApplied        = "WaitingForManifestApplied"
	ReasonConfigured               = "ConfigurationsConfigured"
	ReasonNotConfigured            = "ConfigurationsNotConfigured"
	ReasonManifestApplied          = "AddonManifestApplied"
	ReasonManifestApplyFailed      = "AddonManifestAppliedFailed"
	ReasonWorkNotFound             = "WorkNotFound"
	ReasonWorkNotApplied           = "WorkNotApplied"
	ReasonWorkApplyFailed          = "WorkApplyFailed"
	ReasonWorkApplied              = "WorkApplied"
	ReasonNoProbeResult            = "NoProbeResult"
	ReasonProbeUnavailable         = "ProbeUnavailable"
	ReasonProbeAvailable           = "ProbeAvailable"
)

// What Drover adds to the conditions and keys of Open Cluster Management.
const (
	// ConditionHookCompleted says whether the hooks ran, of an addon that has some.
	ConditionHookCompleted = "HookManifestCompleted"

	ReasonWaitingForDependency = "WaitingForDependency" // of Progressing: another addon comes first
	ReasonWaitingForDependents = "WaitingForDependents" // of Progressing: others need what is there
	ReasonWaitingForTurn       = "WaitingForTurn"       // of Progressing: as many as may are on the way
	ReasonWaitingForCluster    = "WaitingForCluster"    // of Progressing: it cannot be reached
	ReasonDeleting             = "Deleting"             // of Progressing
	ReasonConflict             = "Conflict"             // of Configured: another addon has the object
	ReasonRequirementNotMet    = "RequirementNotMet"    // of Configured
	ReasonHealthy              = "Healthy"              // of Degraded
	ReasonUnhealthy            = "Unhealthy"            // of Degraded
	ReasonHookCompleted        = "HookCompleted"
	ReasonHookRunning          = "HookRunning"
	ReasonHookFailed           = "HookFailed"
	ReasonNilRegistration      = "NilRegistration" // of RegistrationApplied: it needs none

	// AnnotationPlacement of a ManagedClusterAddOn that a placement made names it,
	// as NAMESPACE/NAME. Without it the addon counts as made by hand.
	AnnotationPlacement = "fleet.drover.io/addon-placement"
	// AnnotationMaxInFlight of a ClusterManagementAddOn is on how many clusters it
	// may be on the way at the same time.
	AnnotationMaxInFlight = "fleet.drover.io/max-in-flight"
	// AnnotationPostInstall marks a Job or Pod that runs once the objects are healthy.
	AnnotationPostInstall = "fleet.drover.io/post-install"
	// AnnotationResourceQuota of an AddOnVersion, or of the ManagedClusterAddOn over
	// it, is the JSON of a ResourceQuota's spec.hard for the install namespace.
	AnnotationResourceQuota = "fleet.drover.io/resource-quota"
	// FinalizerRemoval of an addon, and of one on a cluster, keeps it until what
	// belongs to it is removed in order.
	FinalizerRemoval = "fleet.drover.io/addon-removal"
)
