// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ManagedClusterAddOn is an addon on the cluster that its namespace is named
// after, the dish.
type ManagedClusterAddOn struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ManagedClusterAddOnSpec   `json:"spec"`
	Status ManagedClusterAddOnStatus `json:"status,omitempty"`
}

// ManagedClusterAddOnSpec holds what is different on this cluster.
type ManagedClusterAddOnSpec struct {
	// Configs replace those of the recipe and of placements by group and resource.
	Configs []Config `json:"configs,omitempty"`
}

// ManagedClusterAddOnStatus is what is true of the addon on the cluster.
type ManagedClusterAddOnStatus struct {
	Conditions       []metav1.Condition    `json:"conditions,omitempty"`
	RelatedObjects   []ObjectReference     `json:"relatedObjects,omitempty"`
	AddOnMeta        AddOnMeta             `json:"addOnMeta,omitempty"`
	SupportedConfigs []ConfigGroupResource `json:"supportedConfigs,omitempty"`
	// ConfigReferences are what the addon is rendered from: the desired ones are
	// written only for clusters that a rollout lets through.
	ConfigReferences []ConfigReference `json:"configReferences,omitempty"`
	// Namespace on the cluster in which the addon's agent runs.
	Namespace     string         `json:"namespace,omitempty"`
	Registrations []Registration `json:"registrations,omitempty"`
	HealthCheck   HealthCheck    `json:"healthCheck,omitzero"`
	// Content is Drover's own addition.
	Content *Content `json:"content,omitempty"`
}

// Content is what the addon is made of on the cluster.
type Content struct {
	AddOnVersion string `json:"addOnVersion,omitempty"` // name; empty for an addon made from a template
	Version      string `json:"version,omitempty"`
	Revision     int64  `json:"revision,omitempty"` // of the AddOnVersion
	// Digest names the manifests that should run. It is written only for clusters
	// that may change now, so it is the record of who is on the way.
	Digest   string       `json:"digest,omitempty"`
	Since    *metav1.Time `json:"since,omitempty"` // when that was
	Objects  int32        `json:"objects,omitempty"`
	Restarts int32        `json:"restarts,omitempty"` // below objects that are not ready
	// LastApplied is what the cluster has taken over last, LastKnownGood what was
	// healthy there last.
	LastApplied   *AppliedContent `json:"lastApplied,omitempty"`
	LastKnownGood *AppliedContent `json:"lastKnownGood,omitempty"`
}

// AppliedContent names manifests and where they come from.
type AppliedContent struct {
	Version  string `json:"version,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Digest   string `json:"digest,omitempty"`
}

// ObjectReference names an object on the hub.
type ObjectReference struct {
	Group     string `json:"group"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// ConfigReference is a configuration in use.
type ConfigReference struct {
	ConfigGroupResource    `json:",inline"`
	LastObservedGeneration int64           `json:"lastObservedGeneration,omitempty"`
	DesiredConfig          *ConfigSpecHash `json:"desiredConfig,omitempty"`
	LastAppliedConfig      *ConfigSpecHash `json:"lastAppliedConfig,omitempty"`
}

// Types of a Registration.
const (
	RegistrationKubeClient   = "kubeClient"
	RegistrationCustomSigner = "customSigner"
)

// Registration is how the addon's agent identifies itself to the hub.
type Registration struct {
	Type         string            `json:"type"`
	KubeClient   *KubeClientConfig `json:"kubeClient,omitempty"`
	CustomSigner *CustomSigner     `json:"customSigner,omitempty"`
}

// KubeClientConfig is access to the hub's API.
type KubeClientConfig struct {
	Subject KubeClientSubject `json:"subject,omitempty"`
	Driver  string            `json:"driver,omitempty"` // csr or token
}

// KubeClientSubject is whom the hub takes the agent for.
type KubeClientSubject struct {
	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// CustomSigner is a certificate from a signer of its own.
type CustomSigner struct {
	SignerName string  `json:"signerName"`
	Subject    Subject `json:"subject,omitempty"`
}

// Subject is whom a certificate names.
type Subject struct {
	User              string   `json:"user,omitempty"`
	Groups            []string `json:"groups,omitempty"`
	OrganizationUnits []string `json:"organizationUnits,omitempty"`
}

// HealthCheck is how the addon's health is found out.
type HealthCheck struct {
	Mode string `json:"mode,omitempty"` // Lease (default) or Customized
}
