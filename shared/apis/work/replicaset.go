// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// Keys of the works that a ManifestWorkReplicaSet makes.
const (
	// LabelReplicaSet is "<namespace>.<name>" of the ManifestWorkReplicaSet.
	LabelReplicaSet = Group + "/manifestworkreplicaset"
	// LabelPlacement is the name of the Placement that chose the cluster.
	LabelPlacement = Group + "/placementname"
	// FinalizerReplicaSet keeps a ManifestWorkReplicaSet until its works are gone.
	FinalizerReplicaSet = Group + "/manifest-work-cleanup"
)

// Conditions of a ManifestWorkReplicaSet and their reasons.
const (
	ConditionPlacementVerified   = "PlacementVerified"
	ConditionPlacementRolledOut  = "PlacementRolledOut"
	ConditionManifestworkApplied = "ManifestworkApplied"

	ReasonAsExpected               = "AsExpected"
	ReasonProcessing               = "Processing"
	ReasonNotAsExpected            = "NotAsExpected"
	ReasonPlacementDecisionMissing = "PlacementDecisionNotFound"
	ReasonPlacementDecisionEmpty   = "PlacementDecisionEmpty"
	ReasonRolloutComplete          = "Complete"
	ReasonRolloutProgressing       = "Progressing"
)

// Values of ManifestWorkReplicaSetSpec.CascadeDeletionPolicy.
const (
	CascadeBackground = "Background"
	CascadeForeground = "Foreground"
)

// ManifestWorkReplicaSet makes a ManifestWork for every cluster that its
// placements choose.
type ManifestWorkReplicaSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ManifestWorkReplicaSetSpec   `json:"spec,omitempty"`
	Status ManifestWorkReplicaSetStatus `json:"status,omitempty"`
}

// ManifestWorkReplicaSetSpec is the template, and where it goes.
type ManifestWorkReplicaSetSpec struct {
	ManifestWorkTemplate ManifestWorkSpec `json:"manifestWorkTemplate,omitempty"`
	// PlacementRefs name Placements in the same namespace.
	PlacementRefs         []PlacementRef `json:"placementRefs"`
	CascadeDeletionPolicy string         `json:"cascadeDeletionPolicy,omitempty"`
}

// PlacementRef is a Placement, and how the works reach its clusters.
type PlacementRef struct {
	Name            string                  `json:"name"`
	RolloutStrategy cluster.RolloutStrategy `json:"rolloutStrategy,omitempty"`
}

// ManifestWorkReplicaSetStatus says how far the works are.
type ManifestWorkReplicaSetStatus struct {
	Conditions       []metav1.Condition `json:"conditions,omitempty"`
	Summary          WorkSummary        `json:"summary,omitempty"`
	PlacementSummary []PlacementSummary `json:"placementSummary,omitempty"`
}

// WorkSummary counts the works of a set. Degraded and Progressing count works
// whose condition of that name is true.
type WorkSummary struct {
	Total        int `json:"total,omitempty"`
	DesiredTotal int `json:"desiredTotal,omitempty"`
	Available    int `json:"available,omitempty"`
	Progressing  int `json:"progressing,omitempty"`
	Degraded     int `json:"degraded,omitempty"`
	Applied      int `json:"applied,omitempty"`
	// Updated counts the works that hold the newest template.
	Updated int `json:"updated,omitempty"`
}

// PlacementSummary counts the works of one Placement.
type PlacementSummary struct {
	Name string `json:"name,omitempty"`
	// AvailableDecisionGroups is, as in OCM, "2 (4 / 6 clusters applied)".
	AvailableDecisionGroups string      `json:"availableDecisionGroups,omitempty"`
	Summary                 WorkSummary `json:"summary,omitempty"`
}
