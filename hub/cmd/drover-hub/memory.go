// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	smallHeap    = 64 << 20 // bytes
	smallPercent = 25
	largePercent = 100
	// heapLook is how often the heap is looked at.
	heapLook = 2 * time.Second
	// heapBusy is the part of one processor from which collecting garbage is
	// worth memory, and heapCalm how long it must be less before it is not.
	heapBusy = 0.03
	heapCalm = time.Minute

	liveBytes      = "/gc/heap/live:bytes"
	collectSeconds = "/cpu/classes/gc/total:cpu-seconds"
)

// tuneHeap spends processor time on memory while the hub is small and has little
// to do, when both cost little, and the other way round when a large fleet makes
// its heap large, or much to do makes much garbage. An operator who sets GOGC
// decides for himself.
func tuneHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	samples := []metrics.Sample{{Name: liveBytes}, {Name: collectSeconds}}
	t := time.NewTicker(heapLook)
	defer t.Stop()
	var collected float64
	var busy time.Time // when collecting last cost much
	for percent := 0; ; {
		metrics.Read(samples)
		live, seconds := samples[0].Value.Uint64(), samples[1].Value.Float64()
		if percent != 0 && seconds-collected > heapBusy*heapLook.Seconds() {
			busy = time.Now()
		}
		collected = seconds
		want := smallPercent
		if live > smallHeap || time.Since(busy) < heapCalm {
			want = largePercent
		}
		if want != percent {
			if want < percent {
				debug.FreeOSMemory() // what it was allowed to grow to
			}
			percent = want
			debug.SetGCPercent(percent)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
