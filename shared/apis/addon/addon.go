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
