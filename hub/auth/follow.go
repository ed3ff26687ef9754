// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/daemon"
)

// rewatchAfter is the pause before a watch is begun again that the store ended.
const rewatchAfter = 50 * time.Millisecond

// runMembers keeps the members of sets of clusters known, until ctx ends.
func (s *Stored) runMembers(ctx context.Context) error {
	defer s.publishMembers(nil)
	for {
		err := s.followMembers(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, store.ErrSlow) || errors.Is(err, store.ErrExpired) {
			// Begins anew: what was known meanwhile is late, not wrong.
			daemon.Sleep(ctx, rewatchAfter)
			continue
		}
		s.publishMembers(nil)
		s.log.Warn("following sets of clusters failed; until it works nobody has permissions by them", zap.Error(err))
		daemon.Sleep(ctx, retryEvery)
	}
}

// memberEvent is one change of a cluster or set.
type memberEvent struct {
	isSet bool
	event store.Event
}

// followMembers publishes the members when they are all known, and after every change.
func (s *Stored) followMembers(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	events := make(chan memberEvent, 256)
	for _, resource := range []string{cluster.Resource, cluster.ResourceSets} {
		w, err := s.store.Watch(ctx, store.WatchSelection{Resource: resource, MinRevision: store.Any})
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
		wg.Go(func() {
			defer w.Stop()
			cancel(fmt.Errorf("watch %s: %w", resource, forward(ctx, w, resource == cluster.ResourceSets, events)))
		})
	}
	table, loaded := newMemberTable(), 0
	for {
		// one snapshot for all that is there
		for more := true; more; {
			select {
			case ev := <-events:
				if s.take(table, ev) {
					loaded++
				}
			default:
				more = false
			}
		}
		if loaded == 2 && (len(table.changed) > 0 || !table.published) {
			s.publishMembers(table.snapshot())
		}
		select {
		case ev := <-events:
			if s.take(table, ev) {
				loaded++
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func forward(ctx context.Context, w *store.Watcher, isSet bool, out chan<- memberEvent) error {
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if ev.Type == store.Bookmark && !ev.Initial || ev.Type == store.Modified && !isSet && sameLabels(ev) {
			continue // most of a fleet's changes
		}
		select {
		case out <- memberEvent{isSet, ev}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sameLabels(ev store.Event) bool {
	return ev.Previous != nil && maps.Equal(ev.Previous.Header.Labels, ev.Entry.Header.Labels)
}

// take reads one event into the table, and reports whether it ends the initial ones.
func (s *Stored) take(t *memberTable, m memberEvent) (initialEnd bool) {
	e := m.event.Entry
	switch {
	case m.event.Type == store.Bookmark:
		return m.event.Initial
	case !m.isSet:
		t.setCluster(e.Key.Name, m.event.Type != store.Deleted, e.Header.Labels)
	case m.event.Type == store.Deleted:
		t.setSet(e.Key.Name, nil)
	default:
		selector, err := setSelector(e.Key.Name, e.Data)
		if err != nil {
			s.log.Error("a set of clusters cannot be read and has no members", zap.String("set", e.Key.Name), zap.Error(err))
		}
		t.setSet(e.Key.Name, selector)
	}
	return false
}
