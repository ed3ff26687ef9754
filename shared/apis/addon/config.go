// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/work"
)

// AddOnDeploymentConfig says where and how the agent of an addon runs.
type AddOnDeploymentConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AddOnDeploymentConfigSpec `json:"spec"`
}

// AddOnDeploymentConfigSpec are the settings.
type AddOnDeploymentConfigSpec struct {
	CustomizedVariables []Variable     `json:"customizedVariables,omitempty"`
	NodePlacement       *NodePlacement `json:"nodePlacement,omitempty"`
	Registries          []ImageMirror  `json:"registries,omitempty"`
	ProxyConfig         ProxyConfig    `json:"proxyConfig,omitzero"`
	// AgentInstallNamespace is DefaultInstallNamespace by default; "" means what
	// the addon's manifests say.
	AgentInstallNamespace string                 `json:"agentInstallNamespace"`
	ResourceRequirements  []ContainerRequirement `json:"resourceRequirements,omitempty"`
}

// Variable is text for the addon's manifests.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// NodePlacement says on which nodes.
type NodePlacement struct {
	NodeSelector map[string]string   `json:"nodeSelector,omitempty"`
	Tolerations  []corev1.Toleration `json:"tolerations,omitempty"`
}

// ImageMirror replaces the start of image names; an empty Source means all images.
type ImageMirror struct {
	Source string `json:"source,omitempty"`
	Mirror string `json:"mirror"`
}

// ProxyConfig is the proxy of the addon's agent.
type ProxyConfig struct {
	HTTPProxy  string `json:"httpProxy,omitempty"`
	HTTPSProxy string `json:"httpsProxy,omitempty"`
	CABundle   []byte `json:"caBundle,omitempty"`
	NoProxy    string `json:"noProxy,omitempty"`
}

// ContainerRequirement are requests and limits of containers; the last match
// counts. ContainerID is "<resource>:<name>:<container>" with "*" for any.
type ContainerRequirement struct {
	ContainerID string                      `json:"containerID"`
	Resources   corev1.ResourceRequirements `json:"resources"`
}

// AddOnTemplate is an addon made of manifests with {{VARIABLES}} in them.
type AddOnTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AddOnTemplateSpec `json:"spec"`
}

// AddOnTemplateSpec is the addon.
type AddOnTemplateSpec struct {
	AddonName    string                 `json:"addonName"`
	AgentSpec    work.ManifestWorkSpec  `json:"agentSpec"`
	Registration []TemplateRegistration `json:"registration,omitempty"`
}

// TemplateRegistration is KubeClient or CustomSigner.
type TemplateRegistration struct {
	Type         string                `json:"type"`
	KubeClient   *TemplateKubeClient   `json:"kubeClient,omitempty"`
	CustomSigner *TemplateCustomSigner `json:"customSigner,omitempty"`
}

// TemplateKubeClient is access to the hub.
type TemplateKubeClient struct {
	HubPermissions []HubPermission `json:"hubPermissions,omitempty"`
}

// HubPermission is CurrentCluster or SingleNamespace.
type HubPermission struct {
	Type            string           `json:"type"`
	CurrentCluster  *CurrentCluster  `json:"currentCluster,omitempty"`
	SingleNamespace *SingleNamespace `json:"singleNamespace,omitempty"`
}

// CurrentCluster binds a ClusterRole in the cluster's namespace.
type CurrentCluster struct {
	ClusterRoleName string `json:"clusterRoleName"`
}

// SingleNamespace binds a role in one namespace.
type SingleNamespace struct {
	Namespace string         `json:"namespace"`
	RoleRef   rbacv1.RoleRef `json:"roleRef"`
}

// TemplateCustomSigner is a certificate signed with a key pair in a Secret.
type TemplateCustomSigner struct {
	SignerName string           `json:"signerName"`
	Subject    *TemplateSubject `json:"subject,omitempty"`
	SigningCA  SigningCA        `json:"signingCA"`
}

// TemplateSubject is whom the certificate names.
type TemplateSubject struct {
	User              string   `json:"user,omitempty"`
	Groups            []string `json:"groups,omitempty"`
	OrganizationUnits []string `json:"organizationUnit,omitempty"`
}

// SigningCA names a Secret.
type SigningCA struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}
