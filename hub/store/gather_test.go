// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestGather writes from many goroutines at once, some of them wrongly: each
// gets its own answer, whether it went alone or with others.
func TestGather(t *testing.T) {
	t.Parallel()
	s, _ := newBroker(t).open(Options{})
	const writers, each = 64, 10
	taken := key("ns", "taken")
	mustCreate(t, s, taken, 1)
	shared := key("ns", "shared")
	var mu sync.Mutex
	revisions := map[uint64]string{}
	won := 0
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				name := fmt.Sprintf("%d-%d", w, i)
				rev, err := s.Create(timeout(t), key("ns", name), object(name, i))
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				mu.Lock()
				if other, ok := revisions[rev]; ok {
					t.Errorf("%s and %s have revision %d", name, other, rev)
				}
				revisions[rev] = name
				mu.Unlock()
				if i%5 == 0 {
					if _, err := s.Create(timeout(t), taken, object("taken", i)); !errors.Is(err, ErrExists) {
						t.Errorf("create of what exists: %v", err)
					}
				}
			}
			if _, err := s.Create(timeout(t), shared, object("shared", w)); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			} else if !errors.Is(err, ErrExists) {
				t.Errorf("shared: %v", err)
			}
		})
	}
	group.Wait()
	if won != 1 {
		t.Errorf("%d writers created the same object", won)
	}
	for _, e := range mustList(t, s, Selection{Resource: taken.Resource}).Entries {
		if name, ok := revisions[e.Revision]; ok && name != e.Key.Name {
			t.Errorf("%s has revision %d, which was %s's", e.Key.Name, e.Revision, name)
		}
		delete(revisions, e.Revision)
	}
	if len(revisions) > 0 {
		t.Errorf("%d acknowledged writes are not in the list", len(revisions))
	}
}

// TestGatherCancel: a caller who leaves does not hold up the others.
func TestGatherCancel(t *testing.T) {
	t.Parallel()
	s, _ := newBroker(t).open(Options{})
	var group sync.WaitGroup
	for w := range 64 {
		group.Go(func() {
			for i := range 5 {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if w%4 == 0 {
					cancel()
				}
				name := fmt.Sprintf("%d-%d", w, i)
				_, err := s.Create(ctx, key("ns", name), object(name, i))
				cancel()
				if err != nil && (w%4 != 0 || !errors.Is(err, context.Canceled)) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	group.Wait()
	eventually(t, "the leader ends", func() bool {
		s.gather.mu.Lock()
		defer s.gather.mu.Unlock()
		return !s.gather.leading && s.gather.single == 0
	})
}

// TestLostAnswer repeats writes that were stored, as after a lost answer.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, _ := b.open(Options{})
	ctx := timeout(t)
	o, err := s.put(key("ns", "a"), object("a", 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.send(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := s.probe(ctx, o); err != nil || a.Sequence != first {
		t.Errorf("probe = %d, %v, want %d", a.Sequence, err, first)
	}
	// It is known as well after somebody else has replaced it.
	mustUpdate(t, s, key("ns", "a"), 2, first)
	if a, err := s.probe(ctx, o); err != nil || a.Sequence != first {
		t.Errorf("probe of a replaced write = %d, %v, want %d", a.Sequence, err, first)
	}
	never, _ := s.put(key("ns", "b"), object("b", 1), 0)
	for range 2 {
		_, err := s.probe(ctx, never)
		wantErr(t, err, errSequence)
	}
	if _, err := s.Get(ctx, key("ns", "b")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a probe stored something: %v", err)
	}

	var ops []op
	for i := range 3 {
		o, _ := s.put(key("ns", fmt.Sprintf("batch-%d", i)), object("x", i), 0)
		ops = append(ops, o)
	}
	start, err := s.sendBatch(ctx, ops)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.publishBatch(ctx, ops)
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != codeDuplicateInBatch {
		t.Errorf("a repeated batch: %v", err)
	}
	if a, err := s.probe(ctx, ops[0]); err != nil || a.Sequence != start {
		t.Errorf("probe of a batch = %d, %v, want %d", a.Sequence, err, start)
	}
}

// TestWriteDeadline: a write to a broker that is away ends with its deadline.
func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, stop := b.open(Options{})
	stop()
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Create(ctx, key("ns", "a"), object("a", 1)); err == nil {
		t.Error("a write to nowhere succeeded")
	}
}
