// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func TestOrderIsStable(t *testing.T) {
	t.Parallel()
	sorted := []object{
		{Kind: "Namespace", Name: "n"},
		{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Name: "c"},
		{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "r"},
		{Kind: "ServiceAccount", Name: "s"},
		{Kind: "ConfigMap", Name: "a"},
		{Kind: "ConfigMap", Name: "b"},
		{Kind: "Service", Name: "s"},
		{Group: "apps", Kind: "Deployment", Name: "d"},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration", Name: "w"},
		{Group: "serving.example.com", Kind: "Service", Name: "custom"},
	}
	for range 20 {
		shuffled := append([]object(nil), sorted...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(sorted, unite(shuffled[:4], shuffled[4:])); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestUniteAndDropped(t *testing.T) {
	t.Parallel()
	a1 := object{Version: "v1", Kind: "ConfigMap", Name: "a", UID: "1"}
	a2 := object{Version: "v1", Kind: "ConfigMap", Name: "a", UID: "2"}
	b := object{Version: "v1", Kind: "ConfigMap", Name: "b"}
	united := unite([]object{a1}, []object{b, a2})
	if diff := cmp.Diff([]object{a2, b}, united); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]object{a2}, dropped(united, []object{b})); diff != "" {
		t.Error(diff)
	}
}

// An Ingress of extensions and of networking.k8s.io is one object: pruning the
// old name would delete the new one.
func TestAnotherGroupIsNotAnotherObject(t *testing.T) {
	t.Parallel()
	before := []object{
		{Group: "extensions", Version: "v1beta1", Kind: "Ingress", Namespace: "n", Name: "web", UID: "1"},
		{Version: "v1", Kind: "ConfigMap", Namespace: "n", Name: "planned"},
	}
	after := []object{
		{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress", Namespace: "n", Name: "web", UID: "1"},
		{Version: "v1", Kind: "Secret", Namespace: "n", Name: "read-only"},
	}
	if diff := cmp.Diff(before[1:], dropped(before, after)); diff != "" {
		t.Error(diff)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	cm := object{Kind: "ConfigMap", Resource: "configmaps", Namespace: "n", Name: "a", UID: "1"}
	with := func(o object, change func(*object)) object { change(&o); return o }
	selective := work.DeleteOption{
		PropagationPolicy: work.SelectivelyOrphan,
		SelectivelyOrphans: &work.SelectiveOrphans{OrphaningRules: []work.ResourceIdentifier{
			{Resource: "configmaps", Namespace: "n", Name: "a"},
		}},
	}
	for _, tt := range []struct {
		name   string
		obj    object
		live   *observation
		option work.DeleteOption
		owner  string
		want   fate
	}{
		{name: "ours", obj: cm, live: &observation{uid: "1", ours: true}, want: fateDelete},
		{name: "ours without our manager", obj: cm, live: &observation{uid: "1"}, want: fateDelete},
		{name: "does not exist", obj: cm, want: fateGone},
		{name: "another of the same name", obj: cm, live: &observation{uid: "2", ours: true}, want: fateGone},
		{name: "planned and created", obj: with(cm, func(o *object) { o.UID = "" }), live: &observation{uid: "2", ours: true}, want: fateDelete},
		{name: "planned, made by somebody else", obj: with(cm, func(o *object) { o.UID = "" }), live: &observation{uid: "2"}, want: fateGone},
		{name: "adopted", obj: with(cm, func(o *object) { o.Adopted = true }), live: &observation{uid: "1", ours: true}, want: fateRelease},
		{name: "in another work", obj: cm, live: &observation{uid: "1"}, owner: "other", want: fateRelease},
		{name: "orphan", obj: cm, live: &observation{uid: "1"}, option: work.DeleteOption{PropagationPolicy: work.Orphan}, want: fateRelease},
		{name: "selectively orphaned", obj: cm, live: &observation{uid: "1"}, option: selective, want: fateRelease},
		{name: "not selected", obj: with(cm, func(o *object) { o.Name = "b" }), live: &observation{uid: "1"}, option: selective, want: fateDelete},
		{name: "terminating", obj: cm, live: &observation{uid: "1", terminating: time.Now()}, want: fateWait},
		{name: "kube-system", obj: object{Kind: "Namespace", Name: "kube-system", UID: "1"}, live: &observation{uid: "1"}, want: fateRelease},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := judge(tt.obj, tt.live, tt.option, tt.owner); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	var got []time.Duration
	for n := 1; n <= 8; n++ {
		got = append(got, retryDelay(n, false))
	}
	for n := 1; n <= 4; n++ {
		got = append(got, retryDelay(n, true))
	}
	interval := time.Duration(0)
	for range 7 {
		interval = nextInterval(interval, false)
		got = append(got, interval)
	}
	got = append(got, nextInterval(interval, true), nextInterval(pollSteady, false))
	var text []string
	for _, d := range got {
		text = append(text, d.String())
	}
	want := "1s 2s 4s 8s 16s 32s 1m0s 1m0s 16s 32s 1m0s 1m0s 250ms 500ms 1s 2s 4s 5s 5s 30s 250ms"
	if diff := cmp.Diff(want, strings.Join(text, " ")); diff != "" {
		t.Error(diff)
	}
}

func TestReportFits(t *testing.T) {
	t.Parallel()
	results := make([]result, 4000)
	for i := range results {
		results[i].report = wire.ManifestReport{
			Ordinal: i, Version: "v1", Kind: "ConfigMap", Resource: "configmaps", Namespace: "n", Name: fmt.Sprint("name-", i),
			ApplyMessage: strings.Repeat("é", 20_000), Health: wire.HealthInProgress, Applied: i%2 == 0, Available: true,
		}
	}
	r := buildReport(wire.Item{Name: "a"}, &progress{}, results)
	if got := len(r.Manifests[0].ApplyMessage); len(r.Manifests) != maxWorst || got == 0 || got > 1024 || r.Manifests[0].Applied {
		t.Errorf("%d manifests with messages of %d bytes", len(r.Manifests), got)
	}
	want := &wire.Counts{Total: 4000, Applied: 2000, Available: 4000, Health: map[string]int{wire.HealthInProgress: 4000}}
	if diff := cmp.Diff(want, r.Counts); diff != "" {
		t.Error(diff)
	}
	many := buildReport(wire.Item{Name: "a"}, &progress{}, results[:maxListed])
	if got := len(many.Manifests[0].ApplyMessage); len(many.Manifests) != maxListed || many.Counts != nil || got < 1000 || got > 1024 {
		t.Errorf("report of %d has %d manifests with messages of %d bytes", maxListed, len(many.Manifests), got)
	}
}

func TestResultsOf(t *testing.T) {
	t.Parallel()
	rec := record{
		Inventory: []object{{Version: "v1", Kind: "ConfigMap", Resource: "configmaps", Namespace: "n", Name: "a", UID: "1"}},
		Manifests: []wire.ManifestReport{
			{Version: "v1", Kind: "ConfigMap", Resource: "configmaps", Namespace: "n", Name: "a", Applied: true},
			{Ordinal: 1, Version: "v1", Kind: "Secret", Resource: "secrets", Namespace: "n", Name: "read-only", Applied: true},
		},
	}
	got := resultsOf(rec)
	want := []result{
		{report: rec.Manifests[0], obj: rec.Inventory[0], managed: true},
		{report: rec.Manifests[1], obj: object{Version: "v1", Kind: "Secret", Resource: "secrets", Namespace: "n", Name: "read-only"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{}, drift{}, finding{})); diff != "" {
		t.Error(diff)
	}
}
