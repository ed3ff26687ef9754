// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Types of a RolloutStrategy.
const (
	RolloutAll                 = "All"
	RolloutProgressive         = "Progressive"
	RolloutProgressivePerGroup = "ProgressivePerGroup"
)

// RolloutStrategy says how a change reaches the clusters of a Placement. It is
// OCM's, used by addons and by ManifestWorkReplicaSets.
type RolloutStrategy struct {
	Type                string                    `json:"type,omitempty"` // All by default
	All                 *RolloutConfig            `json:"all,omitempty"`
	Progressive         *RolloutProgressiveConfig `json:"progressive,omitempty"`
	ProgressivePerGroup *RolloutPerGroupConfig    `json:"progressivePerGroup,omitempty"`
}

// RolloutConfig is what all types have.
type RolloutConfig struct {
	// MinSuccessTime is how long a success must last before the next clusters
	// start, zero by default.
	MinSuccessTime metav1.Duration `json:"minSuccessTime,omitempty"`
	// ProgressDeadline is how long a cluster may take, such as "1h30m"; "None",
	// the default, waits for ever.
	ProgressDeadline string `json:"progressDeadline,omitempty"`
	// MaxFailures is a number or a share of clusters that may fail, 0 by default.
	MaxFailures intstr.IntOrString `json:"maxFailures,omitempty"`
}

// RolloutProgressiveConfig belongs to RolloutProgressive.
type RolloutProgressiveConfig struct {
	RolloutConfig           `json:",inline"`
	MandatoryDecisionGroups []MandatoryDecisionGroup `json:"mandatoryDecisionGroups,omitempty"`
	// MaxConcurrency is a number or a share of clusters; nil means the size of
	// the decision groups of the Placement.
	MaxConcurrency *intstr.IntOrString `json:"maxConcurrency,omitempty"`
}

// RolloutPerGroupConfig belongs to RolloutProgressivePerGroup.
type RolloutPerGroupConfig struct {
	RolloutConfig           `json:",inline"`
	MandatoryDecisionGroups []MandatoryDecisionGroup `json:"mandatoryDecisionGroups,omitempty"`
}

// MandatoryDecisionGroup names a group that goes first: by index when GroupName
// is empty.
type MandatoryDecisionGroup struct {
	GroupName  string `json:"groupName,omitempty"`
	GroupIndex int32  `json:"groupIndex,omitempty"`
}
