// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

type rig struct {
	*Controller
	t testing.TB
}

func newRig(t testing.TB) *rig {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, err := store.Open(ctx(t), b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	return &rig{New(Config{Store: s, Log: zaptest.NewLogger(t)}), t}
}

func running(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) cluster(name string, labels map[string]string) {
	r.t.Helper()
	_, err := r.Controller.clusters.Create(ctx(r.t), &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) bind(set string) {
	r.t.Helper()
	_, err := r.bindings.Create(ctx(r.t), &cluster.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: set}, Spec: cluster.ManagedClusterSetBindingSpec{ClusterSet: set},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) place(name string, spec cluster.PlacementSpec) {
	r.t.Helper()
	_, err := r.placements.Create(ctx(r.t), &cluster.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Spec: spec})
	if err != nil {
		r.t.Fatal(err)
	}
}

// decided are the clusters of a placement's decisions, by object.
func (r *rig) decided(placement string) string {
	r.t.Helper()
	list, _, err := r.decisions.List(ctx(r.t), store.Selection{Namespace: "apps"})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		if d.Labels[cluster.LabelPlacement] != placement {
			continue
		}
		var names []string
		for _, c := range d.Status.Decisions {
			names = append(names, c.ClusterName)
		}
		out = append(out, fmt.Sprintf("%s[%s]", strings.TrimPrefix(d.Name, placement+"-"), strings.Join(names, " ")))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (r *rig) condition(placement, kind string) string {
	r.t.Helper()
	p, err := r.placements.Get(ctx(r.t), "apps", placement)
	if err != nil {
		r.t.Fatal(err)
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, kind); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

func TestController(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	running(t, r.Run)
	for _, name := range []string{cluster.SetDefault, cluster.SetGlobal} {
		r.until("set "+name, func() bool { _, err := r.sets.Get(ctx(t), "", name); return err == nil })
	}
	r.place("p", cluster.PlacementSpec{})
	r.until("no bindings", func() bool {
		return r.condition("p", cluster.ConditionPlacementSatisfied) == "False/NoManagedClusterSetBindings"
	})
	r.bind("global")
	r.until("empty", func() bool {
		return r.condition("p", cluster.ConditionPlacementSatisfied) == "False/AllManagedClusterSetsEmpty"
	})
	if got := r.decided("p"); got != "decision-1[]" {
		t.Errorf("decisions of nothing: %s", got)
	}
	r.cluster("a", nil)
	r.cluster("b", map[string]string{cluster.LabelSet: "shops"})
	r.until("both chosen", func() bool { return r.decided("p") == "decision-1[a b]" })
	r.until("default set", func() bool {
		mc, err := r.Controller.clusters.Get(ctx(t), "", "a")
		return err == nil && mc.Labels[cluster.LabelSet] == cluster.SetDefault
	})
	r.until("count of the set", func() bool {
		set, err := r.sets.Get(ctx(t), "", cluster.SetGlobal)
		c := meta.FindStatusCondition(set.Status.Conditions, cluster.ConditionSetEmpty)
		return err == nil && c != nil && c.Reason == cluster.ReasonClustersSelected && c.Message == "2 ManagedClusters selected"
	})

	// A mistake takes nothing away.
	change := func(f func(*cluster.Placement)) {
		t.Helper()
		if _, err := r.placements.Update(ctx(t), "apps", "p", func(p *cluster.Placement) error { f(p); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change(func(p *cluster.Placement) { p.Spec.Tolerations = []cluster.Toleration{{Value: "x"}} })
	r.until("misconfigured", func() bool { return r.condition("p", cluster.ConditionPlacementMisconfigured) == "True/Misconfigured" })
	if got := r.decided("p"); got != "decision-1[a b]" {
		t.Errorf("a mistake changed the decisions: %s", got)
	}
	// A taint is tolerated for a while.
	seconds := int64(2)
	change(func(p *cluster.Placement) {
		p.Spec.Tolerations = []cluster.Toleration{{Key: "x", Operator: operatorExists, TolerationSeconds: &seconds}}
	})
	if _, err := r.Controller.clusters.Update(ctx(t), "", "a", func(mc *cluster.ManagedCluster) error {
		mc.Spec.Taints = []cluster.Taint{{Key: "x", Effect: "NoSelect", TimeAdded: metav1.Now()}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.until("toleration ends", func() bool { return r.decided("p") == "decision-1[b]" })

	// Bindings say whether their set is there.
	r.bind("shops")
	bound := func(want string) func() bool {
		return func() bool {
			b, err := r.bindings.Get(ctx(t), "apps", "shops")
			c := meta.FindStatusCondition(b.Status.Conditions, cluster.ConditionBound)
			return err == nil && c != nil && c.Reason == want
		}
	}
	r.until("not found", bound(cluster.ReasonClusterSetNotFound))
	if _, err := r.sets.Create(ctx(t), &cluster.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: "shops"}}); err != nil {
		t.Fatal(err)
	}
	r.until("bound", bound(cluster.ReasonClusterSetBound))

	// Somebody else's edit does not last, and without the placement nothing is left.
	if err := r.decisions.Delete(ctx(t), "apps", "p-decision-1"); err != nil {
		t.Fatal(err)
	}
	r.until("decision is back", func() bool { return r.decided("p") == "decision-1[b]" })
	if err := r.placements.Delete(ctx(t), "apps", "p"); err != nil {
		t.Fatal(err)
	}
	r.until("decisions go", func() bool { return r.decided("p") == "" })
	if err := r.sets.Delete(ctx(t), "", cluster.SetDefault); err != nil {
		t.Fatal(err)
	}
	r.until("default set is back", func() bool { _, err := r.sets.Get(ctx(t), "", cluster.SetDefault); return err == nil })
}

// TestControllerRests: many decisions become several objects, and once everything
// is decided nothing is written, also not by another controller that starts.
func TestControllerRests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 150 {
		r.cluster(fmt.Sprintf("c%03d", i), map[string]string{cluster.LabelSet: "default"})
	}
	r.bind("global")
	n := int32(3)
	r.place("all", cluster.PlacementSpec{})
	r.place("few", cluster.PlacementSpec{NumberOfClusters: &n})
	stop := running(t, r.Run)
	settled := func() bool {
		return r.condition("few", cluster.ConditionPlacementSatisfied) == "True/AllDecisionsScheduled" &&
			r.condition("all", cluster.ConditionPlacementSatisfied) == "True/AllDecisionsScheduled"
	}
	r.until("decided", settled)
	p, err := r.placements.Get(ctx(t), "apps", "all")
	if err != nil {
		t.Fatal(err)
	}
	if p.Status.NumberOfSelectedClusters != 150 || len(p.Status.DecisionGroups) != 1 || len(p.Status.DecisionGroups[0].Decisions) != 2 {
		t.Errorf("status: %+v", p.Status)
	}
	before := r.decided("few")
	rests := func() {
		t.Helper()
		revision := uint64(0)
		r.until("rest", func() bool {
			last := revision
			revision = r.store.Revision()
			if last == revision {
				return true
			}
			time.Sleep(500 * time.Millisecond)
			return false
		})
	}
	rests()
	revision := r.store.Revision()
	stop()
	running(t, New(Config{Store: r.store, Log: zaptest.NewLogger(t)}).Run)
	time.Sleep(time.Second) // what must not happen has time to
	if got := r.store.Revision(); got != revision {
		t.Errorf("%d writes by a controller that had nothing to do", got-revision)
	}
	if got := r.decided("few"); got != before {
		t.Errorf("not steady: %s, then %s", before, got)
	}
}

// BenchmarkController is the time to decide 1,000 placements over 1,000 clusters,
// with everything stored.
func BenchmarkController(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		r.log = zap.NewNop()
		for i := range 1000 {
			r.cluster(fmt.Sprintf("c%04d", i), map[string]string{cluster.LabelSet: "default", "zone": fmt.Sprintf("z%d", i%10)})
		}
		r.bind("global")
		for i := range 1000 {
			r.place(fmt.Sprintf("p%04d", i), cluster.PlacementSpec{Predicates: []cluster.ClusterPredicate{{RequiredClusterSelector: cluster.ClusterSelector{
				LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"zone": fmt.Sprintf("z%d", i%10)}},
			}}}})
		}
		b.StartTimer()
		stop := running(b, r.Run)
		r.until("decided", func() bool {
			list, _, err := r.placements.List(ctx(b), store.Selection{MinRevision: store.Any})
			return err == nil && !slices.ContainsFunc(list, func(p *cluster.Placement) bool { return p.Status.NumberOfSelectedClusters != 100 })
		})
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}
