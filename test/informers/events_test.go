// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package informers

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/drover-io/drover/test/local"
)

const (
	events   = 10_000
	resumeIn = 900 // events after which the watch is broken off and resumed
)

// TestEvents follows ten thousand writes of 16 clients with one watch, broken off
// and resumed again and again: it delivers every revision that was acknowledged,
// once, in order. Each object is written twice with much in between, since of an
// object that changes faster than it can be read only the last state is promised.
func TestEvents(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	k := kinds()[1]
	c := newClient(t, h)
	begin, err := k.of(c).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan []uint64, 1)
	go func() { seen <- collect(t, k.of(newClient(t, h)), begin.GetResourceVersion()) }()

	acked := map[uint64]bool{}
	var mu sync.Mutex
	write := func(do func(ctx context.Context, to dynamic.ResourceInterface, name string) (*unstructured.Unstructured, error)) {
		err := concurrently(t, h, k, events/2, func(ctx context.Context, to dynamic.ResourceInterface, i int) error {
			u, err := do(ctx, to, fmt.Sprintf("event-%d", i))
			if err != nil {
				return err
			}
			rev, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
			mu.Lock()
			defer mu.Unlock()
			if acked[rev] {
				return fmt.Errorf("revision %d was given twice", rev)
			}
			acked[rev] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write(func(ctx context.Context, to dynamic.ResourceInterface, name string) (*unstructured.Unstructured, error) {
		return to.Create(ctx, k.object(name), metav1.CreateOptions{})
	})
	write(func(ctx context.Context, to dynamic.ResourceInterface, name string) (*unstructured.Unstructured, error) {
		return to.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	})
	got := <-seen
	if len(got) != events || len(acked) != events {
		t.Fatalf("%d events of %d acknowledged writes, want %d", len(got), len(acked), events)
	}
	for i, rev := range got {
		if !acked[rev] {
			t.Fatalf("event %d has revision %d, which no write got", i, rev)
		}
		if i > 0 && rev <= got[i-1] {
			t.Fatalf("revision %d came after %d", rev, got[i-1])
		}
	}
}

// collect watches until it has all events, and returns their revisions.
func collect(t *testing.T, from dynamic.ResourceInterface, revision string) []uint64 {
	var got []uint64
	for len(got) < events && t.Context().Err() == nil {
		w, err := from.Watch(t.Context(), metav1.ListOptions{ResourceVersion: revision})
		if err != nil {
			t.Errorf("watch from %s: %v", revision, err)
			return got
		}
		for n := 0; n < resumeIn && len(got) < events; n++ {
			ev, ok := <-w.ResultChan()
			u, isObject := ev.Object.(*unstructured.Unstructured)
			if !ok || !isObject || ev.Type == watch.Error {
				t.Errorf("watch from %s ended: %v", revision, ev.Object)
				w.Stop()
				return got
			}
			revision = u.GetResourceVersion()
			rev, err := strconv.ParseUint(revision, 10, 64)
			if err != nil {
				t.Error(err)
			}
			got = append(got, rev)
		}
		w.Stop()
	}
	return got
}

// concurrently spreads count writes over 16 clients.
func concurrently(t *testing.T, h *local.Hub, k kind, count int, do func(ctx context.Context, to dynamic.ResourceInterface, i int) error) error {
	t.Helper()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	for range 16 {
		to := k.of(newClient(t, h))
		g.Go(func() error {
			for i := next.Add(1); i <= int64(count); i = next.Add(1) {
				if err := do(ctx, to, int(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
