// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/live"
)

const (
	// maxLog is how many changes a table remembers: who is further behind begins anew.
	maxLog = 32 << 10
	// loadEvery is how often the samples are looked at.
	loadEvery = 2 * time.Second
)

var (
	// errReset: what a client knows cannot be continued.
	errReset = errors.New("begin anew")
	errNoRow = errors.New("no row")
)

// identity is what decides whether a row may be seen.
type identity struct {
	namespace, name string
	labels          map[string]string
}

// row is one line of a table, made of one object.
type row struct {
	key  string
	base any // pointer to the row's struct, without what is counted
	identity
	full []byte  // JSON of all cells
	ends []int32 // where each cell ends in full
	load [2]int  // of clusters: what is shown, -1 for nothing
}

// change is one entry of a table's log: look at this row again.
type change struct {
	seq      uint64
	revision uint64
	key      string
	// before is what the row was when that is another identity, or there is no row
	// any more; nil otherwise.
	before *identity
}

// table is a definition with its rows, kept up to date by whoever asks.
type table struct {
	def   *definition
	store Store
	load  func(string) (Load, bool)
	log   *zap.Logger

	useMu sync.Mutex
	users int
	used  time.Time

	mu       sync.Mutex
	opened   bool
	broken   bool
	watchers []*store.Watcher // of def.resource, then of def.tallies
	rows     map[string]*row
	sorted   []string // keys, nil when it has to be made
	tallies  []tally
	seq      uint64
	changes  []change
	floor    uint64 // revision up to which changes are not in the log
	revision uint64
	loaded   time.Time
	body     body
}

func (t *table) touch() {
	t.useMu.Lock()
	defer t.useMu.Unlock()
	t.used = time.Now()
}

// hold keeps the table in use until release.
func (t *table) hold() (release func()) {
	t.useMu.Lock()
	defer t.useMu.Unlock()
	t.users++
	return func() {
		t.useMu.Lock()
		defer t.useMu.Unlock()
		t.users--
		t.used = time.Now()
	}
}

func (t *table) unused(now time.Time) bool {
	t.useMu.Lock()
	defer t.useMu.Unlock()
	return t.users == 0 && now.Sub(t.used) > keepUnused
}

func (t *table) isBroken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}

// open begins to follow the store, once.
func (t *table) open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken {
		return errReset
	}
	if t.opened {
		return nil
	}
	t.rows = map[string]*row{}
	t.tallies = make([]tally, len(t.def.tallies))
	for i, resource := range append([]string{t.def.resource}, t.def.counted()...) {
		w, err := t.store.Watch(ctx, store.WatchSelection{Resource: resource, MinRevision: store.Any})
		if err != nil {
			t.fail()
			return fmt.Errorf("follow %s: %w", resource, err)
		}
		t.watchers = append(t.watchers, w)
		if i > 0 {
			t.tallies[i-1] = newTally()
		}
	}
	t.opened = true
	if err := t.sync(); err != nil {
		return err
	}
	// The first rows are no changes.
	t.changes, t.floor = nil, t.revision
	return nil
}

func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail()
}

// fail ends the table for good; t.mu is held.
func (t *table) fail() {
	t.broken = true
	for _, w := range t.watchers {
		w.Stop()
	}
	t.watchers, t.rows, t.sorted, t.changes, t.tallies, t.body = nil, nil, nil, nil, nil, body{}
}

// sync takes in all that the store had when it was called; t.mu is held.
func (t *table) sync() error {
	if t.broken {
		return errReset
	}
	// Changes up to here are with the watchers already.
	revision := t.store.Revision()
	// The counted objects first, so that the first rows are made once.
	for i := len(t.watchers) - 1; i >= 0; i-- {
		for {
			ev, ok, err := t.watchers[i].Ready()
			if err != nil {
				if !errors.Is(err, store.ErrStopped) {
					t.log.Info("a table begins anew", zap.String("table", t.def.name), zap.Error(err))
				}
				t.fail()
				return errReset
			}
			if !ok {
				break
			}
			if ev.Type == store.Bookmark {
				continue
			}
			if i == 0 {
				t.take(ev)
			} else {
				t.count(i-1, ev)
			}
		}
	}
	t.revision = max(t.revision, revision)
	if now := time.Now(); t.def.loads && now.Sub(t.loaded) >= loadEvery {
		t.loaded = now
		t.takeLoads()
	}
	if n := len(t.changes) - maxLog; n > 0 {
		t.floor = max(t.floor, t.changes[n-1].revision)
		t.changes = slices.Delete(t.changes, 0, n)
	}
	return nil
}

// take is a change of the object that a row is made of.
func (t *table) take(ev store.Event) {
	key := keyOf(ev.Entry.Key)
	old := t.rows[key]
	if ev.Type != store.Deleted {
		base, err := t.def.row(ev.Entry)
		if err == nil {
			r := &row{key: key, base: base, identity: identity{ev.Entry.Key.Namespace, ev.Entry.Key.Name, ev.Entry.Header.Labels}, load: [2]int{-1, -1}}
			if old != nil {
				r.load = old.load
			} else {
				t.sorted = nil
			}
			t.rows[key] = r
			t.encode(r)
			t.note(key, ev.Entry.Revision, old)
			return
		}
		if !errors.Is(err, errNoRow) {
			t.log.Warn("a stored object makes no row", zap.Stringer("key", ev.Entry.Key), zap.Error(err))
		}
	}
	if old != nil {
		delete(t.rows, key)
		t.sorted = nil
		t.note(key, ev.Entry.Revision, old)
	}
}

// count is a change of an object that rows count.
func (t *table) count(i int, ev store.Event) {
	groups := t.tallies[i].take(ev, t.def.tallies[i].item)
	for _, group := range groups {
		if r := t.rows[group]; r != nil {
			t.encode(r)
			t.note(group, ev.Entry.Revision, nil)
		}
	}
}

// note writes a change of a row into the log; old is what the row was.
func (t *table) note(key string, revision uint64, old *row) {
	t.seq++
	t.body = body{}
	c := change{seq: t.seq, revision: max(revision, t.revision), key: key}
	if now := t.rows[key]; old != nil && (now == nil || !sameLabels(now.labels, old.labels)) {
		before := old.identity
		c.before = &before
	}
	t.changes = append(t.changes, c)
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// takeLoads looks at the newest samples. What is shown changes only when it is off
// by a step, so that noise does not travel.
func (t *table) takeLoads() {
	for key, r := range t.rows {
		next := [2]int{-1, -1}
		if l, ok := t.load(r.name); ok {
			next = [2]int{step(r.load[0], l.CPU), step(r.load[1], l.Memory)}
		}
		if next != r.load {
			r.load = next
			t.encode(r)
			t.note(key, t.revision, nil)
		}
	}
}

// loadStep is the step of what is shown of a load, in per cent.
const loadStep = 5

// step is v in steps; shown stays while it is not off by a whole step.
func step(shown int, v float64) int {
	v = min(max(v, 0), 100)
	if shown >= 0 && v > float64(shown-loadStep) && v < float64(shown+loadStep) {
		return shown
	}
	return int(v/loadStep+0.5) * loadStep
}

// encode makes the JSON of a row.
func (t *table) encode(r *row) {
	r.full, r.ends = appendRow(nil, t.def.fill(r, t.tallies), t.def.guards != nil)
}

// keys are the keys of all rows in order; t.mu is held.
func (t *table) keys() []string {
	if t.sorted == nil {
		t.sorted = make([]string, 0, len(t.rows))
		for k := range t.rows {
			t.sorted = append(t.sorted, k)
		}
		slices.Sort(t.sorted)
	}
	return t.sorted
}

func keyOf(k store.Key) string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// columns of a table.
func (d *definition) columns() []string { return columnsOf(live.Rows()[d.name]) }
