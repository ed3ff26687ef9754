// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
)

func hasFinalizer(list []string) bool { return slices.Contains(list, work.Finalizer) }

// followClusters frees works whose deletion nobody will carry out, since the
// cluster is not managed any more.
func (d *Delivery) followClusters(ctx context.Context) error {
	for ctx.Err() == nil {
		err := d.followClustersOnce(ctx)
		if ctx.Err() != nil || errors.Is(err, errLookAgain) {
			continue
		}
		d.cfg.Log.Warn("following clusters ended, starting over", zap.Error(err))
		daemon.Sleep(ctx, retryInterval)
	}
	return ctx.Err()
}

func (d *Delivery) followClustersOnce(ctx context.Context) error {
	clusters, err := d.cfg.Store.Watch(ctx, store.WatchSelection{Resource: cluster.Resource})
	if err != nil {
		return fmt.Errorf("watch clusters: %w", err)
	}
	defer clusters.Stop()
	works, err := d.cfg.Store.Watch(ctx, store.WatchSelection{Resource: work.Resource})
	if err != nil {
		return fmt.Errorf("watch works: %w", err)
	}
	defer works.Stop()
	identities, err := d.cfg.Store.Watch(ctx, store.WatchSelection{Resource: fleet.ResourceAgentIdentities})
	if err != nil {
		return fmt.Errorf("watch identities: %w", err)
	}
	defer identities.Stop()
	g := daemon.NewGroup(ctx)
	for _, w := range []*store.Watcher{clusters, identities, works} {
		g.Go("watch", func(ctx context.Context) error { return d.keepFinalizers(ctx, w) })
	}
	return g.Wait()
}

var errLookAgain = errors.New("look again")

// parallelKeeps is how many works get or lose their finalizer at the same time: the
// store writes those of a moment as one batch.
const parallelKeeps = 64

// keepFinalizers does what the events of w ask for, those of different works at the
// same time. When that fails for one the others have their turn all the same, and
// then all are looked at anew.
func (d *Delivery) keepFinalizers(ctx context.Context, w *store.Watcher) error {
	next, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed atomic.Bool
	var again *time.Timer // guarded by failed
	var g errgroup.Group
	g.SetLimit(parallelKeeps)
	defer func() {
		g.Wait() //nolint:errcheck // the functions return nil
		if again != nil {
			again.Stop()
		}
	}()
	for {
		ev, err := w.Next(next)
		if err != nil {
			if failed.Load() && next.Err() != nil && ctx.Err() == nil {
				return errLookAgain
			}
			return err
		}
		keep := d.keepEvent(ev)
		if keep == nil {
			continue
		}
		g.Go(func() error {
			err := keep(ctx)
			if err == nil || ctx.Err() != nil {
				return nil
			}
			d.cfg.Log.Warn("finalizer not set, will try again", zap.String("name", ev.Entry.Key.Name),
				zap.String("cluster", ev.Entry.Key.Namespace), zap.Error(err))
			if failed.CompareAndSwap(false, true) {
				again = time.AfterFunc(failedInterval, cancel)
			}
			return nil
		})
	}
}

// keepEvent is what an event asks for, nil for nothing.
func (d *Delivery) keepEvent(ev store.Event) func(context.Context) error {
	switch {
	case ev.Type == store.Bookmark:
	case ev.Entry.Key.Resource != work.Resource:
		if ev.Type != store.Modified {
			return func(ctx context.Context) error { return d.keepAll(ctx, ev.Entry.Key.Name) }
		}
	case ev.Type != store.Deleted && d.needsKeeping(ev.Entry):
		return func(ctx context.Context) error { return d.keepFinalizer(ctx, ev.Entry) }
	}
	return nil
}

func (d *Delivery) keepAll(ctx context.Context, cluster string) error {
	page, err := d.cfg.Store.List(ctx, store.Selection{Resource: work.Resource, Namespace: cluster})
	if err != nil {
		return fmt.Errorf("list works of %s: %w", cluster, err)
	}
	var failed error
	for _, e := range page.Entries {
		failed = errors.Join(failed, d.keepFinalizer(ctx, e))
	}
	return failed
}

// HasAgent says whether a cluster is managed and an agent joined for it, be it
// connected or not. For a cluster that is only registered nobody cleans up.
func HasAgent(s *store.Store, name string) bool {
	for _, resource := range []string{cluster.Resource, fleet.ResourceAgentIdentities} {
		if _, ok := s.Cached(store.Key{Resource: resource, Name: name}); !ok {
			return false
		}
	}
	return true
}

// needsKeeping says whether keepFinalizer has something to do for a work.
func (d *Delivery) needsKeeping(e store.Entry) bool {
	has, deleting := hasFinalizer(e.Header.Finalizers), !e.Header.DeletionTimestamp.IsZero()
	return has == deleting && HasAgent(d.cfg.Store, e.Key.Namespace) == !has
}

// keepFinalizer puts the finalizer on a work of a cluster with an agent, and takes
// it from a deleted work of a cluster that has none, or none any more.
func (d *Delivery) keepFinalizer(ctx context.Context, e store.Entry) error {
	managed := HasAgent(d.cfg.Store, e.Key.Namespace)
	has, deleting := hasFinalizer(e.Header.Finalizers), !e.Header.DeletionTimestamp.IsZero()
	var err error
	switch {
	case managed && !has && !deleting:
		_, err = d.works.Update(ctx, e.Key.Namespace, e.Key.Name, func(w *work.ManifestWork) error {
			if w.DeletionTimestamp.IsZero() && !hasFinalizer(w.Finalizers) {
				w.Finalizers = append(w.Finalizers, work.Finalizer)
			}
			return nil
		})
	case !managed && has && deleting:
		err = d.release(ctx, e.Key.Namespace, e.Key.Name, e.Header.UID)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
