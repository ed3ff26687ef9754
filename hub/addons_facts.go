// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/fleet"
)

// clusterFacts gives the catalog what the hub knows of its clusters.
type clusterFacts struct {
	fleet interface {
		Facts(cluster string) (fleet.Facts, error)
	}
}

// Facts returns what is known of a cluster; store.ErrNotFound.
func (c clusterFacts) Facts(name string) (catalog.Facts, error) {
	f, err := c.fleet.Facts(name)
	if err != nil {
		return catalog.Facts{}, err
	}
	return catalog.Facts{
		Name: f.Name, Labels: f.Labels, Claims: f.Claims, Kubernetes: f.Kubernetes, APIs: f.APIs,
		Nodes: f.Nodes, Architectures: f.Architectures, Allocatable: f.Allocatable,
	}, nil
}

// admitAPIList refuses to change what only the hub knows.
func admitAPIList(context.Context, *api.Admission) error {
	return hubsOwn("apilists", "an APIList")
}
