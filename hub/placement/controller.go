// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	gather     = 100 * time.Millisecond // changes are looked at together after this
	retryAfter = time.Second
	// writers is how many writes are under way; the store puts those of a moment
	// into one batch.
	writers = 64
)

// Config is what New needs.
type Config struct {
	Store *store.Store
	Log   *zap.Logger
}

// Controller keeps PlacementDecisions, the status of Placements, of
// ManagedClusterSets and of their bindings, and the sets that always exist. A
// hub runs one.
type Controller struct {
	store     *store.Store
	log       *zap.Logger
	scheduler *Scheduler

	clusters   store.Objects[cluster.ManagedCluster, *cluster.ManagedCluster]
	sets       store.Objects[cluster.ManagedClusterSet, *cluster.ManagedClusterSet]
	bindings   store.Objects[cluster.ManagedClusterSetBinding, *cluster.ManagedClusterSetBinding]
	placements store.Objects[cluster.Placement, *cluster.Placement]
	decisions  store.Objects[cluster.PlacementDecision, *cluster.PlacementDecision]
	scores     store.Objects[cluster.AddOnPlacementScore, *cluster.AddOnPlacementScore]
}

// New returns a controller; it acts while Run runs.
func New(cfg Config) *Controller {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Controller{
		store: cfg.Store, log: cfg.Log, scheduler: NewScheduler(),
		clusters:   store.Of[cluster.ManagedCluster](cfg.Store, cluster.Resource),
		sets:       store.Of[cluster.ManagedClusterSet](cfg.Store, cluster.ResourceSets),
		bindings:   store.Of[cluster.ManagedClusterSetBinding](cfg.Store, cluster.ResourceSetBindings),
		placements: store.Of[cluster.Placement](cfg.Store, cluster.ResourcePlacements),
		decisions:  store.Of[cluster.PlacementDecision](cfg.Store, cluster.ResourcePlacementDecisions),
		scores:     store.Of[cluster.AddOnPlacementScore](cfg.Store, cluster.ResourcePlacementScores),
	}
}

// Run keeps everything up to date until ctx ends. After an error it looks at
// everything anew.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, store.ErrConflict) {
			c.log.Warn("placing failed, starting over", zap.Error(err))
		}
		daemon.Sleep(ctx, retryAfter)
	}
	return ctx.Err()
}

func resources() []string {
	return []string{
		cluster.Resource, cluster.ResourceSets, cluster.ResourceSetBindings,
		cluster.ResourcePlacements, cluster.ResourcePlacementDecisions, cluster.ResourcePlacementScores,
	}
}

// follow watches and acts until something fails.
func (c *Controller) follow(ctx context.Context) error {
	if err := c.ensureSets(ctx); err != nil {
		return err
	}
	return follow.Run(ctx, c.store, gather, time.Hour, func(f *follow.Follower) (follow.State, error) {
		for _, resource := range resources() {
			if err := f.Watch(store.WatchSelection{Resource: resource}); err != nil {
				return nil, err
			}
		}
		return newState(c), nil
	})
}
