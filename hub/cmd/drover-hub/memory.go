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
	heapLook     = 30 * time.Second
	liveBytes    = "/gc/heap/live:bytes"
)

// tuneHeap spends processor time on memory while the heap is small, where both
// cost little, and the other way round when a large fleet makes it large. An
// operator who sets GOGC decides for himself.
func tuneHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: liveBytes}}
	t := time.NewTicker(heapLook)
	defer t.Stop()
	for percent := 0; ; {
		metrics.Read(sample)
		want := smallPercent
		if sample[0].Value.Kind() == metrics.KindUint64 && sample[0].Value.Uint64() > smallHeap {
			want = largePercent
		}
		if want != percent {
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
