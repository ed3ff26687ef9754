// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apply brings a Kubernetes cluster to the state that the hub wants: it
// applies the manifests of each item, removes what an item no longer names, and
// reports what became of every object.
//
// What it promises:
//
//   - Nothing is deleted but objects in an item's own inventory, by UID, when
//     the new content of the same item was applied whole and no longer names
//     them, or when the item is a tombstone (Deleting). An item missing from the
//     list keeps everything it has.
//   - The inventory is on disk before an object is created, so a process killed
//     at any moment leaves no object that nobody owns.
//   - Content that is applied is not applied again: after a restart or a
//     reconnect the engine only reads, unless an object is missing.
//   - An object belongs to one item. A second item that names it is refused for
//     that manifest, with the owner's name.
//   - An object that existed before, made by somebody else, is taken over but
//     never deleted.
//   - Health is reported for an object only after the digest in the report was
//     applied to it.
//
// Update strategies of Open Cluster Management are all carried out by
// server-side apply under one field manager: Update (the default) with force,
// ServerSideApply with force as the work says (its fieldManager is not used),
// CreateOnly only while the object is missing, ReadOnly never.
package apply

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/wire"
)

const (
	// defaultFieldManager owns the fields that Drover applies.
	defaultFieldManager = "drover"

	// parallelItems bounds memory: the content of so many items is decoded at once.
	parallelItems = 2
	// parallelRequests is the number of requests at once for one item.
	parallelRequests = 4
)

// Records keeps one record an item across restarts. The body is JSON that only
// this package reads. SaveRecord returns when the record survives a power cut.
type Records interface {
	LoadRecords() (map[string][]byte, error)
	SaveRecord(key string, body []byte) error
	DeleteRecord(key string) error
}

// Config is what an Engine needs. All fields but FieldManager are required.
type Config struct {
	// Kubernetes is the cluster. Unset QPS and Burst become 200 and 400.
	Kubernetes *rest.Config
	Records    Records
	// Content returns the content that digest names, from disk or from the hub.
	// The engine checks the digest again.
	Content func(ctx context.Context, digest string) ([]byte, error)
	// Report is called with the new report of an item whenever it differs from the
	// last one. Calls for one item come one after the other, for different items
	// possibly at once; it must not block for long.
	Report func(wire.Report)
	// FieldManager of server-side apply, "drover" when empty.
	FieldManager string
	Log          *zap.Logger
}

// Engine reconciles items until its Run ends.
type Engine struct {
	cfg     Config
	cluster *cluster
	wake    chan struct{} // capacity 1: something became due

	mu     sync.Mutex
	items  map[string]*item    // by UID; listed ones, and those with a record
	owners map[identity]string // UID of the item that owns the object
	list   uint64              // counts calls of Sync
}

// item is one work. Fields of the first group are guarded by Engine.mu, those
// of the second belong to the worker while busy is set.
type item struct {
	want   wire.Item // the newest the hub said
	listed bool      // in the newest list
	busy   bool
	due    time.Time
	fresh  bool // due because want changed: goes before routine work
	// refused says that another item owns an object this one wants, and again
	// that this may have ended.
	refused, again bool
	last           *wire.Report // nil until the first

	rec     record
	state   progress
	results []result // of manifests of state.digest; nil until an attempt was made
}

// progress is what a worker remembers of an item between two turns.
type progress struct {
	digest     string // content that results speak of
	generation int64
	failures   int // attempts that failed in a row
	repairs    int // repairs in a row
	repairedAt time.Time
	applyAt    time.Time // when to apply again; zero: no need
	repair     bool      // the next apply sends everything again
	pollAt     time.Time
	fullPollAt time.Time     // polls before it look only at what is not Current
	interval   time.Duration // between polls
	err        string        // of the item as a whole

	// claims of other items on the inventory, as of list number claimsList; for removal.
	claims     map[identity]string
	claimsList uint64
}

// New returns an engine that knows what earlier runs applied. It contacts
// nothing yet.
func New(cfg Config) (*Engine, error) {
	switch {
	case cfg.Kubernetes == nil, cfg.Records == nil, cfg.Content == nil, cfg.Report == nil, cfg.Log == nil:
		return nil, errors.New("apply: Kubernetes, Records, Content, Report and Log are required")
	}
	if cfg.FieldManager == "" {
		cfg.FieldManager = defaultFieldManager
	}
	cl, err := newCluster(cfg.Kubernetes, cfg.FieldManager)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, cluster: cl, wake: make(chan struct{}, 1),
		items: make(map[string]*item), owners: make(map[identity]string),
	}
	bodies, err := cfg.Records.LoadRecords()
	if err != nil {
		return nil, fmt.Errorf("load records of applied works: %w", err)
	}
	for uid, body := range bodies {
		rec, err := decodeRecord(body)
		if err != nil {
			return nil, fmt.Errorf("load record of applied work %s: %w", uid, err)
		}
		e.items[uid] = &item{want: wire.Item{Name: rec.Name, UID: uid, Generation: rec.Generation, Digest: rec.Digest}, rec: rec}
		for _, o := range rec.Inventory {
			e.owners[o.identity()] = uid
		}
	}
	return e, nil
}

// Run reconciles until ctx ends and returns nil when all its work has ended.
func (e *Engine) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	done := make(chan struct{}, parallelItems)
	running := 0
	for {
		for running < parallelItems {
			it := e.take(time.Now())
			if it == nil {
				break
			}
			running++
			workers.Go(func() {
				e.turn(ctx, it)
				e.put(it)
				done <- struct{}{}
			})
		}
		timer := time.NewTimer(e.untilDue(time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-done:
			running--
		case <-e.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Sync replaces the list of what the cluster should run. It does not wait for
// anything to happen.
func (e *Engine) Sync(items []wire.Item) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list++
	listed := make(map[string]bool, len(items))
	for _, want := range items {
		if want.UID == "" || want.Name == "" || listed[want.UID] {
			e.cfg.Log.Error("item of the desired state ignored: it has no name, no uid, or the uid of another item",
				zap.String("work", want.Name), zap.String("uid", want.UID))
			continue
		}
		listed[want.UID] = true
		it := e.items[want.UID]
		if it == nil {
			it = &item{}
			e.items[want.UID] = it
		}
		if !it.listed || it.want != want {
			it.due, it.fresh = now, true
		}
		it.want, it.listed = want, true
	}
	for uid, it := range e.items {
		if listed[uid] {
			continue
		}
		it.listed = false
		if !it.busy {
			e.forget(uid, it)
		}
	}
	e.signal()
}

// Reports returns the newest report of every listed item, by name.
func (e *Engine) Reports() []wire.Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	var reports []wire.Report
	for _, it := range e.items {
		if it.listed && it.last != nil {
			reports = append(reports, *it.last)
		}
	}
	slices.SortFunc(reports, func(a, b wire.Report) int { return compareStrings(a.Name, b.Name, a.UID, b.UID) })
	return reports
}

// Digests names the content that must stay on disk: what is wanted, what is
// applied, and what was last healthy.
func (e *Engine) Digests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var digests []string
	for _, it := range e.items {
		for _, digest := range []string{it.want.Digest, it.rec.Digest, it.rec.LastGood} {
			if digest != "" {
				digests = append(digests, digest)
			}
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}

// take marks the item that should be worked on now as busy: changed ones first,
// then the one that waits longest.
func (e *Engine) take(now time.Time) *item {
	e.mu.Lock()
	defer e.mu.Unlock()
	var best *item
	for _, it := range e.items {
		if !it.listed || it.busy || it.due.IsZero() || it.due.After(now) {
			continue
		}
		if best == nil || (it.fresh && !best.fresh) || (it.fresh == best.fresh && it.due.Before(best.due)) {
			best = it
		}
	}
	if best != nil {
		best.busy, best.fresh, best.due = true, false, time.Time{}
		if best.again {
			best.again, best.state.applyAt = false, now
		}
	}
	return best
}

// put ends a turn: the item is due when its worker said so, or now when the
// hub said something new meanwhile.
func (e *Engine) put(it *item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	it.busy = false
	switch {
	case it.fresh: // Sync has set due
	case it.again:
		it.due = time.Now()
	default:
		it.due = it.state.next()
	}
	if !it.listed {
		e.forget(it.want.UID, it)
	}
}

// forget drops an item that is not listed and owns nothing. Anything else keeps
// its record, since only a tombstone deletes. It needs mu.
func (e *Engine) forget(uid string, it *item) {
	if it.rec.UID != "" && !it.rec.Deleted {
		return
	}
	if it.rec.UID != "" {
		if err := e.cfg.Records.DeleteRecord(uid); err != nil {
			e.cfg.Log.Warn("record of a removed work stays on disk", zap.String("work", it.want.Name), zap.Error(err))
			return
		}
	}
	delete(e.items, uid)
}

func (e *Engine) untilDue(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait := time.Hour
	for _, it := range e.items {
		if it.listed && !it.busy && !it.due.IsZero() {
			wait = min(wait, it.due.Sub(now))
		}
	}
	return max(wait, 0)
}

func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// next is when the item needs its worker again; zero for never.
func (p *progress) next() time.Time {
	switch {
	case p.applyAt.IsZero():
		return p.pollAt
	case p.pollAt.IsZero() || p.applyAt.Before(p.pollAt):
		return p.applyAt
	default:
		return p.pollAt
	}
}

// turn does what is due for one item and publishes the outcome.
func (e *Engine) turn(ctx context.Context, it *item) {
	e.mu.Lock()
	want := it.want
	e.mu.Unlock()
	log := e.cfg.Log.With(zap.String("work", want.Name), zap.Int64("generation", want.Generation))

	var report wire.Report
	if want.Deleting {
		report = e.remove(ctx, log, it, want)
	} else {
		report = e.reconcile(ctx, log, it, want)
	}
	if ctx.Err() != nil {
		return
	}
	e.publish(it, want, report)
}

// publish hands a report on when it says something new and still speaks of what
// the hub wants.
func (e *Engine) publish(it *item, want wire.Item, report wire.Report) {
	e.mu.Lock()
	stale := it.want != want || !it.listed
	if stale || (it.last != nil && equalReports(*it.last, report)) {
		e.mu.Unlock()
		return
	}
	it.last = &report
	e.mu.Unlock()
	e.cfg.Report(report)
}

// jitter spreads d by ±10 % so that a fleet does not act in step.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
