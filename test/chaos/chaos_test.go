// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package chaos drives the real hub and the real agent through random plans
// while programs are killed and the network fails, and looks at every event on
// the cluster and on the hub for what must never be.
package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"k8s.io/client-go/dynamic"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

var (
	seeds = flag.Int("seeds", 0, "how many random plans; see make chaos")
	first = flag.Uint64("first-seed", 0, "the first seed; 0 takes one from the clock")
	// More plans beside each other make the whole faster, and each of them meets
	// as many failures: those go on until the last plan ends.
	together = flag.Int("together", 20, "how many plans run beside each other, under the same failures")

	binaries string
	shared   = &kube.Shared{}
)

// settleLimit bounds the time from the last failure until everything is as it must be.
const settleLimit = 90 * time.Second

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, func() int { return shared.Main(m) })) }

func TestChaos(t *testing.T) {
	if *seeds == 0 {
		t.Skip("no plans asked for: make chaos runs a thousand")
	}
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
}

// run is one plan under way.
type runner struct {
	world *world
	ns    string
	plan  plan
	*history
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
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": runs[i].ns}}}
		if _, err := w.kubernetes.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
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
	}
	if !t.Failed() {
		w.clear(t, runs)
	}
	if t.Failed() {
		t.Logf("the agent says:\n%s", w.agent.Tail())
	}
	w.histories.Store(&map[string]*history{})
}

func (w *world) history(ns string) *history { return (*w.histories.Load())[ns] }

func (r *runner) maps() dynamic.ResourceInterface {
	return r.world.kubernetes.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(r.ns)
}

func (r *runner) run(t *testing.T) {
	for _, s := range r.plan.steps {
		select {
		case <-t.Context().Done():
			return
		case <-time.After(s.pause): // part of the plan
		}
		switch s.do {
		case put:
			value := r.putting(s)
			r.insist(t, func(ctx context.Context) error {
				old, err := r.world.works.Get(ctx, r.ns+"."+s.work, metav1.GetOptions{})
				switch {
				case err != nil && !apierrors.IsNotFound(err):
					return err
				case err == nil && old.GetDeletionTimestamp() != nil:
					return errors.New("the former work is still being removed")
				}
				_, err = r.world.works.Apply(ctx, r.ns+"."+s.work, r.manifestWork(s, value), metav1.ApplyOptions{FieldManager: "chaos", Force: true})
				return err
			})
			r.put(s, value)
		case remove:
			r.removing(s.work)
			r.insist(t, func(ctx context.Context) error { return r.delete(ctx, s.work) })
		default:
			r.other(t, s)
		}
	}
}

// insist repeats what a person would when the hub dies under a request.
func (r *runner) insist(t *testing.T, f func(context.Context) error) {
	deadline := time.Now().Add(settleLimit)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := f(ctx)
		cancel()
		if err == nil || t.Context().Err() != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("seed %d: the hub has not done it for %s: %v", r.plan.seed, settleLimit, err)
			return
		}
		time.Sleep(50 * time.Millisecond) // between attempts
	}
}

func (r *runner) delete(ctx context.Context, work string) error {
	err := r.world.works.Delete(ctx, r.ns+"."+work, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// other does what people do to objects behind the agent's back.
func (r *runner) other(t *testing.T, s step) {
	switch s.do {
	case foreignEdit:
		live, err := r.maps().Patch(t.Context(), s.name, types.MergePatchType, []byte(`{"data":{"value":"foreign"}}`), metav1.PatchOptions{FieldManager: "somebody"})
		if err == nil {
			r.mu.Lock()
			r.note("somebody else edited %s (%s)", s.name, live.GetUID())
			r.mu.Unlock()
		}
	case foreignDelete:
		live, err := r.maps().Get(t.Context(), s.name, metav1.GetOptions{})
		if err != nil {
			return
		}
		uid := live.GetUID()
		r.byOther(r.killed, string(uid), "deletes")
		_ = r.maps().Delete(t.Context(), s.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}) // it may be gone
	case foreignCreate:
		m := r.configMap(s.name, "foreign")
		made, err := r.maps().Create(t.Context(), &unstructured.Unstructured{Object: m}, metav1.CreateOptions{FieldManager: "somebody"})
		if err == nil {
			r.byOther(r.foreign, string(made.GetUID()), "made")
		}
	}
}

func (r *runner) configMap(name, value string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": r.ns, "labels": map[string]any{"chaos": "yes"}},
		"data":     map[string]any{"value": value},
	}
}

func (r *runner) manifestWork(s step, value string) *unstructured.Unstructured {
	manifests := []any{} // null is not a list
	for _, name := range s.names {
		manifests = append(manifests, r.configMap(name, value))
	}
	policy := work.Foreground
	if s.orphan {
		policy = work.Orphan
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": work.Group + "/" + work.Version, "kind": work.Kind,
		"metadata": map[string]any{"name": r.ns + "." + s.work, "namespace": clusterName},
		"spec": map[string]any{
			"workload":     map[string]any{"manifests": manifests},
			"deleteOption": map[string]any{"propagationPolicy": policy},
		},
	}}
}

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
		t.Errorf("seed %d:\n%s\nhistory:\n%s", r.plan.seed, strings.Join(slices.Compact(r.violations), "\n"), strings.Join(r.lines, "\n"))
	}
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
