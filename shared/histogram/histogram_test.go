// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package histogram

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	h := New(1, 2, 4)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for _, v := range []float64{0, 1, 1.5, 2, 3, 4, 5, 100} {
				h.Observe(v)
			}
		})
	}
	group.Wait()
	want := Snapshot{Bounds: []float64{1, 2, 4}, Counts: []uint64{8, 8, 8, 8}, Sum: 4 * 116.5}
	if d := cmp.Diff(want, h.Read()); d != "" {
		t.Error(d)
	}
}
