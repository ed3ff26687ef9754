// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/wire"
)

// bundled returns an item whose content is a bundle of the lines.
func (r *rig) bundled(name string, generation int64, lines func(yield func(string) bool)) wire.Item {
	r.t.Helper()
	f, err := os.CreateTemp(r.bundles, "new-*")
	if err != nil {
		r.t.Fatal(err)
	}
	sum, size := sha256.New(), 0
	for line := range lines {
		n, err := fmt.Fprintln(f, line)
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintln(sum, line)
		size += n
	}
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(f.Name(), filepath.Join(r.bundles, digest)); err != nil {
		r.t.Fatal(err)
	}
	return r.item(name, generation, fmt.Sprintf(`{"bundle":{"digest":%q,"size":%d}}`, digest, size))
}

func (r *rig) bundledMaps(name string, generation int64, n int, level string) wire.Item {
	padding := strings.Repeat("x", 900)
	return r.bundled(name, generation, func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c%05d","namespace":%q},"data":{"level":%q,"padding":%q}}`,
				i, r.ns, level, padding)) {
				return
			}
		}
	})
}

func (r *rig) awaitCounts(item wire.Item, n int) wire.Report {
	r.t.Helper()
	return r.await(item, "all current", func(report wire.Report) bool {
		return report.Error == "" && report.Counts != nil && report.Counts.Applied == n && report.Counts.Health[wire.HealthCurrent] == n
	})
}

// heapPeak samples the heap until the returned function is called.
func heapPeak() (stop func() uint64) {
	var peak atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(done); <-ended; return peak.Load() }
}

// A bundle is read in pieces, counted in the report, and, once applied, only read.
// DROVER_BUNDLE sets the number of its objects.
func TestLargeBundle(t *testing.T) {
	n := 1500
	if text := os.Getenv("DROVER_BUNDLE"); text != "" {
		n, _ = strconv.Atoi(text)
	} else {
		t.Parallel()
	}
	r := newRig(t, "bundle")
	r.start()
	one := r.bundledMaps("big", 1, n, "info")
	peak := heapPeak()
	began := time.Now()
	r.engine.Sync([]wire.Item{one})
	r.awaitCounts(one, n)
	took := time.Since(began)
	t.Logf("created %d objects in %v: %.0f/s, peak heap %d MiB", n, took, float64(n)/took.Seconds(), peak()>>20)

	version := r.get(configMaps, r.ns, "c00007").GetResourceVersion()
	r.takeWrites()
	r.stop()
	r.start()
	began = time.Now()
	r.engine.Sync([]wire.Item{one})
	r.awaitCounts(one, n)
	t.Logf("looked at after a restart in %v", time.Since(began))
	if w := r.takeWrites(); len(w) != 0 || r.get(configMaps, r.ns, "c00007").GetResourceVersion() != version {
		t.Errorf("%d writes although nothing changed", len(w))
	}

	// One object of many is put right alone.
	r.edit(configMaps, "c00007", `{"data":{"level":"debug"}}`)
	got := r.await(one, "drift corrected", func(report wire.Report) bool { return report.Counts != nil && report.Counts.Drifted == 1 })
	if len(got.Manifests) != 1 || got.Manifests[0].Name != "c00007" || levelOf(r.get(configMaps, r.ns, "c00007")) != "info" {
		t.Errorf("got %+v", got.Manifests)
	}
	if w := r.takeWrites(); len(w) != 2 { // one of them a dry run
		t.Errorf("wrote %v", w)
	}

	began = time.Now()
	two := r.bundledMaps("big", 2, n, "warn")
	r.engine.Sync([]wire.Item{two})
	r.awaitCounts(two, n)
	t.Logf("changed %d objects in %v", n, time.Since(began))

	// Half of it is more than may go without a word.
	half := r.bundledMaps("big", 3, n/2, "warn")
	r.engine.Sync([]wire.Item{half})
	report := r.await(half, "plan", func(report wire.Report) bool { return report.Prune != nil })
	if p := report.Prune; p.Total != n-n/2 || len(p.Objects) != wire.MaxNamed || p.Reason != wire.PlanReasonBudget {
		t.Errorf("plan: %d of %s, names %d", p.Total, p.Reason, len(p.Objects))
	}
	half.Policy.ApprovedPrune = report.Prune.ID
	r.engine.Sync([]wire.Item{half})
	r.await(half, "pruned", func(report wire.Report) bool { return report.Prune == nil && report.RemainingTotal == 0 })
	list, err := r.live.Resource(configMaps).Namespace(r.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "!x"})
	if err != nil || len(list.Items) > n/2+1 { // and kube-root-ca.crt
		t.Errorf("%d objects left, %v", len(list.Items), err)
	}
	began = time.Now()
	half.Deleting = true
	r.engine.Sync([]wire.Item{half})
	r.awaitDeleted(half)
	t.Logf("removed %d objects in %v", n/2, time.Since(began))
}

// Many works at once, of one object each.
func TestBurst(t *testing.T) {
	n := 100
	if os.Getenv("DROVER_BUNDLE") != "" {
		n = 500
	} else {
		t.Parallel()
	}
	r := newRig(t, "burst")
	r.start()
	var items []wire.Item
	for i := range n {
		items = append(items, r.item(fmt.Sprint("w", i), 1, "", configMap("burst", fmt.Sprint("c", i), "info")))
	}
	began := time.Now()
	r.engine.Sync(items)
	for _, item := range items {
		r.awaitCurrent(item)
	}
	took := time.Since(began)
	t.Logf("%d works in %v: %.0f/s", n, took, float64(n)/took.Seconds())
}
