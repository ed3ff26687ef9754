// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package delivery tells each agent what its cluster should run now, hands out
// the content by digest, and records what the agents report.
//
// It is level-triggered: an agent asks for the whole list on every connection,
// on a hint, and from time to time. No message matters; only the state does.
// Nothing is ever removed from a cluster because it is missing from a list: a
// work that is being deleted stays in the list, marked, until its agent has
// reported that everything is gone.
package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// Config is what New needs.
type Config struct {
	Store *store.Store
	Conn  *nats.Conn
	Log   *zap.Logger
}

const (
	retryInterval  = time.Second
	failedInterval = 10 * time.Second
)

// Delivery answers the agents.
type Delivery struct {
	cfg   Config
	works store.Objects[work.ManifestWork, *work.ManifestWork]

	mu       sync.Mutex
	ready    bool // the present works were all seen
	clusters map[string]*desired
	seen     uint64 // the revision up to which clusters holds all works
}

// desired is what one cluster should run.
type desired struct {
	generation uint64
	items      map[string]wire.Item // by name
}

// New returns a Delivery; it acts while Run runs.
func New(cfg Config) *Delivery {
	return &Delivery{
		cfg: cfg, works: store.Of[work.ManifestWork](cfg.Store, work.Resource),
		clusters: map[string]*desired{},
	}
}

// Run serves until ctx ends.
func (d *Delivery) Run(ctx context.Context) error {
	g := daemon.NewGroup(ctx)
	g.Go("works", d.followWorks)
	g.Go("clusters", d.followClusters)
	serve := func(service string, h broker.Handler) {
		g.Go(service, func(ctx context.Context) error {
			return broker.Serve(ctx, d.cfg.Conn, service, d.cfg.Log, h)
		})
	}
	serve(wire.ServiceDesired, d.serveDesired)
	serve(wire.ServiceContent, d.serveContent)
	serve(wire.ServiceReport, d.serveReport)
	return g.Wait()
}

// followWorks keeps the desired states equal to the store.
func (d *Delivery) followWorks(ctx context.Context) error {
	for ctx.Err() == nil {
		err := d.followWorksOnce(ctx)
		if ctx.Err() != nil {
			break
		}
		d.cfg.Log.Warn("following works ended, starting over", zap.Error(err))
		daemon.Sleep(ctx, retryInterval)
	}
	return ctx.Err()
}

func (d *Delivery) followWorksOnce(ctx context.Context) error {
	w, err := d.cfg.Store.Watch(ctx, store.WatchSelection{Resource: work.Resource})
	if err != nil {
		return fmt.Errorf("watch works: %w", err)
	}
	defer w.Stop()
	fresh := map[string]*desired{}
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		switch {
		case ev.Type == store.Bookmark && ev.Initial:
			d.replace(fresh, ev.Entry.Revision)
			fresh = nil
		case ev.Type == store.Bookmark:
			d.mu.Lock()
			d.seen = max(d.seen, ev.Entry.Revision)
			d.mu.Unlock()
		case fresh != nil:
			d.take(fresh, ev)
		default:
			d.takeLive(ev)
		}
	}
}

// replace installs a complete picture. Every cluster's generation becomes the
// revision of the picture, which no earlier answer can exceed, and every agent
// is told to look: what changed since the picture before is not known.
func (d *Delivery) replace(fresh map[string]*desired, revision uint64) {
	d.mu.Lock()
	for name := range d.clusters {
		if fresh[name] == nil {
			fresh[name] = &desired{items: map[string]wire.Item{}}
		}
	}
	names := make([]string, 0, len(fresh))
	for name, x := range fresh {
		x.generation = revision
		names = append(names, name)
	}
	d.clusters, d.ready, d.seen = fresh, true, max(d.seen, revision)
	d.mu.Unlock()
	for _, name := range names {
		d.hint(name, revision)
	}
}

func (d *Delivery) takeLive(ev store.Event) {
	d.mu.Lock()
	changed := d.take(d.clusters, ev)
	d.seen = max(d.seen, ev.Entry.Revision)
	d.mu.Unlock()
	if changed {
		d.hint(ev.Entry.Key.Namespace, ev.Entry.Revision)
	}
}

// take applies one event to a picture and says whether the cluster's list
// changed. A change of status alone changes nothing.
func (d *Delivery) take(into map[string]*desired, ev store.Event) bool {
	ns, name := ev.Entry.Key.Namespace, ev.Entry.Key.Name
	x := into[ns]
	if x == nil {
		x = &desired{items: map[string]wire.Item{}}
		into[ns] = x
	}
	before, had := x.items[name]
	item, ok, err := itemOf(ev)
	switch {
	case err != nil:
		d.cfg.Log.Error("work cannot be delivered", zap.String("cluster", ns), zap.String("work", name), zap.Error(err))
		return false
	case !ok:
		delete(x.items, name)
	default:
		x.items[name] = item
	}
	if ok == had && (!ok || item == before) {
		return false
	}
	x.generation = ev.Entry.Revision
	return true
}

// itemOf is the list entry of a work, if it has one. A work belongs into the
// list once the finalizer stands that keeps it there until it is cleaned up.
func itemOf(ev store.Event) (item wire.Item, ok bool, err error) {
	h := ev.Entry.Header
	if ev.Type == store.Deleted || !hasFinalizer(h.Finalizers) {
		return wire.Item{}, false, nil
	}
	content, err := contentOf(ev.Entry.Data)
	if err != nil {
		return wire.Item{}, false, err
	}
	return wire.Item{
		Name: ev.Entry.Key.Name, UID: h.UID, Generation: h.Generation,
		Digest: digestOf(content), Deleting: !h.DeletionTimestamp.IsZero(),
	}, true, nil
}

func (d *Delivery) hint(cluster string, generation uint64) {
	data, err := json.Marshal(wire.Hint{Generation: generation})
	if err == nil {
		err = d.cfg.Conn.Publish(wire.HintSubject(cluster), data)
	}
	if err != nil {
		d.cfg.Log.Warn("hint not sent; the agent will look by itself", zap.String("cluster", cluster), zap.Error(err))
	}
}

func (d *Delivery) serveDesired(_ context.Context, cluster string, request []byte) *nats.Msg {
	var req wire.DesiredRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return broker.JSON(wire.Desired{Error: "desired: " + err.Error()})
	}
	return broker.JSON(d.desired(cluster, req))
}

func (d *Delivery) desired(cluster string, req wire.DesiredRequest) wire.Desired {
	// Generations are counted per cluster, and an agent may come back under
	// another name.
	epoch := d.cfg.Store.Identity() + "/" + cluster
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ready {
		return wire.Desired{Error: "the hub is starting"}
	}
	x := d.clusters[cluster]
	if x == nil {
		// Not the store's revision: a work below it may still be on its way here,
		// and its cluster's generation would fall.
		x = &desired{generation: d.seen, items: map[string]wire.Item{}}
		d.clusters[cluster] = x
	}
	answer := wire.Desired{Epoch: epoch, Generation: x.generation}
	if req.Epoch == epoch && req.Generation == x.generation {
		answer.Unchanged = true
		return answer
	}
	for _, item := range x.items {
		answer.Items = append(answer.Items, item)
	}
	sort.Slice(answer.Items, func(i, j int) bool { return answer.Items[i].Name < answer.Items[j].Name })
	return answer
}

// serveContent gives a cluster the content of its own works and no other.
func (d *Delivery) serveContent(_ context.Context, cluster string, request []byte) *nats.Msg {
	content, err := d.content(cluster, request)
	if err != nil {
		m := nats.NewMsg("")
		m.Header.Set(wire.HeaderError, err.Error())
		return m
	}
	return &nats.Msg{Data: content}
}

func (d *Delivery) content(cluster string, request []byte) ([]byte, error) {
	var req wire.ContentRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	d.mu.Lock()
	var names []string
	if x := d.clusters[cluster]; x != nil {
		for name, item := range x.items {
			if item.Digest == req.Digest {
				names = append(names, name)
			}
		}
	}
	d.mu.Unlock()
	for _, name := range names {
		e, ok := d.cfg.Store.Cached(store.Key{Resource: work.Resource, Namespace: cluster, Name: name})
		if !ok {
			continue
		}
		content, err := contentOf(e.Data)
		if err == nil && digestOf(content) == req.Digest {
			return content, nil
		}
	}
	return nil, errors.New("no work of this cluster has that content now; ask for the desired state again")
}

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
	g := daemon.NewGroup(ctx)
	for _, w := range []*store.Watcher{clusters, works} {
		g.Go("watch", func(ctx context.Context) error { return d.keepFinalizers(ctx, w) })
	}
	return g.Wait()
}

var errLookAgain = errors.New("look again")

// keepFinalizers does what the events of w ask for. When that fails for one the
// others have their turn all the same, and then all are looked at anew.
func (d *Delivery) keepFinalizers(ctx context.Context, w *store.Watcher) error {
	next, failed := ctx, false
	for {
		ev, err := w.Next(next)
		if err != nil {
			if failed && next.Err() != nil && ctx.Err() == nil {
				return errLookAgain
			}
			return err
		}
		switch {
		case ev.Type == store.Bookmark:
		case ev.Entry.Key.Resource == cluster.Resource:
			if ev.Type != store.Modified {
				err = d.keepAll(ctx, ev.Entry.Key.Name)
			}
		case ev.Type != store.Deleted:
			err = d.keepFinalizer(ctx, ev.Entry)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		d.cfg.Log.Warn("finalizer not set, will try again", zap.String("name", ev.Entry.Key.Name),
			zap.String("cluster", ev.Entry.Key.Namespace), zap.Error(err))
		if !failed {
			var cancel context.CancelFunc
			next, cancel = context.WithTimeout(ctx, failedInterval)
			defer cancel()
			failed = true
		}
	}
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

// keepFinalizer puts the finalizer on a work of a managed cluster, and takes it
// from a deleted work of a cluster that is not managed any more.
func (d *Delivery) keepFinalizer(ctx context.Context, e store.Entry) error {
	_, managed := d.cfg.Store.Cached(store.Key{Resource: cluster.Resource, Name: e.Key.Namespace})
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
