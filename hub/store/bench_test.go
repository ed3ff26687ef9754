// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/labels"
)

// sized is an object of about 1 KiB.
func sized(name string, value int) []byte {
	return fmt.Appendf(nil,
		`{"apiVersion":"example.io/v1","kind":"Thing","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","generation":1,"labels":{"app":"x%d"},"name":%q,"uid":"0d3ed9b1-6a2c-4c59-8d5f-0f6c9a1e7b11"},"spec":{"text":%q,"value":%d}}`,
		value%10, name, strings.Repeat("x", 800), value)
}

// fill stores n objects of about 1 KiB.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	for start := 0; start < n; start += 500 {
		var writes []Write
		for i := start; i < min(start+500, n); i++ {
			name := fmt.Sprintf("object-%06d", i)
			writes = append(writes, Write{Key: key(fmt.Sprintf("ns-%d", i%10), name), Data: sized(name, i)})
		}
		if _, err := s.Batch(timeout(t), writes); err != nil {
			t.Fatal(err)
		}
	}
	mustList(t, s, Selection{Resource: "things.example.io", Limit: 1})
}

// TestLoad reports how long a start with 10,000 objects takes, and their memory.
func TestLoad(t *testing.T) {
	const objects = 10_000
	b := newBroker(t)
	s, stop := b.open(Options{Log: zap.NewNop()})
	fill(t, s, objects)
	stop()
	s = nil
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	s, err := Open(timeout(t), b.js, Options{})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("loaded %d objects in %v, %d bytes each", s.cache.objects, took,
		(int64(after.HeapAlloc)-int64(before.HeapAlloc))/objects)
	if s.cache.objects != objects {
		t.Errorf("loaded %d objects, want %d", s.cache.objects, objects)
	}
}

func benchStore(b *testing.B) *Store {
	s, _ := newBroker(b).open(Options{Log: zap.NewNop()})
	return s
}

func BenchmarkCreate(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := benchStore(b)
			var n atomic.Int64
			var group sync.WaitGroup
			b.ResetTimer()
			for range writers {
				group.Go(func() {
					for {
						i := int(n.Add(1))
						if i > b.N {
							return
						}
						name := fmt.Sprintf("object-%d", i)
						if _, err := s.Create(context.Background(), key("ns", name), sized(name, i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	s := benchStore(b)
	k := key("ns", "a")
	rev := mustCreate(b, s, k, 0)
	b.ResetTimer()
	for i := range b.N {
		var err error
		if rev, err = s.Update(context.Background(), k, sized("a", i), rev); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func BenchmarkBatch100(b *testing.B) {
	s := benchStore(b)
	b.ResetTimer()
	for i := range b.N {
		writes := make([]Write, 100)
		for n := range writes {
			name := fmt.Sprintf("object-%d-%d", i, n)
			writes[n] = Write{Key: key("ns", name), Data: sized(name, i)}
		}
		if _, err := s.Batch(context.Background(), writes); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

// BenchmarkBatchStatus is what a controller does each tick: the next state of
// many objects, each write named by its revision, and all on the disk when the
// batch is answered. The server syncs.
func BenchmarkBatchStatus(b *testing.B) {
	const objects = 10_000
	for _, size := range []int{100, 500, MaxBatch} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := benchStore(b)
			fill(b, s, objects)
			page := mustList(b, s, Selection{Resource: "things.example.io"})
			revisions := make([]uint64, objects)
			for i, e := range page.Entries {
				revisions[i] = e.Revision
			}
			b.ResetTimer()
			for n := range b.N {
				writes := make([]Write, size)
				at := n * size % objects
				for i := range writes {
					e := page.Entries[at+i]
					writes[i] = Write{Key: e.Key, Data: sized(e.Key.Name, n), Revision: revisions[at+i]}
				}
				acked, err := s.Batch(context.Background(), writes)
				if err != nil {
					b.Fatal(err)
				}
				copy(revisions[at:], acked)
			}
			b.StopTimer()
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			for i, e := range page.Entries {
				last, err := s.Get(context.Background(), e.Key)
				if err != nil || last.Revision != revisions[i] {
					b.Fatalf("%s is at %d, %v; acknowledged was %d", e.Key, last.Revision, err, revisions[i])
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	fill(b, s, 100)
	b.ResetTimer()
	for range b.N {
		if _, err := s.Get(context.Background(), key("ns-0", "object-000000")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList10000(b *testing.B) {
	s := benchStore(b)
	fill(b, s, 10_000)
	for _, bb := range []struct {
		name string
		sel  Selection
	}{
		{"consistent", Selection{}},
		{"cached", Selection{MinRevision: Any}},
		{"limit=500", Selection{MinRevision: Any, Limit: 500}},
		{"label", Selection{MinRevision: Any, Labels: labels.SelectorFromSet(labels.Set{"app": "x3"})}},
		{"namespace", Selection{MinRevision: Any, Namespace: "ns-3"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			bb.sel.Resource = "things.example.io"
			for range b.N {
				if _, err := s.List(context.Background(), bb.sel); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWatch200 is the time from the start of a write until 200 watchers have its event.
func BenchmarkWatch200(b *testing.B) {
	const watchers = 200
	s := benchStore(b)
	k := key("ns", "a")
	rev := seen(b, s, mustCreate(b, s, k, 0))
	got := make(chan struct{}, watchers)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for range watchers {
		w := mustWatch(b, s, WatchSelection{From: rev})
		group.Go(func() {
			for {
				if _, err := w.Next(ctx); err != nil {
					return
				}
				got <- struct{}{}
			}
		})
	}
	b.ResetTimer()
	for i := range b.N {
		var err error
		if rev, err = s.Update(context.Background(), k, sized("a", i), rev); err != nil {
			b.Fatal(err)
		}
		for range watchers {
			<-got
		}
	}
	b.StopTimer()
	cancel()
	group.Wait()
}
