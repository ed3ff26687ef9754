// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"
)

// TestOutage: the server goes away and comes back while there are watches and
// writes; writes wait for it, watches go on.
func TestOutage(t *testing.T) {
	t.Parallel()
	b := &broker{t: t, dir: t.TempDir()}
	srv, err := startServer(b.dir, server.RANDOM_PORT)
	if err != nil {
		t.Fatal(err)
	}
	url := srv.ClientURL()
	port := srv.Addr().(*net.TCPAddr).Port
	b.nc, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer b.nc.Close()
	if b.js, err = jetstream.New(b.nc); err != nil {
		t.Fatal(err)
	}
	s, err := Open(timeout(t), b.js, Options{StallAfter: 500 * time.Millisecond, Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	w := mustWatch(t, s, WatchSelection{From: s.Revision()})

	const writes = 60
	var acked [writes]uint64
	done := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		for i := range writes {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			rev, err := s.Create(ctx, key("ns", fmt.Sprint(i)), object("x", i))
			cancel()
			if err != nil {
				done <- fmt.Errorf("write %d: %w", i, err)
				return
			}
			acked[i] = rev
			if i == 10 {
				close(began)
			}
		}
		done <- nil
	}()
	<-began
	for range 2 {
		srv.Shutdown()
		srv.WaitForShutdown()
		if srv, err = startServer(b.dir, port); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a write passes", func() bool {
			_, err := s.Get(timeout(t), key("ns", "0"))
			return err == nil
		})
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i, rev := range acked {
		wantChange(t, w, Added, fmt.Sprint(i), rev)
	}
}

// TestConsumerStalled: the feed's consumer is there but delivers nothing.
func TestConsumerStalled(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, _ := b.open(Options{StallAfter: 200 * time.Millisecond})
	w := mustWatch(t, s, WatchSelection{From: s.Revision()})
	stream, err := b.js.Stream(timeout(t), "KV_objects")
	if err != nil {
		t.Fatal(err)
	}
	paused := 0
	eventually(t, "the consumer is paused", func() bool {
		for name := range stream.ConsumerNames(timeout(t)).Name() {
			if _, err := b.js.PauseConsumer(timeout(t), "KV_objects", name, time.Now().Add(time.Hour)); err == nil {
				paused++
			}
		}
		return paused > 0
	})
	rev := mustCreate(t, s, key("ns", "a"), 1)
	wantChange(t, w, Added, "a", rev)
}

// TestPurged: somebody removes all records by hand.
func TestPurged(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	s, _ := b.open(Options{StallAfter: 200 * time.Millisecond})
	rev := seen(t, s, mustCreate(t, s, key("ns", "a"), 1))
	w := mustWatch(t, s, WatchSelection{From: rev})
	stream, err := b.js.Stream(timeout(t), "KV_objects")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(timeout(t), jetstream.WithPurgeSubject("$KV.objects.>")); err != nil {
		t.Fatal(err)
	}
	_, err = w.Next(timeout(t))
	wantErr(t, err, ErrExpired)
	eventually(t, "the store is empty", func() bool {
		page, err := s.List(timeout(t), Selection{Resource: "things.example.io"})
		return err == nil && len(page.Entries) == 0
	})
	if _, err := s.Watch(timeout(t), WatchSelection{Resource: "things.example.io", From: rev}); err == nil {
		t.Error("a watch continues over the purge")
	}
}

// TestRecreatedUnseen: the cache sees only the second of two objects of one name.
func TestRecreatedUnseen(t *testing.T) {
	t.Parallel()
	c := newCache(10, 1<<20)
	k := key("ns", "a")
	c.apply(k, message{seq: 5, data: []byte("1")}, Header{UID: "one"}, true)
	got := c.apply(k, message{seq: 9, data: []byte("2")}, Header{UID: "two"}, true)
	if len(got) != 2 || got[0].typ != Deleted || got[0].revision != 8 || got[0].entry.Header.UID != "one" ||
		got[1].typ != Added || got[1].revision != 9 || got[1].previous != nil {
		t.Errorf("changes = %+v", got)
	}
	if after := c.since(k.Resource, 8); len(after) != 1 || after[0].typ != Added {
		t.Errorf("changes after the deletion = %+v", after)
	}
	// A deletion of what was never seen: watches of before must list again.
	c.apply(key("ns", "b"), message{seq: 12, deleted: true}, Header{}, true)
	if got := c.floorOf(k.Resource); got != 12 {
		t.Errorf("floor = %d, want 12", got)
	}
}

// TestHistoryBounds: a watch resumes from what is kept, and not from before.
func TestHistoryBounds(t *testing.T) {
	t.Parallel()
	s, _ := newBroker(t).open(Options{History: 3})
	var revs []uint64
	for i := range 6 {
		revs = append(revs, seen(t, s, mustCreate(t, s, key("ns", fmt.Sprint(i)), 1)))
	}
	w := mustWatch(t, s, WatchSelection{From: revs[2]})
	for i := 3; i < 6; i++ {
		wantChange(t, w, Added, fmt.Sprint(i), revs[i])
	}
	_, err := s.Watch(timeout(t), WatchSelection{Resource: "things.example.io", From: revs[1]})
	wantErr(t, err, ErrExpired)
}
