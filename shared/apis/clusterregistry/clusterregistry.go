// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clusterregistry holds the Cluster of clusterregistry.k8s.io/v1alpha1,
// the cluster registry's API, as a Go struct for controllers. Unlike the last
// releases of the registry it is cluster-scoped, as the design of the registry says.
package clusterregistry

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group, Version and the resource as the store and the API name it.
const (
	Group    = "clusterregistry.k8s.io"
	Version  = "v1alpha1"
	Kind     = "Cluster"
	Resource = "clusters." + Group
)

// ConditionOK is the one type of condition: whether the cluster works.
const ConditionOK = "OK"

// Cluster is an entry of the registry.
type Cluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterSpec   `json:"spec,omitempty"`
	Status ClusterStatus `json:"status,omitempty"`
}

// ClusterSpec is what is registered. All of it is optional.
type ClusterSpec struct {
	KubernetesAPIEndpoints KubernetesAPIEndpoints `json:"kubernetesApiEndpoints,omitzero"`
	AuthInfo               AuthInfo               `json:"authInfo,omitzero"`
}

// KubernetesAPIEndpoints says where the API server is.
type KubernetesAPIEndpoints struct {
	ServerEndpoints []ServerEndpoint `json:"serverEndpoints,omitempty"`
	CABundle        []byte           `json:"caBundle,omitempty"` // PEM
}

// ServerEndpoint is an address for clients of one network.
type ServerEndpoint struct {
	ClientCIDR    string `json:"clientCIDR,omitempty"`
	ServerAddress string `json:"serverAddress,omitempty"` // host or IP, with or without a port
}

// AuthInfo refers to objects that say how to authenticate. It holds no credentials.
type AuthInfo struct {
	User       *ObjectReference `json:"user,omitempty"`
	Controller *ObjectReference `json:"controller,omitempty"`
}

// ObjectReference names an object.
type ObjectReference struct {
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// ClusterStatus is what is known of the cluster.
type ClusterStatus struct {
	Conditions []ClusterCondition `json:"conditions,omitempty"`
}

// ClusterCondition is a condition in the registry's own form.
type ClusterCondition struct {
	Type               string                 `json:"type"`
	Status             metav1.ConditionStatus `json:"status"`
	LastHeartbeatTime  metav1.Time            `json:"lastHeartbeatTime,omitempty"`
	LastTransitionTime metav1.Time            `json:"lastTransitionTime,omitempty"`
	Reason             string                 `json:"reason,omitempty"`
	Message            string                 `json:"message,omitempty"`
}
