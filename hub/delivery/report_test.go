// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func manifest(name string, edit func(*wire.ManifestReport)) wire.ManifestReport {
	m := wire.ManifestReport{
		Kind: "Deployment", Version: "v1", Group: "apps", Resource: "deployments", Namespace: "ns", Name: name,
		Applied: true, Available: true, Health: wire.HealthCurrent,
	}
	if edit != nil {
		edit(&m)
	}
	return m
}

func TestTakeReport(t *testing.T) {
	t.Parallel()
	type c struct {
		Status          metav1.ConditionStatus
		Reason, Message string
	}
	yes, no, unknown := metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	applied := c{yes, work.ReasonWorkComplete, "Apply manifest work complete"}
	available := c{yes, work.ReasonAvailable, "All resources are available"}
	healthy := c{yes, work.ReasonHealthy, "All resources are as desired and ready"}
	failed := func(m *wire.ManifestReport) {
		m.Applied, m.ApplyMessage, m.Available, m.AvailableMessage, m.Health, m.HealthMessage = false, "forbidden", false, "not there", wire.HealthNotFound, "not there"
	}
	for _, tt := range []struct {
		name                        string
		report                      wire.Report
		applied, available, healthy c
	}{
		{name: "nothing to apply", applied: applied, available: available, healthy: healthy},
		{
			name: "all good", report: wire.Report{Manifests: []wire.ManifestReport{manifest("a", nil), manifest("b", nil)}},
			applied: applied, available: available, healthy: healthy,
		},
		{
			name: "one of two failed", report: wire.Report{Manifests: []wire.ManifestReport{manifest("a", nil), manifest("b", failed)}},
			applied:   c{no, work.ReasonWorkFailed, "1 of 2 manifests could not be applied; Deployment ns/b: forbidden"},
			available: c{no, work.ReasonNotAvailable, "1 of 2 resources are not available; Deployment ns/b: not there"},
			healthy:   c{no, work.ReasonProgressing, "1 of 2 resources are not ready; Deployment ns/b: not there"},
		},
		{
			name: "in progress", report: wire.Report{Manifests: []wire.ManifestReport{manifest("a", func(m *wire.ManifestReport) {
				m.Health, m.HealthMessage = wire.HealthInProgress, "1 of 3 ready"
			})}},
			applied: applied, available: available, healthy: c{no, work.ReasonProgressing, "1 of 1 resources are not ready; Deployment ns/a: 1 of 3 ready"},
		},
		{
			name: "failed beats progressing", report: wire.Report{Manifests: []wire.ManifestReport{
				manifest("a", func(m *wire.ManifestReport) { m.Health, m.HealthMessage = wire.HealthInProgress, "wait" }),
				manifest("b", func(m *wire.ManifestReport) { m.Health, m.HealthMessage = wire.HealthFailed, "deadline" }),
			}},
			applied: applied, available: available, healthy: c{no, work.ReasonUnhealthy, "2 of 2 resources are not ready; Deployment ns/a: wait"},
		},
		{
			name: "cluster-scoped, health unknown", report: wire.Report{Manifests: []wire.ManifestReport{manifest("a", func(m *wire.ManifestReport) {
				m.Namespace, m.Health = "", ""
			})}},
			applied: applied, available: available, healthy: c{no, work.ReasonProgressing, "1 of 1 resources are not ready; Deployment a: Unknown"},
		},
		{
			name: "content could not be read", report: wire.Report{Error: "bad content"},
			applied:   c{no, work.ReasonWorkFailed, "bad content"},
			available: c{unknown, work.ReasonStatusUnknown, "bad content"},
			healthy:   c{unknown, work.ReasonStatusUnknown, "bad content"},
		},
		{
			name: "an error, with what runs", report: wire.Report{Error: "executor", Manifests: []wire.ManifestReport{manifest("a", nil)}},
			applied: c{no, work.ReasonWorkFailed, "executor"}, available: available, healthy: healthy,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := work.ManifestWork{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
			r := tt.report
			r.Generation, r.Digest = 2, "sha256:x"
			if !takeReport(&w, &r, time.Now()) {
				t.Fatal("not taken")
			}
			s := w.Status
			for typ, want := range map[string]c{work.ConditionApplied: tt.applied, work.ConditionAvailable: tt.available, work.ConditionHealthy: tt.healthy} {
				x := meta.FindStatusCondition(s.Conditions, typ)
				if x == nil {
					t.Errorf("no condition %s", typ)
					continue
				}
				if d := cmp.Diff(want, c{x.Status, x.Reason, x.Message}); d != "" || x.ObservedGeneration != 2 {
					t.Errorf("%s of generation %d:\n%s", typ, x.ObservedGeneration, d)
				}
			}
			if s.AppliedDigest != "sha256:x" || len(s.ResourceStatus.Manifests) != len(r.Manifests) {
				t.Errorf("digest %s, %d manifests", s.AppliedDigest, len(s.ResourceStatus.Manifests))
			}
		})
	}
}

func TestTakeReportOrder(t *testing.T) {
	t.Parallel()
	var w work.ManifestWork
	s := &w.Status
	take := func(r wire.Report, generation int64) bool {
		w.Generation = generation
		return takeReport(&w, &r, time.Now())
	}
	first := wire.Report{Generation: 3, Digest: "three", Manifests: []wire.ManifestReport{manifest("a", nil), manifest("b", nil)}}
	if !take(first, 4) {
		t.Error("a report on the generation before the present one must be taken: it is what runs")
	}
	if take(wire.Report{Generation: 2, Digest: "two"}, 4) || s.AppliedDigest != "three" {
		t.Error("an older report was taken")
	}
	if take(wire.Report{Generation: 5, Digest: "five"}, 4) || s.AppliedDigest != "three" {
		t.Error("a report on a generation that does not exist was taken")
	}
	// Times of transition stay where the status stays, in whatever order manifests come.
	past := metav1.NewTime(time.Now().Add(-time.Hour))
	for i := range s.ResourceStatus.Manifests {
		for j := range s.ResourceStatus.Manifests[i].Conditions {
			s.ResourceStatus.Manifests[i].Conditions[j].LastTransitionTime = past
		}
	}
	first.Manifests[0], first.Manifests[1] = first.Manifests[1], first.Manifests[0]
	first.Manifests[1].Applied = false
	if !take(first, 4) {
		t.Error("the same generation again must be taken")
	}
	for _, m := range s.ResourceStatus.Manifests {
		for _, x := range m.Conditions {
			moved := m.ResourceMeta.Name == "a" && x.Type == work.ConditionApplied
			if x.LastTransitionTime.Equal(&past) == moved {
				t.Errorf("%s %s: transition at %s", m.ResourceMeta.Name, x.Type, x.LastTransitionTime)
			}
		}
	}
}

// TestTakeReportBounds: what an agent says cannot make a status that breaks others.
func TestTakeReportBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 5000)
	w := work.ManifestWork{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	takeReport(&w, &wire.Report{Generation: 1, Error: long, Manifests: []wire.ManifestReport{manifest("a", func(m *wire.ManifestReport) {
		m.Applied, m.ApplyMessage, m.Health, m.HealthMessage = false, long, "<script>", long
	})}}, time.Now())
	s := w.Status
	all := append([]metav1.Condition(nil), s.Conditions...)
	for _, m := range s.ResourceStatus.Manifests {
		all = append(all, m.Conditions...)
	}
	for _, c := range all {
		if len(c.Message) > maxMessage || !utf8.ValidString(c.Message) {
			t.Errorf("%s: message of %d bytes", c.Type, len(c.Message))
		}
		if strings.ContainsAny(c.Reason, "<> ") {
			t.Errorf("%s: reason %q", c.Type, c.Reason)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1")
	h.work("shop-1", "w", configMap)
	item := h.items("shop-1", 1).Items[0]
	good := wire.Report{Name: "w", UID: item.UID, Generation: 1, Digest: item.Digest, Manifests: []wire.ManifestReport{manifest("a", nil)}}
	if ack := h.report("shop-1", good); ack != (wire.Ack{}) {
		t.Errorf("ack %+v", ack)
	}
	stored := h.get("shop-1", "w")
	if stored.Status.AppliedDigest != item.Digest || !meta.IsStatusConditionTrue(stored.Status.Conditions, work.ConditionHealthy) || stored.Generation != 1 {
		t.Errorf("stored %+v", stored.Status)
	}
	for _, tt := range []struct {
		name   string
		report wire.Report
	}{
		{"the same again", good},
		{"an older object of the name", wire.Report{Name: "w", UID: "older", Generation: 1, Error: "x"}},
		{"a work that is gone", wire.Report{Name: "gone", UID: "x", Generation: 1}},
		{"a generation to come", wire.Report{Name: "w", UID: item.UID, Generation: 7, Error: "x"}},
	} {
		if ack := h.report("shop-1", tt.report); ack != (wire.Ack{}) {
			t.Errorf("%s: ack %+v", tt.name, ack)
		}
		if got := h.get("shop-1", "w"); got.ResourceVersion != stored.ResourceVersion {
			t.Errorf("%s: the work was written", tt.name)
		}
	}
	if ack := h.report("shop-1", wire.Report{}); ack.Error == "" || ack.Retry {
		t.Errorf("a report about nothing: %+v, want an error for good", ack)
	}
}

// TestReportOfVeryManyObjects: when the details do not fit, what they come to is kept.
func TestReportOfVeryManyObjects(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1")
	h.work("shop-1", "w", configMap)
	item := h.items("shop-1", 1).Items[0]
	r := wire.Report{Name: "w", UID: item.UID, Generation: 1, Digest: item.Digest}
	for i := range 3000 {
		r.Manifests = append(r.Manifests, manifest(fmt.Sprint(i), nil))
	}
	r.Manifests[7].Health = wire.HealthFailed
	if ack := h.report("shop-1", r); ack != (wire.Ack{}) {
		t.Fatalf("ack %+v", ack)
	}
	got := h.get("shop-1", "w").Status
	c := meta.FindStatusCondition(got.Conditions, work.ConditionHealthy)
	if len(got.ResourceStatus.Manifests) != 1 || got.Summary == nil || got.Summary.Total != 3000 || got.AppliedDigest != item.Digest || c == nil || !strings.HasPrefix(c.Message, "1 of 3000") {
		t.Errorf("%d manifests, %+v", len(got.ResourceStatus.Manifests), c)
	}
}

func FuzzClip(f *testing.F) {
	f.Add("a")
	f.Add(strings.Repeat("é", maxMessage))
	f.Fuzz(func(t *testing.T, s string) {
		got := clip(s, maxMessage)
		if len(got) > maxMessage || !strings.HasPrefix(s, got) || (utf8.ValidString(s) && !utf8.ValidString(got)) {
			t.Errorf("clip(%q) = %q", s, got)
		}
	})
}
