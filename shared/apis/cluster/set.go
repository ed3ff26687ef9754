// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Version, kinds and resources of sets as the store and the API name them.
const (
	VersionSets         = "v1beta2"
	KindSet             = "ManagedClusterSet"
	KindSetBinding      = "ManagedClusterSetBinding"
	ResourceSets        = "managedclustersets." + Group
	ResourceSetBindings = "managedclustersetbindings." + Group
)

// LabelSet is the label of a ManagedCluster that names its exclusive set.
const LabelSet = Group + "/clusterset"

// Sets that always exist: SetDefault holds the clusters without a set, SetGlobal
// holds all.
const (
	SetDefault = "default"
	SetGlobal  = "global"
)

// Types of a ClusterSelector.
const (
	SelectorExclusive = "ExclusiveClusterSetLabel"
	SelectorLabels    = "LabelSelector"
)

// Conditions of a set and of a binding, and their reasons.
const (
	ConditionSetEmpty        = "ClusterSetEmpty"
	ReasonNoClusterMatched   = "NoClusterMatched"
	ReasonClustersSelected   = "ClustersSelected"
	ConditionBound           = "Bound"
	ReasonClusterSetBound    = "ClusterSetBound"
	ReasonClusterSetNotFound = "ClusterSetNotFound"
)

// ManagedClusterSet is a group of clusters that are managed alike.
type ManagedClusterSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ManagedClusterSetSpec   `json:"spec,omitempty"`
	Status ManagedClusterSetStatus `json:"status,omitempty"`
}

// ManagedClusterSetSpec says who belongs to the set.
type ManagedClusterSetSpec struct {
	ClusterSelector ClusterSetSelector `json:"clusterSelector,omitempty"`
	// ManagedNamespaces are kept by the members for the set.
	ManagedNamespaces []ManagedNamespace `json:"managedNamespaces,omitempty"`
}

// ClusterSetSelector is one of the Selector constants, ExclusiveClusterSetLabel
// by default, and LabelSelector for the other.
type ClusterSetSelector struct {
	SelectorType  string                `json:"selectorType,omitempty"`
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// ManagedNamespace is a namespace on the members.
type ManagedNamespace struct {
	Name string `json:"name"`
}

// ManagedClusterSetStatus has the condition ClusterSetEmpty.
type ManagedClusterSetStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ManagedClusterSetBinding lets placements of its namespace choose among the
// clusters of the set of the same name.
type ManagedClusterSetBinding struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ManagedClusterSetBindingSpec   `json:"spec,omitempty"`
	Status ManagedClusterSetBindingStatus `json:"status,omitempty"`
}

// ManagedClusterSetBindingSpec names the set.
type ManagedClusterSetBindingSpec struct {
	ClusterSet string `json:"clusterSet"`
}

// ManagedClusterSetBindingStatus has the condition Bound.
type ManagedClusterSetBindingStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
