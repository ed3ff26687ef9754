// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// signer signs by naming what it signed, so that a test can see it.
type signer struct{ fail bool }

func (s signer) SignDesired(message []byte) (sig, chain []byte, err error) {
	if s.fail {
		return nil, nil, errors.New("no key")
	}
	return []byte(digestOf(message)), []byte("chain"), nil
}

// sizes are the bundles that exist.
type sizes map[string]int64

func (s sizes) Size(_ context.Context, digest string) (int64, error) {
	if n, ok := s[digest]; ok {
		return n, nil
	}
	return 0, fs.ErrNotExist
}

func digestNo(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// event is a work as the store would tell of it.
func event(cluster, name string, revision uint64, annotations map[string]string, status string) store.Event {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": annotations}, "spec": map[string]any{"n": name}, "status": json.RawMessage(status),
	})
	if err != nil {
		panic(err)
	}
	return store.Event{Type: store.Added, Entry: store.Entry{
		Key: store.Key{Resource: work.Resource, Namespace: cluster, Name: name}, Revision: revision, Data: data,
		Header: store.Header{UID: "uid-" + name, Generation: 1, Finalizers: []string{work.Finalizer}},
	}}
}

// listing is a Delivery that knows works from events alone.
func listing(t *testing.T, events ...store.Event) *Delivery {
	t.Helper()
	h := start(t, t.TempDir())
	d := New(Config{
		Store: h.store, Conn: h.conn, Log: zap.NewNop(), Signer: signer{},
		Bundles: sizes{digestNo(1): 1000, digestNo(2): 2000},
	})
	fresh := map[string]*desired{}
	for _, ev := range events {
		if _, err := d.take(t.Context(), fresh, ev); err != nil {
			t.Fatal(err)
		}
	}
	d.replace(fresh, 100)
	return d
}

func (d *Delivery) answer(t *testing.T, cluster string, req wire.DesiredRequest) (got wire.Desired) {
	t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	m := d.serveDesired(t.Context(), cluster, body)
	if len(m.Data) > wire.MaxPayload {
		t.Fatalf("the answer has %d bytes", len(m.Data))
	}
	if err := json.Unmarshal(m.Data, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func (d *Delivery) signedPage(t *testing.T, cluster string, page int) wire.SignedDesired {
	t.Helper()
	got := d.answer(t, cluster, wire.DesiredRequest{Version: 2, Page: page})
	if got.Envelope == nil || len(got.Items) != 0 || got.Error != "" {
		t.Fatalf("answer %+v", got)
	}
	e := got.Envelope
	if e.PayloadType != wire.PayloadDesired || e.Chain != "chain" || string(e.Signatures[0].Sig) != digestOf(wire.PAE(e.PayloadType, e.Payload)) {
		t.Errorf("envelope %s %s", e.PayloadType, e.Chain)
	}
	var p wire.SignedDesired
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatal(err)
	}
	if p.Cluster != cluster || p.Epoch != got.Epoch || p.Generation != got.Generation {
		t.Errorf("the envelope says %s %s %d, around it %s %d", p.Cluster, p.Epoch, p.Generation, got.Epoch, got.Generation)
	}
	return p
}

func TestSignedList(t *testing.T) {
	t.Parallel()
	d := listing(t,
		event("shop-1", "plain", 1, nil, "{}"),
		event("shop-1", "bundled", 2, map[string]string{work.AnnotationBundle: digestNo(1), work.AnnotationDrift: "Report"}, "{}"),
		event("shop-1", "mover", 3, map[string]string{work.AnnotationTakeFrom: "plain, nobody", work.AnnotationApprovePrune: strings.Repeat("a", 64)}, "{}"),
		event("shop-1", "lost", 4, map[string]string{work.AnnotationBundle: digestNo(9)}, "{}"),
		event("shop-1", "done", 5, nil, `{"conditions":[{"type":"Complete","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"}]}`),
		event("shop-2", "other", 6, nil, "{}"),
	)
	p := d.signedPage(t, "shop-1", 0)
	got := map[string]wire.Item{}
	for _, item := range p.Items {
		got[item.Name] = item
	}
	content := func(spec string) string { return digestOf([]byte(spec)) }
	want := map[string]wire.Item{
		"plain":   {Name: "plain", UID: "uid-plain", Generation: 1, Digest: content(`{"n":"plain"}`)},
		"bundled": {Name: "bundled", UID: "uid-bundled", Generation: 1, Digest: content(`{"bundle":{"digest":"` + digestNo(1) + `","size":1000},"n":"bundled"}`), Policy: wire.Policy{Drift: "Report"}},
		"mover":   {Name: "mover", UID: "uid-mover", Generation: 1, Digest: content(`{"n":"mover"}`), Policy: wire.Policy{ApprovedPrune: strings.Repeat("a", 64), TakeFrom: "uid-plain"}},
		"done":    {Name: "done", UID: "uid-done", Generation: 1, Digest: content(`{"n":"done"}`), Complete: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || p.Pages != 1 || p.Page != 0 {
		t.Errorf("page %d of %d:\n%s", p.Page, p.Pages, diff)
	}
	for _, tt := range []struct {
		cluster, digest string
		want            bool
	}{{"shop-1", digestNo(1), true}, {"shop-1", digestNo(2), false}, {"shop-2", digestNo(1), false}, {"shop-1", "", false}} {
		if got := d.HasBundle(tt.cluster, tt.digest); got != tt.want {
			t.Errorf("%s may have %s: %v", tt.cluster, tt.digest, got)
		}
	}
	// What has not changed is not sent again, signed or not.
	if same := d.answer(t, "shop-1", wire.DesiredRequest{Version: 2, Epoch: p.Epoch, Generation: p.Generation}); !same.Unchanged || same.Envelope != nil {
		t.Errorf("asked again: %+v", same)
	}
	d.cfg.Signer = signer{fail: true}
	if got := d.answer(t, "shop-1", wire.DesiredRequest{Version: 2}); got.Error == "" || got.Envelope != nil || len(got.Items) != 0 {
		t.Errorf("without a key: %+v", got)
	}
}

// TestVersion1: an agent of the first protocol version, as recorded, gets a plain
// list, and none of the works that it would get wrong.
func TestVersion1(t *testing.T) {
	t.Parallel()
	d := listing(t,
		event("shop-1", "plain", 1, nil, "{}"),
		event("shop-1", "guarded", 2, map[string]string{work.AnnotationPrune: "Unguarded"}, "{}"),
		event("shop-1", "bundled", 3, map[string]string{work.AnnotationBundle: digestNo(1)}, "{}"),
		event("shop-1", "shy", 4, map[string]string{work.AnnotationAdoption: "Never"}, "{}"),
	)
	m := d.serveDesired(t.Context(), "shop-1", []byte(`{"epoch":"e/shop-1","generation":7}`))
	// The fields that such an agent knows.
	var got struct {
		Epoch      string
		Generation uint64
		Unchanged  bool
		Error      string
		Items      []struct {
			Name, UID, Digest string
			Generation        int64
			Deleting          bool
		}
	}
	if err := json.Unmarshal(m.Data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Error != "" || got.Unchanged || got.Generation != 100 || len(got.Items) != 2 || got.Items[0].Name != "guarded" ||
		got.Items[1].Name != "plain" || got.Items[1].UID != "uid-plain" || got.Items[1].Digest != digestOf([]byte(`{"n":"plain"}`)) {
		t.Errorf("%s", m.Data)
	}
	if strings.Contains(string(m.Data), "policy") || strings.Contains(string(m.Data), "envelope") {
		t.Errorf("%s", m.Data)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	const works = 12_000
	var events []store.Event
	for i := range works {
		events = append(events, event("shop-1", fmt.Sprintf("work-%05d", i), uint64(i+1), nil, "{}"))
	}
	d := listing(t, events...)
	first := d.signedPage(t, "shop-1", 0)
	if first.Pages < 2 {
		t.Fatalf("%d pages", first.Pages)
	}
	var items []wire.Item
	for i := range first.Pages {
		p := d.signedPage(t, "shop-1", i)
		if p.Page != i || p.Pages != first.Pages || p.Generation != first.Generation {
			t.Errorf("page %d of %d, generation %d", p.Page, p.Pages, p.Generation)
		}
		items = append(items, p.Items...)
	}
	if len(items) != works {
		t.Fatalf("%d items", len(items))
	}
	for i, item := range items {
		if item.Name != fmt.Sprintf("work-%05d", i) {
			t.Fatalf("item %d is %s", i, item.Name)
		}
	}
	for _, page := range []int{-1, first.Pages} {
		if p := d.signedPage(t, "shop-1", page); p.Page != 0 {
			t.Errorf("page %d gave %d", page, p.Page)
		}
	}
	if old := d.answer(t, "shop-1", wire.DesiredRequest{}); !strings.Contains(old.Error, "upgrade the agent") || len(old.Items) != 0 {
		t.Errorf("an agent of version 1: %d items, %s", len(old.Items), old.Error)
	}
}

func TestCheckAnnotations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, key, value, want string
	}{
		{"default", work.AnnotationAdoption, "Always", ""},
		{"adoption", work.AnnotationAdoption, "always", `metadata.annotations[fleet.drover.io/adoption]: Unsupported value: "always": supported values: "Always", "IfNoDiff", "Never"`},
		{"drift", work.AnnotationDrift, "", `metadata.annotations[fleet.drover.io/drift]: Unsupported value: "": supported values: "Correct", "Report"`},
		{"prune", work.AnnotationPrune, "Unguarded", ""},
		{"bundle", work.AnnotationBundle, "latest", "want sha256: and 64"},
		{"plan", work.AnnotationApprovePrune, "yes", "want the id of a prune plan"},
		{"plan withdrawn", work.AnnotationApprovePrune, "", ""},
		{"take from itself", work.AnnotationTakeFrom, "a, w", "a work cannot take from itself"},
		{"take from a path", work.AnnotationTakeFrom, "a/b", `"a/b" is not the name of a work`},
		{"health", work.AnnotationHealthRules, `[{"name":"up","object":{"kind":"Widget","name":"*"},"expression":"object.status.phase == 'Up'","message":"not up","timeout":"5m0s"}]`, ""},
		{"health of nothing", work.AnnotationHealthRules, "", ""},
		{"health that is no list", work.AnnotationHealthRules, `{"name":"up"}`, "want a JSON list of health rules"},
		{"health with an unknown field", work.AnnotationHealthRules, `[{"name":"up","expresion":"true"}]`, `unknown field "expresion"`},
		{"health with a broken expression", work.AnnotationHealthRules, `[{"name":"up","object":{"name":""},"expression":"object.status.phase = 'Up'"}]`, "health-rules][0].expression: Invalid value"},
		{"health with an unknown function", work.AnnotationHealthRules, `[{"name":"up","object":{"name":""},"expression":"ready(object)"}]`, "undeclared reference to 'ready'"},
		{"health that is a number", work.AnnotationHealthRules, `[{"name":"up","object":{"name":""},"expression":"1 + 1"}]`, "the expression yields int, want bool"},
		{"health without an expression", work.AnnotationHealthRules, `[{"name":"up","object":{"name":""}}]`, "[0].expression: Required value"},
		{"health of a Secret", work.AnnotationHealthRules, `[{"name":"up","object":{"kind":"Secret","name":"x"},"expression":"true"}]`, "agents do not read Secrets"},
		{"health in the past", work.AnnotationHealthRules, `[{"name":"up","object":{"name":""},"expression":"true","timeout":"-1s"}]`, "[0].timeout: Invalid value"},
		{"health too large", work.AnnotationHealthRules, `[{"name":"` + strings.Repeat("x", 40<<10) + `"}]`, "at most 32768"},
		{"too many rules", work.AnnotationHealthRules, "[" + strings.Repeat(`{"name":"a","object":{"name":""}},`, 64) + `{"name":"a"}]`, "must have at most 64 items"},
		{"protected", work.AnnotationProtected, `[{"kind":"Widget","namespace":"data","name":"*"}]`, ""},
		{"protected with a pattern", work.AnnotationProtected, `[{"kind":"*","name":"x"}]`, "leave it out to match any"},
		{"protected twice", work.AnnotationProtected, `[] []`, "something follows the list"},
		{"somebody else's", "example.org/drift", "Sometimes", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if errs := CheckAnnotations("w", map[string]string{tt.key: tt.value}); len(errs) > 0 {
				got = errs.ToAggregate().Error()
			}
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	// Past the API anything may come: it counts as its strictest value.
	got := policyOf(map[string]string{work.AnnotationAdoption: "x", work.AnnotationDrift: "x", work.AnnotationPrune: "x", work.AnnotationApprovePrune: "x"})
	if diff := cmp.Diff(wire.Policy{Adoption: wire.AdoptNever, Drift: wire.DriftReport}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFinishedWorkIsRemoved(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1")
	ctx := timeout(t)
	ttl := int64(0)
	for _, name := range []string{"keep", "drop"} {
		w := &work.ManifestWork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop-1", Name: name},
			Spec:       work.ManifestWorkSpec{Workload: work.Workload{Manifests: []runtime.RawExtension{{Raw: []byte(configMap)}}}},
		}
		if name == "drop" {
			w.Spec.DeleteOption = &work.DeleteOption{TTLSecondsAfterFinished: &ttl}
		}
		_, err := h.d.works.Create(ctx, w)
		h.must(err)
	}
	for _, item := range h.items("shop-1", 2).Items {
		m := manifest("job", func(m *wire.ManifestReport) {
			m.Conditions = []wire.RuleCondition{{Type: "Complete", Status: "True", Reason: "ConditionRuleEvaluated", Message: "done"}}
		})
		if ack := h.report("shop-1", wire.Report{Name: item.Name, UID: item.UID, Generation: 1, Digest: item.Digest, Manifests: []wire.ManifestReport{m}}); ack.Error != "" {
			t.Fatal(ack.Error)
		}
	}
	until(t, "the finished work is deleted after its time", func() bool { return !h.get("shop-1", "drop").DeletionTimestamp.IsZero() })
	if !h.get("shop-1", "keep").DeletionTimestamp.IsZero() {
		t.Error("a finished work without a time was deleted")
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	ctx := timeout(t)
	object := func(generation int64, annotations map[string]any, names ...string) map[string]any {
		manifests := []any{}
		for _, n := range names {
			manifests = append(manifests, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": n, "namespace": "default"}})
		}
		return map[string]any{
			"metadata": map[string]any{"name": "w", "namespace": "shop-1", "uid": "u1-x", "generation": generation, "annotations": annotations, "labels": map[string]any{"a": "b"}},
			"spec":     map[string]any{"workload": map[string]any{"manifests": manifests}},
		}
	}
	list := func(n int) []*fleet.WorkRevision {
		t.Helper()
		var got []*fleet.WorkRevision
		until(t, fmt.Sprintf("%d revisions", n), func() bool {
			all, err := h.d.history(ctx, "shop-1", "w", 0)
			h.must(err)
			got = all
			return len(all) == n
		})
		return got
	}
	approved := map[string]any{work.AnnotationApprovePrune: "x", "own": "y"}
	h.must(h.d.KeepRevision(ctx, object(1, nil, "a", "b"), object(2, nil, "b", "a", "c"), "alice"))
	list(0)
	for range 2 { // tried again
		h.must(h.d.KeepRevision(ctx, object(2, approved, "a", "b", "c"), object(3, nil, "b"), "alice"))
		list(1)
	}
	r := list(1)[0].Spec
	if r.Revision != 1 || r.Generation != 2 || r.By != "alice" || r.Reason != fleet.RevisionManifestsDropped || r.Message != "2 of 3 manifests were dropped: ConfigMap default/a, ConfigMap default/c" {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff(map[string]string{"own": "y"}, r.Annotations); diff != "" || r.Labels["a"] != "b" || !strings.Contains(string(r.WorkSpec.Raw), `"name":"c"`) {
		t.Errorf("%s %s %s", diff, r.Labels, r.WorkSpec.Raw)
	}
	h.must(h.d.KeepRevision(ctx, object(3, nil, "b"), nil, "bob"))
	if r := list(2)[0].Spec; r.Reason != fleet.RevisionDeleted || r.Revision != 2 {
		t.Errorf("%+v", r)
	}
	h.must(h.d.KeepRevision(ctx, object(4, map[string]any{work.AnnotationBundle: digestNo(1)}), object(4, nil), "bob"))
	if r := list(3)[0].Spec; r.Message != "the bundle "+digestNo(1)+" was replaced" {
		t.Errorf("%+v", r)
	}
	until(t, "the bundle is in use", func() bool {
		used, err := h.d.BundlesInUse(ctx)
		h.must(err)
		return used[digestNo(1)]
	})
	for i := range int64(20) {
		h.must(h.d.KeepRevision(ctx, object(10+i, nil, "a"), object(11+i, nil), "bob"))
		list(min(int(i)+4, maxRevisions))
	}
	if newest := list(maxRevisions)[0].Spec; newest.Revision != 23 {
		t.Errorf("the newest is %d", newest.Revision)
	}
	h.must(h.d.collectOnce(ctx, time.Now().Add(UndoFor-time.Hour)))
	list(maxRevisions)
	h.must(h.d.collectOnce(ctx, time.Now().Add(UndoFor+time.Hour)))
	list(0)
}

// TestRevisionPrefix: the revisions of a work are found by their names.
func TestRevisionPrefix(t *testing.T) {
	t.Parallel()
	const uid = "0d3ed9b1-6a2c-4c59-8d5f-0f6c9a1e7b11"
	for _, name := range []string{"w", "w-1", strings.Repeat("x", 194), strings.Repeat("x.-", 65) + "x", strings.Repeat("x", 253)} {
		for _, id := range []string{uid, strings.ReplaceAll(uid, "-", ""), ""} {
			for _, reason := range []string{fleet.RevisionDeleted, fleet.RevisionManifestsDropped} {
				if got := revisionName(name, id, math.MaxInt64, reason); !strings.HasPrefix(got, revisionPrefix(name)) {
					t.Errorf("%s does not begin with %s", got, revisionPrefix(name))
				}
			}
		}
	}
	if strings.HasPrefix(revisionName("w-10", uid, 1, fleet.RevisionDeleted), revisionPrefix("w-1")) {
		t.Error("work w-1 reads the revisions of w-10")
	}
}
