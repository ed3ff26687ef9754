// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package histogram counts values by size, for figures that others read.
package histogram

import (
	"math"
	"sort"
	"sync/atomic"
)

// Histogram counts values. It is safe for concurrent use.
type Histogram struct {
	bounds []float64
	counts []atomic.Uint64 // one more than bounds: the last is of what is above all
	sum    atomic.Uint64   // bits of a float64
}

// New returns an empty Histogram. A value belongs to the first bound that is not
// below it; bounds ascend.
func New(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts one value.
func (h *Histogram) Observe(value float64) {
	h.counts[sort.SearchFloat64s(h.bounds, value)].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			return
		}
	}
}

// Snapshot is what a Histogram holds at one moment.
type Snapshot struct {
	Bounds []float64
	// Counts are of each bound alone, and at the end of what is above all.
	Counts []uint64
	Sum    float64
}

// Read returns the counts so far. Values counted meanwhile may be in them or not.
func (h *Histogram) Read() Snapshot {
	s := Snapshot{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: math.Float64frombits(h.sum.Load())}
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	return s
}
