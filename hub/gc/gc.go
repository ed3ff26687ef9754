// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gc removes what nobody owns any more, as Kubernetes' garbage collector
// and namespace controller do.
//
// An object whose metadata.ownerReferences all name owners that are gone is
// deleted. An owner with the finalizer foregroundDeletion stays until the
// dependents that block it are gone; one with the finalizer orphan lets its
// dependents go first, and they stay. The API sets these finalizers from a
// deletion's propagationPolicy. An owner is looked up by group, kind and name, in
// the dependent's own namespace when its kind has namespaces, and must have the
// uid named. So an owner in another namespace counts as gone; a dependent without
// a namespace whose owner's kind has them, and an owner of an unknown kind, keep
// the dependent for ever.
//
// A Namespace that is being deleted goes after its contents. Every ManagedCluster
// gets the Namespace of its name, which stays when the cluster goes.
//
// Everything is decided from the present state: what was missed while the hub was
// down is found at the next start.
package gc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/daemon"
)

// Kind is one kind of stored objects.
type Kind struct {
	GroupKind  schema.GroupKind
	Resource   string // as the store names it
	Namespaced bool
}

// Store is what a Collector needs of the store; see hub/store for the contracts.
type Store interface {
	Create(ctx context.Context, key store.Key, data []byte) (uint64, error)
	Batch(ctx context.Context, writes []store.Write) ([]uint64, error)
	Update(ctx context.Context, key store.Key, data []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key store.Key, revision uint64) (uint64, error)
	Get(ctx context.Context, key store.Key) (store.Entry, error)
	Cached(key store.Key) (store.Entry, bool)
	List(ctx context.Context, sel store.Selection) (store.Page, error)
	Watch(ctx context.Context, sel store.WatchSelection) (*store.Watcher, error)
}

// Config of a Collector.
type Config struct {
	Store Store
	// Kinds returns the kinds there are now. It is asked again every few seconds.
	Kinds func() []Kind
	Log   *zap.Logger
}

// Collector collects. One of a fleet's hubs needs to run it.
type Collector struct {
	store Store
	kinds func() []Kind
	log   *zap.Logger
}

const (
	// kindsEvery is how long a new kind may go unnoticed.
	kindsEvery = 5 * time.Second
	// retryFirst and retryMost bound the pause before something is tried again.
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
)

// New returns a Collector.
func New(cfg Config) *Collector {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Collector{store: cfg.Store, kinds: cfg.Kinds, log: cfg.Log}
}

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	g := daemon.NewGroup(ctx)
	g.Go("owners", c.runOwners)
	g.Go("namespaces", c.runNamespaces)
	return g.Wait()
}

// event is what a watch of one resource tells the graph.
type event struct {
	resource string
	store.Event
	begins bool // the watch begins anew: initial events follow
}

// runOwners feeds the graph, and does what it asks for.
func (c *Collector) runOwners(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	events := make(chan event, 256)
	g := newGraph()
	watched := map[string]bool{}
	lookForKinds := func() {
		for _, k := range c.kinds() {
			if watched[k.Resource] {
				continue
			}
			watched[k.Resource] = true
			g.loading[k.Resource] = true
			wg.Go(func() { c.watch(ctx, k.Resource, events) })
		}
		if g.learn(c.kinds()) {
			g.checkAll() // owners may be of a kind that is known now
		}
	}
	lookForKinds()
	kinds := time.NewTicker(kindsEvery)
	defer kinds.Stop()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	for ctx.Err() == nil {
		// news first: decisions are made from the newest state
		select {
		case ev := <-events:
			g.take(ev)
			continue
		default:
		}
		key, wait, ok := g.next(time.Now())
		if ok {
			g.done(key, c.process(ctx, g, key), time.Now())
			continue
		}
		wake.Reset(wait)
		select {
		case ev := <-events:
			g.take(ev)
		case <-kinds.C:
			lookForKinds()
		case <-wake.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// watch follows one resource until ctx ends; after a failure from the beginning.
func (c *Collector) watch(ctx context.Context, resource string, out chan<- event) {
	send := func(ev event) bool {
		select {
		case out <- ev:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for ctx.Err() == nil {
		err := func() error {
			w, err := c.store.Watch(ctx, store.WatchSelection{Resource: resource})
			if err != nil {
				return err
			}
			defer w.Stop()
			if !send(event{resource: resource, begins: true}) {
				return ctx.Err()
			}
			for {
				ev, err := w.Next(ctx)
				if err != nil {
					return err
				}
				if ev.Type == store.Bookmark && !ev.Initial || ev.Type == store.Modified && !relevant(ev) {
					continue
				}
				if !send(event{resource: resource, Event: ev}) {
					return ctx.Err()
				}
			}
		}()
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, store.ErrSlow) && !errors.Is(err, store.ErrExpired) {
			c.log.Warn("watching for owners failed, will try again", zap.String("resource", resource), zap.Error(err))
		}
		daemon.Sleep(ctx, retryFirst)
	}
}

// process does what one object needs. An error means: again later.
func (c *Collector) process(ctx context.Context, g *graph, key store.Key) error {
	entry, err := c.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		g.forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	obj, err := decode(entry)
	if err != nil {
		return err
	}
	switch {
	case obj.deleting() && obj.has(Orphan):
		err = c.orphan(ctx, g, entry, obj)
	case obj.deleting() && obj.has(Foreground):
		err = c.foreground(ctx, g, entry, obj)
	case !obj.deleting() && len(obj.owners()) > 0:
		err = c.collect(ctx, g, entry, obj)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
		c.log.Warn("collecting failed, will try again", zap.Stringer("object", key), zap.Error(err))
	}
	return err
}

// ref names an owner of an object.
type ref struct {
	group, kind, name, uid string
	blocks                 bool
}

func (r ref) String() string {
	return fmt.Sprintf("%s %q", schema.GroupKind{Group: r.group, Kind: r.kind}, r.name)
}
