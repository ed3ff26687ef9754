// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet keeps the status of every ManagedCluster: whether its agent is
// connected, what the agent says of it, and since when.
//
// Status is written on change only, and changes are gathered for a moment, so
// that a storm of reconnecting agents becomes few writes.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	fleetapi "github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// Session is one live connection of an agent.
type Session struct {
	Cluster string
	Epoch   uint64
	Address string
	Since   time.Time
}

// Presence knows who is connected.
type Presence interface {
	// Sessions returns the live session of every connected cluster.
	Sessions() []Session
	// Subscribe returns a channel that receives after something changed;
	// several changes may come as one.
	Subscribe() (changed <-chan struct{}, cancel func())
}

// Config is what New needs. Zero durations take the defaults.
type Config struct {
	Store    *store.Store
	Conn     *nats.Conn
	Presence Presence
	// Grace is how long a cluster may be gone before it counts as Unknown,
	// default 15 s; StartGrace the same right after the hub started, default 60 s.
	Grace      time.Duration
	StartGrace time.Duration
	// SampleEvery and StatusEvery are the agents' pacing, default 10 s and 60 s.
	SampleEvery time.Duration
	StatusEvery time.Duration
	Log         *zap.Logger
}

const (
	gather        = 50 * time.Millisecond // changes are written together after this
	tick          = time.Second           // looks for grace periods that ended
	parallelWrite = 64                    // the store writes those of a moment together
)

// Fleet is the controller of ManagedCluster.status.
type Fleet struct {
	cfg      Config
	clusters store.Objects[cluster.ManagedCluster, *cluster.ManagedCluster]

	lists store.Objects[fleetapi.APIList, *fleetapi.APIList]

	mu        sync.Mutex
	decoded   map[string][]string // lists of APIs by digest
	added     map[string]int      // lists of APIs since the last sweep, by cluster
	views     map[string]*view
	connected int // views that are
	dirty     map[string]bool
	started   time.Time
	kick      chan struct{}
}

// New returns a controller; it acts while Run runs.
func New(cfg Config) *Fleet {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Grace, 15*time.Second)
	def(&cfg.StartGrace, 60*time.Second)
	def(&cfg.SampleEvery, 10*time.Second)
	def(&cfg.StatusEvery, 60*time.Second)
	return &Fleet{
		cfg: cfg, clusters: store.Of[cluster.ManagedCluster](cfg.Store, cluster.Resource),
		lists: store.Of[fleetapi.APIList](cfg.Store, fleetapi.ResourceAPILists), decoded: map[string][]string{}, added: map[string]int{},
		views: map[string]*view{}, dirty: map[string]bool{}, kick: make(chan struct{}, 1),
	}
}

// Run serves agents and keeps statuses until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	f.started = time.Now()
	f.mu.Unlock()
	g := daemon.NewGroup(ctx)
	g.Go("hello", func(ctx context.Context) error {
		return broker.Serve(ctx, f.cfg.Conn, wire.ServiceHello, f.cfg.Log, f.hello)
	})
	g.Go("status", func(ctx context.Context) error {
		return broker.Serve(ctx, f.cfg.Conn, wire.ServiceStatus, f.cfg.Log, f.status)
	})
	g.Go("apis", func(ctx context.Context) error {
		return broker.Serve(ctx, f.cfg.Conn, wire.ServiceAPIs, f.cfg.Log, f.takeAPIs)
	})
	g.Go("unused lists", f.sweep)
	g.Go("presence", f.watchPresence)
	g.Go("specs", f.watchSpecs)
	g.Go("writer", f.write)
	return g.Wait()
}

func (f *Fleet) hello(_ context.Context, name string, request []byte) *nats.Msg {
	var h wire.Hello
	if err := json.Unmarshal(request, &h); err != nil {
		return broker.JSON(wire.Welcome{Version: wire.Version, Error: "hello: " + err.Error()})
	}
	if h.Version < wire.MinVersion {
		return broker.JSON(wire.Welcome{Version: wire.Version, Error: fmt.Sprintf(
			"this hub needs agents of protocol version %d or newer, this agent speaks %d: upgrade the agent", wire.MinVersion, h.Version)})
	}
	f.mu.Lock()
	v := f.view(name)
	v.hello, v.absent = &h, false
	agents := f.connected
	f.mu.Unlock()
	f.mark(name)
	return broker.JSON(wire.Welcome{
		Version: min(h.Version, wire.Version), Agents: agents,
		SampleSeconds: int(f.cfg.SampleEvery.Seconds()), StatusSeconds: int(f.cfg.StatusEvery.Seconds()),
	})
}

func (f *Fleet) status(_ context.Context, name string, request []byte) *nats.Msg {
	var s wire.Status
	if err := json.Unmarshal(request, &s); err != nil {
		return broker.JSON(wire.Ack{Error: "status: " + err.Error()})
	}
	f.mu.Lock()
	v := f.view(name)
	v.status, v.absent = &s, false
	var missing bool
	if k := s.Kubernetes; k != nil && k.APIs != "" && k.APIs != v.apis {
		if missing = !f.known(k.APIs); !missing {
			v.apis = k.APIs
		}
	}
	f.mu.Unlock()
	f.mark(name)
	return broker.JSON(wire.Ack{APIs: missing})
}

// view returns the view of a cluster; f.mu is held.
func (f *Fleet) view(name string) *view {
	v := f.views[name]
	if v == nil {
		v = &view{lost: f.started, absent: true}
		f.views[name] = v
	}
	return v
}

func (f *Fleet) mark(names ...string) {
	f.mu.Lock()
	for _, n := range names {
		f.dirty[n] = true
	}
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// watchPresence takes over who is connected, whenever that changes.
func (f *Fleet) watchPresence(ctx context.Context) error {
	changed, cancel := f.cfg.Presence.Subscribe()
	defer cancel()
	for {
		f.mark(f.takePresence(time.Now())...)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// watchSpecs marks clusters that are new or whose spec somebody changed: the
// taints in it are the hub's to keep.
func (f *Fleet) watchSpecs(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.watchSpecsOnce(ctx)
		if ctx.Err() == nil {
			f.cfg.Log.Warn("watching clusters failed, will try again", zap.Error(err))
			daemon.Sleep(ctx, tick)
		}
	}
	return ctx.Err()
}

func (f *Fleet) watchSpecsOnce(ctx context.Context) error {
	w, err := f.cfg.Store.Watch(ctx, store.WatchSelection{Resource: cluster.Resource})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if ev.Initial || ev.Type != store.Added && ev.Type != store.Modified {
			continue
		}
		if ev.Previous == nil || ev.Previous.Header.Generation != ev.Entry.Header.Generation {
			f.mark(ev.Entry.Key.Name)
		}
	}
}

// takePresence compares the live sessions with the views and returns the names
// of the clusters that came, went, or came anew.
func (f *Fleet) takePresence(now time.Time) []string {
	// The snapshot is taken under the lock: a hello of a session newer than the
	// snapshot must not be forgotten with the session before it.
	f.mu.Lock()
	defer f.mu.Unlock()
	live := map[string]Session{}
	for _, s := range f.cfg.Presence.Sessions() {
		live[s.Cluster] = s
	}
	var moved []string
	for name, s := range live {
		v := f.view(name)
		if v.connected && v.epoch == s.Epoch {
			continue
		}
		// A hello may have overtaken the news of its session: keep it.
		v.connected, v.epoch, v.since, v.address = true, s.Epoch, s.Since, s.Address
		v.overdue, v.absent = false, false
		moved = append(moved, name)
	}
	for name, v := range f.views {
		if _, ok := live[name]; ok || !v.connected {
			continue
		}
		*v = view{lost: now}
		moved = append(moved, name)
	}
	f.connected = len(live)
	return moved
}

// write stores statuses of marked clusters, and marks those whose grace ended.
func (f *Fleet) write(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.kick:
			if !daemon.Sleep(ctx, gather) {
				return ctx.Err()
			}
		case <-ticker.C:
			f.markOverdue(ctx, time.Now())
		}
		f.flush(ctx)
	}
}

func (f *Fleet) grace(v *view) time.Duration {
	if v.lost.Equal(f.started) {
		return f.cfg.StartGrace
	}
	return f.cfg.Grace
}

// markOverdue marks, once each, the clusters that have been gone for longer
// than the grace.
func (f *Fleet) markOverdue(ctx context.Context, now time.Time) {
	page, err := f.cfg.Store.List(ctx, store.Selection{Resource: cluster.Resource, MinRevision: store.Any})
	if err != nil {
		f.cfg.Log.Warn("listing clusters failed, will try again", zap.Error(err))
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range page.Entries {
		v := f.view(e.Key.Name)
		if !v.connected && !v.overdue && now.Sub(v.lost) >= f.grace(v) {
			v.overdue = true
			f.dirty[e.Key.Name] = true
		}
	}
}

func (f *Fleet) flush(ctx context.Context) {
	f.mu.Lock()
	work := make(map[string]view, len(f.dirty))
	for name := range f.dirty {
		work[name] = *f.view(name)
	}
	clear(f.dirty)
	f.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(parallelWrite)
	for name, v := range work {
		if v.absent && f.settled(name) {
			continue
		}
		grace := f.grace(&v)
		g.Go(func() error {
			_, err := f.clusters.Update(ctx, "", name, func(mc *cluster.ManagedCluster) error {
				now := time.Now()
				apply(&mc.Status, v, grace, now)
				if mc.DeletionTimestamp == nil {
					applyTaints(mc, now)
				}
				return nil
			})
			if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
				f.cfg.Log.Warn("writing cluster status failed, will try again", zap.String("cluster", name), zap.Error(err))
				f.mu.Lock()
				f.dirty[name] = true // at the next tick, not at once
				f.mu.Unlock()
			}
			return nil
		})
	}
	g.Wait() //nolint:errcheck // the functions return nil
}

// settled reports whether a cluster whose agent was never here has what it gets
// without one. The cache is enough to tell: as long as no agent came, only other
// people's writes to the spec change the answer, and watchSpecs sees each of them.
func (f *Fleet) settled(name string) bool {
	mc, err := f.clusters.Cached("", name)
	if err != nil || mc.Status.Agent != nil || mc.DeletionTimestamp != nil {
		return false
	}
	before := slices.Clone(mc.Spec.Taints)
	applyTaints(mc, time.Time{})
	return slices.Equal(before, mc.Spec.Taints)
}
