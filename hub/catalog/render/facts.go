// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/drover-io/drover/hub/catalog"
)

// Reads are the facts of a cluster that a rendering looked at. Two clusters that
// agree on all of them get the same.
type reads uint16

const (
	readName reads = 1 << iota
	readLabels
	readClaims
	readKubernetes
	readAPIs
	readNodes
	readArchitectures
	readAllocatable

	readAll = 1<<iota - 1
)

// of returns only those facts.
func (r reads) of(f *catalog.Facts) catalog.Facts {
	var out catalog.Facts
	if r&readName != 0 {
		out.Name = f.Name
	}
	if r&readLabels != 0 {
		out.Labels = f.Labels
	}
	if r&readClaims != 0 {
		out.Claims = f.Claims
	}
	if r&readKubernetes != 0 {
		out.Kubernetes = f.Kubernetes
	}
	if r&readAPIs != 0 {
		out.APIs = f.APIs
	}
	if r&readNodes != 0 {
		out.Nodes = f.Nodes
	}
	if r&readArchitectures != 0 {
		out.Architectures = f.Architectures
	}
	if r&readAllocatable != 0 {
		out.Allocatable = f.Allocatable
	}
	return out
}

// Cluster is what templates see of a cluster. There is no way to a fact but through
// its methods, so what was read is known.
type Cluster struct {
	facts *catalog.Facts
	read  *reads
}

// Name of the ManagedCluster.
func (c *Cluster) Name() string { *c.read |= readName; return c.facts.Name }

// Labels of the ManagedCluster.
func (c *Cluster) Labels() map[string]any { *c.read |= readLabels; return anyMap(c.facts.Labels) }

// Claims of the ManagedCluster.
func (c *Cluster) Claims() map[string]any { *c.read |= readClaims; return anyMap(c.facts.Claims) }

// Kubernetes is the version, such as v1.36.3.
func (c *Cluster) Kubernetes() string { *c.read |= readKubernetes; return c.facts.Kubernetes }

// APIs as group/version and group/version/Kind.
func (c *Cluster) APIs() chartutil.VersionSet {
	*c.read |= readAPIs
	return slices.Clone(c.facts.APIs)
}

// Nodes is how many nodes there are.
func (c *Cluster) Nodes() int { *c.read |= readNodes; return c.facts.Nodes }

// Architectures of the nodes.
func (c *Cluster) Architectures() []string {
	*c.read |= readArchitectures
	return slices.Clone(c.facts.Architectures)
}

// Allocatable are sums over nodes, as Kubernetes quantities.
func (c *Cluster) Allocatable() map[string]any {
	*c.read |= readAllocatable
	return anyMap(c.facts.Allocatable)
}

// MarshalJSON counts as reading everything.
func (c *Cluster) MarshalJSON() ([]byte, error) {
	*c.read |= readAll
	return json.Marshal(c.facts)
}

// String keeps the facts from being printed past the methods.
func (c *Cluster) String() string { return "cluster" }

// Capabilities are what Helm's templates see of a cluster.
type Capabilities struct {
	cluster *Cluster
	version chartutil.KubeVersion // when the cluster's is not known
}

// KubeVersion of the cluster.
func (c *Capabilities) KubeVersion() (*chartutil.KubeVersion, error) {
	if c.cluster == nil {
		return nil, errCopied
	}
	v := c.version
	if known := c.cluster.Kubernetes(); known != "" {
		parsed, err := chartutil.ParseKubeVersion(known)
		if err != nil {
			return nil, err
		}
		v = *parsed
	}
	return &v, nil
}

// APIVersions of the cluster.
func (c *Capabilities) APIVersions() (chartutil.VersionSet, error) {
	if c.cluster == nil {
		return nil, errCopied
	}
	if apis := c.cluster.APIs(); apis != nil {
		return apis, nil
	}
	return slices.Clone(chartutil.DefaultVersionSet), nil
}

// HelmVersion is that of the library.
func (c *Capabilities) HelmVersion() any { return chartutil.DefaultCapabilities.HelmVersion }

// MarshalJSON writes what chartutil.Capabilities would be.
func (c *Capabilities) MarshalJSON() ([]byte, error) {
	v, err := c.KubeVersion()
	if err != nil {
		return nil, err
	}
	apis, err := c.APIVersions()
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"KubeVersion": v, "APIVersions": apis, "HelmVersion": c.HelmVersion()})
}

// String keeps the facts from being printed past the methods.
func (c *Capabilities) String() string { return "capabilities" }

var errCopied = errors.New("a copy of .Capabilities or .Cluster is empty: use the original")

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out[k] = m[k]
	}
	return out
}
