// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// BenchmarkFleet installs ten addons on a thousand clusters, reports all of them
// healthy, changes a value that all of one addon use, and counts what is written.
func BenchmarkFleet(b *testing.B) {
	const clusters, addons = 1000, 10
	r := newRig(b)
	r.patience = 15 * time.Minute
	names := make([]string, clusters)
	for i := range names {
		names[i] = fmt.Sprintf("c%04d", i)
	}
	parallel := func(n int, f func(int)) {
		var g errgroup.Group
		g.SetLimit(writers)
		for i := range n {
			g.Go(func() error { f(i); return nil })
		}
		g.Wait() //nolint:errcheck // the functions return nil
	}
	parallel(clusters, func(i int) { r.cluster(names[i], true) })
	shared := r.values("edge", "shared", `{"value":"one"}`)
	for i := range addons {
		addOn := fmt.Sprintf("a%d", i)
		r.version(addOn, "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Default = true })
		r.must(r.recipes.Update(ctx(b), "", addOn, func(o *addon.ClusterManagementAddOn) error {
			o.Annotations = map[string]string{addon.AnnotationMaxInFlight: "100000"}
			if i == 0 {
				o.Spec.DefaultConfigs = []addon.Config{shared}
			}
			return nil
		}))
	}
	b.ResetTimer()
	for b.Loop() {
		start := time.Now()
		r.decide("all", names...)
		for i := range addons {
			r.place(fmt.Sprintf("a%d", i), "all")
		}
		count := func(resource string) int {
			page, err := r.store.List(ctx(b), store.Selection{Resource: resource, MinRevision: store.Any})
			r.must(page, err)
			return len(page.Entries)
		}
		r.until("all works", func() bool { return count(work.Resource) == clusters*addons })
		b.ReportMetric(time.Since(start).Seconds(), "s/install")
		start = time.Now()
		parallel(clusters*addons, func(n int) { r.report(names[n%clusters], deployName(fmt.Sprintf("a%d", n/clusters)), healthy) })
		completed := func() bool {
			time.Sleep(time.Second) // reading ten thousand takes longer than it should count
			all, _, err := r.dishes.List(ctx(b), store.Selection{MinRevision: store.Any})
			r.must(all, err)
			for _, d := range all {
				if c := d.Status.Content; c == nil || c.LastKnownGood == nil || c.LastKnownGood.Digest != c.Digest {
					return false
				}
			}
			return true
		}
		r.until("all healthy", completed)
		b.ReportMetric(time.Since(start).Seconds(), "s/healthy")
		r.quiet()
		before := r.store.Revision()
		time.Sleep(2 * time.Second) // in which nothing may be written
		b.ReportMetric(float64(r.store.Revision()-before), "writes/idle")
		start = time.Now()
		r.values("edge", "shared", `{"value":"two"}`)
		r.until("the value everywhere", func() bool {
			for _, name := range names {
				w := r.work(name, deployName("a0"))
				if w == nil || w.Generation < 2 {
					return false
				}
			}
			return true
		})
		b.ReportMetric(time.Since(start).Seconds(), "s/change")
		r.quiet()
		b.ReportMetric(float64(r.store.Revision()-before), "writes/change")
	}
	b.StopTimer()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB")
}

// quiet waits until nothing has been written for a while.
func (r *rig) quiet() {
	for last := uint64(0); last != r.store.Revision(); time.Sleep(3 * time.Second) {
		last = r.store.Revision()
	}
}
