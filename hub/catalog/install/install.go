// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package install puts addons on clusters: it makes ManagedClusterAddOns where the
// placements of a ClusterManagementAddOn say so, makes ManifestWorks of every
// ManagedClusterAddOn, and says in the status how far each is.
//
// It is level-triggered: what it knows it finds in the store, and what it decides
// it writes there before it acts on it. Next decides who may change; that it said
// yes is status.content.digest of the ManagedClusterAddOn.
//
// What is on a cluster goes only when its ManagedClusterAddOn is deleted, never
// because something cannot be found, read or rendered.
package install

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	gather     = 100 * time.Millisecond // changes are looked at together after this
	retryAfter = time.Second
	writers    = 256 // as many as the store puts into one batch
	// settle is for how long a cluster must not be chosen before its addon goes:
	// decisions are several objects, and a cluster may move from one to another.
	settle = 5 * time.Second
	// perPass is how many addons are resolved before what was found is acted on.
	perPass = 500
)

// Bundles is what install asks of the content store.
type Bundles interface {
	// Put stores a bundle of manifests and returns its digest.
	Put(ctx context.Context, data []byte) (digest string, err error)
	Get(ctx context.Context, digest string) ([]byte, error)
}

// Config is what New needs.
type Config struct {
	Store    *store.Store
	Resolver *Resolver
	Bundles  Bundles
	// HasAgent reports whether the agent of a cluster will take the finalizer off
	// a work.
	HasAgent func(cluster string) bool
	Log      *zap.Logger
	// Settle is for tests, 5 s by default.
	Settle time.Duration
}

// Controller keeps ManagedClusterAddOns, their works, and the status of both
// addon kinds. A hub runs one.
type Controller struct {
	cfg        Config
	store      *store.Store
	log        *zap.Logger
	recipes    store.Objects[addon.ClusterManagementAddOn, *addon.ClusterManagementAddOn]
	dishes     store.Objects[addon.ManagedClusterAddOn, *addon.ManagedClusterAddOn]
	works      store.Objects[work.ManifestWork, *work.ManifestWork]
	placements store.Objects[cluster.Placement, *cluster.Placement]
	decisions  store.Objects[cluster.PlacementDecision, *cluster.PlacementDecision]
	clusters   store.Objects[cluster.ManagedCluster, *cluster.ManagedCluster]
}

// New returns a controller; it acts while Run runs.
func New(cfg Config) *Controller {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Settle == 0 {
		cfg.Settle = settle
	}
	return &Controller{
		cfg: cfg, store: cfg.Store, log: cfg.Log,
		recipes:    store.Of[addon.ClusterManagementAddOn](cfg.Store, addon.ResourceClusterManagementAddOns),
		dishes:     store.Of[addon.ManagedClusterAddOn](cfg.Store, addon.ResourceManagedClusterAddOns),
		works:      store.Of[work.ManifestWork](cfg.Store, work.Resource),
		placements: store.Of[cluster.Placement](cfg.Store, cluster.ResourcePlacements),
		decisions:  store.Of[cluster.PlacementDecision](cfg.Store, cluster.ResourcePlacementDecisions),
		clusters:   store.Of[cluster.ManagedCluster](cfg.Store, cluster.Resource),
	}
}

// Run acts until ctx ends. After an error it looks at everything anew.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		c.log.Warn("installing addons failed, starting over", zap.Error(err))
		daemon.Sleep(ctx, retryAfter)
	}
	return ctx.Err()
}

// watched are the resources that are always followed. The kinds that users add for
// configuration are followed from when an addon names one.
func watched() []string {
	return []string{
		addon.ResourceClusterManagementAddOns, addon.ResourceManagedClusterAddOns, work.Resource,
		cluster.ResourcePlacements, cluster.ResourcePlacementDecisions, cluster.Resource,
		fleet.ResourceAddOnVersions, fleet.ResourceConfigRevisions, fleet.ResourceAddOnConfigs, addon.ResourceDeploymentConfigs, addon.ResourceTemplates,
	}
}

// follow watches and acts until a watch fails.
func (c *Controller) follow(ctx context.Context) error {
	return follow.Run(ctx, c.store, gather, time.Second, func(f *follow.Follower) (follow.State, error) {
		following := map[string]bool{}
		st := newState(c)
		st.watch = func(resource string) error {
			if following[resource] {
				return nil
			}
			following[resource] = true
			return f.Watch(store.WatchSelection{Resource: resource})
		}
		for _, resource := range watched() {
			if err := st.watch(resource); err != nil {
				return nil, err
			}
		}
		return st, nil
	})
}
