// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

// claims is the outcome of claiming objects for one item.
type claims struct {
	refused map[manifest.Identity]string // name of the item that owns the object
	moving  map[manifest.Identity]bool   // of the refused: may be taken over a little later
	taken   map[manifest.Identity]object // what the former owner's record said
	losers  map[string][]manifest.Identity
}

// claim registers the objects as the item's own, or says whose they are. An item
// that the hub no longer lists gives way, since nothing else could ever free the
// object, and so does one that the policy names to take from. Its record loses
// the objects in settleClaims, when the new owner's is on disk.
//
// An item takes an object once for each digest: two that name each other do not
// pass it to and fro.
func (e *Engine) claim(want wire.Item, s *progress, ids []manifest.Identity) claims {
	from := make(map[string]bool)
	for uid := range strings.SplitSeq(want.Policy.TakeFrom, ",") {
		if uid = strings.TrimSpace(uid); uid != "" {
			from[uid] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := claims{
		refused: make(map[manifest.Identity]string), moving: make(map[manifest.Identity]bool),
		taken: make(map[manifest.Identity]object), losers: make(map[string][]manifest.Identity),
	}
	held := make(map[string]map[manifest.Identity]object)
	for _, id := range ids {
		owner := e.owners[id]
		other := e.items[owner]
		if owner != "" && owner != want.UID && other != nil {
			mayTake := !other.listed || (from[owner] && !s.took[id])
			if !mayTake || (other.busy && c.losers[owner] == nil) {
				c.refused[id], c.moving[id] = other.want.Name, mayTake
				continue
			}
			if s.took == nil {
				s.took = make(map[manifest.Identity]bool)
			}
			s.took[id] = other.listed
			if held[owner] == nil {
				held[owner] = other.rec.held()
			}
			c.taken[id] = held[owner][id]
			c.losers[owner] = append(c.losers[owner], id)
			other.busy = true // nobody works on it until its record is written
		}
		e.owners[id] = want.UID
	}
	return c
}

// releaseClaims undoes claim, when the record of the new owner cannot be written.
func (e *Engine) releaseClaims(c claims, s *progress) {
	for uid, ids := range c.losers {
		e.mu.Lock()
		loser := e.items[uid]
		for _, id := range ids {
			e.owners[id] = uid
			delete(s.took, id)
		}
		e.mu.Unlock()
		e.put(loser)
	}
}

// settleClaims takes the objects out of the records of their former owners.
func (e *Engine) settleClaims(c claims) error {
	for uid, ids := range c.losers {
		lost := make(map[manifest.Identity]bool, len(ids))
		for _, id := range ids {
			lost[id] = true
		}
		e.mu.Lock()
		loser := e.items[uid]
		e.mu.Unlock()
		stay := func(objects []object) []object {
			return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return lost[o.identity()] })
		}
		rec := loser.rec
		rec.Inventory, rec.Dropped, rec.Complete = stay(rec.Inventory), stay(rec.Dropped), false
		err := e.save(loser, rec)
		for i := range loser.results {
			// What it still names is not its own any more: its next turn says so.
			if r := &loser.results[i]; lost[r.obj.identity()] && r.managed {
				r.report.Applied, r.redo = false, false
				loser.state.applyAt = time.Now()
			}
		}
		e.put(loser)
		e.mu.Lock()
		e.retry(loser)
		e.mu.Unlock()
		if err != nil {
			return fmt.Errorf("work %s gives objects up: %w", loser.want.Name, err)
		}
	}
	return nil
}

// disown ends the item's claim to all objects but those in inventory, and lets
// items that were refused try again.
func (e *Engine) disown(uid string, inventory []object) {
	keep := make(map[manifest.Identity]bool, len(inventory))
	for _, o := range inventory {
		keep[o.identity()] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	freed := false
	for id, owner := range e.owners {
		if owner == uid && !keep[id] {
			delete(e.owners, id)
			freed = true
		}
	}
	if !freed {
		return
	}
	for other, it := range e.items {
		if other != uid && it.refused {
			e.retry(it)
		}
	}
}

// adoptedBefore says that another item had the object and had not made it.
func (e *Engine) adoptedBefore(id manifest.Identity, uid string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, it := range e.items {
		for _, o := range it.rec.Released {
			if o.identity() == id && o.UID == uid {
				return true
			}
		}
	}
	return false
}

// namesOfList is what the listed items name whose objects are not in their
// inventories yet, for the list of the hub with number list.
type namesOfList struct {
	list  uint64
	names map[string][]manifest.Identity // by digest of the content
}

// elsewhere returns, for those of the objects that another listed item has or
// names, the name of that item: they change hands instead of being deleted. The
// error says that the content of another item cannot be read: what it names is
// not known, so nothing may be deleted yet.
func (e *Engine) elsewhere(ctx context.Context, uid string, objects []object) (map[manifest.Identity]string, error) {
	asked := make(map[manifest.Identity]bool, len(objects))
	owner := make(map[manifest.Identity]string)
	e.mu.Lock()
	if e.names.names == nil || e.names.list != e.list {
		e.names = namesOfList{list: e.list, names: make(map[string][]manifest.Identity)}
	}
	known := e.names.names
	for _, o := range objects {
		id := o.identity()
		asked[id] = true
		if other := e.owners[id]; other != "" && other != uid && e.items[other] != nil {
			owner[id] = e.items[other].want.Name
		}
	}
	var others []wire.Item
	for other, it := range e.items {
		applied := it.rec.Complete && it.rec.Digest == it.want.Digest
		if other != uid && it.listed {
			// A crash in a move may have left one object in two records.
			for _, o := range it.rec.Inventory {
				if id := o.identity(); asked[id] && !it.want.Deleting {
					owner[id] = it.want.Name
				}
			}
		}
		if other != uid && it.listed && !it.want.Deleting && !applied {
			others = append(others, it.want)
		}
	}
	e.mu.Unlock()
	for _, other := range others {
		e.mu.Lock()
		ids, read := known[other.Digest]
		e.mu.Unlock()
		if !read {
			var err error
			if ids, err = e.identities(ctx, other.Digest); err != nil {
				return nil, fmt.Errorf("work %q may name the same objects, and its content cannot be read: %w", other.Name, err)
			}
			e.mu.Lock()
			known[other.Digest] = ids
			e.mu.Unlock()
		}
		for _, id := range ids {
			if asked[id] {
				owner[id] = other.Name
			}
		}
	}
	return owner, nil
}
