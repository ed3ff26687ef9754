// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster holds the kinds of cluster.open-cluster-management.io/v1 as
// Go structs for controllers. Fields, defaults, conditions and reasons are
// those of Open Cluster Management, so that its YAML and clients keep working.
package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group, Version and the resource as the store and the API name it.
const (
	Group    = "cluster.open-cluster-management.io"
	Version  = "v1"
	Kind     = "ManagedCluster"
	Resource = "managedclusters." + Group
)

// Condition types of a ManagedCluster.
const (
	ConditionJoined             = "ManagedClusterJoined"
	ConditionHubAccepted        = "HubAcceptedManagedCluster"
	ConditionAvailable          = "ManagedClusterConditionAvailable"
	ConditionCertificateRotated = "ClusterCertificateRotated"
)

// Reasons of the conditions.
const (
	ReasonJoined                   = "ManagedClusterJoined"
	ReasonAccepted                 = "HubClusterAdminAccepted"
	ReasonDenied                   = "HubClusterAdminDenied"
	ReasonAvailable                = "ManagedClusterAvailable"
	ReasonAPIServerUnavailable     = "ManagedClusterKubeAPIServerUnavailable"
	ReasonLeaseUpdateStopped       = "ManagedClusterLeaseUpdateStopped"
	ReasonClientCertificateUpdated = "ClientCertificateUpdated"
)

// Taints that the hub sets by itself, effect NoSelect.
const (
	TaintUnreachable = Group + "/unreachable"
	TaintUnavailable = Group + "/unavailable"
)

// Reserved claims.
const (
	ClaimID          = "id.k8s.io"
	ClaimKubeVersion = "kubeversion.open-cluster-management.io"
	ClaimPlatform    = "platform.open-cluster-management.io"
	ClaimProduct     = "product.open-cluster-management.io"
)

// ManagedCluster is one managed Kubernetes cluster, and one agent identity.
type ManagedCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ManagedClusterSpec   `json:"spec"`
	Status ManagedClusterStatus `json:"status,omitempty"`
}

// ManagedClusterSpec is what the operator says of a cluster.
type ManagedClusterSpec struct {
	// ManagedClusterClientConfigs are endpoints of the cluster's API server.
	ManagedClusterClientConfigs []ClientConfig `json:"managedClusterClientConfigs,omitempty"`
	// HubAcceptsClient is the approval: false closes the agent's session and refuses it.
	HubAcceptsClient bool `json:"hubAcceptsClient"`
	// LeaseDurationSeconds is kept for OCM's clients, default 60. Drover sees
	// a lost agent by its connection.
	LeaseDurationSeconds int32   `json:"leaseDurationSeconds,omitempty"`
	Taints               []Taint `json:"taints,omitempty"`
}

// ClientConfig is one endpoint of the managed cluster's API server.
type ClientConfig struct {
	URL      string `json:"url"`
	CABundle []byte `json:"caBundle,omitempty"`
}

// Taint keeps placements off a cluster.
type Taint struct {
	Key       string      `json:"key"`
	Value     string      `json:"value,omitempty"`
	Effect    string      `json:"effect"` // NoSelect, PreferNoSelect or NoSelectIfNew
	TimeAdded metav1.Time `json:"timeAdded,omitempty"`
}

// ManagedClusterStatus is what the hub knows of a cluster.
type ManagedClusterStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Capacity and Allocatable are sums over nodes, as Kubernetes quantities.
	Capacity      map[string]string `json:"capacity,omitempty"`
	Allocatable   map[string]string `json:"allocatable,omitempty"`
	Version       KubernetesVersion `json:"version,omitempty"`
	ClusterClaims []Claim           `json:"clusterClaims,omitempty"`
	// Agent is Drover's own addition: the live or last connection.
	Agent *AgentStatus `json:"agent,omitempty"`
}

// KubernetesVersion is the version of the managed cluster.
type KubernetesVersion struct {
	Kubernetes string `json:"kubernetes,omitempty"`
}

// Claim is a fact about a cluster, for placements.
type Claim struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// AgentStatus describes the agent of a cluster.
type AgentStatus struct {
	Version string `json:"version,omitempty"` // the agent's build
	Address string `json:"address,omitempty"` // source address of the session
	// ConnectedSince is the start of the live session, absent while there is none.
	ConnectedSince *metav1.Time `json:"connectedSince,omitempty"`
	// LastSeen is when the last session ended, absent while one is live.
	LastSeen *metav1.Time `json:"lastSeen,omitempty"`
	// CertificateExpires is the end of the agent's current certificate.
	CertificateExpires *metav1.Time `json:"certificateExpires,omitempty"`
	Nodes              int32        `json:"nodes,omitempty"`
	NodesReady         int32        `json:"nodesReady,omitempty"`
	// Architectures, OperatingSystems and ContainerRuntimes of the nodes, sorted.
	Architectures     []string `json:"architectures,omitempty"`
	OperatingSystems  []string `json:"operatingSystems,omitempty"`
	ContainerRuntimes []string `json:"containerRuntimes,omitempty"`
	// APIs is the digest of what the cluster serves: spec.digest of an APIList.
	APIs string `json:"apis,omitempty"`
}
