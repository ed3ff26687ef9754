// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestRestart(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	dir := t.TempDir()
	s, stop := b.open(Options{Dir: dir})
	a := mustCreate(t, s, key("ns", "a"), 1)
	quiet := mustCreate(t, s, Key{Resource: "others", Name: "x"}, 1)
	g := mustCreate(t, s, key("ns", "gone"), 1)
	d := mustDelete(t, s, key("ns", "gone"), g)
	identity := s.Identity()
	stop()
	b.stop()
	b.start()

	s, _ = b.open(Options{Dir: dir})
	if s.Identity() != identity {
		t.Errorf("identity = %s, was %s", s.Identity(), identity)
	}
	if e, ok := s.Cached(key("ns", "a")); !ok || e.Revision != a {
		t.Errorf("a = %d, %v, want %d", e.Revision, ok, a)
	}
	if s.Revision() != d {
		t.Errorf("revision = %d, was %d", s.Revision(), d)
	}
	// Who saw the last change goes on; who did not must list again.
	things := mustWatch(t, s, WatchSelection{From: d})
	others := mustWatch(t, s, WatchSelection{Resource: "others", From: quiet})
	for _, from := range []uint64{a, g, d - 1} {
		_, err := s.Watch(timeout(t), WatchSelection{Resource: "things.example.io", From: from})
		wantErr(t, err, ErrExpired)
	}
	_, err := s.Watch(timeout(t), WatchSelection{Resource: "others", From: quiet - 1})
	wantErr(t, err, ErrExpired)
	x := mustCreate(t, s, key("ns", "gone"), 2)
	y := mustUpdate(t, s, Key{Resource: "others", Name: "x"}, 2, quiet)
	wantChange(t, things, Added, "gone", x)
	wantChange(t, others, Modified, "x", y)
}

// TestContinueAfterRestart: a continue token of a process that is gone works
// while nothing has changed, and is expired afterwards.
func TestContinueAfterRestart(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, stop := b.open(Options{})
	for i := range 4 {
		mustCreate(t, s, key("ns", fmt.Sprint(i)), 1)
	}
	sel := Selection{Resource: "things.example.io", Limit: 2}
	sel.Continue = mustList(t, s, sel).Continue
	stop()
	s, _ = b.open(Options{})
	if got := names(mustList(t, s, sel)); len(got) != 2 || got[0] != "ns/2" {
		t.Errorf("second page = %v", got)
	}
	seen(t, s, mustCreate(t, s, key("ns", "new"), 1))
	// The state listed a moment ago is not kept: it was a last page.
	_, err := s.List(timeout(t), sel)
	wantErr(t, err, ErrExpired)
}

// TestMarkerExpiry: a deletion the stream no longer knows must not be missed.
func TestMarkerExpiry(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	opts := Options{MarkerTTL: 2 * time.Second}
	s, stop := b.open(opts)
	a := seen(t, s, mustCreate(t, s, key("ns", "a"), 1))
	d := seen(t, s, mustDelete(t, s, key("ns", "a"), a))
	eventually(t, "the floor is recorded", func() bool {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.cache.floor >= d
	})
	eventually(t, "the marker is gone", func() bool {
		last, err := s.last(timeout(t), "things/example/io.ns.a")
		return err == nil && last.revision == 0
	})
	last := s.Revision()
	// This process has seen the deletion.
	w := mustWatch(t, s, WatchSelection{From: a})
	wantChange(t, w, Deleted, "a", d)
	stop()
	s, stop = b.open(opts)
	if s.Revision() < last {
		t.Errorf("revision = %d, was %d", s.Revision(), last)
	}
	_, err := s.Watch(timeout(t), WatchSelection{Resource: "things.example.io", From: a})
	wantErr(t, err, ErrExpired)
	mustCreate(t, s, key("ns", "a"), 2)
	stop()

	// Nobody recorded a floor for long: trust nothing.
	eventually(t, "the floor record is old", func() bool {
		c, err := s.load(timeout(t))
		return err == nil && c.oldest == c.revision
	})
}

// TestLostTail: a stream behind the high-water mark never gives a revision twice.
func TestLostTail(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	dir := t.TempDir()
	s, stop := b.open(Options{Dir: dir})
	mustCreate(t, s, key("ns", "kept"), 1)
	stop()
	b.stop()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	b.start()
	s, stop = b.open(Options{Dir: dir})
	lost := mustCreate(t, s, key("ns", "lost"), 1)
	seen(t, s, lost)
	other := seen(t, s, mustCreate(t, s, Key{Resource: "others", Name: "x"}, 1))
	identity := s.Identity()
	stop()
	b.stop()

	b.dir = backup
	b.start()
	s, stop = b.open(Options{Dir: dir})
	if s.Identity() == identity {
		t.Error("identity did not change")
	}
	if s.Revision() <= other {
		t.Errorf("revision = %d, %d was given before", s.Revision(), other)
	}
	wantExpired(t, s, lost, other)
	if _, ok := s.Cached(key("ns", "kept")); !ok {
		t.Error("object is missing")
	}
	if rev := mustCreate(t, s, key("ns", "new"), 1); rev <= lost {
		t.Errorf("revision %d was given before", rev)
	}
	stop()
	b.stop()

	// The whole stream is gone.
	b.dir = t.TempDir()
	last := s.Revision()
	b.start()
	s, stop = b.open(Options{Dir: dir})
	wantExpired(t, s, lost, other, last)
	rev := mustCreate(t, s, key("ns", "new"), 1)
	if rev <= last {
		t.Errorf("revision %d was given before", rev)
	}
	stop()
	s, _ = b.open(Options{Dir: dir})
	if e, ok := s.Cached(key("ns", "new")); !ok || e.Revision != rev {
		t.Errorf("opened again: %d, %v, want %d", e.Revision, ok, rev)
	}
}

// wantExpired: what these revisions saw is lost, so nobody may continue from them,
// least of all for a resource that has no objects any more.
func wantExpired(t testing.TB, s *Store, revisions ...uint64) {
	t.Helper()
	for _, from := range revisions {
		for _, resource := range []string{"things.example.io", "others"} {
			_, err := s.Watch(timeout(t), WatchSelection{Resource: resource, From: from})
			wantErr(t, err, ErrExpired)
		}
	}
}

// TestExport: all objects at one revision, whatever is written meanwhile.
func TestExport(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, _ := b.open(Options{After: 1 << 47})
	a := mustCreate(t, s, key("ns", "a"), 1)
	if a <= 1<<47 {
		t.Errorf("revision = %d", a)
	}
	mustCreate(t, s, Key{Resource: "others", Name: "x"}, 1)
	gone := mustCreate(t, s, key("ns", "gone"), 1)
	last := mustDelete(t, s, key("ns", "gone"), gone)
	objects, revision, err := s.Export(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if revision != last {
		t.Errorf("exported revision %d, want %d", revision, last)
	}
	seen(t, s, mustUpdate(t, s, key("ns", "a"), 2, a))
	seen(t, s, mustCreate(t, s, key("ns", "b"), 1))
	for range 2 {
		var got []string
		for e := range objects {
			got = append(got, fmt.Sprint(e.Key, " ", e.Revision == a, " ", string(e.Data) == string(object("a", 1))))
		}
		want := []string{"others x false false", "things.example.io ns/a true true"}
		if !slices.Equal(got, want) {
			t.Errorf("exported %q, want %q", got, want)
		}
	}
}

// TestReplicas: two stores on one stream; clients may hop between them.
func TestReplicas(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	one, _ := b.open(Options{})
	two, _ := b.open(Options{})
	if one.Identity() != two.Identity() {
		t.Errorf("identities %s and %s", one.Identity(), two.Identity())
	}
	var last uint64
	for i := range 50 {
		rev := mustCreate(t, one, key("ns", fmt.Sprintf("%02d", i)), i)
		page := mustList(t, two, Selection{Resource: "things.example.io"})
		if len(page.Entries) != i+1 || page.Revision < rev {
			t.Fatalf("list at %d misses revision %d", page.Revision, rev)
		}
		last = page.Revision
	}
	w := mustWatch(t, one, WatchSelection{From: last})
	rev := mustUpdate(t, two, key("ns", "00"), 7, mustGet(t, two, key("ns", "00")))
	wantChange(t, w, Modified, "00", rev)
	_, err := one.Update(timeout(t), key("ns", "00"), object("00", 8), rev-1)
	wantErr(t, err, ErrConflict)
	gone := mustDelete(t, two, key("ns", "00"), rev)
	wantChange(t, w, Deleted, "00", gone)
	mustCreate(t, one, key("ns", "00"), 9)
}

func mustGet(t testing.TB, s *Store, k Key) uint64 {
	t.Helper()
	e, err := s.Get(timeout(t), k)
	if err != nil {
		t.Fatal(err)
	}
	return e.Revision
}

// TestReplaced: the stream is deleted and made anew below a running store.
func TestReplaced(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, _ := b.open(Options{StallAfter: 200 * time.Millisecond})
	for i := range 20 {
		mustCreate(t, s, key("ns", fmt.Sprint(i)), 1)
	}
	before := s.Revision()
	identity := s.Identity()
	w := mustWatch(t, s, WatchSelection{From: before})
	if err := b.js.DeleteStream(timeout(t), "KV_objects"); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Next(timeout(t)); err != nil {
			wantErr(t, err, ErrExpired)
			break
		}
	}
	eventually(t, "the store works again", func() bool {
		_, err := s.List(timeout(t), Selection{Resource: "things.example.io"})
		return err == nil
	})
	if s.Identity() == identity {
		t.Error("identity did not change")
	}
	if rev := mustCreate(t, s, key("ns", "a"), 1); rev <= before {
		t.Errorf("revision %d was given before", rev)
	}
	if got := names(mustList(t, s, Selection{Resource: "things.example.io"})); len(got) != 1 {
		t.Errorf("list = %v, want one object", got)
	}
}

// TestConsumerLost: the feed's consumer disappears; watches go on.
func TestConsumerLost(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, _ := b.open(Options{StallAfter: 500 * time.Millisecond})
	w := mustWatch(t, s, WatchSelection{From: s.Revision()})
	for i := range 5 {
		stream, err := b.js.Stream(timeout(t), "KV_objects")
		if err != nil {
			t.Fatal(err)
		}
		for name := range stream.ConsumerNames(timeout(t)).Name() {
			if err := stream.DeleteConsumer(timeout(t), name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				t.Fatal(err)
			}
		}
		rev := mustCreate(t, s, key("ns", fmt.Sprint(i)), 1)
		wantChange(t, w, Added, fmt.Sprint(i), rev)
	}
}
