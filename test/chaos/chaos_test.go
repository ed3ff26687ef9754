// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package chaos drives the real hub and the real agent through random plans
// while programs are killed and the network fails, and looks at every event on
// the cluster and on the hub for what must never be.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

var (
	seeds = flag.Int("seeds", 20, "how many random plans; make chaos runs a thousand")
	first = flag.Uint64("first-seed", 1, "the first seed; 0 takes one from the clock")
	// More plans beside each other make the whole faster, and each of them meets
	// as many failures: those go on until the last plan ends. A seed that failed is
	// best repeated with those beside it, as they share the programs.
	together = flag.Int("together", 20, "how many plans run beside each other, under the same failures")

	binaries string
	shared   = &kube.Shared{}
)

// settleLimit bounds the time from the last failure until everything is as it must be.
const settleLimit = 90 * time.Second

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, func() int { return shared.Main(m) })) }

func TestChaos(t *testing.T) {
	w := newWorld(t)
	seed := *first
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	began := time.Now()
	for done := 0; done < *seeds && !t.Failed(); done += *together {
		n := min(*together, *seeds-done)
		w.batch(t, seed, n)
		seed += uint64(n)
		t.Logf("%d plans, the last of seed %d, after %s", done+n, seed-1, time.Since(began).Round(time.Second))
	}
	for _, what := range slices.Sorted(maps.Keys(w.met)) {
		t.Logf("%6d %s", w.met[what], what)
	}
}

// batch runs n plans at once under the same failures, then lets everything
// settle, compares, and removes what they made.
func (w *world) batch(t *testing.T, seed uint64, n int) {
	t.Helper()
	runs := make([]*runner, n)
	histories := map[string]*history{}
	for i := range runs {
		s := seed + uint64(i)
		runs[i] = &runner{world: w, ns: fmt.Sprintf("chaos-%d", s), plan: newPlan(s), history: newHistory()}
		histories[runs[i].ns] = runs[i].history
		w.prepare(t, runs[i].ns)
	}
	w.histories.Store(&histories)
	ctx, cancel := context.WithCancel(t.Context())
	var disturbed sync.WaitGroup
	disturbed.Go(func() {
		w.disturb(ctx, t, rand.New(rand.NewPCG(seed, 1)), func(what string) {
			for _, r := range runs {
				r.mu.Lock()
				r.note("%s", what)
				r.mu.Unlock()
			}
			w.met[strings.Split(what, " for ")[0]]++
		})
	})
	var plans sync.WaitGroup
	for _, r := range runs {
		plans.Go(func() { r.run(t) })
	}
	plans.Wait()
	cancel()
	disturbed.Wait()
	deadline := time.Now().Add(settleLimit)
	for _, r := range runs {
		r.settle(t, deadline)
		_, works := r.state()
		r.count(works)
	}
	if !t.Failed() {
		w.clear(t, runs)
	}
	for _, r := range runs {
		r.mu.Lock()
		for what, n := range r.met {
			w.met[what] += n
		}
		r.mu.Unlock()
	}
	w.histories.Store(&map[string]*history{})
}

func (w *world) history(ns string) *history { return (*w.histories.Load())[ns] }

// state is what the watches show of this plan.
func (r *runner) state() (objects, works map[string]*unstructured.Unstructured) {
	objects, works = map[string]*unstructured.Unstructured{}, map[string]*unstructured.Unstructured{}
	for _, o := range r.world.onCluster.List() {
		if u := o.(*unstructured.Unstructured); u.GetNamespace() == r.ns {
			objects[u.GetName()] = u
		}
	}
	for _, o := range r.world.onHub.List() {
		u := o.(*unstructured.Unstructured)
		if ns, name, _ := strings.Cut(u.GetName(), "."); ns == r.ns {
			works[name] = u
		}
	}
	return objects, works
}

func (r *runner) settle(t *testing.T, deadline time.Time) {
	t.Helper()
	for {
		missing := r.unsettled(r.state())
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			r.mu.Lock()
			r.violate("not settled: %s", missing)
			r.mu.Unlock()
			break
		}
		time.Sleep(20 * time.Millisecond) // between looks
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.violations) > 0 {
		t.Errorf("seed %d:\n%s\nhistory:\n%s\nthe agent says:\n%s", r.plan.seed,
			strings.Join(slices.Compact(r.violations), "\n"), strings.Join(r.lines, "\n"), r.world.said(r.ns))
	}
}

// said is what the agents say of one plan, and when they start.
func (w *world) said(ns string) string {
	text, err := os.ReadFile(w.agent.Log)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, ns+".") || !strings.Contains(line, "chaos-") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// clear removes the works, which must take along what they own, and then the
// namespaces.
func (w *world) clear(t *testing.T, runs []*runner) {
	t.Helper()
	for _, r := range runs {
		for work := range wants {
			r.removing(work)
			r.insist(t, func(ctx context.Context) error { return r.delete(ctx, work) })
		}
	}
	deadline := time.Now().Add(settleLimit)
	for _, r := range runs {
		r.settle(t, deadline)
		err := w.kubernetes.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Delete(t.Context(), r.ns, metav1.DeleteOptions{})
		if err != nil {
			t.Error(err)
		}
	}
}
