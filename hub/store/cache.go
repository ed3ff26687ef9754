// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"github.com/tidwall/btree"
)

type tree = btree.BTreeG[*Entry]

func newTree() *tree {
	return btree.NewBTreeGOptions(func(a, b *Entry) bool {
		if a.Key.Namespace != b.Key.Namespace {
			return a.Key.Namespace < b.Key.Namespace
		}
		return a.Key.Name < b.Key.Name
	}, btree.Options{NoLocks: true})
}

// message is one record of the stream.
type message struct {
	key     string
	seq     uint64
	time    time.Time
	deleted bool
	data    []byte
}

// change is one step of one resource. Changes are shared by all watchers and never modified.
type change struct {
	typ      EventType
	revision uint64
	entry    *Entry // for Deleted: the last object with the revision of the deletion
	previous *Entry // nil for Added
}

// marker is a deletion the stream still remembers.
type marker struct {
	revision uint64
	time     time.Time
}

// cache is the state of the whole stream at one revision. It has no lock of
// its own; Store.mu guards it.
type cache struct {
	revision uint64
	created  time.Time // of the stream
	identity string
	oldest   uint64 // watches from below it are expired, whatever the resource

	resources map[string]*resource
	markers   map[Key]marker
	objects   int
	bytes     int64 // of the objects

	floor   uint64 // as stored: deletions up to it may be forgotten
	floorAt time.Time

	history, historyBytes int
}

// resource is all objects of one resource, and its latest changes.
type resource struct {
	name    string
	objects *tree
	shared  *tree  // a copy of objects as it is now, nil once objects changed
	changed uint64 // revision of the last change
	floor   uint64 // newest revision whose change is not in recent
	recent  []*change
	bytes   int
}

func newCache(history, historyBytes int) *cache {
	return &cache{
		resources: map[string]*resource{},
		markers:   map[Key]marker{},
		history:   history, historyBytes: historyBytes,
	}
}

// apply takes one record of an object and returns what it changed: nothing for
// the marker of an object that is not there, two changes when an object was
// deleted and made anew unseen. Without remember the changes are not kept for
// watchers to come: so the stream is loaded.
func (c *cache) apply(key Key, m message, header Header, remember bool) []*change {
	c.revision = m.seq
	r := c.resources[key.Resource]
	if r == nil {
		r = &resource{name: key.Resource, objects: newTree()}
		c.resources[key.Resource] = r
	}
	key.Resource = r.name
	r.changed = m.seq
	r.shared = nil

	var changes []*change
	if m.deleted {
		c.markers[key] = marker{m.seq, m.time}
		previous, found := r.objects.Delete(&Entry{Key: key})
		if !found {
			// The object came and went between two looks. A client of another
			// replica may have seen it: it has to list again.
			r.floor = m.seq
			return nil
		}
		c.objects--
		c.bytes -= int64(len(previous.Data))
		changes = []*change{deletion(previous, m.seq)}
	} else {
		delete(c.markers, key)
		e := &Entry{Key: key, Revision: m.seq, Data: m.data, Header: header}
		previous, found := r.objects.Set(e)
		c.bytes += int64(len(m.data))
		if found {
			c.bytes -= int64(len(previous.Data))
		} else {
			c.objects++
		}
		switch {
		case found && previous.Header.UID == header.UID:
			changes = []*change{{typ: Modified, revision: m.seq, entry: e, previous: previous}}
		case found:
			// Its deletion was somewhere before; a watch that resumes from it
			// must still get the new object.
			changes = []*change{deletion(previous, m.seq-1), {typ: Added, revision: m.seq, entry: e}}
		default:
			changes = []*change{{typ: Added, revision: m.seq, entry: e}}
		}
	}
	if !remember {
		r.floor = m.seq
		return changes
	}
	for _, ch := range changes {
		r.recent = append(r.recent, ch)
		r.bytes += ch.entry.size()
	}
	drop := 0
	for len(r.recent)-drop > c.history || (r.bytes > c.historyBytes && len(r.recent)-drop > 1) {
		r.floor = max(r.floor, r.recent[drop].revision)
		r.bytes -= r.recent[drop].entry.size()
		r.recent[drop] = nil
		drop++
	}
	r.recent = r.recent[drop:]
	return changes
}

// deletion carries the last object with the revision of the deletion.
func deletion(previous *Entry, revision uint64) *change {
	last := *previous
	last.Revision = revision
	return &change{typ: Deleted, revision: revision, entry: &last, previous: previous}
}

// get returns nil when there is no such object.
func (c *cache) get(key Key) *Entry {
	r := c.resources[key.Resource]
	if r == nil {
		return nil
	}
	e, _ := r.objects.Get(&Entry{Key: key})
	return e
}

// snapshot is the resource's objects as they are now; the tree returned is never modified.
func (c *cache) snapshot(name string) *tree {
	r := c.resources[name]
	if r == nil {
		return nil
	}
	if r.shared == nil {
		r.shared = r.objects.Copy()
	}
	return r.shared
}

// floorOf is the oldest revision a watch of the resource can continue from.
func (c *cache) floorOf(name string) uint64 {
	if r := c.resources[name]; r != nil {
		return max(r.floor, c.oldest)
	}
	return c.oldest
}

// since returns the changes after revision, which must not be below floorOf.
func (c *cache) since(name string, revision uint64) []*change {
	r := c.resources[name]
	if r == nil {
		return nil
	}
	i := len(r.recent)
	for i > 0 && r.recent[i-1].revision > revision {
		i--
	}
	return append([]*change(nil), r.recent[i:]...)
}
