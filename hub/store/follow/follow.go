// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package follow drives level-triggered controllers: it watches kinds of the store,
// hands what changed to a state, and lets that act on all of it together.
package follow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/daemon"
)

// Event is a change of an object of one of the resources.
type Event struct {
	store.Event
	Resource string
}

// State is what a controller knows. Its methods are never called at the same time.
type State interface {
	// Apply takes one change. The bookmark that ends the first objects of a resource
	// is one, later bookmarks are not.
	Apply(Event)
	// Ready says whether all resources have been seen, so that Pass may act.
	Ready() bool
	// Pass acts on what is known, and returns when it wants to look again without a
	// change, the zero time for never. An error ends Run.
	Pass(ctx context.Context, now time.Time) (next time.Time, err error)
}

// Follower watches on behalf of one State.
type Follower struct {
	store *store.Store
	// gather is how long changes are gathered before a pass. After a pass that took
	// longer they are gathered for as long as that took, most at the most: the more
	// there is to do, the more is done at once.
	gather, most time.Duration

	ctx    context.Context // of Run
	cancel context.CancelCauseFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	events []Event // without a limit: all are taken at once, and shared with the cache
	wake   chan struct{}
}

// Run watches what start asks for by Watch, and drives the state that start returns,
// until a watch or a pass fails or ctx ends. It never returns nil.
func Run(ctx context.Context, s *store.Store, gather, most time.Duration, start func(*Follower) (State, error)) error {
	f := &Follower{store: s, gather: gather, most: most, wake: make(chan struct{}, 1)}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	defer f.group.Wait()
	defer f.cancel(nil)
	state, err := start(f)
	if err != nil {
		return err
	}
	return f.loop(state)
}

// Watch adds a resource. Only start and the methods of the State may call it.
func (f *Follower) Watch(sel store.WatchSelection) error {
	w, err := f.store.Watch(f.ctx, sel)
	if err != nil {
		return fmt.Errorf("watch %s: %w", sel.Resource, err)
	}
	f.group.Go(func() {
		defer w.Stop()
		for {
			ev, err := w.Next(f.ctx)
			if err != nil {
				f.cancel(fmt.Errorf("watch %s: %w", sel.Resource, err))
				return
			}
			if ev.Type != store.Bookmark || ev.Initial {
				f.put(Event{ev, sel.Resource})
			}
		}
	})
	return nil
}

func (f *Follower) put(ev Event) {
	f.mu.Lock()
	f.events = append(f.events, ev)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *Follower) take() []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.events
	f.events = nil
	return out
}

func (f *Follower) loop(state State) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	wait := f.gather
	for {
		select {
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		case <-f.wake:
			if !daemon.Sleep(f.ctx, wait) {
				return context.Cause(f.ctx)
			}
		case <-timer.C:
		}
		for _, ev := range f.take() {
			state.Apply(ev)
		}
		if !state.Ready() {
			continue
		}
		began := time.Now()
		next, err := state.Pass(f.ctx, began)
		if err != nil {
			return err
		}
		wait = min(max(f.gather, time.Since(began)), f.most)
		timer.Reset(time.Hour)
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), 0))
		}
	}
}
