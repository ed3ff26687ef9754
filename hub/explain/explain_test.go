// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

var update = flag.Bool("update", false, "write the golden files")

func TestExplain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	meta := func(d time.Duration) metav1.Time { return metav1.NewTime(ago(d)) }
	at := func(d time.Duration) *metav1.Time { t := meta(d); return &t }
	condition := func(typ string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: typ, Status: status, Reason: reason, Message: message, ObservedGeneration: 3, LastTransitionTime: meta(time.Minute)}
	}
	object := func(name string, applied, healthy metav1.ConditionStatus, reason, message string) work.ManifestCondition {
		return work.ManifestCondition{
			ResourceMeta: work.ResourceMeta{Kind: "Deployment", Namespace: "ns", Name: name},
			Conditions:   []metav1.Condition{condition(work.ConditionApplied, applied, reason, message), condition(work.ConditionHealthy, healthy, reason, message)},
		}
	}
	good := func() *Facts {
		w := &work.ManifestWork{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web", Namespace: "shop-1", Generation: 3, CreationTimestamp: meta(48 * time.Hour),
				ManagedFields: []metav1.ManagedFieldsEntry{
					{Manager: "drover-cli", Time: at(time.Hour)}, {Manager: "argocd", Time: at(2 * time.Hour)}, {Manager: "kubectl", Time: at(time.Second), Subresource: "status"},
				},
			},
			Spec: work.ManifestWorkSpec{Workload: work.Workload{Manifests: make([]runtime.RawExtension, 2)}},
			Status: work.ManifestWorkStatus{
				AppliedDigest: "sha256:0123456789abcdef0123",
				Conditions: []metav1.Condition{
					condition(work.ConditionApplied, metav1.ConditionTrue, work.ReasonWorkComplete, "Apply manifest work complete"),
					condition(work.ConditionAvailable, metav1.ConditionTrue, work.ReasonAvailable, "All resources are available"),
					condition(work.ConditionHealthy, metav1.ConditionTrue, work.ReasonHealthy, "All resources are as desired and ready"),
				},
				ResourceStatus: work.ResourceStatus{Manifests: []work.ManifestCondition{object("a", metav1.ConditionTrue, metav1.ConditionTrue, "R", "")}},
			},
		}
		return &Facts{
			Work: w, Agent: true, Revisions: 1,
			Cluster: &cluster.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "shop-1", CreationTimestamp: meta(72 * time.Hour)}, Spec: cluster.ManagedClusterSpec{HubAcceptsClient: true}},
			Session: &Session{Since: ago(30 * time.Minute), Address: "192.0.2.1:4711"},
			Listed: Listed{
				Generation: 90, Changed: ago(time.Hour), Item: &wire.Item{Name: "web", Digest: "sha256:0123456789abcdef0123"},
				Asked: ago(10 * time.Second), Held: 90, Given: 90,
			},
		}
	}
	for name, change := range map[string]func(*Facts){
		"healthy": func(*Facts) {},
		"no-cluster": func(f *Facts) {
			f.Cluster, f.Agent, f.Session, f.Listed, f.Work.Status = nil, false, nil, Listed{}, work.ManifestWorkStatus{}
		},
		"no-agent": func(f *Facts) {
			f.Agent, f.Session, f.Listed, f.Work.Status = false, nil, Listed{}, work.ManifestWorkStatus{}
		},
		"offline": func(f *Facts) {
			f.Session = nil
			f.Cluster.Status.Conditions = []metav1.Condition{{Type: cluster.ConditionAvailable, Status: metav1.ConditionUnknown, LastTransitionTime: meta(3 * time.Hour)}}
			f.Listed.Item.Digest = "sha256:fedcba9876543210"
		},
		"behind": func(f *Facts) {
			f.Listed.Generation, f.Listed.Changed, f.Listed.Held, f.Listed.Given = 95, ago(time.Minute), 80, 90
			f.Listed.Item.Digest = "sha256:fedcba9876543210"
		},
		"not-listed": func(f *Facts) { f.Listed.Item = nil },
		"addon": func(f *Facts) {
			f.Work.Labels = map[string]string{"open-cluster-management.io/addon-name": "logging"}
			f.Work.Annotations = map[string]string{work.AnnotationBundle: "sha256:00112233445566778899", work.AnnotationDrift: "Report"}
			f.Listed.Item.Complete = true
		},
		"prune": func(f *Facts) {
			f.Work.Status.PrunePlan = &work.PrunePlan{ID: "p", Reason: "BudgetExceeded", Total: 40, Objects: []work.ObjectNote{{Kind: "Pod", Namespace: "ns", Name: "a"}, {Kind: "Pod", Namespace: "ns", Name: "b"}}}
			f.Work.Status.Conditions = append(f.Work.Status.Conditions, condition("PruneBlocked", metav1.ConditionTrue, "BudgetExceeded", "x"))
		},
		"deleting": func(f *Facts) {
			f.Work.DeletionTimestamp = at(time.Minute)
			f.Work.Status.Remaining = &work.Remaining{Total: 2, Objects: []work.ObjectNote{{Kind: "Namespace", Name: "ns", Message: "finalizer kubernetes"}}}
			f.Work.Status.Conditions = append(f.Work.Status.Conditions, condition(work.ConditionDeleting, metav1.ConditionTrue, "WorkDeleting", "2 objects remain"))
		},
		"broken": func(f *Facts) {
			failed := object("c", metav1.ConditionTrue, metav1.ConditionFalse, "Failed", "crash loop")
			failed.Health, failed.HealthMessage, failed.Restarts = wire.HealthFailed, "crash loop", 7
			failed.Warnings = []work.Warning{{Object: "Pod/c-0", Reason: "BackOff", Message: "restarting", Count: 7, LastSeen: at(5 * time.Second)}}
			failed.Drift = &work.Drift{State: wire.DriftStateFighting, Since: at(time.Hour), Total: 5, Corrections: 3, Manager: "hpa", Fields: []work.FieldDrift{{Path: "spec.replicas", Desired: "3", Live: "5"}}}
			f.Work.Status.ResourceStatus.Manifests = []work.ManifestCondition{
				object("b", metav1.ConditionFalse, metav1.ConditionFalse, wire.ApplyConflict, "others own spec.replicas"),
				object("w", metav1.ConditionFalse, metav1.ConditionFalse, wire.ApplyWaiting, "wave 0 is not ready"),
				failed,
			}
			f.Work.Status.Conditions = []metav1.Condition{
				condition(work.ConditionApplied, metav1.ConditionFalse, work.ReasonWorkFailed, "2 of 3 manifests could not be applied"),
				condition(work.ConditionHealthy, metav1.ConditionFalse, work.ReasonUnhealthy, "3 of 3 resources are not ready"),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := good()
			change(f)
			var b strings.Builder
			for _, l := range Explain(f, now) {
				age := "-"
				if !l.Time.IsZero() {
					age = now.Sub(l.Time).String()
				}
				fmt.Fprintf(&b, "%s %s %s: %s\n", l.Stage, l.State, age, l.Text)
				if l.Hint != "" {
					fmt.Fprintf(&b, "    to do: %s\n", l.Hint)
				}
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
