// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"

	"github.com/drover-io/drover/shared/wire"
)

// Paths of the catalog beside the API.
const (
	// PathAddOnPreview: POST a PreviewRequest, the answer is a Preview.
	PathAddOnPreview = "/v1/addons/preview"
	// PathAddOnDiff: GET ?from=NAME&to=NAME of two AddOnVersions, the answer is a VersionDiff.
	PathAddOnDiff = "/v1/addons/diff"
	// PathAddOnContent: GET /NAME of an AddOnVersion, the answer is a VersionContent.
	PathAddOnContent = "/v1/addons/content"
)

// PreviewRequest asks what clusters would get of an addon.
type PreviewRequest struct {
	AddOn string `json:"addOn"`
	// Version is the semantic version; empty for what is installed or the default.
	Version string `json:"version,omitempty"`
	// Clusters are names, Selector a label selector; neither: where it is installed.
	Clusters []string `json:"clusters,omitempty"`
	Selector string   `json:"selector,omitempty"`
	// Values go over all other layers.
	Values map[string]any `json:"values,omitempty"`
	// Namespace is where it would be installed; empty for where it is or would be
	// without a word.
	Namespace string `json:"namespace,omitempty"`
	// Remove asks what a removal would take away.
	Remove bool `json:"remove,omitempty"`
}

// Preview is what clusters would get, those with the same outcome together.
type Preview struct {
	Outcomes []PreviewOutcome `json:"outcomes"`
}

// PreviewOutcome is what some clusters would get.
type PreviewOutcome struct {
	Clusters []string `json:"clusters"`
	// Error says why they would get nothing; the other fields are then empty.
	Error   string `json:"error,omitempty"`
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"` // of the manifests
	// Values with the layer that each comes from.
	Values []LayeredValue `json:"values,omitempty"`
	// Objects against what the hub gave the cluster last.
	Objects []wire.ObjectDiff `json:"objects,omitempty"`
	// Manifests as they would be applied; values of Secrets are masked.
	Manifests []json.RawMessage `json:"manifests,omitempty"`
	// Requires are addons that are installed first, as name@version.
	Requires []string `json:"requires,omitempty"`
}

// LayeredValue is one value of a configuration.
type LayeredValue struct {
	Path  string          `json:"path"` // "image.tag"
	Value json.RawMessage `json:"value"`
	Layer string          `json:"layer"` // one of the Layer constants
	From  string          `json:"from"`  // the object, such as AddOnConfig edge/logging
}

// Layers of configuration, each over the one before.
const (
	LayerVersion   = "version"
	LayerAddOn     = "addon"
	LayerPlacement = "placement"
	LayerInstalled = "installed"
)

// VersionDiff is what changes from one version to another, rendered with their
// default values for no cluster in particular.
type VersionDiff struct {
	From    string            `json:"from"`
	To      string            `json:"to"`
	Objects []wire.ObjectDiff `json:"objects"`
	// Spec are changed fields of the AddOnVersions themselves.
	Spec []wire.FieldDrift `json:"spec,omitempty"`
}

// VersionContent is what a version renders to with its default values; values of
// Secrets are masked.
type VersionContent struct {
	Name      string            `json:"name"`
	Manifests []json.RawMessage `json:"manifests"`
	Error     string            `json:"error,omitempty"`
}
