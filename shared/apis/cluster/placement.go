// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Versions, kinds and resources of placements as the store and the API name them.
const (
	VersionPlacements          = "v1beta1"
	KindPlacement              = "Placement"
	KindPlacementDecision      = "PlacementDecision"
	ResourcePlacements         = "placements." + Group
	ResourcePlacementDecisions = "placementdecisions." + Group

	VersionPlacementScores  = "v1alpha1"
	KindPlacementScore      = "AddOnPlacementScore"
	ResourcePlacementScores = "addonplacementscores." + Group
)

// Labels of a PlacementDecision, and the annotation that stops scheduling.
const (
	LabelPlacement                  = Group + "/placement"
	LabelDecisionGroupIndex         = Group + "/decision-group-index"
	LabelDecisionGroupName          = Group + "/decision-group-name"
	AnnotationSchedulingDisabled    = Group + "/experimental-scheduling-disable"
	MaxDecisions                    = 100 // clusters of one PlacementDecision
	ConditionPlacementSatisfied     = "PlacementSatisfied"
	ConditionPlacementMisconfigured = "PlacementMisconfigured"
)

// Placement chooses clusters from the sets bound to its namespace.
type Placement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PlacementSpec   `json:"spec"`
	Status PlacementStatus `json:"status,omitempty"`
}

// PlacementSpec says which clusters. The zero value means all of the bound sets.
type PlacementSpec struct {
	ClusterSets []string `json:"clusterSets,omitempty"`
	// NumberOfClusters is how many to choose; nil means all.
	NumberOfClusters *int32 `json:"numberOfClusters,omitempty"`
	// Predicates: a cluster must satisfy one of them.
	Predicates        []ClusterPredicate `json:"predicates,omitempty"`
	PrioritizerPolicy PrioritizerPolicy  `json:"prioritizerPolicy,omitempty"`
	SpreadPolicy      SpreadPolicy       `json:"spreadPolicy,omitempty"`
	Tolerations       []Toleration       `json:"tolerations,omitempty"`
	DecisionStrategy  DecisionStrategy   `json:"decisionStrategy,omitempty"`
	SortBy            string             `json:"sortBy,omitempty"`         // ClusterName (default) or Score
	ScoreRateLimit    string             `json:"scoreRateLimit,omitempty"` // "1m" by default
}

// ClusterPredicate is one way to satisfy a Placement.
type ClusterPredicate struct {
	RequiredClusterSelector ClusterSelector `json:"requiredClusterSelector,omitempty"`
}

// ClusterSelector matches when all its parts do.
type ClusterSelector struct {
	LabelSelector metav1.LabelSelector `json:"labelSelector,omitempty"`
	ClaimSelector ClaimSelector        `json:"claimSelector,omitempty"`
	CelSelector   CelSelector          `json:"celSelector,omitempty"`
}

// ClaimSelector matches by claims.
type ClaimSelector struct {
	MatchExpressions []metav1.LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// CelSelector matches by expressions over managedCluster, all of which must be true.
type CelSelector struct {
	CelExpressions []string `json:"celExpressions,omitempty"`
}

// PrioritizerPolicy says what makes a cluster preferable.
type PrioritizerPolicy struct {
	Mode           string              `json:"mode,omitempty"` // Additive (default) or Exact
	Configurations []PrioritizerConfig `json:"configurations,omitempty"`
}

// PrioritizerConfig weighs one score.
type PrioritizerConfig struct {
	ScoreCoordinate *ScoreCoordinate `json:"scoreCoordinate,omitempty"`
	Weight          int32            `json:"weight,omitempty"` // -10 to 10, 1 by default
}

// ScoreCoordinate says where a score comes from: BuiltIn (default) or AddOn.
type ScoreCoordinate struct {
	Type    string      `json:"type,omitempty"`
	BuiltIn string      `json:"builtIn,omitempty"`
	AddOn   *AddOnScore `json:"addOn,omitempty"`
}

// Values of ScoreCoordinate.Type and of ScoreCoordinate.BuiltIn.
const (
	ScoreBuiltIn = "BuiltIn"
	ScoreAddOn   = "AddOn"

	PrioritizerBalance           = "Balance"
	PrioritizerSteady            = "Steady"
	PrioritizerAllocatableCPU    = "ResourceAllocatableCPU"
	PrioritizerAllocatableMemory = "ResourceAllocatableMemory"
)

// AddOnScore names a score of an AddOnPlacementScore.
type AddOnScore struct {
	ResourceName string `json:"resourceName"`
	ScoreName    string `json:"scoreName"`
}

// SpreadPolicy spreads the chosen clusters over topologies.
type SpreadPolicy struct {
	SpreadConstraints []SpreadConstraint `json:"spreadConstraints,omitempty"`
}

// SpreadConstraint is by what, and how evenly.
type SpreadConstraint struct {
	TopologyKey       string `json:"topologyKey"`
	TopologyKeyType   string `json:"topologyKeyType"`             // Label or Claim
	MaxSkew           int32  `json:"maxSkew,omitempty"`           // 1 by default
	WhenUnsatisfiable string `json:"whenUnsatisfiable,omitempty"` // ScheduleAnyway (default) or DoNotSchedule
}

// Toleration puts up with a taint.
type Toleration struct {
	Key      string `json:"key,omitempty"`      // empty for any, with operator Exists
	Operator string `json:"operator,omitempty"` // Equal (default) or Exists
	Value    string `json:"value,omitempty"`
	Effect   string `json:"effect,omitempty"` // empty for any
	// TolerationSeconds counts from the taint's timeAdded; nil means for ever.
	TolerationSeconds *int64 `json:"tolerationSeconds,omitempty"`
}

// DecisionStrategy divides the chosen clusters.
type DecisionStrategy struct {
	GroupStrategy GroupStrategy `json:"groupStrategy,omitempty"`
}

// GroupStrategy divides them into groups, for rollouts.
type GroupStrategy struct {
	DecisionGroups []DecisionGroup `json:"decisionGroups,omitempty"`
	// ClustersPerDecisionGroup is a number or a share, "100%" by default.
	ClustersPerDecisionGroup intstr.IntOrString `json:"clustersPerDecisionGroup,omitempty"`
}

// DecisionGroup is a group by selector.
type DecisionGroup struct {
	GroupName            string               `json:"groupName"`
	GroupClusterSelector GroupClusterSelector `json:"groupClusterSelector"`
}

// GroupClusterSelector matches when both its parts do.
type GroupClusterSelector struct {
	LabelSelector metav1.LabelSelector `json:"labelSelector,omitempty"`
	ClaimSelector ClaimSelector        `json:"claimSelector,omitempty"`
}

// PlacementStatus says what was decided.
type PlacementStatus struct {
	NumberOfSelectedClusters int32                 `json:"numberOfSelectedClusters,omitempty"`
	DecisionGroups           []DecisionGroupStatus `json:"decisionGroups,omitempty"`
	Conditions               []metav1.Condition    `json:"conditions,omitempty"`
	LastScoreUpdateTime      *metav1.Time          `json:"lastScoreUpdateTime,omitempty"`
}

// DecisionGroupStatus is one group of the decisions.
type DecisionGroupStatus struct {
	DecisionGroupIndex int32    `json:"decisionGroupIndex"`
	DecisionGroupName  string   `json:"decisionGroupName,omitempty"`
	Decisions          []string `json:"decisions,omitempty"` // names of PlacementDecisions
	ClusterCount       int32    `json:"clusterCount"`
}

// PlacementDecision lists up to MaxDecisions clusters that a Placement has chosen.
type PlacementDecision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status PlacementDecisionStatus `json:"status,omitempty"`
}

// PlacementDecisionStatus is the list. It is never nil, so that it can be empty.
type PlacementDecisionStatus struct {
	Decisions []ClusterDecision `json:"decisions"`
}

// ClusterDecision is one chosen cluster.
type ClusterDecision struct {
	ClusterName string `json:"clusterName"`
	Reason      string `json:"reason"`
	Score       int64  `json:"score,omitempty"`
}

// AddOnPlacementScore holds scores of the cluster its namespace is named after.
type AddOnPlacementScore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status AddOnPlacementScoreStatus `json:"status,omitempty"`
}

// AddOnPlacementScoreStatus are the scores, and how long they hold.
type AddOnPlacementScoreStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	Scores     []PlacementScore   `json:"scores,omitempty"`
	ValidUntil *metav1.Time       `json:"validUntil,omitempty"`
}

// PlacementScore is one score, -100 to 100.
type PlacementScore struct {
	Name  string `json:"name"`
	Value int32  `json:"value"`
}
