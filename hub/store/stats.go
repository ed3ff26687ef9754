// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync/atomic"
	"time"

	"github.com/drover-io/drover/shared/histogram"
)

// Stats are the figures of a store at one moment. Totals count since Open.
type Stats struct {
	Revision uint64
	Objects  int
	Bytes    int64 // of all objects as stored

	// The watch cache: changes kept to resume watches from, their size in bytes,
	// and states kept for lists in pages.
	Kept      int
	KeptBytes int64
	Snapshots int
	// Loads is how often all was read again because the stream was another one,
	// Feeds how often its consumer was made anew.
	Loads, Feeds uint64

	Watchers int
	Sent     uint64 // changes handed to watchers
	Slow     uint64 // watchers ended with ErrSlow

	// Commits is how long in seconds the stream took to store one write or one
	// batch, Batches how many writes it stored at once. Refused are writes, or
	// batches of them, that compare-and-set refused.
	Commits histogram.Snapshot
	Batches histogram.Snapshot
	Refused uint64
}

// counters are the totals of Stats.
type counters struct {
	loads, feeds, sent, slow, refused atomic.Uint64
	commits, batches                  *histogram.Histogram
}

func newCounters() counters {
	return counters{
		commits: histogram.New(.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10),
		batches: histogram.New(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000),
	}
}

// stored notes a commit of n writes.
func (c *counters) stored(n int, began time.Time) {
	c.commits.Observe(time.Since(began).Seconds())
	c.batches.Observe(float64(n))
}

// Stats returns the figures of now.
func (s *Store) Stats() Stats {
	out := Stats{
		Loads: s.counters.loads.Load(), Feeds: s.counters.feeds.Load(),
		Sent: s.counters.sent.Load(), Slow: s.counters.slow.Load(),
		Commits: s.counters.commits.Read(), Batches: s.counters.batches.Read(), Refused: s.counters.refused.Load(),
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out.Revision, out.Objects, out.Bytes = s.cache.revision, s.cache.objects, s.cache.bytes
	for _, r := range s.cache.resources {
		out.Kept += len(r.recent)
		out.KeptBytes += int64(r.bytes)
	}
	out.Snapshots = len(s.snapshots)
	for _, watchers := range s.watchers {
		out.Watchers += len(watchers)
	}
	return out
}
