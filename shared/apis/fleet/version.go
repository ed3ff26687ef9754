// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Kinds and resources of the catalog as the store and the API name them.
const (
	KindAddOnVersion      = "AddOnVersion"
	KindAddOnConfig       = "AddOnConfig"
	ResourceAddOnVersions = "addonversions." + Group
	ResourceAddOnConfigs  = "addonconfigs." + Group
)

// Values of AddOnVersionSpec.Manager.
const (
	ManagerManifests = "manifests"
	ManagerKustomize = "kustomize"
	ManagerHelm      = "helm"
)

// AddOnVersion is one version of an addon in the catalog.
type AddOnVersion struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddOnVersionSpec   `json:"spec"`
	Status AddOnVersionStatus `json:"status,omitempty"`
}

// AddOnVersionSpec is the version and its content. AddOn and Version never change.
type AddOnVersionSpec struct {
	AddOn   string `json:"addOn"`             // name of the ClusterManagementAddOn
	Version string `json:"version"`           // semantic version
	Manager string `json:"manager,omitempty"` // one of the Manager constants, manifests by default
	// Image is "sha256:<hex>" of a bundle of the catalog, or an OCI reference
	// pinned to a digest. It is empty when Manifests holds the content.
	Image    string   `json:"image,omitempty"`
	Packages []string `json:"packages,omitempty"`
	// Active says whether it may be installed, true by default.
	Active      *bool  `json:"active,omitempty"`
	Default     bool   `json:"default,omitempty"`
	Channel     string `json:"channel,omitempty"`
	Description string `json:"description,omitempty"`
	// Values for the content, and the OpenAPI v3 schema they must fit.
	Values       *runtime.RawExtension `json:"values,omitempty"`
	ConfigSchema *runtime.RawExtension `json:"configSchema,omitempty"`
	Dependencies []AddOnRange          `json:"dependencies,omitempty"`
	Conflicts    []AddOnRange          `json:"conflicts,omitempty"`
	Requirements *Requirements         `json:"requirements,omitempty"`
	Upgrade      *Upgrade              `json:"upgrade,omitempty"`
	Health       []HealthRule          `json:"health,omitempty"`
	// Protected objects are never removed without an explicit word.
	Protected []ObjectPattern        `json:"protected,omitempty"`
	Manifests []runtime.RawExtension `json:"manifests,omitempty"`
}

// Content is what of the spec makes a new revision when it changes. Whether the
// version may be installed, is the default, what may be upgraded to it, and what is
// said about it for people can change without one.
func (s *AddOnVersionSpec) Content() *AddOnVersionSpec {
	out := *s
	out.Active, out.Default, out.Channel, out.Description, out.Packages, out.Upgrade = nil, false, "", "", nil, nil
	if out.Manager == "" {
		out.Manager = ManagerManifests
	}
	return &out
}

// AddOnRange is an addon in a range of versions such as ">=1.2.0 <2.0.0", in any
// when the range is empty.
type AddOnRange struct {
	AddOn        string `json:"addOn"`
	VersionRange string `json:"versionRange,omitempty"`
}

// Requirements are what a cluster must have.
type Requirements struct {
	Kubernetes      string                `json:"kubernetes,omitempty"` // range of versions
	APIs            []string              `json:"apis,omitempty"`       // group/version or group/version/Kind
	Nodes           *NodeRequirements     `json:"nodes,omitempty"`
	ClusterSelector *metav1.LabelSelector `json:"clusterSelector,omitempty"`
}

// NodeRequirements are what the nodes must offer.
type NodeRequirements struct {
	Minimum       int32    `json:"minimum,omitempty"`
	Architectures []string `json:"architectures,omitempty"`
	CPU           string   `json:"cpu,omitempty"`    // free to allocate, a quantity
	Memory        string   `json:"memory,omitempty"` // free to allocate, a quantity
}

// Upgrade says what may be upgraded to a version.
type Upgrade struct {
	From      string `json:"from,omitempty"` // range of versions; empty for any older one
	Downgrade bool   `json:"downgrade,omitempty"`
}

// HealthRule says when objects count as healthy, beside their kstatus.
type HealthRule struct {
	Name       string          `json:"name"`
	Object     ObjectPattern   `json:"object,omitempty"`
	Expression string          `json:"expression,omitempty"` // CEL over object
	Message    string          `json:"message,omitempty"`
	Timeout    metav1.Duration `json:"timeout,omitzero"`
}

// ObjectPattern matches objects; empty fields match any, and so does the name "*".
type ObjectPattern struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// AddOnVersionStatus is what the catalog found in the content.
type AddOnVersionStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	Digest     string             `json:"digest,omitempty"` // of the bundle
	Size       int64              `json:"size,omitempty"`   // of the bundle, in bytes
	Objects    int32              `json:"objects,omitempty"`
	Images     []string           `json:"images,omitempty"`
	Kinds      []string           `json:"kinds,omitempty"` // group/version/Kind
	SignedBy   string             `json:"signedBy,omitempty"`
	Clusters   int32              `json:"clusters,omitempty"` // that run it
}

// AddOnConfig holds typed values for an addon.
type AddOnConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddOnConfigSpec   `json:"spec,omitempty"`
	Status AddOnConfigStatus `json:"status,omitempty"`
}

// AddOnConfigSpec are the values, by the ConfigSchema of the AddOnVersion.
type AddOnConfigSpec struct {
	AddOn   string                `json:"addOn,omitempty"`   // empty for any
	Version string                `json:"version,omitempty"` // range of versions
	Values  *runtime.RawExtension `json:"values,omitempty"`
	// ValuesFrom are merged below Values, the later over the earlier.
	ValuesFrom []ValuesSource `json:"valuesFrom,omitempty"`
}

// ValuesSource is where more values are.
type ValuesSource struct {
	Kind     string `json:"kind"` // ConfigMap, Secret or ClusterClaim
	Name     string `json:"name"`
	Key      string `json:"key,omitempty"`
	Path     string `json:"path,omitempty"` // where they go, empty for the whole
	Optional bool   `json:"optional,omitempty"`
}

// ConditionValid of an AddOnConfig says whether its values fit the schemas of those
// versions that use it or would; of an AddOnVersion, that its content was read.
const ConditionValid = "Valid"

// Reasons of ConditionValid of an AddOnConfig.
const (
	ReasonValuesValid   = "ValuesValid"
	ReasonValuesInvalid = "ValuesInvalid"
	ReasonNotUsed       = "NotUsed" // nothing to check the values with yet
)

// AddOnConfigStatus says whether the values are usable.
type AddOnConfigStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
