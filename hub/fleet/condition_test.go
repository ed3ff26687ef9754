// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/wire"
)

func TestApplyAvailable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	const grace = 15 * time.Second
	healthy := &wire.Status{Kubernetes: &wire.KubernetesStatus{Healthy: true}}
	type condition struct {
		Status          metav1.ConditionStatus
		Reason, Message string
	}
	was := func(status metav1.ConditionStatus, reason string) *metav1.Condition {
		return &metav1.Condition{Type: cluster.ConditionAvailable, Status: status, Reason: reason, Message: "before"}
	}
	up := was(metav1.ConditionTrue, cluster.ReasonAvailable)
	lost := condition{metav1.ConditionUnknown, cluster.ReasonLeaseUpdateStopped, "The agent is not connected since 2026-01-02T03:03:50Z."}
	for _, tt := range []struct {
		name  string
		view  view
		old   *metav1.Condition
		agent *cluster.AgentStatus
		want  condition
	}{
		{name: "never seen"},
		{name: "never seen, long ago", view: view{lost: now.Add(-time.Hour)}},
		{name: "connected, said nothing", view: view{connected: true, since: now}},
		{
			name: "connected again, said nothing yet", view: view{connected: true, since: now}, old: up,
			want: condition{metav1.ConditionTrue, cluster.ReasonAvailable, "before"},
		},
		{
			name: "healthy", view: view{connected: true, since: now, status: healthy},
			want: condition{metav1.ConditionTrue, cluster.ReasonAvailable, "Managed cluster is available"},
		},
		{
			name: "unhealthy",
			view: view{connected: true, since: now, status: &wire.Status{Kubernetes: &wire.KubernetesStatus{HealthMessage: "etcd failed"}}},
			want: condition{metav1.ConditionFalse, cluster.ReasonAPIServerUnavailable, "etcd failed"},
		},
		{
			name: "node agent", view: view{connected: true, since: now, status: &wire.Status{}},
			want: condition{metav1.ConditionTrue, cluster.ReasonAvailable, "The agent is connected; it manages no Kubernetes cluster, only the machine it runs on"},
		},
		{
			name: "lost, within grace", view: view{lost: now.Add(-grace + 1)}, old: up, agent: &cluster.AgentStatus{ConnectedSince: seconds(now.Add(-time.Hour))},
			want: condition{metav1.ConditionTrue, cluster.ReasonAvailable, "before"},
		},
		{
			name: "lost, grace over", view: view{lost: now.Add(-grace)}, old: up, agent: &cluster.AgentStatus{ConnectedSince: seconds(now.Add(-time.Hour))},
			want: lost,
		},
		{
			name: "lost while unavailable", view: view{lost: now.Add(-grace)}, old: was(metav1.ConditionFalse, cluster.ReasonAPIServerUnavailable),
			agent: &cluster.AgentStatus{ConnectedSince: seconds(now.Add(-time.Hour))}, want: lost,
		},
		{
			name: "lost before it said anything", view: view{lost: now.Add(-grace)}, agent: &cluster.AgentStatus{ConnectedSince: seconds(now.Add(-time.Hour))},
			want: lost,
		},
		{
			name: "lost before the hub started", view: view{lost: now.Add(-grace)}, old: was(metav1.ConditionUnknown, cluster.ReasonLeaseUpdateStopped),
			agent: &cluster.AgentStatus{LastSeen: seconds(now.Add(-time.Hour))},
			want:  condition{metav1.ConditionUnknown, cluster.ReasonLeaseUpdateStopped, "The agent is not connected since 2026-01-02T02:04:05Z."},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := cluster.ManagedClusterStatus{Agent: tt.agent}
			if tt.old != nil {
				meta.SetStatusCondition(&s.Conditions, *tt.old)
			}
			apply(&s, tt.view, grace, now)
			var got condition
			if c := meta.FindStatusCondition(s.Conditions, cluster.ConditionAvailable); c != nil {
				got = condition{c.Status, c.Reason, c.Message}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("condition (-want +got):\n%s", d)
			}
			switch a := s.Agent; {
			case tt.agent == nil && !tt.view.connected && a != nil:
				t.Errorf("an agent that never was here is written: %+v", a)
			case tt.view.connected && (a.ConnectedSince == nil || a.LastSeen != nil):
				t.Errorf("agent of a live session: %+v", a)
			case got.Status == metav1.ConditionUnknown && (a.ConnectedSince != nil || a.LastSeen == nil):
				t.Errorf("agent of a lost session: %+v", a)
			}
			again := copyOf(t, s)
			apply(&again, tt.view, grace, now)
			if d := cmp.Diff(s, again); d != "" {
				t.Errorf("looking again changes something:\n%s", d)
			}
		})
	}
}

func TestApplyFacts(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	long := strings.Repeat("é", 1000)
	s := cluster.ManagedClusterStatus{ClusterClaims: []cluster.Claim{{Name: "own", Value: "kept"}}}
	v := view{
		connected: true, since: since, address: "192.0.2.1:1", hello: &wire.Hello{AgentVersion: "v1" + long},
		status: &wire.Status{CertificateNotAfter: since.Add(time.Hour), Kubernetes: &wire.KubernetesStatus{
			Healthy: false, HealthMessage: long, Version: "v1.36.3", ClusterUID: "uid",
			Capacity:    map[string]string{"cpu": "4", "memory": "1Gi", "poison": "many", long: "1"},
			Allocatable: map[string]string{"cpu": "3900m", "": ""},
			Nodes:       -1, NodesReady: 1 << 40,
		}},
	}
	apply(&s, v, 0, since)
	if d := cmp.Diff(map[string]string{"cpu": "4", "memory": "1Gi"}, s.Capacity); d != "" {
		t.Errorf("capacity:\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"cpu": "3900m"}, s.Allocatable); d != "" {
		t.Errorf("allocatable:\n%s", d)
	}
	wantClaims := []cluster.Claim{{Name: "own", Value: "kept"}, {Name: cluster.ClaimKubeVersion, Value: "v1.36.3"}, {Name: cluster.ClaimID, Value: "uid"}}
	if d := cmp.Diff(wantClaims, s.ClusterClaims); d != "" {
		t.Errorf("claims:\n%s", d)
	}
	if a := s.Agent; a.Nodes != 0 || a.NodesReady != 1<<31-1 || len(a.Version) > maxText || !utf8.ValidString(a.Version) {
		t.Errorf("agent %+v", a)
	}
	if c := s.Conditions[0]; len(c.Message) > maxMessage || !utf8.ValidString(c.Message) {
		t.Errorf("message of %d bytes", len(c.Message))
	}
	// An agent that sees nothing now takes nothing back.
	before := copyOf(t, s)
	v.status = &wire.Status{Kubernetes: &wire.KubernetesStatus{HealthMessage: "down"}}
	apply(&s, v, 0, since)
	if s.Version != before.Version || !cmp.Equal(s.Capacity, before.Capacity) || s.Agent.Nodes != before.Agent.Nodes ||
		!cmp.Equal(s.ClusterClaims, before.ClusterClaims) || !s.Agent.CertificateExpires.Equal(before.Agent.CertificateExpires) {
		t.Errorf("facts were lost: %+v", s)
	}
	v.status.Kubernetes.Version = "v1.37.0"
	apply(&s, v, 0, since)
	if s.ClusterClaims[1].Value != "v1.37.0" || len(s.ClusterClaims) != 3 {
		t.Errorf("claims after an upgrade: %+v", s.ClusterClaims)
	}
}

func copyOf(t *testing.T, s cluster.ManagedClusterStatus) (out cluster.ManagedClusterStatus) {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	for i := range out.Conditions { // JSON has whole seconds
		out.Conditions[i].LastTransitionTime = s.Conditions[i].LastTransitionTime
	}
	return out
}

func FuzzClip(f *testing.F) {
	f.Add("aé", 2)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || !utf8.ValidString(s) {
			return
		}
		got := clip(s, n)
		if len(got) > n || !strings.HasPrefix(s, got) || !utf8.ValidString(got) || (len(s) <= n && got != s) {
			t.Errorf("clip(%q, %d) = %q", s, n, got)
		}
	})
}
