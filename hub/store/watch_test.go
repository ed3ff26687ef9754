// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

func testWatchInitial(t *testing.T, s *Store) {
	a := seen(t, s, mustCreate(t, s, key("ns", "a"), 1))
	b := seen(t, s, mustCreate(t, s, key("ns", "b"), 1))
	mustCreate(t, s, Key{Resource: "others", Namespace: "ns", Name: "x"}, 1)
	w := mustWatch(t, s, WatchSelection{})
	for _, want := range []struct {
		name string
		rev  uint64
	}{{"a", a}, {"b", b}} {
		if e := wantEvent(t, w, Added, want.name, want.rev); !e.Initial {
			t.Error("a present object is not marked as initial")
		}
	}
	e := next(t, w)
	if e.Type != Bookmark || !e.Initial || e.Entry.Revision < b {
		t.Errorf("event after the present objects = %+v, want the initial bookmark", e)
	}
	c := seen(t, s, mustCreate(t, s, key("ns", "c"), 1))
	if e := change1(t, w); e.Type != Added || e.Entry.Revision != c || e.Initial {
		t.Errorf("event = %+v, want c added", e)
	}
}

// change1 is the next event that is not a bookmark.
func change1(t testing.TB, w *Watcher) Event {
	t.Helper()
	for {
		if e := next(t, w); e.Type != Bookmark {
			return e
		}
	}
}

// seen waits until the cache holds a revision: a record that is replaced before
// the cache has read it is never seen, as the stream keeps one for each object.
func seen(t testing.TB, s *Store, rev uint64) uint64 {
	t.Helper()
	if err := s.wait(timeout(t), rev); err != nil {
		t.Fatal(err)
	}
	return rev
}

func wantChange(t testing.TB, w *Watcher, typ EventType, name string, rev uint64) Event {
	t.Helper()
	e := change1(t, w)
	if e.Type != typ || e.Entry.Key.Name != name || e.Entry.Revision != rev {
		t.Fatalf("event = %d %q@%d, want %d %q@%d", e.Type, e.Entry.Key.Name, e.Entry.Revision, typ, name, rev)
	}
	return e
}

func testWatchFrom(t *testing.T, s *Store) {
	a := seen(t, s, mustCreate(t, s, key("ns", "a"), 1))
	b := seen(t, s, mustCreate(t, s, key("ns", "b"), 1))
	a2 := seen(t, s, mustUpdate(t, s, key("ns", "a"), 2, a))
	w := mustWatch(t, s, WatchSelection{From: a})
	wantChange(t, w, Added, "b", b)
	if e := wantChange(t, w, Modified, "a", a2); e.Previous == nil || e.Previous.Revision != a {
		t.Errorf("previous = %+v, want revision %d", e.Previous, a)
	}
	now := mustWatch(t, s, WatchSelection{From: a2})
	a3 := seen(t, s, mustUpdate(t, s, key("ns", "a"), 3, a2))
	wantChange(t, w, Modified, "a", a3)
	wantChange(t, now, Modified, "a", a3)
}

func testWatchDeleted(t *testing.T, s *Store) {
	a := seen(t, s, mustCreate(t, s, key("ns", "a"), 1))
	w := mustWatch(t, s, WatchSelection{From: a})
	d := seen(t, s, mustDelete(t, s, key("ns", "a"), a))
	e := wantChange(t, w, Deleted, "a", d)
	if string(e.Entry.Data) != string(object("a", 1)) || e.Previous == nil || e.Previous.Revision != a {
		t.Errorf("deletion carries %s, previous %+v", e.Entry.Data, e.Previous)
	}
	again := seen(t, s, mustCreate(t, s, key("ns", "a"), 2))
	wantChange(t, w, Added, "a", again)
}

func testWatchSelectors(t *testing.T, s *Store) {
	start := s.Revision()
	all := WatchSelection{From: start}
	byLabel, byName, byNamespace, byFunc := all, all, all, all
	byLabel.Labels = labels.SelectorFromSet(labels.Set{"app": "x"})
	byName.Namespace, byName.Name = "ns", "b"
	byNamespace.Namespace = "other"
	byFunc.Match = func(e Entry) bool { return e.Header.Labels["app"] == "y" }
	wl, wn, wns, wf := mustWatch(t, s, byLabel), mustWatch(t, s, byName), mustWatch(t, s, byNamespace), mustWatch(t, s, byFunc)

	a1 := seen(t, s, mustCreate(t, s, key("ns", "a"), 1, "app", "x"))
	a2 := seen(t, s, mustUpdate(t, s, key("ns", "a"), 2, a1, "app", "y"))
	a3 := seen(t, s, mustUpdate(t, s, key("ns", "a"), 3, a2, "app", "x"))
	a4 := seen(t, s, mustUpdate(t, s, key("ns", "a"), 4, a3, "app", "x"))
	b1 := seen(t, s, mustCreate(t, s, key("ns", "b"), 1))
	c1 := seen(t, s, mustCreate(t, s, key("other", "c"), 1))

	wantChange(t, wl, Added, "a", a1)
	// It stops to match: deleted, as it was, at the revision of the change.
	if e := wantChange(t, wl, Deleted, "a", a2); string(e.Entry.Data) != string(object("a", 1, "app", "x")) {
		t.Errorf("deletion carries %s", e.Entry.Data)
	}
	wantChange(t, wl, Added, "a", a3)
	wantChange(t, wl, Modified, "a", a4)
	wantChange(t, wn, Added, "b", b1)
	wantChange(t, wns, Added, "c", c1)
	wantChange(t, wf, Added, "a", a2)
	wantChange(t, wf, Deleted, "a", a3)
}

func testWatchFuture(t *testing.T, s *Store) {
	_, err := s.Watch(timeout(t), WatchSelection{Resource: "things.example.io", From: s.Revision() + 1000})
	wantErr(t, err, ErrFuture)
	// A revision that is reached while it waits is none.
	from := s.Revision() + 1
	done := make(chan error, 1)
	go func() {
		w, err := s.Watch(context.Background(), WatchSelection{Resource: "things.example.io", From: from})
		if err == nil {
			w.Stop()
		}
		done <- err
	}()
	mustCreate(t, s, key("ns", "a"), 1)
	if err := <-done; err != nil {
		t.Error(err)
	}
	_, err = s.Watch(timeout(t), WatchSelection{Resource: "things.example.io", MinRevision: s.Revision() + 1000})
	wantErr(t, err, ErrFuture)
}

func testWatchBookmarks(t *testing.T, s *Store) {
	w := mustWatch(t, s, WatchSelection{From: s.Revision()})
	rev := seen(t, s, mustCreate(t, s, Key{Resource: "others", Name: "x"}, 1))
	for {
		e := next(t, w)
		if e.Type != Bookmark || e.Initial {
			t.Fatalf("event = %+v, want a bookmark", e)
		}
		if e.Entry.Revision >= rev {
			break
		}
	}
}

func testWatchMany(t *testing.T, s *Store) {
	const watchers, objects = 50, 40
	from := s.Revision()
	var group sync.WaitGroup
	for i := range watchers {
		w := mustWatch(t, s, WatchSelection{From: from})
		group.Go(func() {
			last := from
			for n := range objects {
				e, err := w.Next(context.Background())
				for err == nil && e.Type == Bookmark {
					e, err = w.Next(context.Background())
				}
				if err != nil {
					t.Errorf("watcher %d: %v", i, err)
					return
				}
				if want := fmt.Sprint(n); e.Entry.Key.Name != want || e.Entry.Revision <= last {
					t.Errorf("watcher %d: %s@%d after %d, want %s", i, e.Entry.Key.Name, e.Entry.Revision, last, want)
				}
				last = e.Entry.Revision
			}
		})
	}
	for n := range objects {
		mustCreate(t, s, key("ns", fmt.Sprint(n)), 1)
	}
	group.Wait()
}

func testWatchSlow(t *testing.T, s *Store) {
	from := s.Revision()
	slow := mustWatch(t, s, WatchSelection{From: from})
	quick := mustWatch(t, s, WatchSelection{From: from})
	elsewhere := mustWatch(t, s, WatchSelection{Resource: "others", From: from})
	var writes []Write
	for i := range s.opts.WatchBuffer + 1 {
		writes = append(writes, Write{Key: key("ns", fmt.Sprintf("%04d", i)), Data: object("x", i)})
	}
	var last uint64
	for _, w := range writes {
		revs, err := s.Batch(timeout(t), []Write{w})
		if err != nil {
			t.Fatal(err)
		}
		last = revs[0]
		wantChange(t, quick, Added, w.Key.Name, last)
	}
	for {
		_, err := slow.Next(timeout(t))
		if err != nil {
			wantErr(t, err, ErrSlow)
			break
		}
	}
	// It resumes, and nothing is lost.
	again := mustWatch(t, s, WatchSelection{From: from})
	for _, w := range writes {
		if e := change1(t, again); e.Entry.Key != w.Key {
			t.Fatalf("resumed at %s, want %s", e.Entry.Key, w.Key)
		}
	}
	x := seen(t, s, mustCreate(t, s, Key{Resource: "others", Name: "x"}, 1))
	wantChange(t, elsewhere, Added, "x", x)
}

func testWatchStop(t *testing.T, s *Store) {
	w := mustWatch(t, s, WatchSelection{From: s.Revision()})
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := w.Next(context.Background()); err != nil {
				done <- err
				return
			}
		}
	}()
	w.Stop()
	w.Stop()
	wantErr(t, <-done, ErrStopped)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	other := mustWatch(t, s, WatchSelection{From: s.Revision()})
	for {
		if _, err := other.Next(ctx); err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v", err)
			}
			break
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := len(s.watchers["things.example.io"]); n != 1 {
		t.Errorf("%d watchers are registered, want 1", n)
	}
}
