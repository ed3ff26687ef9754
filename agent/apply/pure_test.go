// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func TestParseManifest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, raw, problem string }{
		{"good", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}`, ""},
		{"no apiVersion", `{"kind":"ConfigMap","metadata":{"name":"a"}}`, "apiVersion is missing"},
		{"bad apiVersion", `{"apiVersion":"a/b/c","kind":"X","metadata":{"name":"a"}}`, `apiVersion "a/b/c": want GROUP/VERSION or VERSION`},
		{"no kind", `{"apiVersion":"v1","metadata":{"name":"a"}}`, "kind is missing"},
		{"no name", `{"apiVersion":"v1","kind":"ConfigMap"}`, "metadata.name is missing"},
		{"generateName", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"a-"}}`, "metadata.generateName is not supported: set metadata.name"},
		{"list", `{"apiVersion":"v1","kind":"List","items":[]}`, "List is a list: put its items into the work one by one"},
		{"not an object", `[1]`, "not a JSON object: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{"null", `null`, "apiVersion is missing"},
		{"name of wrong type", `{"apiVersion":"v1","kind":"X","metadata":{"name":1}}`, "wrong type of field: .metadata.name accessor error: 1 is of the type int64, expected string"},
		{"metadata of wrong type", `{"apiVersion":"v1","kind":"X","metadata":"m"}`, "wrong type of field: .metadata.name accessor error: m is of the type string, expected map[string]interface{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := parseManifest(3, []byte(tt.raw))
			if diff := cmp.Diff(tt.problem, m.problem); diff != "" {
				t.Error(diff)
			}
			if m.ordinal != 3 {
				t.Errorf("ordinal %d", m.ordinal)
			}
		})
	}
}

func TestParseContent(t *testing.T) {
	t.Parallel()
	cm := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n","uid":"x","managedFields":[]}}`
	for _, tt := range []struct{ name, spec, err string }{
		{"empty", `{}`, ""},
		{"not JSON", `{`, "decode spec of the work"},
		{"executor", `{"executor":{"subject":{}}}`, `spec.executor.subject.type "" is not supported: use ServiceAccount`},
		{"executor without a name", `{"executor":{"subject":{"type":"ServiceAccount","serviceAccount":{"namespace":"n"}}}}`, "namespace and name are required"},
		{"null executor", `{"executor":null}`, ""},
		{"policy", `{"deleteOption":{"propagationPolicy":"Background"}}`, `spec.deleteOption.propagationPolicy "Background" is not supported`},
		{"duplicate", `{"workload":{"manifests":[` + cm + `,` + cm + `]}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := parseContent([]byte(tt.spec))
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if tt.name != "duplicate" {
				return
			}
			if got := c.manifests[1].problem; got != "ConfigMap n/a is also manifest 0 of this work: remove one of them" {
				t.Errorf("duplicate: got %q", got)
			}
			want := map[string]any{"name": "a", "namespace": "n"}
			u, err := c.object(&c.manifests[0])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, u.Object["metadata"]); diff != "" {
				t.Errorf("server fields stay: %s", diff)
			}
		})
	}
}

func TestStrategyFor(t *testing.T) {
	t.Parallel()
	c, err := parseContent([]byte(`{"manifestConfigs":[
		{"resourceIdentifier":{"group":"*","resource":"*","namespace":"*","name":"feedback"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"ssa"},"updateStrategy":{"type":"ServerSideApply"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"force"},"updateStrategy":{"type":"ServerSideApply","serverSideApply":{"force":true,"fieldManager":"x"}}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"ignore"},"updateStrategy":{"type":"ServerSideApply","serverSideApply":{"ignoreFields":[{"jsonPaths":[".a[?(@.b)]"]}]}}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"once"},"updateStrategy":{"type":"CreateOnly"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"look"},"updateStrategy":{"type":"ReadOnly"}},
		{"resourceIdentifier":{"resource":"configmaps","namespace":"n","name":"odd"},"updateStrategy":{"type":"Replace"}},
		{"resourceIdentifier":{"resource":"*","namespace":"*","name":"*"},"updateStrategy":{"type":"ServerSideApply"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		group, name string
		want        strategy
		err         string
	}{
		{"", "ssa", strategy{kind: work.StrategyServerSide}, ""},
		{"", "force", strategy{kind: work.StrategyServerSide, force: true, manager: "x"}, ""},
		{"", "ignore", strategy{}, "want field names and positions"},
		{"", "once", strategy{kind: work.StrategyCreateOnly}, ""},
		{"", "look", strategy{kind: work.StrategyReadOnly}, ""},
		{"", "odd", strategy{}, `updateStrategy.type "Replace" is not supported`},
		{"", "feedback", strategy{kind: work.StrategyServerSide}, ""},
		{"apps", "no match", strategy{kind: work.StrategyUpdate, force: true}, ""},
	} {
		got, err := strategyFor(c.configs, identity{Group: tt.group, Namespace: "n", Name: tt.name}, "configmaps")
		if !reflect.DeepEqual(got, tt.want) || (tt.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func TestOrderIsStable(t *testing.T) {
	t.Parallel()
	sorted := []object{
		{Kind: "Namespace", Name: "n"},
		{Group: groupExtensions, Kind: kindCRD, Name: "c"},
		{Group: groupRBAC, Kind: "ClusterRole", Name: "r"},
		{Kind: "ServiceAccount", Name: "s"},
		{Kind: "ConfigMap", Name: "a"},
		{Kind: "ConfigMap", Name: "b"},
		{Kind: "Service", Name: "s"},
		{Group: "apps", Kind: "Deployment", Name: "d"},
		{Group: groupAdmission, Kind: "ValidatingWebhookConfiguration", Name: "w"},
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
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{}, touch{}, drift{}, finding{})); diff != "" {
		t.Error(diff)
	}
}

func FuzzContent(f *testing.F) {
	f.Add([]byte(`{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},null,1,[]]}}`))
	f.Add([]byte(`{"workload":{"manifests":[{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"a"},"spec":{"versions":1}}]}}`))
	f.Add([]byte(`{"manifestConfigs":[{"updateStrategy":{}}],"deleteOption":{"propagationPolicy":"SelectivelyOrphan"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		identitiesIn(data)
		c, err := parseContent(data)
		if err != nil {
			return
		}
		promisedKinds(c)
		for i := range c.manifests {
			m := &c.manifests[i]
			if m.problem != "" {
				continue
			}
			if m.id.Name == "" || m.id.Kind == "" {
				t.Errorf("manifest %d passed without name or kind: %s", i, data)
			}
			u, err := c.object(m)
			if err != nil {
				t.Errorf("manifest %d passed and cannot be decoded: %v", i, err)
				continue
			}
			for _, config := range c.configs {
				for _, rule := range config.ignore {
					for _, find := range rule.fields {
						_, _ = find(t.Context(), u.Object)
					}
				}
			}
			orphaned(c.delete, object{Kind: m.id.Kind})
		}
	})
}
