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
// object; so does one whose content no longer names it, even before that content
// is applied whole, since two items may each wait for what the other gives up;
// and so does one that the policy names to take from. Its record loses the
// objects in settleClaims, when the new owner's is on disk.
//
// By its policy an item takes an object once for each digest: two that name each
// other do not pass it to and fro.
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
			free := !other.listed || other.spares(id)
			mayTake := free || (from[owner] && !s.took[id])
			if !mayTake || (other.busy && c.losers[owner] == nil) {
				c.refused[id], c.moving[id] = other.want.Name, mayTake
				e.items[want.UID].refused = true // now, so that no word of change is missed
				continue
			}
			if s.took == nil {
				s.took = make(map[manifest.Identity]bool)
			}
			s.took[id] = s.took[id] || !free
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
		had := len(rec.Inventory)
		rec.Inventory, rec.Dropped = stay(rec.Inventory), stay(rec.Dropped)
		whole := len(rec.Inventory) == had // what it lost, its content had dropped
		rec.Complete = rec.Complete && whole
		err := e.save(loser, rec)
		for i := range loser.results {
			// What it still names is not its own any more: its next turn says so.
			if r := &loser.results[i]; lost[r.obj.identity()] && r.managed {
				r.report.Applied, r.redo = false, false
				loser.state.applyAt = time.Now()
			}
		}
		if whole && !loser.state.pruneAt.IsZero() {
			loser.state.pruneAt = time.Now() // its plan is smaller now
		}
		e.put(loser)
		if !whole {
			e.mu.Lock()
			e.retry(loser)
			e.mu.Unlock()
		}
		if err != nil {
			return fmt.Errorf("work %s gives objects up: %w", loser.want.Name, err)
		}
	}
	return nil
}

// offer lets other items take what the item owns and content digest does not
// name. A manifest that cannot be read may name anything.
func (e *Engine) offer(it *item, digest string, objects []object) {
	spare := make(map[manifest.Identity]bool, len(objects))
	for _, o := range objects {
		spare[o.identity()] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	more := false
	for id := range spare {
		more = more || it.spareOf != digest || !it.spare[id]
	}
	it.spare, it.spareOf = spare, digest
	for _, other := range e.items {
		if more && other != it && other.refused {
			e.retry(other)
		}
	}
}

// spares says that the newest content of the item is known not to name an object
// that it owns. It needs mu.
func (it *item) spares(id manifest.Identity) bool {
	return it.spareOf == it.want.Digest && it.spare[id] && !it.want.Deleting
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
	freed := make(map[manifest.Identity]bool)
	for id, owner := range e.owners {
		if owner == uid && !keep[id] {
			delete(e.owners, id)
			freed[id] = true
		}
	}
	if len(freed) == 0 {
		return
	}
	for other, it := range e.items {
		if other == uid {
			continue
		}
		// A crash in a move may have left one object in two records.
		for _, o := range it.rec.Inventory {
			if id := o.identity(); freed[id] && e.owners[id] == "" {
				e.owners[id] = other
			}
		}
		if it.refused {
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

// heir is the item to which an object goes that another one gives up.
type heir struct {
	uid, name string
	has       bool // its record knows of the object already
}

// bequeath writes objects into the record of the item that names them, before
// the item that had them forgets: the heir may go before it ever applied them,
// and somebody must still own them then. It says false when that cannot be done
// yet.
func (e *Engine) bequeath(uid string, objects []object) (bool, error) {
	e.mu.Lock()
	it := e.items[uid]
	if it == nil || !it.listed || it.busy || it.want.Deleting {
		e.mu.Unlock()
		return false, nil
	}
	it.busy = true
	want := it.want
	e.mu.Unlock()
	left := slices.Clone(objects)
	for i := range left {
		left[i].Ordinal, left[i].Fields = 0, "" // of the manifest of another item
	}
	rec := it.rec
	rec.Name, rec.UID, rec.Deleted = want.Name, want.UID, false
	if rec.Complete {
		rec.Dropped = unite(rec.Dropped, left) // not named by what is applied so far
	} else {
		rec.Inventory = unite(rec.Inventory, left)
	}
	err := e.save(it, rec)
	if err == nil {
		e.mu.Lock()
		for _, o := range left {
			e.owners[o.identity()] = uid
		}
		e.retry(it)
		e.mu.Unlock()
	}
	e.put(it)
	if err != nil {
		return false, fmt.Errorf("hand objects over to work %s: %w", want.Name, err)
	}
	return true, nil
}

// elsewhere returns, for those of the objects that another listed item has or
// names, that item: they change hands instead of being deleted. The error says that the content of another item cannot be read: what it names is
// not known, so nothing may be deleted yet.
func (e *Engine) elsewhere(ctx context.Context, uid string, objects []object) (map[manifest.Identity]heir, error) {
	asked := make(map[manifest.Identity]bool, len(objects))
	owner := make(map[manifest.Identity]heir)
	e.mu.Lock()
	if e.names.names == nil || e.names.list != e.list {
		e.names = namesOfList{list: e.list, names: make(map[string][]manifest.Identity)}
	}
	known := e.names.names
	for _, o := range objects {
		id := o.identity()
		asked[id] = true
		if other := e.owners[id]; other != "" && other != uid && e.items[other] != nil {
			owner[id] = heir{other, e.items[other].want.Name, true}
		}
	}
	var others []wire.Item
	for other, it := range e.items {
		applied := it.rec.Complete && it.rec.Digest == it.want.Digest
		if other != uid && it.listed {
			// A crash in a move may have left one object in two records.
			for _, o := range it.rec.Inventory {
				if id := o.identity(); asked[id] && !it.want.Deleting {
					owner[id] = heir{other, it.want.Name, true}
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
			if asked[id] && !owner[id].has {
				owner[id] = heir{other.UID, other.Name, false}
			}
		}
	}
	return owner, nil
}

// WorkOf names the work that an object belongs to; empty for none.
func (e *Engine) WorkOf(group, kind, namespace, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	it := e.items[e.owners[manifest.Identity{Group: group, Kind: kind, Namespace: namespace, Name: name}]]
	if it == nil {
		return ""
	}
	return it.want.Name
}
