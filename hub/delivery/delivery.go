// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package delivery tells each agent what its cluster should run now, hands out
// the content by digest, and records what the agents report.
//
// It is level-triggered: an agent asks for the whole list on every connection,
// on a hint, and from time to time. No message matters; only the state does.
// Nothing is ever removed from a cluster because it is missing from a list: a
// work that is being deleted stays in the list, marked, until its agent has
// reported that everything is gone. Lists are signed, so that what stands between
// hub and agent can withhold one but not make one.
package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// Config is what New needs.
type Config struct {
	Store *store.Store
	Conn  *nats.Conn
	// Signer signs the lists of agents that can check it. Without one every agent
	// gets plain lists.
	Signer Signer
	// Bundles knows the content store; without it no work can name a bundle.
	Bundles Bundles
	Log     *zap.Logger
}

// Signer signs what clusters should run. sig is ASN.1 ECDSA over the SHA-256 of
// message, chain the signer's certificates as PEM, its own first.
type Signer interface {
	SignDesired(message []byte) (sig, chain []byte, err error)
}

// Bundles is what delivery asks of the content store.
type Bundles interface {
	// Size is the number of bytes of a bundle, uncompressed; fs.ErrNotExist: there
	// is none. It answers from memory when it has answered before.
	Size(ctx context.Context, digest string) (int64, error)
}

const (
	retryInterval  = time.Second
	failedInterval = 10 * time.Second
)

// Delivery answers the agents.
type Delivery struct {
	cfg       Config
	works     store.Objects[work.ManifestWork, *work.ManifestWork]
	revisions store.Objects[fleet.WorkRevision, *fleet.WorkRevision]

	mu       sync.Mutex
	ready    bool // the present works were all seen
	clusters map[string]*desired
	seen     uint64 // the revision up to which clusters holds all works
	leases   map[lease]time.Time
	old      map[string]bool // clusters of which works are withheld
	anyOld   chan struct{}   // old is not empty
}

// desired is what one cluster should run.
type desired struct {
	generation uint64
	changed    time.Time        // when generation became what it is, on this replica
	items      map[string]entry // by name

	// What the agent said last, on this replica, for people who ask: when it asked,
	// which generation it held, and which it was given.
	asked       time.Time
	held, given uint64
	version     int // protocol version of the agent; 0: it has not asked
}

// entry is one work of a cluster. It is comparable.
type entry struct {
	item     wire.Item
	bundle   string // digest
	takeFrom string // names, separated by commas
	// protected says that objects are protected beyond their kinds.
	protected bool
	// expires is when a finished work is deleted, in Unix seconds; 0: never.
	expires int64
}

// New returns a Delivery; it acts while Run runs.
func New(cfg Config) *Delivery {
	return &Delivery{
		cfg: cfg, works: store.Of[work.ManifestWork](cfg.Store, work.Resource),
		revisions: store.Of[fleet.WorkRevision](cfg.Store, fleet.ResourceWorkRevisions),
		clusters:  map[string]*desired{},
		old:       map[string]bool{}, anyOld: make(chan struct{}, 1),
	}
}

// Run serves until ctx ends.
func (d *Delivery) Run(ctx context.Context) error {
	g := daemon.NewGroup(ctx)
	g.Go("works", d.followWorks)
	g.Go("clusters", d.followClusters)
	g.Go("finished", d.removeFinished)
	g.Go("revisions", d.collectRevisions)
	g.Go("old agents", d.explainOutdated)
	serve := func(service string, h broker.Handler) {
		g.Go(service, func(ctx context.Context) error {
			return broker.Serve(ctx, d.cfg.Conn, service, d.cfg.Log, h)
		})
	}
	serve(wire.ServiceDesired, d.serveDesired)
	serve(wire.ServiceContent, d.serveContent)
	serve(wire.ServiceReport, d.serveReport)
	serve(wire.ServiceReports, d.serveReports)
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
			_, err = d.take(ctx, fresh, ev)
		default:
			err = d.takeLive(ctx, ev)
		}
		if err != nil {
			return err
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
			fresh[name] = &desired{items: map[string]entry{}}
		}
	}
	names := make([]string, 0, len(fresh))
	now := time.Now()
	for name, x := range fresh {
		x.generation, x.changed = revision, now
		names = append(names, name)
	}
	d.clusters, d.ready, d.seen = fresh, true, max(d.seen, revision)
	d.mu.Unlock()
	for _, name := range names {
		d.hint(name, revision)
	}
}

func (d *Delivery) takeLive(ctx context.Context, ev store.Event) error {
	changed, err := d.take(ctx, d.clusters, ev)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.seen = max(d.seen, ev.Entry.Revision)
	d.mu.Unlock()
	if changed {
		d.hint(ev.Entry.Key.Namespace, ev.Entry.Revision)
	}
	return nil
}

// take applies one event to a picture and says whether the cluster's list
// changed. A change of status changes nothing, unless the work has finished. After
// an error the picture has to be made anew; a work that is wrong in itself is none.
func (d *Delivery) take(ctx context.Context, into map[string]*desired, ev store.Event) (changed bool, err error) {
	ns, name := ev.Entry.Key.Namespace, ev.Entry.Key.Name
	next, ok, err := d.entryOf(ctx, ev) // may ask the content store, so without the lock
	if errors.Is(err, errBundles) {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x := into[ns]
	if x == nil {
		x = &desired{items: map[string]entry{}}
		into[ns] = x
	}
	before, had := x.items[name]
	switch {
	case err != nil:
		d.cfg.Log.Error("work cannot be delivered; what its cluster has of it stays", zap.String("cluster", ns), zap.String("work", name), zap.Error(err))
		return false, nil
	case !ok:
		delete(x.items, name)
	default:
		x.items[name] = next
	}
	before.expires, next.expires = 0, 0 // not the agent's business
	if ok == had && (!ok || next == before) {
		return false, nil
	}
	x.generation, x.changed = ev.Entry.Revision, time.Now()
	return true, nil
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
