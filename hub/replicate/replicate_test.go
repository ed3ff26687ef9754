// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

type rig struct {
	*Controller
	t *testing.T
}

func newRig(t *testing.T) *rig {
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
	r := &rig{New(Config{Store: s, Log: zaptest.NewLogger(t), Settle: 200 * time.Millisecond}), t}
	running(t, r.Run)
	return r
}

func running(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	t.Cleanup(func() { cancel(); <-done })
}

func ctx(t *testing.T) context.Context {
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

func (r *rig) must(_ any, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func available(ok bool) []metav1.Condition {
	c := metav1.Condition{Type: cluster.ConditionAvailable, Status: metav1.ConditionTrue, Reason: "R"}
	if !ok {
		c.Status = metav1.ConditionUnknown
	}
	return []metav1.Condition{c}
}

// cluster makes a cluster or changes whether it can be reached.
func (r *rig) cluster(name string, reachable bool) {
	r.t.Helper()
	_, err := r.clusters.UpdateStatus(ctx(r.t), "", name, func(mc *cluster.ManagedCluster) error {
		mc.Status.Conditions = available(reachable)
		return nil
	})
	if err == nil {
		return
	}
	r.must(r.clusters.Create(ctx(r.t), &cluster.ManagedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Status: cluster.ManagedClusterStatus{Conditions: available(reachable)},
	}))
}

// decide makes a placement with one group of these clusters.
func (r *rig) decide(name string, clusters ...string) {
	r.t.Helper()
	st := cluster.PlacementStatus{
		NumberOfSelectedClusters: int32(len(clusters)),
		Conditions:               []metav1.Condition{{Type: cluster.ConditionPlacementSatisfied, Status: metav1.ConditionTrue, Reason: "R"}},
	}
	d := cluster.PlacementDecisionStatus{Decisions: []cluster.ClusterDecision{}}
	for _, c := range clusters {
		d.Decisions = append(d.Decisions, cluster.ClusterDecision{ClusterName: c})
	}
	labels := map[string]string{cluster.LabelPlacement: name, cluster.LabelDecisionGroupIndex: "0"}
	if _, err := r.placements.Get(ctx(r.t), "apps", name); err != nil {
		r.must(r.placements.Create(ctx(r.t), &cluster.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Status: st}))
		r.must(r.decisions.Create(ctx(r.t), &cluster.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name + "-decision-1", Labels: labels}, Status: d}))
		return
	}
	r.must(r.decisions.UpdateStatus(ctx(r.t), "apps", name+"-decision-1", func(o *cluster.PlacementDecision) error { o.Status = d; return nil }))
	r.must(r.placements.UpdateStatus(ctx(r.t), "apps", name, func(o *cluster.Placement) error { o.Status = st; return nil }))
}

func template(value string) work.ManifestWorkSpec {
	return work.ManifestWorkSpec{Workload: work.Workload{Manifests: []runtime.RawExtension{
		{Raw: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"default"},"data":{"v":"` + value + `"}}`)},
	}}}
}

func (r *rig) set(change func(*work.ManifestWorkReplicaSet)) {
	r.t.Helper()
	s := &work.ManifestWorkReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "s", Labels: map[string]string{"team": "blue"}},
		Spec:       work.ManifestWorkReplicaSetSpec{ManifestWorkTemplate: template("1"), PlacementRefs: []work.PlacementRef{{Name: "p"}}},
	}
	if _, err := r.sets.Update(ctx(r.t), "apps", "s", func(o *work.ManifestWorkReplicaSet) error { change(o); return nil }); err == nil {
		return
	}
	if change != nil {
		change(s)
	}
	r.must(r.sets.Create(ctx(r.t), s))
}

// have are the clusters with a work, and what is in it.
func (r *rig) have() string {
	r.t.Helper()
	list, _, err := r.works.List(ctx(r.t), store.Selection{})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, w := range list {
		_, v, _ := strings.Cut(string(w.Spec.Workload.Manifests[0].Raw), `"v":"`)
		out = append(out, w.Namespace+"="+v[:1])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// report says of a work that it is well, or not.
func (r *rig) report(name string, ok bool) {
	r.t.Helper()
	r.must(r.works.UpdateStatus(ctx(r.t), name, WorkName("apps", "s"), func(w *work.ManifestWork) error {
		for _, kind := range []string{work.ConditionApplied, work.ConditionAvailable, work.ConditionHealthy} {
			c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "R", ObservedGeneration: w.Generation}
			if !ok && kind == work.ConditionHealthy {
				c.Status, c.Reason = metav1.ConditionFalse, work.ReasonUnhealthy
			}
			meta.SetStatusCondition(&w.Status.Conditions, c)
		}
		return nil
	}))
}

func (r *rig) condition(kind string) *metav1.Condition {
	r.t.Helper()
	s, err := r.sets.Get(ctx(r.t), "apps", "s")
	if err != nil {
		r.t.Fatal(err)
	}
	if c := meta.FindStatusCondition(s.Status.Conditions, kind); c != nil {
		return c
	}
	return &metav1.Condition{}
}

func (r *rig) reason(kind, reason string) {
	r.t.Helper()
	r.until(kind+" "+reason, func() bool { return r.condition(kind).Reason == reason })
}

func TestLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.set(nil)
	r.reason(work.ConditionPlacementVerified, work.ReasonPlacementDecisionMissing)
	for _, name := range []string{"a", "b", "c"} {
		r.cluster(name, name != "c")
	}
	r.decide("p", "a", "b", "c")
	r.until("works", func() bool { return r.have() == "a=1 b=1 c=1" })
	w, err := r.works.Get(ctx(t), "a", WorkName("apps", "s"))
	if err != nil || w.Labels[work.LabelReplicaSet] != "apps.s" || w.Labels[work.LabelPlacement] != "p" || w.Labels["team"] != "blue" {
		t.Errorf("work: %v, %v", w, err)
	}
	r.report("a", true)
	r.report("b", true)
	r.until("summary", func() bool {
		s, err := r.sets.Get(ctx(t), "apps", "s")
		return err == nil && s.Status.Summary == work.WorkSummary{Total: 3, DesiredTotal: 3, Available: 2, Applied: 2, Updated: 3} &&
			len(s.Status.PlacementSummary) == 1 && s.Status.PlacementSummary[0].AvailableDecisionGroups == "1 (3 / 3 clusters applied)"
	})
	r.report("c", true)
	r.reason(work.ConditionManifestworkApplied, work.ReasonAsExpected)
	r.reason(work.ConditionPlacementRolledOut, work.ReasonRolloutComplete)

	// A cluster that cannot be reached keeps its work, one that can does not.
	r.decide("p", "b")
	r.until("a goes", func() bool { return r.have() == "b=1 c=1" })
	time.Sleep(time.Second) // what must not happen has time to
	if got := r.have(); got != "b=1 c=1" {
		t.Fatalf("works: %s", got)
	}
	r.cluster("c", true)
	r.until("c goes when it is back", func() bool { return r.have() == "b=1" })

	// Nothing goes because a placement is gone.
	r.must(nil, r.placements.Delete(ctx(t), "apps", "p"))
	r.reason(work.ConditionPlacementVerified, work.ReasonPlacementDecisionMissing)
	r.must(nil, r.decisions.Delete(ctx(t), "apps", "p-decision-1"))
	r.reason(ConditionRemovalHeld, ReasonUnreadable)
	if got := r.have(); got != "b=1" {
		t.Fatalf("works: %s", got)
	}
	// The set takes its works along.
	r.must(nil, r.sets.Delete(ctx(t), "apps", "s"))
	r.until("works go with the set", func() bool { return r.have() == "" })
	r.until("set goes", func() bool { _, err := r.sets.Get(ctx(t), "apps", "s"); return err != nil })
}

func TestProgressive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var names []string
	for i := range 4 {
		names = append(names, fmt.Sprintf("c%d", i))
		r.cluster(names[i], true)
	}
	r.decide("p", names...)
	one := 1
	r.set(func(s *work.ManifestWorkReplicaSet) {
		s.Spec.PlacementRefs[0].RolloutStrategy = cluster.RolloutStrategy{
			Type: cluster.RolloutProgressive, Progressive: &cluster.RolloutProgressiveConfig{MaxConcurrency: number(one)},
		}
	})
	for i, name := range names {
		r.until(name, func() bool { return len(strings.Fields(r.have())) == i+1 })
		r.report(name, true)
	}
	r.reason(work.ConditionPlacementRolledOut, work.ReasonRolloutComplete)
	r.set(func(s *work.ManifestWorkReplicaSet) { s.Spec.ManifestWorkTemplate = template("2") })
	r.until("first", func() bool { return r.have() == "c0=2 c1=1 c2=1 c3=1" })
	r.report("c0", false)
	r.until("stands still", func() bool {
		return strings.Contains(r.condition(work.ConditionPlacementRolledOut).Message, "too many clusters of placement p failed")
	})
	if got := r.have(); got != "c0=2 c1=1 c2=1 c3=1" {
		t.Errorf("works after a failure: %s", got)
	}
}

// TestManyRemovals: more than the larger of 10 and a fifth wait for an approval of
// exactly these.
func TestManyRemovals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var names []string
	for i := range 12 {
		names = append(names, "c"+strconv.Itoa(i))
		r.cluster(names[i], true)
	}
	r.decide("p", names...)
	r.set(nil)
	r.until("works", func() bool { return len(strings.Fields(r.have())) == 12 })
	r.decide("p", names[0])
	r.reason(ConditionRemovalHeld, ReasonBudgetExceeded)
	if got := len(strings.Fields(r.have())); got != 12 {
		t.Fatalf("%d works stay", got)
	}
	_, text, _ := strings.Cut(r.condition(ConditionRemovalHeld).Message, work.AnnotationApprovePrune+"=")
	id, _, _ := strings.Cut(text, ".")
	r.set(func(s *work.ManifestWorkReplicaSet) {
		s.Annotations = map[string]string{work.AnnotationApprovePrune: id}
	})
	r.until("approved", func() bool { return r.have() == "c0=1" })
	r.reason(ConditionRemovalHeld, ReasonNothingHeld)
}
