// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/wire"
)

func TestDeploymentBecomesCurrent(t *testing.T) {
	t.Parallel()
	r := newRig(t, "current")
	r.start()
	item := r.item("web", 1, "", deployment("current", "web", "{}"))
	r.engine.Sync([]wire.Item{item})
	got := r.awaitCurrent(item)
	want := []wire.ManifestReport{{
		Group: "apps", Version: "v1", Kind: "Deployment", Resource: "deployments", Namespace: "current", Name: "web",
		Applied: true, Available: true, Health: wire.HealthCurrent,
	}}
	if diff := cmp.Diff(want, got.Manifests); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]wire.Report{got}, r.engine.Reports()); diff != "" {
		t.Error(diff)
	}
}

func TestStuckDeploymentFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, "stuck")
	r.start()
	item := r.item("web", 1, "", deployment("stuck", "web", `{"no-such":"node"}`))
	r.engine.Sync([]wire.Item{item})
	r.await(item, "in progress", func(report wire.Report) bool {
		return report.Manifests[0].Health == wire.HealthInProgress
	})
	got := r.await(item, "failed", func(report wire.Report) bool { return report.Manifests[0].Health == wire.HealthFailed })
	m := got.Manifests[0]
	if !m.Applied || !m.Available || !strings.HasPrefix(m.HealthMessage, "ProgressDeadlineExceeded: ") || !strings.Contains(m.HealthMessage, "has timed out progressing") {
		t.Errorf("got %+v", m)
	}
}

const widgetCRD = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.GROUP"},
	"spec":{"group":"GROUP","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList"},
	"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
	"spec":{"type":"object","properties":{"size":{"type":"integer","minimum":1}}}}}}}]}}`

func widget(group, ns, name string, size int) string {
	return fmt.Sprintf(`{"apiVersion":"%s/v1","kind":"Widget","metadata":{"name":%q,"namespace":%q},"spec":{"size":%d}}`, group, name, ns, size)
}

// A work may carry a namespace, a CRD and what needs them, in any order.
func TestFoundationsComeFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.start()
	const group = "first.example.com"
	item := r.item("bundle", 1, "",
		widget(group, "made-first", "w", 2),
		deployment("made-first", "web", "{}"),
		configMap("made-first", "c", "info"),
		strings.ReplaceAll(widgetCRD, "GROUP", group),
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"made-first"}}`,
	)
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.mu.Lock()
	first := r.reports["bundle"][0]
	r.mu.Unlock()
	for _, m := range first.Manifests {
		if !m.Applied {
			t.Errorf("not applied at the first attempt: %+v", m)
		}
	}
	gone := item
	gone.Deleting, gone.Generation = true, 2
	gone.Policy.Prune = wire.PruneUnguarded // a namespace and a CRD need a word
	r.engine.Sync([]wire.Item{gone})
	r.awaitDeleted(gone)
	if r.get(namespaces, "", "made-first") != nil {
		t.Error("namespace still exists after Deleted was reported")
	}
}

func TestRefusedManifestsDoNotStopOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "refused")
	r.start()
	const group = "refused.example.com"
	item := r.item("mixed", 1, "",
		strings.ReplaceAll(widgetCRD, "GROUP", group),
		widget(group, "refused", "bad", 0),
		`{"apiVersion":"unknown.example.com/v1","kind":"Gadget","metadata":{"name":"g","namespace":"refused"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"no-namespace"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"refused"}}`,
		configMap("refused", "Bad_Name", "info"),
		configMap("no-such-namespace", "c", "info"),
		configMap("refused", "good", "info"),
	)
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "outcome", func(report wire.Report) bool { return len(report.Manifests) == 8 && report.Manifests[7].Applied })
	for i, want := range []string{
		"", "spec.size in body should be greater than or equal to 1",
		`no matches for kind "Gadget" in version "unknown.example.com/v1"; is its CRD installed?`,
		"metadata.namespace is missing: a ConfigMap lives in a namespace", "metadata.name is missing",
		"a lowercase RFC 1123 subdomain must consist of", `namespaces "no-such-namespace" not found`, "",
	} {
		m := got.Manifests[i]
		if m.Applied != (want == "") || !strings.Contains(m.ApplyMessage, want) {
			t.Errorf("manifest %d: got %v %q, want %q", i, m.Applied, m.ApplyMessage, want)
		}
		if !m.Applied && (m.Available || m.Health != "") {
			t.Errorf("manifest %d speaks of health without being applied: %+v", i, m)
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	r := newRig(t, "prune")
	r.start()
	one := r.item("app", 1, "", configMap("prune", "a", "1"), configMap("prune", "b", "1"))
	r.engine.Sync([]wire.Item{one})
	r.awaitCurrent(one)

	// While something of the new content fails, nothing is pruned.
	two := r.item("app", 2, "", configMap("prune", "b", "2"), configMap("prune", "Bad_Name", "2"))
	r.engine.Sync([]wire.Item{two})
	r.await(two, "partial", func(report wire.Report) bool { return len(report.Manifests) == 2 && report.Manifests[0].Applied })
	if r.get(configMaps, "prune", "a") == nil {
		t.Fatal("pruned although the new content was not applied whole")
	}

	three := r.item("app", 3, "", configMap("prune", "b", "3"), configMap("prune", "c", "3"))
	r.engine.Sync([]wire.Item{three})
	r.awaitCurrent(three)
	r.awaitGone(configMaps, "prune", "a")
	if r.get(configMaps, "prune", "b") == nil || r.get(configMaps, "prune", "c") == nil {
		t.Error("pruned too much")
	}
}

// Somebody else's object of the same name is not ours to prune.
func TestPruneLeavesAnotherUID(t *testing.T) {
	t.Parallel()
	r := newRig(t, "other-uid")
	r.start()
	one := r.item("app", 1, "", configMap("other-uid", "a", "1"), configMap("other-uid", "b", "1"))
	r.engine.Sync([]wire.Item{one})
	r.awaitCurrent(one)
	r.stop()
	if err := r.live.Resource(configMaps).Namespace("other-uid").Delete(t.Context(), "a", deleteNow); err != nil {
		t.Fatal(err)
	}
	r.create(configMaps, "other-uid", configMap("", "a", "theirs"))
	r.start()
	two := r.item("app", 2, "", configMap("other-uid", "b", "2"))
	r.engine.Sync([]wire.Item{two})
	r.awaitCurrent(two)
	if r.get(configMaps, "other-uid", "a") == nil {
		t.Error("deleted an object with another uid")
	}
}

func TestMissingItemKeepsEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t, "missing")
	r.start()
	a, b := r.item("a", 1, "", configMap("missing", "a", "1")), r.item("b", 1, "", configMap("missing", "b", "1"))
	r.engine.Sync([]wire.Item{a, b})
	r.awaitCurrent(a)
	r.awaitCurrent(b)
	r.takeWrites()
	r.engine.Sync([]wire.Item{a})
	r.engine.Sync(nil)
	a2 := r.item("a", 2, "", configMap("missing", "a", "2"))
	r.engine.Sync([]wire.Item{a2})
	r.awaitCurrent(a2)
	for _, w := range r.takeWrites() {
		if strings.HasPrefix(w, "DELETE") || strings.HasSuffix(w, "/b") {
			t.Errorf("wrote %s for an item that is merely missing", w)
		}
	}
	if r.get(configMaps, "missing", "b") == nil {
		t.Error("object of a missing item is gone")
	}
}

func TestTombstone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, option string
		stays        []string
	}{
		{"foreground", `{}`, nil},
		{"orphan", `{"deleteOption":{"propagationPolicy":"Orphan"}}`, []string{"a", "b"}},
		{
			"selective", `{"deleteOption":{"propagationPolicy":"SelectivelyOrphan","selectivelyOrphans":{"orphaningRules":[
				{"resource":"configmaps","namespace":"tombstone-selective","name":"b"}]}}}`, []string{"b"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := "tombstone-" + tt.name
			r := newRig(t, ns)
			r.start()
			plain := r.item("app", 1, "", configMap(ns, "a", "1"), configMap(ns, "b", "1"), deployment(ns, "web", "{}"))
			r.engine.Sync([]wire.Item{plain})
			r.awaitCurrent(plain)
			// The option may have been set in the last moment, and never applied.
			gone := r.item("app", 2, tt.option, configMap(ns, "a", "1"), configMap(ns, "b", "1"), deployment(ns, "web", "{}"))
			gone.Deleting = true
			r.engine.Sync([]wire.Item{gone})
			r.awaitDeleted(gone)
			for _, name := range []string{"a", "b"} {
				if stays := strings.Contains(strings.Join(tt.stays, " "), name); (r.get(configMaps, ns, name) != nil) != stays {
					t.Errorf("object %s: want it to stay: %v", name, stays)
				}
			}
			// Again, as after a restart before the hub took note.
			r.stop()
			r.start()
			r.engine.Sync([]wire.Item{gone})
			r.awaitDeleted(gone)
			r.engine.Sync(nil)
			r.stop()
			if records, _ := r.LoadRecords(); len(records) != 0 {
				t.Errorf("records stay: %v", records)
			}
		})
	}
}

// A tombstone waits for finalizers, and says which.
func TestTombstoneWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, "waits")
	r.start()
	held := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"held","namespace":"waits","finalizers":["example.com/hold"]}}`
	item := r.item("app", 1, "", held, configMap("waits", "free", "1"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	item.Deleting = true
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "waiting", func(report wire.Report) bool {
		return len(report.Manifests) == 1 && strings.Contains(report.Manifests[0].HealthMessage, "example.com/hold")
	})
	if got.Deleted || got.Manifests[0].Health != wire.HealthTerminating {
		t.Errorf("got %+v", got)
	}
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := r.live.Resource(configMaps).Namespace("waits").Patch(t.Context(), "held", mergePatch, patch, patchNow); err != nil {
		t.Fatal(err)
	}
	r.awaitDeleted(item)
}

func TestMissingObjectIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "repair")
	r.start()
	item := r.item("app", 1, "", configMap("repair", "a", "1"), deployment("repair", "stuck", `{"no-such":"node"}`))
	r.engine.Sync([]wire.Item{item})
	r.await(item, "applied", func(report wire.Report) bool { return len(report.Manifests) == 2 && report.Manifests[1].Applied })
	if err := r.live.Resource(deployments).Namespace("repair").Delete(t.Context(), "stuck", deleteNow); err != nil {
		t.Fatal(err)
	}
	r.await(item, "missing", func(report wire.Report) bool {
		m := report.Manifests[1]
		return m.Health == wire.HealthNotFound && !m.Available
	})
	r.await(item, "made again", func(report wire.Report) bool { return report.Manifests[1].Available })
	for deadline := time.Now().Add(patience); r.get(deployments, "repair", "stuck") == nil; {
		if time.Now().After(deadline) {
			t.Fatal("object is still missing")
		}
	}
}
