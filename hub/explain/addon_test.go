// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestAddOn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	condition := func(typ string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: typ, Status: status, Reason: reason, Message: message, LastTransitionTime: ago(time.Minute)}
	}
	good := func() *AddOnFacts {
		applied := &addon.AppliedContent{Version: "1.2.0", Revision: 2, Digest: "0123456789abcdef"}
		return &AddOnFacts{
			AddOn: &addon.ManagedClusterAddOn{
				ObjectMeta: metav1.ObjectMeta{Name: "log", Namespace: "shop-1", Generation: 2, CreationTimestamp: ago(time.Hour)},
				Status: addon.ManagedClusterAddOnStatus{
					Conditions: []metav1.Condition{
						condition(addon.ConditionAvailable, metav1.ConditionTrue, addon.ReasonProbeAvailable, "all well"),
						condition(addon.ConditionProgressing, metav1.ConditionFalse, addon.ReasonCompleted, "it runs"),
					},
					Content: &addon.Content{Version: "1.2.0", Revision: 2, Digest: "0123456789abcdef", LastApplied: applied, LastKnownGood: applied},
				},
			},
			Cluster: &cluster.ManagedCluster{
				ObjectMeta: metav1.ObjectMeta{Name: "shop-1", CreationTimestamp: ago(2 * time.Hour)},
				Status:     cluster.ManagedClusterStatus{Conditions: []metav1.Condition{condition(cluster.ConditionAvailable, metav1.ConditionTrue, "R", "")}},
			},
			Agent: true, Works: []string{"addon-log-deploy-0"},
			Should: Should{
				Version: "1.2.0", Revision: 2, Digest: "0123456789abcdef", Needs: []string{"base ^1.0.0"}, Limit: 50,
				Values: []fleet.LayeredValue{
					{Path: "a", Layer: fleet.LayerVersion, From: "AddOnVersion log-1.2.0"},
					{Path: "level", Layer: fleet.LayerAddOn, From: "AddOnConfig edge/logging"},
					{Path: "retention", Layer: fleet.LayerAddOn, From: "AddOnConfig edge/logging"},
					{Path: "size", Layer: fleet.LayerInstalled, From: "AddOnConfig shop-1/log"},
				},
			},
		}
	}
	for name, change := range map[string]func(*AddOnFacts){
		"healthy": func(*AddOnFacts) {},
		"waiting": func(f *AddOnFacts) {
			f.AddOn.Status = addon.ManagedClusterAddOnStatus{Conditions: []metav1.Condition{
				condition(addon.ConditionProgressing, metav1.ConditionFalse, addon.ReasonWaitingForDependency, "it waits for base ^1.0.0"),
			}}
			f.AddOn.Annotations = map[string]string{addon.AnnotationPlacement: "edge/all"}
			f.Should.Missing, f.Should.Way, f.Works = f.Should.Needs, 3, nil
		},
		"broken": func(f *AddOnFacts) {
			f.Should = Should{Version: "2.0.0", Problem: "log 2.0.0 cannot be rendered: chart.yaml:3: no value", Lacks: "log 2.0.0: kubernetes >=1.40", Conflict: "ConfigMap a/b is an object of addon other already"}
			f.AddOn.Status.Conditions = append(f.AddOn.Status.Conditions, condition(addon.ConditionDegraded, metav1.ConditionTrue, addon.ReasonUnhealthy, "Deployment a/b crashes"))
			f.AddOn.Status.Content.LastKnownGood = &addon.AppliedContent{Version: "1.0.0", Revision: 1}
			f.Cluster.Status.Conditions[0].Status = metav1.ConditionUnknown
		},
		"removed": func(f *AddOnFacts) {
			at := ago(time.Minute)
			f.AddOn.DeletionTimestamp = &at
			f.AddOn.Status.Conditions[1] = condition(addon.ConditionProgressing, metav1.ConditionTrue, addon.ReasonDeleting, "its objects are being removed")
			f.Agent = false
		},
		"foreign": func(f *AddOnFacts) {
			f.Cluster, f.Should, f.Works = nil, Should{Foreign: true}, nil
			f.AddOn.Status = addon.ManagedClusterAddOnStatus{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := good()
			change(f)
			var b strings.Builder
			for _, l := range AddOn(f, now) {
				fmt.Fprintf(&b, "%s %s %s", l.Stage, l.State, l.Text)
				if !l.Time.IsZero() {
					fmt.Fprintf(&b, " [%s]", now.Sub(l.Time))
				}
				b.WriteString("\n")
				if l.Hint != "" {
					fmt.Fprintf(&b, "    %s\n", l.Hint)
				}
			}
			path := filepath.Join("testdata", "addon-"+name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a golden file
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
