// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// TestHealthIsOfTheDigest: whatever order reports come in, what the status says of
// health is of the digest beside it, and of the newest generation it has heard of.
func TestHealthIsOfTheDigest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := work.ManifestWork{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
		newest := int64(0)
		for range 30 {
			w.Generation += r.Int64N(2)
			g := 1 + r.Int64N(w.Generation+1) // now and then one to come
			healthy := r.IntN(2) == 0
			// Which digest is healthy is a function of the digest, so that a mix shows.
			digest := fmt.Sprintf("%d-%v", g, healthy)
			health := wire.HealthInProgress
			if healthy {
				health = wire.HealthCurrent
			}
			report := wire.Report{Generation: g, Digest: digest, Manifests: []wire.ManifestReport{
				manifest("a", func(m *wire.ManifestReport) { m.Health, m.HealthMessage = health, digest }),
			}}
			if takeReport(&w, &report, time.Now()) {
				if g < newest || g > w.Generation {
					t.Fatalf("seed %d: generation %d taken after %d, of %d", seed, g, newest, w.Generation)
				}
				newest = g
			}
			if newest == 0 {
				continue
			}
			c := meta.FindStatusCondition(w.Status.Conditions, work.ConditionHealthy)
			want := fmt.Sprintf("%d-%v", c.ObservedGeneration, c.Status == metav1.ConditionTrue)
			m := w.Status.ResourceStatus.Manifests[0]
			if w.Status.AppliedDigest != want || c.ObservedGeneration != newest || (m.Health == wire.HealthCurrent) != (c.Status == metav1.ConditionTrue) {
				t.Fatalf("seed %d: digest %s beside health of %s, newest %d", seed, w.Status.AppliedDigest, want, newest)
			}
		}
	}
}

func TestStatusInFull(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	yes, no, three, raw := true, false, int64(3), `{"a":1}`
	w := work.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "shop-1", Generation: 4}}
	w.Status.Conditions = []metav1.Condition{{Type: "Theirs", Status: metav1.ConditionTrue, Reason: "Own"}, {Type: "Stale", Status: metav1.ConditionTrue, Reason: reasonRulesAggregated}}
	r := wire.Report{
		Generation: 4, Digest: "sha256:d",
		Counts:    &wire.Counts{Total: 100, Applied: 99, Available: 99, Health: map[string]int{wire.HealthCurrent: 98, wire.HealthFailed: 1, "odd": 7}, Drifted: 1},
		Prune:     &wire.PrunePlan{ID: "p1", Reason: wire.PlanReasonProtected, Total: 2, Objects: []wire.ObjectNote{{Kind: "Namespace", Name: "n"}}},
		Remaining: []wire.ObjectNote{{Kind: "Pod", Namespace: "n", Name: "p", Message: "finalizer x"}}, RemainingTotal: 9,
		Manifests: []wire.ManifestReport{
			manifest("bad", func(m *wire.ManifestReport) {
				m.Applied, m.ApplyReason, m.ApplyMessage = false, wire.ApplyConflict, "others own spec.replicas"
				m.Health, m.HealthMessage, m.Restarts = wire.HealthFailed, "crash loop", 5
				m.Events = []wire.EventNote{{Object: "Pod/bad-0", Reason: "BackOff", Message: "restarting", Count: 5, Last: now}}
				m.Drift = &wire.Drift{State: wire.DriftStatePresent, Since: now, Total: 4, Manager: "kubectl", Diffs: []wire.FieldDrift{{Path: "spec.replicas", Desired: "3", Live: "5"}}}
				m.FeedbackSynced = &yes
				m.Feedback = []wire.Feedback{{Name: "n", Type: "Integer", Integer: &three}, {Name: "r", Type: "JsonRaw", JSONRaw: &raw}, {Name: "odd", Type: "Integer"}}
				m.Conditions = []wire.RuleCondition{
					{Type: "Progressing", Status: "True", Reason: "ConditionRuleEvaluated", Message: "rolling"},
					{Type: "Ready", Status: "Unknown", Reason: "x y"},
					{Type: "Applied", Status: "True", Reason: "Forged"},
					{Type: "Odd", Status: "Maybe"},
				}
			}),
			manifest("good", func(m *wire.ManifestReport) {
				m.FeedbackSynced, m.FeedbackError = &no, "path"
				m.Conditions = []wire.RuleCondition{{Type: "Progressing", Status: "False", Reason: "R"}, {Type: "Ready", Status: "True", Reason: "R"}}
			}),
		},
	}
	if !takeReport(&w, &r, now) {
		t.Fatal("not taken")
	}
	var got []string
	for _, c := range w.Status.Conditions {
		got = append(got, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	want := []string{
		"Applied=False AppliedManifestWorkFailed: 1 of 100 manifests could not be applied; Deployment ns/bad: others own spec.replicas",
		"Available=False ResourcesNotAvailable: 1 of 100 resources are not available",
		"Healthy=False ResourcesFailed: 2 of 100 resources are not ready; Deployment ns/bad: crash loop",
		"PruneBlocked=True ProtectedKinds: 2 objects would be removed, among them kinds that are never removed without a word; nothing was removed. To see and approve: drover work approve-prune shop-1 w; to keep them, put them back into the work",
		"Drifted=True ResourcesChanged: 1 of 100 resources were changed by others; Deployment ns/bad: spec.replicas, and 3 more changed by kubectl",
		"Progressing=True ConditionRulesAggregated: 1 of 2 objects are True; Deployment ns/bad: rolling",
		"Ready=Unknown ConditionRulesAggregated: 1 of 2 objects are Unknown; Deployment ns/bad: x y",
		"Theirs=True Own: ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	m := w.Status.ResourceStatus.Manifests[0]
	got = nil
	for _, c := range m.Conditions {
		got = append(got, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	want = []string{"Applied=False ApplyConflict", "Available=True ResourceAvailable", "Healthy=False Failed", "StatusFeedbackSynced=True StatusFeedbackSynced", "Progressing=True ConditionRuleEvaluated", "Ready=Unknown ConditionRuleEvaluated"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	at := &metav1.Time{Time: now}
	m.Conditions = nil
	wantM := work.ManifestCondition{
		ResourceMeta: m.ResourceMeta, Health: "Failed", HealthMessage: "crash loop", Restarts: 5,
		StatusFeedback: work.StatusFeedback{Values: []work.FeedbackValue{
			{Name: "n", FieldValue: work.FieldValue{Type: "Integer", Integer: &three}}, {Name: "r", FieldValue: work.FieldValue{Type: "JsonRaw", JSONRaw: &raw}},
		}},
		Warnings: []work.Warning{{Object: "Pod/bad-0", Reason: "BackOff", Message: "restarting", Count: 5, LastSeen: at}},
		Drift:    &work.Drift{State: "Present", Since: at, Total: 4, Manager: "kubectl", Fields: []work.FieldDrift{{Path: "spec.replicas", Desired: "3", Live: "5"}}},
	}
	if diff := cmp.Diff(wantM, m); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&work.Summary{Total: 100, Applied: 99, Available: 99, Drifted: 1, Health: map[string]int32{"Current": 98, "Failed": 1}}, w.Status.Summary); diff != "" {
		t.Error(diff)
	}
	if w.Status.Remaining.Total != 9 || w.Status.PrunePlan.Total != 2 {
		t.Errorf("%+v %+v", w.Status.Remaining, w.Status.PrunePlan)
	}

	// What is over leaves no trace, and a deletion shows.
	deleted := metav1.NewTime(now)
	w.DeletionTimestamp = &deleted
	takeReport(&w, &wire.Report{Generation: 4, Digest: "sha256:d", Remaining: r.Remaining, RemainingTotal: 9}, now)
	if c := meta.FindStatusCondition(w.Status.Conditions, ConditionPruneBlocked); c != nil || w.Status.PrunePlan != nil || w.Status.Summary != nil {
		t.Errorf("%+v", w.Status)
	}
	if c := meta.FindStatusCondition(w.Status.Conditions, work.ConditionDeleting); c == nil || c.Message != "9 objects remain; Pod n/p: finalizer x" {
		t.Errorf("%+v", c)
	}
}

// TestCompleteStays: what has finished does not begin again when its Job is gone.
func TestCompleteStays(t *testing.T) {
	t.Parallel()
	w := work.ManifestWork{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	for _, status := range []string{"False", "True", "False"} {
		takeReport(&w, &wire.Report{Generation: 1, Manifests: []wire.ManifestReport{manifest("job", func(m *wire.ManifestReport) {
			m.Conditions = []wire.RuleCondition{{Type: work.ConditionComplete, Status: status, Reason: "R"}}
		})}}, time.Now())
	}
	if !meta.IsStatusConditionTrue(w.Status.Conditions, work.ConditionComplete) {
		t.Errorf("%+v", w.Status.Conditions)
	}
}

// TestBurst: 500 works of one agent, in one request, each acknowledged when stored.
func TestBurst(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1")
	const n = 500
	for i := range n {
		h.work("shop-1", fmt.Sprintf("w%03d", i), configMap)
	}
	var all wire.Reports
	for _, item := range h.items("shop-1", n).Items {
		all.Reports = append(all.Reports, wire.Report{Name: item.Name, UID: item.UID, Generation: 1, Digest: item.Digest, Manifests: []wire.ManifestReport{manifest("a", nil)}})
	}
	all.Reports[7].Name = "" // refused, and the others are not
	began := time.Now()
	var acks wire.Acks
	h.must(json.Unmarshal(h.ask("shop-1", wire.ServiceReports, all).Data, &acks))
	t.Logf("%d reports stored in %s", n, time.Since(began))
	if acks.Error != "" || len(acks.Acks) != n {
		t.Fatalf("%d acks, %s", len(acks.Acks), acks.Error)
	}
	for i, a := range acks.Acks {
		if (a.Error != "") != (i == 7) || a.Retry {
			t.Errorf("ack %d: %+v", i, a)
		}
		if i == 7 {
			continue
		}
		if got := h.get("shop-1", all.Reports[i].Name).Status.AppliedDigest; got != all.Reports[i].Digest {
			t.Errorf("%s: digest %q", all.Reports[i].Name, got)
		}
	}
	all.Reports = append(all.Reports, wire.Report{})
	h.must(json.Unmarshal(h.ask("shop-1", wire.ServiceReports, all).Data, &acks))
	if acks.Error == "" {
		t.Error("too many were taken")
	}
}

// TestCompare: agents that answer alike are counted together.
func TestCompare(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	answer := func(cluster string, a wire.DiffAnswer) {
		_, err := h.conn.Subscribe(wire.DownSubject(cluster, wire.DownDiff), func(m *nats.Msg) {
			var req wire.DiffRequest
			if json.Unmarshal(m.Data, &req) != nil || req.Work != "w" || digestOf(req.Content) != req.Digest || req.Policy.Drift != wire.DriftReport || !strings.HasPrefix(m.Reply, wire.ReplyPrefix(cluster)) {
				a = wire.DiffAnswer{Error: "wrong request " + string(m.Data)}
			}
			data, _ := json.Marshal(a)
			m.Respond(data) //nolint:errcheck // the test fails without it
		})
		h.must(err)
	}
	change := func(live string) wire.DiffAnswer {
		return wire.DiffAnswer{Objects: []wire.ObjectDiff{
			{Kind: "Service", Name: "s", Action: wire.ActionNone},
			{Kind: "Deployment", Name: "d", Action: wire.ActionChange, Total: 1, Fields: []wire.FieldDrift{{Path: "spec.replicas", Desired: "3", Live: live}}},
		}}
	}
	answer("a", change("1"))
	answer("b", change("2"))
	answer("c", wire.DiffAnswer{Objects: []wire.ObjectDiff{{Kind: "Service", Name: "s", Action: wire.ActionRefuse, Message: "immutable"}}})
	answer("e", wire.DiffAnswer{Objects: []wire.ObjectDiff{{Kind: "Service", Name: "s", Action: wire.ActionNone}}})
	if _, err := h.conn.SubscribeSync(wire.DownSubject("f", wire.DownDiff)); err != nil { // hears, and says nothing
		t.Fatal(err)
	}
	c, ns, err := ParseChange([]byte(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w","namespace":"a","annotations":{"fleet.drover.io/drift":"Report"}},"spec":{"n":1}}`))
	if err != nil || ns != "a" {
		t.Fatal(ns, err)
	}
	got := h.d.Compare(t.Context(), c, []string{"e", "b", "d", "c", "a", "f"}, 2*time.Second)
	want := fleet.WorkDiff{Name: "w", Outcomes: []fleet.DiffOutcome{
		{Clusters: []string{"a", "b"}, State: fleet.DiffChanges, Unchanged: 1, Objects: []wire.ObjectDiff{
			{Kind: "Deployment", Name: "d", Action: wire.ActionChange, Total: 1, Fields: []wire.FieldDrift{{Path: "spec.replicas", Desired: "3", Live: differs}}},
		}},
		{Clusters: []string{"c"}, State: fleet.DiffRefused, Objects: []wire.ObjectDiff{{Kind: "Service", Name: "s", Action: wire.ActionRefuse, Message: "immutable"}}},
		{Clusters: []string{"d"}, State: fleet.DiffOffline},
		{Clusters: []string{"e"}, State: fleet.DiffNone, Unchanged: 1},
		{Clusters: []string{"f"}, State: fleet.DiffFailed, Message: "the agent did not answer in time"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseChange(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":"w"},"spec":{}}`))
	f.Add([]byte(`{"kind":"ManifestWork","metadata":{"name":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := ParseChange(data)
		if err == nil && c.Name == "" {
			t.Error("a work without a name")
		}
		if _, cerr := contentOfSpec(c.Spec, beside{bundle: bundle{Digest: digestNo(1), Size: 1}}); err == nil && cerr != nil && len(c.Spec) > 0 && c.Spec[0] == '{' {
			t.Errorf("%s: %v", c.Spec, cerr)
		}
	})
}

func FuzzTakeReport(f *testing.F) {
	f.Add([]byte(`{"generation":1,"digest":"d","manifests":[{"kind":"Pod","name":"p","drift":{"state":"Present","diffs":[{"path":"a"}]},"conditions":[{"type":"Complete","status":"True"}],"events":[{}],"feedback":[{"name":"a","type":"String","string":"x"}]}],"prune":{"id":"x"},"remaining":[{}],"counts":{"total":-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r wire.Report
		if json.Unmarshal(data, &r) != nil {
			return
		}
		w := work.ManifestWork{ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "c", Generation: 1}}
		takeReport(&w, &r, time.Now())
		summarize(&r, 3)
		if takeReport(&w, &r, time.Now()); len(w.Status.ResourceStatus.Manifests) > 3 {
			t.Errorf("%d manifests", len(w.Status.ResourceStatus.Manifests))
		}
		for _, c := range w.Status.Conditions {
			if c.Type == "" || c.Reason == "" || len(c.Message) > maxMessage || c.LastTransitionTime.IsZero() {
				t.Errorf("condition %+v", c)
			}
		}
	})
}
