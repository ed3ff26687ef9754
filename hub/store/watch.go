// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"sync"
)

// Watcher delivers the changes of one Watch, in the order of their revisions.
// One goroutine may call Next; Stop may be called from any.
type Watcher struct {
	store *Store
	sel   WatchSelection

	// What was there when the watch began; only Next uses it.
	initial      []*Entry
	initialUntil uint64 // revision of the bookmark after it; 0: none due

	mu    sync.Mutex
	queue []*change // a change of type Bookmark holds a revision only
	limit int
	err   error
	wake  chan struct{}
}

// Watch follows changes after sel.From. ErrExpired: list again; ErrFuture:
// sel.From is not reached within 3 s; ErrStopped: Run has ended.
func (s *Store) Watch(ctx context.Context, sel WatchSelection) (*Watcher, error) {
	least := sel.From
	if sel.From == 0 {
		least = sel.MinRevision
	}
	if err := s.wait(ctx, least); err != nil {
		return nil, fmt.Errorf("watch %s: %w", sel.Resource, err)
	}
	w := &Watcher{store: s, sel: sel, limit: s.opts.WatchBuffer, wake: make(chan struct{}, 1)}
	objects, err := s.register(w)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", sel.Resource, err)
	}
	if objects != nil {
		objects.Ascend(&Entry{Key: Key{Namespace: sel.Namespace, Name: sel.Name}}, func(e *Entry) bool {
			if sel.Namespace != "" && e.Key.Namespace != sel.Namespace {
				return false
			}
			if w.wants(e.Key) && matches(sel.Labels, sel.Match, e) {
				w.initial = append(w.initial, e)
			}
			return true
		})
	}
	return w, nil
}

// register adds the watcher, with the changes since its start. It returns the
// objects of the moment for a watch from 0.
func (s *Store) register(w *Watcher) (*tree, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, ErrStopped
	}
	if s.loading {
		return nil, ErrExpired
	}
	var objects *tree
	resource := w.sel.Resource
	if w.sel.From == 0 {
		objects, w.initialUntil = s.cache.snapshot(resource), s.cache.revision
	} else {
		if floor := s.cache.floorOf(resource); w.sel.From < floor {
			return nil, fmt.Errorf("revision %d, the oldest is %d: %w", w.sel.From, floor, ErrExpired)
		}
		for _, ch := range s.cache.since(resource, w.sel.From) {
			if w.wants(ch.entry.Key) {
				w.queue = append(w.queue, ch)
			}
		}
		w.limit += len(w.queue)
	}
	if s.watchers[resource] == nil {
		s.watchers[resource] = map[*Watcher]struct{}{}
	}
	s.watchers[resource][w] = struct{}{}
	return objects, nil
}

// dispatch hands a change to the watchers of its resource; s.mu is held.
func (s *Store) dispatch(resource string, ch *change) {
	for w := range s.watchers[resource] {
		if !w.wants(ch.entry.Key) {
			continue
		}
		if w.push(ch) {
			s.counters.sent.Add(1)
		} else {
			s.counters.slow.Add(1)
			s.forget(w)
		}
	}
}

// bookmark tells every watcher how far the stream is.
func (s *Store) bookmark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading {
		return
	}
	mark := &change{typ: Bookmark, revision: s.cache.revision}
	for _, watchers := range s.watchers {
		for w := range watchers {
			if w.idle() && !w.push(mark) {
				s.forget(w)
			}
		}
	}
}

// forget removes a watcher; s.mu is held.
func (s *Store) forget(w *Watcher) {
	resource := w.sel.Resource
	delete(s.watchers[resource], w)
	if len(s.watchers[resource]) == 0 {
		delete(s.watchers, resource)
	}
}

// endWatchers ends all; s.mu is held.
func (s *Store) endWatchers(cause error) {
	for _, watchers := range s.watchers {
		for w := range watchers {
			w.end(cause)
		}
	}
	clear(s.watchers)
}

// wants reports whether a key is of the selection's namespace and name.
func (w *Watcher) wants(k Key) bool {
	return (w.sel.Namespace == "" || w.sel.Namespace == k.Namespace) && (w.sel.Name == "" || w.sel.Name == k.Name)
}

// idle reports whether nothing is queued: a bookmark behind queued events would
// only say what they say.
func (w *Watcher) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) == 0
}

// push queues a change. It never waits; false: the watcher is too slow and was ended.
func (w *Watcher) push(ch *change) bool {
	w.mu.Lock()
	if len(w.queue) >= w.limit {
		w.mu.Unlock()
		w.end(ErrSlow)
		return false
	}
	w.queue = append(w.queue, ch)
	w.mu.Unlock()
	w.signal()
	return true
}

func (w *Watcher) end(cause error) {
	w.mu.Lock()
	if w.err == nil {
		w.err, w.queue = cause, nil
	}
	w.mu.Unlock()
	w.signal()
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Stop ends the watch; Next then returns ErrStopped. Further calls do nothing.
func (w *Watcher) Stop() {
	w.store.mu.Lock()
	w.store.forget(w)
	w.store.mu.Unlock()
	w.end(ErrStopped)
}

// Next waits for the next event. When the watch has ended it returns why:
// ErrSlow, ErrExpired, ErrStopped. Events not yet delivered are then gone.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		event, ok, err := w.Ready()
		if ok || err != nil {
			return event, err
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Ready is Next without waiting; false: there is no event yet. When the watch has
// ended it returns why, and true.
func (w *Watcher) Ready() (Event, bool, error) {
	for {
		w.mu.Lock()
		err := w.err
		w.mu.Unlock()
		if err != nil {
			return Event{}, true, err
		}
		if len(w.initial) > 0 {
			e := w.initial[0]
			w.initial = w.initial[1:]
			return w.convert(Event{Type: Added, Entry: *e, Initial: true})
		}
		if until := w.initialUntil; until != 0 {
			w.initial, w.initialUntil = nil, 0
			return Event{Type: Bookmark, Entry: Entry{Revision: until}, Initial: true}, true, nil
		}
		ch := w.pop()
		if ch == nil {
			return Event{}, false, nil
		}
		if event, ok := w.event(ch); ok {
			return w.convert(event)
		}
	}
}

// convert is an event as the caller of Watch wants to see it.
func (w *Watcher) convert(ev Event) (Event, bool, error) {
	if w.sel.Convert == nil || ev.Type == Bookmark {
		return ev, true, nil
	}
	var err error
	if ev.Entry, err = w.sel.Convert(ev.Entry); err != nil {
		return Event{}, true, err
	}
	if ev.Previous != nil {
		previous, err := w.sel.Convert(*ev.Previous)
		if err != nil {
			return Event{}, true, err
		}
		ev.Previous = &previous
	}
	return ev, true, nil
}

// pop returns nil when nothing is queued.
func (w *Watcher) pop() *change {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil
	}
	ch := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return ch
}

// event is a change as this watch's selectors see it; false: not at all.
func (w *Watcher) event(ch *change) (Event, bool) {
	if ch.typ == Bookmark {
		return Event{Type: Bookmark, Entry: Entry{Revision: ch.revision}}, true
	}
	before := ch.previous != nil && matches(w.sel.Labels, w.sel.Match, ch.previous)
	now := ch.typ != Deleted && matches(w.sel.Labels, w.sel.Match, ch.entry)
	event := Event{Entry: *ch.entry, Previous: ch.previous}
	switch {
	case before && now:
		event.Type = Modified
	case now:
		event.Type = Added
		event.Previous = nil
	case before:
		event.Type = Deleted
		if ch.typ != Deleted {
			event.Entry = *ch.previous
			event.Entry.Revision = ch.revision
		}
	default:
		return Event{}, false
	}
	return event, true
}
