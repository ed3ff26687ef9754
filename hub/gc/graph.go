// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
)

// graph knows who owns what, and which objects must be looked at. One goroutine
// uses it.
type graph struct {
	kinds   map[schema.GroupKind]Kind
	loading map[string]bool // resources whose objects are not all known yet
	owners  map[store.Key]*node
	// dependents by the uid of an owner
	dependents map[string]map[store.Key]*node
	queue      []store.Key
	pending    map[store.Key]*attempt
}

// node is an object with owners.
type node struct {
	key    store.Key
	uid    string
	owners []ref
}

// attempt is when an object is looked at again.
type attempt struct {
	at     time.Time
	pause  time.Duration
	queued bool
}

func newGraph() *graph {
	return &graph{
		kinds: map[schema.GroupKind]Kind{}, loading: map[string]bool{}, owners: map[store.Key]*node{},
		dependents: map[string]map[store.Key]*node{}, pending: map[store.Key]*attempt{},
	}
}

// learn takes the kinds there are, and reports whether one is new.
func (g *graph) learn(kinds []Kind) (news bool) {
	for _, k := range kinds {
		if g.kinds[k.GroupKind] != k {
			g.kinds[k.GroupKind] = k
			news = true
		}
	}
	return news
}

// locate is the key under which an owner of an object with the given namespace
// would be; false when that cannot be told.
func (g *graph) locate(r ref, namespace string) (store.Key, bool) {
	k, ok := g.kinds[schema.GroupKind{Group: r.group, Kind: r.kind}]
	if !ok || r.name == "" || k.Namespaced && namespace == "" {
		return store.Key{}, false
	}
	key := store.Key{Resource: k.Resource, Name: r.name}
	if k.Namespaced {
		key.Namespace = namespace
	}
	return key, true
}

// take reads an event.
func (g *graph) take(ev event) {
	key := ev.Entry.Key
	switch {
	case ev.begins:
		g.loading[ev.resource] = true
	case ev.Type == store.Bookmark:
		// Owners may have gone unseen before the watch began.
		delete(g.loading, ev.resource)
		g.checkAll()
	case ev.Type == store.Deleted:
		g.forget(key)
		g.checkDependents(ev.Entry.Header.UID)
	default:
		g.set(&ev.Entry)
		if ordered(&ev.Entry) {
			g.check(key)
		}
	}
}

// set remembers the owners of an object, and has it looked at when they changed.
func (g *graph) set(e *store.Entry) {
	refs := ownersOf(e)
	old := g.owners[e.Key]
	if old != nil {
		g.unlink(old)
	}
	if len(refs) > 0 {
		n := &node{key: e.Key, uid: e.Header.UID, owners: refs}
		g.owners[e.Key] = n
		for _, r := range refs {
			if g.dependents[r.uid] == nil {
				g.dependents[r.uid] = map[store.Key]*node{}
			}
			g.dependents[r.uid][e.Key] = n
		}
		g.check(e.Key)
	}
	if old != nil {
		g.checkOwners(old)
	}
}

func (g *graph) unlink(n *node) {
	delete(g.owners, n.key)
	for _, r := range n.owners {
		delete(g.dependents[r.uid], n.key)
		if len(g.dependents[r.uid]) == 0 {
			delete(g.dependents, r.uid)
		}
	}
}

// forget removes an object that is gone; its owners may wait for that.
func (g *graph) forget(key store.Key) {
	n := g.owners[key]
	if n == nil {
		return
	}
	g.unlink(n)
	g.checkOwners(n)
}

func (g *graph) checkOwners(n *node) {
	for _, r := range n.owners {
		if key, ok := g.locate(r, n.key.Namespace); ok {
			g.check(key)
		}
	}
}

func (g *graph) checkDependents(uid string) {
	for key := range g.dependents[uid] {
		g.check(key)
	}
}

func (g *graph) checkAll() {
	for key := range g.owners {
		g.check(key)
	}
}

// check has an object looked at soon.
func (g *graph) check(key store.Key) {
	a := g.pending[key]
	if a == nil {
		a = &attempt{}
		g.pending[key] = a
	}
	a.at = time.Time{}
	if !a.queued {
		a.queued = true
		g.queue = append(g.queue, key)
	}
}

// next returns an object to look at, or how long there is none.
func (g *graph) next(now time.Time) (key store.Key, wait time.Duration, ok bool) {
	wait = time.Hour
	if len(g.loading) > 0 {
		return key, wait, false // what is not known yet may be somebody's dependent
	}
	for range len(g.queue) {
		key, g.queue = g.queue[0], g.queue[1:]
		a := g.pending[key]
		if left := a.at.Sub(now); left > 0 {
			wait = min(wait, left)
			g.queue = append(g.queue, key)
			continue
		}
		a.queued = false
		return key, 0, true
	}
	return key, wait, false
}

// done ends a look at an object; after an error there is another one.
func (g *graph) done(key store.Key, err error, now time.Time) {
	a := g.pending[key]
	switch {
	case a == nil:
	case err == nil && !a.queued:
		delete(g.pending, key)
	case err == nil:
		a.pause = 0
	default:
		a.pause = min(max(2*a.pause, retryFirst), retryMost)
		a.at = now.Add(a.pause)
		if !a.queued {
			a.queued = true
			g.queue = append(g.queue, key)
		}
	}
}
