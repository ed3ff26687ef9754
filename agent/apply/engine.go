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
//   - A removal that is larger than the budget, or that takes a Namespace, a
//     CustomResourceDefinition or a PersistentVolumeClaim, waits for a word: the
//     report carries a plan, and only the plan with the approved ID, or any under
//     the policy Unguarded, is carried out. All else goes on meanwhile.
//   - The inventory is on disk before an object is created, and what is to be
//     deleted before the first deletion, so a process killed at any moment leaves
//     no object that nobody owns.
//   - Content that is applied is not applied again: after a restart or a
//     reconnect the engine only reads, unless an object is missing or differs.
//   - An object belongs to one item. A second item that names it is refused for
//     that manifest, with the owner's name, unless its policy takes the object
//     over, or the owner's newest content does not name it any more. A move
//     neither deletes nor creates.
//   - An object that existed before, made by somebody else, is taken over as the
//     policy allows, but never deleted, whichever item has it later. This holds for
//     one that appears while the engine looks, and wherever the engine is killed.
//   - Health is reported for an object only after the digest in the report was
//     applied to it.
//   - An item with Complete set is not written any more, only looked at.
//
// Update strategies of Open Cluster Management are all carried out by
// server-side apply: Update (the default) with force and the engine's field
// manager, ServerSideApply with force, field manager and ignored fields as the
// work says, CreateOnly only while the object is missing, ReadOnly never. A
// field to ignore that our manager owns keeps its live value, so that ignoring
// it does not remove it.
//
// An executor is impersonated for every write of its work; the API server says
// what it may do. Reading and removing are the agent's own.
//
// Order: waves (by annotation, lower ones Current before the next begins), in a
// wave the order of kinds of Open Cluster Management, with CRDs and APIServices
// served before what needs them. Removal goes the other way.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// defaultFieldManager owns the fields that Drover applies.
	defaultFieldManager = "drover"

	// parallelItems is the number of items worked on at once. Mostly they wait, for
	// the disk and for the API server, and what waits at the same time shares a sync.
	parallelItems = 32
	// parallelRequests is the number of requests at once for one item.
	parallelRequests = 8
)

// Records keeps one record an item across restarts. The body is JSON that only
// this package reads. SaveRecord returns when the record survives a power cut.
type Records interface {
	LoadRecords() (map[string][]byte, error)
	SaveRecord(key string, body []byte) error
	DeleteRecord(key string) error
}

// Config is what an Engine needs. Kubernetes, Records, Content, Report, Judge and
// Log are required.
type Config struct {
	// Kubernetes is the cluster. Unset QPS and Burst become 400 and 800.
	Kubernetes *rest.Config
	Records    Records
	// Content returns the content that digest names, from disk or from the hub.
	// The engine checks the digest again.
	Content func(ctx context.Context, digest string) ([]byte, error)
	// Bundle opens the bundle that digest names: one manifest a line. When it is
	// an io.ReaderAt too, as a file is, manifests are read when they are needed;
	// anything else is held in memory meanwhile. Nil refuses bundles.
	Bundle func(ctx context.Context, digest string) (io.ReadCloser, error)
	// Report is called with the new report of an item whenever it differs from the
	// last one. Calls for one item come one after the other, for different items
	// possibly at once; it must not block for long.
	Report func(wire.Report)
	// Observer tells the engine at once what happens to applied objects. Without
	// one the engine looks at them now and then.
	Observer Observer
	// Judge decides about health and evaluates rules.
	Judge Judge
	// FieldManager of server-side apply, "drover" when empty.
	FieldManager string
	Log          *zap.Logger
}

// Engine reconciles items until its Run ends.
type Engine struct {
	cfg     Config
	cluster *cluster
	wake    chan struct{} // capacity 1: something became due

	mu      sync.Mutex
	items   map[string]*item             // by UID; listed ones, and those with a record
	owners  map[manifest.Identity]string // UID of the item that owns the object
	bundles map[string]string            // digest of the bundle by digest of the content
	list    uint64                       // counts calls of Sync

	keeping   sync.Mutex // held while the record keptKey is written
	names     namesOfList
	followers map[locator][]follower // who wants to know of an object
}

// item is one work. Fields of the first group are guarded by Engine.mu, those
// of the second belong to the worker while busy is set.
type item struct {
	want   wire.Item // the newest the hub said
	listed bool      // in the newest list
	busy   bool
	due    time.Time
	fresh  bool // due because want changed: goes before routine work
	// refused says that another item owns an object this one wants, moving that it
	// may take it over once the other is not busy, unserved that a kind is missing,
	// and again that one of them may have ended.
	refused, moving, unserved, again bool
	// spare is what the item owns and content spareOf does not name.
	spare     map[manifest.Identity]bool
	spareOf   string
	last      *wire.Report           // nil until the first
	published [reportBurst]time.Time // when the last reports went out, the newest first
	sightings map[locator]sighting
	followed  []locator

	rec     record
	state   progress
	results []result // of manifests of state.digest; nil until an attempt was made
}

// progress is what a worker remembers of an item between two turns.
type progress struct {
	digest     string // content that results speak of
	generation int64
	policy     wire.Policy
	complete   bool // not written any more
	failures   int  // attempts that failed in a row
	repairs    int  // repairs in a row
	repairedAt time.Time
	applyAt    time.Time // when to apply again; zero: no need
	waiting    bool      // manifests wait for a lower wave
	pollAt     time.Time
	fullPollAt time.Time     // polls before it look only at what is not Current
	interval   time.Duration // between polls
	tendAt     time.Time     // when to compare an object that others changed
	pruneAt    time.Time     // when to look at what is dropped or leaving
	leaveEvery time.Duration
	kept       bool   // for an item that is busy and shall have it
	err        string // of the item as a whole
	pruneErr   string
	plan       *wire.PrunePlan
	remaining  []wire.ObjectNote
	left       int                        // objects being removed
	took       map[manifest.Identity]bool // from other items, since the digest is wanted
}

// New returns an engine that knows what earlier runs applied. It contacts
// nothing yet.
func New(cfg Config) (*Engine, error) {
	switch {
	case cfg.Kubernetes == nil, cfg.Records == nil, cfg.Content == nil, cfg.Report == nil, cfg.Judge == nil, cfg.Log == nil:
		return nil, errors.New("apply: Kubernetes, Records, Content, Report, Judge and Log are required")
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
		items: make(map[string]*item), owners: make(map[manifest.Identity]string), bundles: make(map[string]string),
		followers: make(map[locator][]follower),
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
		for _, o := range rec.owned() {
			e.owners[o.identity()] = uid
		}
		for digest, bundle := range map[string]string{rec.Digest: rec.Bundle, rec.LastGood: rec.LastGoodBundle} {
			if bundle != "" {
				e.bundles[digest] = bundle
			}
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
		wait := time.Hour // with all hands busy only one of them ends the wait
		if running < parallelItems {
			wait = e.untilDue(time.Now())
		}
		timer := time.NewTimer(wait)
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

// Digests names the content and the bundles that must stay on disk: what is
// wanted, what is applied, and what was last healthy.
func (e *Engine) Digests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var digests []string
	contents := make(map[string]bool)
	for _, it := range e.items {
		for _, digest := range []string{it.want.Digest, it.rec.Digest, it.rec.LastGood} {
			if digest == "" {
				continue
			}
			contents[digest] = true
			digests = append(digests, digest)
			if bundle := e.bundles[digest]; bundle != "" {
				digests = append(digests, bundle)
			}
		}
	}
	for digest := range e.bundles {
		if !contents[digest] {
			delete(e.bundles, digest)
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests)
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
	copy(it.published[1:], it.published[:])
	it.published[0] = time.Now()
	e.mu.Unlock()
	e.cfg.Report(report)
}
