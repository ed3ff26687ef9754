// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
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
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	in := &inbox{wake: make(chan struct{}, 1)}
	for _, resource := range resources() {
		w, err := c.store.Watch(ctx, store.WatchSelection{Resource: resource})
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer w.Stop()
			for {
				ev, err := w.Next(ctx)
				if err != nil {
					cancel(fmt.Errorf("watch %s: %w", resource, err))
					return
				}
				in.put(event{resource, ev})
			}
		})
	}
	return c.loop(ctx, in)
}

func (c *Controller) loop(ctx context.Context, in *inbox) error {
	st := newState(c)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	wait := gather
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-in.wake:
			// A fleet that comes back brings many changes: the more there is to do
			// each time, the longer they are gathered.
			if !daemon.Sleep(ctx, wait) {
				return context.Cause(ctx)
			}
		case <-timer.C:
		}
		for _, ev := range in.take() {
			st.apply(ev)
		}
		if !st.ready() {
			continue
		}
		start := time.Now()
		next, err := st.pass(ctx, start)
		if err != nil {
			return err
		}
		took := time.Since(start)
		wait = max(gather, took)
		timer.Reset(time.Hour)
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), 0))
		}
		c.log.Debug("placed", zap.Duration("took", took), zap.Time("next", next))
	}
}

// event is a change of one of the resources.
type event struct {
	resource string
	store.Event
}

// inbox holds events until the loop has time. It has no limit: the loop takes
// everything at once, and what it holds is shared with the cache.
type inbox struct {
	mu     sync.Mutex
	events []event
	wake   chan struct{}
}

func (b *inbox) put(ev event) {
	if ev.Type == store.Bookmark && !ev.Initial {
		return
	}
	b.mu.Lock()
	b.events = append(b.events, ev)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.events
	b.events = nil
	return out
}
