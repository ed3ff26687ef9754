// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
)

func TestApplyTaints(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	taint := func(key, effect string, age time.Duration) cluster.Taint {
		return cluster.Taint{Key: key, Effect: effect, TimeAdded: *seconds(now.Add(-age))}
	}
	own := taint("mine", "NoSelectIfNew", time.Hour)
	unreachable, unavailable := taint(cluster.TaintUnreachable, "NoSelect", 0), taint(cluster.TaintUnavailable, "NoSelect", 0)
	old := taint(cluster.TaintUnreachable, "NoSelect", time.Hour)
	for _, tt := range []struct {
		name   string
		status metav1.ConditionStatus // empty: no condition
		taints []cluster.Taint
		want   []cluster.Taint
	}{
		{"never seen", "", []cluster.Taint{own}, []cluster.Taint{own, unreachable}},
		{"unknown", metav1.ConditionUnknown, nil, []cluster.Taint{unreachable}},
		{"still unknown keeps the time", metav1.ConditionUnknown, []cluster.Taint{old, own}, []cluster.Taint{old, own}},
		{"unhealthy", metav1.ConditionFalse, []cluster.Taint{old, own}, []cluster.Taint{own, unavailable}},
		{"well", metav1.ConditionTrue, []cluster.Taint{old, own, unavailable}, []cluster.Taint{own}},
		{"twice", metav1.ConditionUnknown, []cluster.Taint{old, unreachable}, []cluster.Taint{old}},
		{"weakened by somebody", metav1.ConditionUnknown, []cluster.Taint{taint(cluster.TaintUnreachable, "PreferNoSelect", 0)}, []cluster.Taint{unreachable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mc := &cluster.ManagedCluster{Spec: cluster.ManagedClusterSpec{Taints: tt.taints}}
			if tt.status != "" {
				mc.Status.Conditions = []metav1.Condition{{Type: cluster.ConditionAvailable, Status: tt.status}}
			}
			applyTaints(mc, now)
			if diff := cmp.Diff(tt.want, mc.Spec.Taints); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTaintsComeBack: the hub keeps its own taints through edits of others.
func TestTaintsComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	running(t, r.fleet.Run)
	if _, err := r.clusters.Create(timeout(t), &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	tainted := func() bool {
		mc, err := r.clusters.Get(timeout(t), "", "a")
		return err == nil && len(mc.Spec.Taints) == 1 && mc.Spec.Taints[0].Key == cluster.TaintUnreachable
	}
	until(t, "new cluster is tainted", tainted)
	if _, err := r.clusters.Update(timeout(t), "", "a", func(mc *cluster.ManagedCluster) error { mc.Spec.Taints = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	until(t, "taint is back", tainted)
}
