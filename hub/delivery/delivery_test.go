// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func TestContentOf(t *testing.T) {
	t.Parallel()
	same := []string{
		`{"spec":{"a":1,"b":{"x":true,"y":[1,2]}},"status":{"z":1}}`,
		`{"status":{},"spec":{"b":{"y":[1,2],"x":true},"a":1}}`,
		"{\"metadata\":{\"name\":\"n\"},\n \"spec\": {\"b\" : {\"y\":[1,\n2],\"x\":true},\"a\":1}}",
	}
	first, err := contentOf([]byte(same[0]), beside{})
	if err != nil || string(first) != `{"a":1,"b":{"x":true,"y":[1,2]}}` {
		t.Fatalf("%s, %v", first, err)
	}
	for _, s := range same {
		if got, err := contentOf([]byte(s), beside{}); err != nil || digestOf(got) != digestOf(first) {
			t.Errorf("%s gives %s, %v", s, got, err)
		}
	}
	for _, other := range []string{
		`{"spec":{"a":1,"b":{"x":true,"y":[2,1]}}}`, `{"spec":{"a":"1","b":{"x":true,"y":[1,2]}}}`, `{"spec":{}}`,
	} {
		if got, err := contentOf([]byte(other), beside{}); err != nil || digestOf(got) == digestOf(first) {
			t.Errorf("%s gives the same digest, %v", other, err)
		}
	}
	for _, tt := range []struct{ in, want string }{
		{`{}`, `{}`},
		{`{"spec":{"n":9007199254740993}}`, `{"n":9007199254740993}`},
		{`{"spec":{"n":1.5,"s":"<&>"}}`, `{"n":1.5,"s":"\u003c\u0026\u003e"}`},
	} {
		if got, err := contentOf([]byte(tt.in), beside{}); err != nil || string(got) != tt.want {
			t.Errorf("%s gives %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, bad := range []string{``, `[]`, `{"spec":`} {
		if got, err := contentOf([]byte(bad), beside{}); err == nil {
			t.Errorf("%q gives %s", bad, got)
		}
	}
}

func FuzzContentOf(f *testing.F) {
	f.Add([]byte(`{"spec":{"a":[1,{"b":null}]}}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		once, err := contentOf(object, beside{})
		if err != nil {
			return
		}
		again, err := contentOf(fmt.Appendf(nil, `{"spec":%s}`, once), beside{})
		if err != nil || string(again) != string(once) {
			t.Errorf("%s became %s, %v", once, again, err)
		}
	})
}

func TestItemOf(t *testing.T) {
	t.Parallel()
	data := []byte(`{"spec":{"a":1}}`)
	digest := digestOf([]byte(`{"a":1}`))
	for _, tt := range []struct {
		name   string
		typ    store.EventType
		header store.Header
		data   string
		want   wire.Item
		ok     bool
		fails  bool
	}{
		{name: "without the finalizer", typ: store.Added, header: store.Header{Finalizers: []string{"other"}}},
		{name: "with it", typ: store.Added, header: store.Header{UID: "u", Generation: 3, Finalizers: []string{"other", work.Finalizer}}, ok: true, want: wire.Item{Name: "w", UID: "u", Generation: 3, Digest: digest}},
		{name: "being deleted", typ: store.Modified, header: store.Header{UID: "u", Finalizers: []string{work.Finalizer}, DeletionTimestamp: time.Now()}, ok: true, want: wire.Item{Name: "w", UID: "u", Digest: digest, Deleting: true}},
		{name: "gone", typ: store.Deleted, header: store.Header{Finalizers: []string{work.Finalizer}}},
		{name: "broken", typ: store.Added, header: store.Header{Finalizers: []string{work.Finalizer}}, data: `{"spec":[`, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := store.Entry{Key: store.Key{Name: "w"}, Header: tt.header, Data: data}
			if tt.data != "" {
				e.Data = []byte(tt.data)
			}
			got, ok, err := new(Delivery).entryOf(context.Background(), store.Event{Type: tt.typ, Entry: e})
			if ok != tt.ok || (err != nil) != tt.fails {
				t.Errorf("ok %v, %v", ok, err)
			}
			if d := cmp.Diff(tt.want, got.item); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestGenerationBehindTheStore: a cluster asks for its list before the work
// that concerns it has come through, while the store is further already. The
// generation must not fall when the work comes.
func TestGenerationBehindTheStore(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("a", "b", "c") // raises the store's revision beyond the works'
	d := New(Config{Store: h.store, Conn: h.conn, Log: zap.NewNop()})
	d.replace(map[string]*desired{}, 1)
	empty := listed(d, "shop-1", wire.DesiredRequest{})
	if empty.Generation != 1 {
		t.Errorf("generation %d, want that of the picture, 1", empty.Generation)
	}
	h.must(d.takeLive(context.Background(), store.Event{Type: store.Added, Entry: store.Entry{
		Key: store.Key{Namespace: "shop-1", Name: "w"}, Revision: 2, Data: []byte(`{"spec":{}}`),
		Header: store.Header{Finalizers: []string{work.Finalizer}},
	}}))
	full := listed(d, "shop-1", wire.DesiredRequest{Epoch: empty.Epoch, Generation: empty.Generation})
	if full.Unchanged || full.Generation <= empty.Generation || len(full.Items) != 1 {
		t.Errorf("after the work came: %+v", full)
	}
}

func TestDesired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := start(t, dir)
	h.manage("shop-1", "shop-2")
	h.work("shop-1", "b", configMap)
	h.work("shop-1", "a", configMap)
	h.work("shop-2", "a", `{"kind":"Secret"}`)
	h.work("paper", "a", configMap)
	got := h.items("shop-1", 2)
	if got.Items[0].Name != "a" || got.Items[1].Name != "b" || got.Epoch == "" || got.Unchanged {
		t.Errorf("list %+v", got)
	}
	same := h.desired("shop-1", wire.DesiredRequest{Epoch: got.Epoch, Generation: got.Generation})
	if !same.Unchanged || same.Items != nil || same.Generation != got.Generation {
		t.Errorf("asked again: %+v", same)
	}
	if other := h.desired("shop-1", wire.DesiredRequest{Epoch: "other", Generation: got.Generation}); other.Unchanged || len(other.Items) != 2 {
		t.Errorf("another epoch: %+v", other)
	}
	if paper := h.desired("paper", wire.DesiredRequest{}); len(paper.Items) != 0 {
		t.Errorf("a cluster that is not managed: %+v", paper)
	}

	// A status changes nothing; a spec does.
	h.report("shop-1", wire.Report{Name: "a", UID: got.Items[0].UID, Generation: 1, Digest: got.Items[0].Digest})
	if after := h.desired("shop-1", wire.DesiredRequest{}); after.Generation != got.Generation {
		t.Errorf("a status made generation %d of %d", after.Generation, got.Generation)
	}
	_, err := h.d.works.Update(timeout(t), "shop-1", "a", func(w *work.ManifestWork) error {
		w.Spec.Workload.Manifests[0].Raw = []byte(`{"kind":"Other"}`)
		return nil
	})
	h.must(err)
	var changed wire.Desired
	until(t, "new digest", func() bool {
		changed = h.desired("shop-1", wire.DesiredRequest{})
		return changed.Items[0].Digest != got.Items[0].Digest
	})
	if changed.Generation <= got.Generation || changed.Items[0].Generation != 2 || changed.Items[1] != got.Items[1] {
		t.Errorf("after the change %+v", changed)
	}

	// A restart keeps the epoch, and the generation does not fall.
	h.stop()
	h = start(t, dir)
	again := h.items("shop-1", 2)
	if again.Epoch != changed.Epoch || again.Generation < changed.Generation {
		t.Errorf("after a restart %s %d, before %s %d", again.Epoch, again.Generation, changed.Epoch, changed.Generation)
	}
	if d := cmp.Diff(changed.Items, again.Items); d != "" {
		t.Errorf("items after a restart:\n%s", d)
	}
	if empty := h.desired("fresh", wire.DesiredRequest{}); empty.Generation < changed.Generation {
		t.Errorf("generation of a cluster without works %d", empty.Generation)
	}
}

// TestIsolation: a cluster gets the content of its own works and no other.
func TestIsolation(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1", "shop-2")
	h.work("shop-1", "a", `{"kind":"Secret","data":{"x":"own"}}`)
	h.work("shop-2", "a", `{"kind":"Secret","data":{"x":"other"}}`)
	own, other := h.items("shop-1", 1).Items[0], h.items("shop-2", 1).Items[0]
	m := h.ask("shop-1", wire.ServiceContent, wire.ContentRequest{Digest: own.Digest})
	if m.Header.Get(wire.HeaderError) != "" || digestOf(m.Data) != own.Digest || !strings.Contains(string(m.Data), "own") {
		t.Errorf("own content: %s %v", m.Data, m.Header)
	}
	for _, digest := range []string{other.Digest, "", "sha256:", "../shop-2/a"} {
		m := h.ask("shop-1", wire.ServiceContent, wire.ContentRequest{Digest: digest})
		if m.Header.Get(wire.HeaderError) == "" || len(m.Data) != 0 {
			t.Errorf("%q gave %s", digest, m.Data)
		}
	}
	m = h.ask("shop-1", wire.ServiceContent, wire.ContentRequest{Digests: []string{other.Digest, own.Digest, ""}})
	var several wire.Contents
	if err := json.Unmarshal(m.Data, &several); err != nil || len(several.Contents) != 3 {
		t.Fatalf("several: %s, %v", m.Data, err)
	}
	for i, c := range several.Contents {
		if ok := i == 1; ok != (digestOf(c.Data) == own.Digest) || ok != (c.Error == "") || ok != (len(c.Data) > 0) {
			t.Errorf("of several, %d: %+v", i, c)
		}
	}
	m = h.ask("shop-1", wire.ServiceContent, wire.ContentRequest{Digests: make([]string, wire.MaxContents+1)})
	if m.Header.Get(wire.HeaderError) == "" {
		t.Errorf("too many gave %s", m.Data)
	}
	m = h.ask("shop-1", wire.ServiceContent, "not a request")
	if m.Header.Get(wire.HeaderError) == "" {
		t.Errorf("garbage gave %s", m.Data)
	}
	// Nor can it report on, or release, what is not its own.
	before := h.get("shop-2", "a").ResourceVersion
	h.report("shop-1", wire.Report{Name: "a", UID: other.UID, Generation: 1, Error: "spoiled"})
	h.report("shop-1", wire.Report{Name: "a", UID: other.UID, Deleted: true})
	if got := h.get("shop-2", "a").ResourceVersion; got != before {
		t.Error("the work of another cluster was written")
	}
}

// TestTombstone: a deleted work stays listed until its agent has cleaned up.
func TestTombstone(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	ctx := timeout(t)
	h.manage("shop-1")
	h.work("shop-1", "w", configMap)
	item := h.items("shop-1", 1).Items[0]
	// A premature or foreign word does nothing.
	h.report("shop-1", wire.Report{Name: "w", UID: item.UID, Deleted: true})
	if !hasFinalizer(h.get("shop-1", "w").Finalizers) {
		t.Fatal("a work that nobody deleted was released")
	}
	h.must(h.d.works.Delete(ctx, "shop-1", "w"))
	until(t, "tombstone", func() bool {
		got := h.desired("shop-1", wire.DesiredRequest{})
		return len(got.Items) == 1 && got.Items[0].Deleting && got.Items[0].Digest == item.Digest
	})
	h.report("shop-1", wire.Report{Name: "w", UID: "another", Deleted: true})
	if got := h.desired("shop-1", wire.DesiredRequest{}); len(got.Items) != 1 {
		t.Fatalf("released by the word about another object: %+v", got)
	}
	for range 2 { // the answer was lost
		if ack := h.report("shop-1", wire.Report{Name: "w", UID: item.UID, Deleted: true}); ack != (wire.Ack{}) {
			t.Errorf("ack %+v", ack)
		}
	}
	if _, err := h.d.works.Get(ctx, "shop-1", "w"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the report: %v", err)
	}
	h.items("shop-1", 0)
	h.work("shop-1", "w", configMap)
	if again := h.items("shop-1", 1).Items[0]; again.UID == item.UID || again.Deleting {
		t.Errorf("a new work of the old name: %+v", again)
	}
}

// TestFinalizers: works are kept for managed clusters only.
func TestFinalizers(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	ctx := timeout(t)
	kept := func(name string) bool { return hasFinalizer(h.get("shop-1", name).Finalizers) }
	h.work("shop-1", "early", configMap)
	// One that is too large to take a finalizer must not hold up the others.
	h.work("shop-1", "aab", `{"x":""}`)
	small, err := h.store.Get(ctx, store.Key{Resource: work.Resource, Namespace: "shop-1", Name: "aab"})
	h.must(err)
	h.work("shop-1", "aaa", `{"x":"`+strings.Repeat("x", store.MaxObject-len(small.Data)-5)+`"}`)
	h.manage("shop-1")
	until(t, "the large one is complained about", func() bool { return h.logs.FilterMessageSnippet("finalizer not set").Len() > 0 })
	until(t, "kept once its cluster is managed", func() bool { return kept("early") })
	h.work("shop-1", "later", configMap)
	until(t, "kept from the start", func() bool { return kept("later") })
	h.must(h.d.works.Delete(ctx, "shop-1", "early"))
	h.must(h.clusters.Delete(ctx, "", "shop-1"))
	until(t, "released with its cluster", func() bool {
		_, err := h.d.works.Get(ctx, "shop-1", "early")
		return errors.Is(err, store.ErrNotFound)
	})
	if !kept("later") {
		t.Error("a work that nobody deleted was released")
	}
	h.must(h.d.works.Delete(ctx, "shop-1", "later"))
	until(t, "released without a cluster", func() bool {
		_, err := h.d.works.Get(ctx, "shop-1", "later")
		return errors.Is(err, store.ErrNotFound)
	})
}

func TestHints(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1")
	sub, err := h.conn.SubscribeSync(wire.HintSubject("shop-1"))
	h.must(err)
	h.work("shop-1", "w", configMap)
	got := h.items("shop-1", 1)
	last := func() (generation uint64) {
		for {
			m, err := sub.NextMsg(100 * time.Millisecond)
			if errors.Is(err, nats.ErrTimeout) {
				return generation
			}
			h.must(err)
			var hint wire.Hint
			h.must(json.Unmarshal(m.Data, &hint))
			generation = hint.Generation
		}
	}
	until(t, "hint about the work", func() bool { return last() == got.Generation })
	h.report("shop-1", wire.Report{Name: "w", UID: got.Items[0].UID, Generation: 1})
	if n := last(); n != 0 {
		t.Errorf("a status gave a hint of %d", n)
	}
	h.must(h.d.works.Delete(timeout(t), "shop-1", "w"))
	until(t, "hint about the deletion", func() bool { return last() > got.Generation })
}

// TestReplaceHintsAll: after a gap in the watch every cluster is told to look,
// one that lost its last work included.
func TestReplaceHintsAll(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	d := New(Config{Store: h.store, Conn: h.conn, Log: zap.NewNop()})
	sub, err := h.conn.SubscribeSync(wire.DownPrefix("*") + "hint")
	h.must(err)
	d.replace(map[string]*desired{"a": {items: map[string]entry{}}, "b": {items: map[string]entry{}}}, 5)
	d.replace(map[string]*desired{"a": {items: map[string]entry{}}}, 9)
	got := map[string]int{}
	for range 4 {
		m, err := sub.NextMsg(patience)
		h.must(err)
		name, _ := wire.ClusterOf(m.Subject)
		got[name]++
	}
	if d := cmp.Diff(map[string]int{"a": 2, "b": 2}, got); d != "" {
		t.Errorf("hints:\n%s", d)
	}
	if b := listed(d, "b", wire.DesiredRequest{Epoch: h.store.Identity(), Generation: 5}); b.Unchanged || b.Generation != 9 || len(b.Items) != 0 {
		t.Errorf("list of b: %+v", b)
	}
}

func TestStarting(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	d := New(Config{Store: h.store, Conn: h.conn, Log: zap.NewNop()})
	if got := listed(d, "shop-1", wire.DesiredRequest{}); got.Error == "" {
		t.Errorf("before the works were seen: %+v", got)
	}
}
