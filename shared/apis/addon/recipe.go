// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// Types of an InstallStrategy.
const (
	InstallManual     = "Manual"
	InstallPlacements = "Placements"
)

// ClusterManagementAddOn is an addon that can be installed on clusters, the recipe.
type ClusterManagementAddOn struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterManagementAddOnSpec   `json:"spec"`
	Status ClusterManagementAddOnStatus `json:"status,omitempty"`
}

// ClusterManagementAddOnSpec is what the addon is, and where it goes.
type ClusterManagementAddOnSpec struct {
	AddOnMeta AddOnMeta `json:"addOnMeta,omitempty"`
	// DefaultConfigs has one entry a group and resource.
	DefaultConfigs  []Config        `json:"defaultConfigs,omitempty"`
	InstallStrategy InstallStrategy `json:"installStrategy,omitempty"`
}

// AddOnMeta is how an addon is shown to people.
type AddOnMeta struct {
	DisplayName string `json:"displayName,omitempty"`
	Description string `json:"description,omitempty"`
}

// Config names an object that configures an addon.
type Config struct {
	ConfigGroupResource `json:",inline"`
	ConfigReferent      `json:",inline"`
}

// ConfigGroupResource is a kind of configuration.
type ConfigGroupResource struct {
	Group    string `json:"group"`
	Resource string `json:"resource"`
}

// ConfigReferent is one object of such a kind.
type ConfigReferent struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// InstallStrategy is Manual, or Placements and which.
type InstallStrategy struct {
	Type       string              `json:"type,omitempty"`
	Placements []PlacementStrategy `json:"placements,omitempty"`
}

// PlacementStrategy installs on the clusters of a Placement. A cluster in
// several obeys the last.
type PlacementStrategy struct {
	PlacementRef `json:",inline"`
	// Configs replace the default of the same group and resource.
	Configs         []Config                `json:"configs,omitempty"`
	RolloutStrategy cluster.RolloutStrategy `json:"rolloutStrategy,omitempty"`
}

// PlacementRef names a Placement.
type PlacementRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// ClusterManagementAddOnStatus says how far each placement is.
type ClusterManagementAddOnStatus struct {
	DefaultConfigReferences []DefaultConfigReference `json:"defaultConfigReferences,omitempty"`
	InstallProgressions     []InstallProgression     `json:"installProgressions,omitempty"`
}

// DefaultConfigReference is a default configuration with its hash.
type DefaultConfigReference struct {
	ConfigGroupResource `json:",inline"`
	DesiredConfig       *ConfigSpecHash `json:"desiredConfig,omitempty"`
}

// ConfigSpecHash names an object and the content that is meant.
type ConfigSpecHash struct {
	ConfigReferent `json:",inline"`
	// SpecHash is the lower-hex SHA-256 of the object's JSON without apiVersion,
	// kind, metadata and status.
	SpecHash string `json:"specHash,omitempty"`
}

// InstallProgression is how far one placement is.
type InstallProgression struct {
	PlacementRef     `json:",inline"`
	ConfigReferences []InstallConfigReference `json:"configReferences,omitempty"`
	Conditions       []metav1.Condition       `json:"conditions,omitempty"`
}

// InstallConfigReference is a configuration on its way to a placement.
type InstallConfigReference struct {
	ConfigGroupResource `json:",inline"`
	DesiredConfig       *ConfigSpecHash `json:"desiredConfig,omitempty"`
	// LastKnownGoodConfig is kept for OCM's clients.
	LastKnownGoodConfig *ConfigSpecHash `json:"lastKnownGoodConfig,omitempty"`
	LastAppliedConfig   *ConfigSpecHash `json:"lastAppliedConfig,omitempty"`
}
