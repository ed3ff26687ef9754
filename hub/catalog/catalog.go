// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package catalog holds what the parts of the addon catalog say to each other.
// DESIGN.md in this directory tells how they work together.
package catalog

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Facts are what the hub knows of a cluster when it renders for it.
type Facts struct {
	Name       string
	Labels     map[string]string // of the ManagedCluster
	Claims     map[string]string // status.clusterClaims
	Kubernetes string            // version, such as v1.36.3; empty when it is not known
	// APIs are what the cluster serves, as group/version and group/version/Kind,
	// sorted; nil when it is not known.
	APIs          []string
	Nodes         int
	Architectures []string          // of the nodes, sorted
	Allocatable   map[string]string // sums over nodes, as Kubernetes quantities
}

// Content is what an addon version is made of: Files for charts, kustomizations
// and folders of YAML; Objects for manifests that are objects already.
type Content struct {
	Manager string // one of the fleet.Manager constants
	// Digest names the content: contents with the same digest are the same. Empty
	// when nobody has worked it out.
	Digest  string
	Files   map[string][]byte
	Objects []*unstructured.Unstructured
}

// Rendering asks for the manifests of one addon on one cluster.
type Rendering struct {
	AddOn     string
	Version   string
	Namespace string // where the addon is installed
	Content   *Content
	// Values are merged over all layers and fit the version's schema.
	Values  map[string]any
	Cluster Facts
}

// Rendered is the outcome of a Rendering, in the order of application. The same
// Rendering gives the same bytes.
type Rendered struct {
	Objects []*unstructured.Unstructured
	// PostInstall are Jobs and Pods that run once the objects are healthy, and
	// PreDelete those that run before they are removed.
	PostInstall []*unstructured.Unstructured
	PreDelete   []*unstructured.Unstructured
}
