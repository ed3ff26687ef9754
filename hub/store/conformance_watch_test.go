// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/labels"
)

// testWatchScopes: a watch sees its namespace and name and nothing beside them.
func testWatchScopes(t *testing.T, s *Store) {
	from := seen(t, s, mustCreate(t, s, Key{Resource: "others", Name: "first"}, 0))
	for _, k := range []Key{key("a", "b"), key("a", "c"), key("ab", "b"), key("a-b", "b"), key("", "b")} {
		if _, err := s.Create(timeout(t), k, object(k.Name, 1, "n", k.Namespace)); err != nil {
			t.Fatal(err)
		}
	}
	mustList(t, s, Selection{Resource: things}) // the cache has them all
	for _, tt := range []struct {
		sel  WatchSelection
		want []string
	}{
		{WatchSelection{}, []string{"a/b", "a/c", "ab/b", "a-b/b", "/b"}},
		{WatchSelection{Namespace: "a"}, []string{"a/b", "a/c"}},
		{WatchSelection{Namespace: "a", Name: "b"}, []string{"a/b"}},
		{WatchSelection{Name: "b"}, []string{"a/b", "ab/b", "a-b/b", "/b"}},
		{WatchSelection{Labels: labels.SelectorFromSet(labels.Set{"n": "a-b"})}, []string{"a-b/b"}},
		{WatchSelection{Namespace: "a", Match: func(e Entry) bool { return e.Key.Name == "c" }}, []string{"a/c"}},
		{WatchSelection{Namespace: "nothing"}, nil},
	} {
		tt.sel.Resource, tt.sel.From = things, from
		w := mustWatch(t, s, tt.sel)
		var got []string
		for range tt.want {
			e := change1(t, w)
			got = append(got, e.Entry.Key.Namespace+"/"+e.Entry.Key.Name)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%+v: %s", tt.sel, d)
		}
		if e, ok, err := w.Ready(); ok && e.Type != Bookmark {
			t.Errorf("%+v: one more: %v %v", tt.sel, e.Entry.Key, err)
		}
	}
}

// testWatchOrder: with many writers a watch delivers every acknowledged write of
// its own object once, in the order of the revisions, and a second watch the same.
func testWatchOrder(t *testing.T, s *Store) {
	const writers, each = 8, 4
	from := seen(t, s, mustCreate(t, s, Key{Resource: "others", Name: "first"}, 0))
	watches := []*Watcher{mustWatch(t, s, WatchSelection{From: from}), mustWatch(t, s, WatchSelection{From: from})}
	var mu sync.Mutex
	acked := map[uint64]string{}
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for i := range each {
				name := fmt.Sprintf("w%d-%d", writer, i)
				rev, err := s.Create(context.Background(), key("ns", name), object(name, i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[rev] = name
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if len(acked) != writers*each {
		t.Fatalf("%d revisions for %d writes", len(acked), writers*each)
	}
	for i, w := range watches {
		last := from
		for range writers * each {
			e := change1(t, w)
			if e.Entry.Revision <= last || acked[e.Entry.Revision] != e.Entry.Key.Name {
				t.Errorf("watch %d: %s@%d after %d, acknowledged is %q", i, e.Entry.Key, e.Entry.Revision, last, acked[e.Entry.Revision])
			}
			last = e.Entry.Revision
		}
	}
}

// testWatchResume: a watch broken off after any event and resumed there misses
// nothing and sees nothing twice.
func testWatchResume(t *testing.T, s *Store) {
	k := key("ns", "a")
	from := seen(t, s, mustCreate(t, s, Key{Resource: "others", Name: "first"}, 0))
	var want []uint64
	for i := range 3 {
		rev := seen(t, s, mustCreate(t, s, k, i))
		want = append(want, rev)
		rev = seen(t, s, mustUpdate(t, s, k, i+100, rev))
		want = append(want, rev, seen(t, s, mustDelete(t, s, k, rev)))
	}
	for start := range want {
		at := from
		if start > 0 {
			at = want[start-1]
		}
		var got []uint64
		for len(got) < len(want)-start {
			w := mustWatch(t, s, WatchSelection{From: at})
			e := change1(t, w)
			w.Stop()
			at = e.Entry.Revision
			got = append(got, at)
		}
		if d := cmp.Diff(want[start:], got); d != "" {
			t.Errorf("from %d: %s", start, d)
		}
	}
}

// testWatchCancel: the end of the context ends the wait, not the watch; what
// comes then is not lost.
func testWatchCancel(t *testing.T, s *Store) {
	from := seen(t, s, mustCreate(t, s, key("ns", "a"), 0))
	w := mustWatch(t, s, WatchSelection{From: from})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		e, err := w.Next(ctx)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil || e.Type != Bookmark {
			t.Fatalf("next = %v, %v", e, err)
		}
	}
	rev := mustCreate(t, s, key("ns", "b"), 0)
	wantChange(t, w, Added, "b", rev)
}

// testWatchReady: Ready is Next for who has something else to do.
func testWatchReady(t *testing.T, s *Store) {
	rev := seen(t, s, mustCreate(t, s, key("ns", "a"), 0))
	w := mustWatch(t, s, WatchSelection{})
	for _, want := range []EventType{Added, Bookmark} {
		e, ok, err := w.Ready()
		if !ok || err != nil || e.Type != want || !e.Initial {
			t.Fatalf("ready = %v, %v, %v, want initial %d", e, ok, err, want)
		}
	}
	rev = mustUpdate(t, s, key("ns", "a"), 1, rev)
	eventually(t, "the change is there", func() bool {
		e, ok, err := w.Ready()
		if err != nil {
			t.Fatal(err)
		}
		return ok && e.Type == Modified && e.Entry.Revision == rev
	})
	w.Stop()
	if _, ok, err := w.Ready(); !ok || !errors.Is(err, ErrStopped) {
		t.Errorf("after Stop: %v, %v", ok, err)
	}
}

// TestCompaction: with a history of a few changes an old revision can neither be
// watched from nor listed, and the error says so; the newest can.
func TestCompaction(t *testing.T) {
	t.Parallel()
	s, _ := newBroker(t).open(Options{History: 3, Log: zap.NewNop()})
	k := key("ns", "a")
	rev := mustCreate(t, s, k, 0)
	old := rev
	var revs []uint64
	for i := range 6 {
		rev = seen(t, s, mustUpdate(t, s, k, i, rev))
		revs = append(revs, rev)
	}
	_, err := s.Watch(timeout(t), WatchSelection{Resource: things, From: old})
	wantErr(t, err, ErrExpired)
	_, err = s.List(timeout(t), Selection{Resource: things, MinRevision: old, Exact: true})
	wantErr(t, err, ErrExpired)
	// A list that wants at least an old revision gets the newest.
	if page := mustList(t, s, Selection{Resource: things, MinRevision: old}); page.Revision < rev {
		t.Errorf("list at %d, want at least %d", page.Revision, rev)
	}
	w := mustWatch(t, s, WatchSelection{From: revs[2]})
	for _, want := range revs[3:] {
		wantChange(t, w, Modified, "a", want)
	}
	// Another resource has a history of its own.
	mustWatch(t, s, WatchSelection{Resource: "others", From: old})
}
