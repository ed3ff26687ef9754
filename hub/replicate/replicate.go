// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package replicate makes the ManifestWorks of ManifestWorkReplicaSets: one for
// every cluster that the placements of a set choose.
//
// It takes away less than Open Cluster Management does. A cluster that cannot be
// reached keeps its work, although a placement avoids it. Nothing is taken away
// while a placement cannot be read, or is not settled. And when more works than
// the larger of 10 and a fifth of a set would go at once, they stay until
// somebody approves exactly that.
package replicate

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	gather     = 100 * time.Millisecond // changes are looked at together after this
	retryAfter = time.Second
	writers    = 64 // the store puts the writes of a moment into one batch
	// settle is for how long a cluster must not be chosen before its work goes:
	// decisions are several objects, and a cluster may move from one to another.
	settle = 5 * time.Second
)

// Config is what New needs.
type Config struct {
	Store *store.Store
	// HasAgent reports whether the agent of a cluster will take the finalizer off
	// a work.
	HasAgent func(cluster string) bool
	Log      *zap.Logger
	// Settle is for tests, 5 s by default.
	Settle time.Duration
}

// Controller keeps the works of ManifestWorkReplicaSets, and the sets' status. A
// hub runs one.
type Controller struct {
	cfg        Config
	store      *store.Store
	log        *zap.Logger
	sets       store.Objects[work.ManifestWorkReplicaSet, *work.ManifestWorkReplicaSet]
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
		sets:       store.Of[work.ManifestWorkReplicaSet](cfg.Store, work.ResourceReplicaSets),
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
		c.log.Warn("replicating works failed, starting over", zap.Error(err))
		daemon.Sleep(ctx, retryAfter)
	}
	return ctx.Err()
}

// key names a ManifestWorkReplicaSet.
type key struct{ namespace, name string }

// follow watches and acts until a watch fails.
func (c *Controller) follow(ctx context.Context) error {
	owned, err := labels.NewRequirement(work.LabelReplicaSet, selection.Exists, nil)
	if err != nil {
		return fmt.Errorf("select works: %w", err)
	}
	return follow.Run(ctx, c.store, gather, time.Hour, func(f *follow.Follower) (follow.State, error) {
		for _, sel := range []store.WatchSelection{
			{Resource: work.ResourceReplicaSets},
			{Resource: work.Resource, Labels: labels.NewSelector().Add(*owned)},
			{Resource: cluster.ResourcePlacements},
			{Resource: cluster.ResourcePlacementDecisions},
			{Resource: cluster.Resource},
		} {
			if err := f.Watch(sel); err != nil {
				return nil, err
			}
		}
		return newState(c), nil
	})
}

// resources is how many are watched.
const resources = 5
