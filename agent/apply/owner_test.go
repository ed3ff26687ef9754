// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/wire"
)

const mergePatch = types.MergePatchType

var (
	deleteNow = metav1.DeleteOptions{}
	patchNow  = metav1.PatchOptions{}
)

func level(u *unstructured.Unstructured) string {
	if u == nil {
		return "<none>"
	}
	value, _, _ := unstructured.NestedString(u.Object, "data", "level")
	return value
}

func configs(strategy string) string {
	return `{"manifestConfigs":[{"resourceIdentifier":{"resource":"configmaps","namespace":"*","name":"*"},"updateStrategy":` + strategy + `}]}`
}

func TestStrategies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, extra, message, level string
		exists                      bool // before, made by somebody else
	}{
		{"update", "", "", "drover", true},
		{"force", configs(`{"type":"ServerSideApply","serverSideApply":{"force":true}}`), "", "drover", true},
		{"no-force", configs(`{"type":"ServerSideApply"}`), `conflict with "local-admin"`, "theirs", true},
		{"create-only", configs(`{"type":"CreateOnly"}`), "", "theirs", true},
		{"create-only-new", configs(`{"type":"CreateOnly"}`), "", "drover", false},
		{"read-only", configs(`{"type":"ReadOnly"}`), "", "theirs", true},
		{"read-only-new", configs(`{"type":"ReadOnly"}`), "", "<none>", false},
		{"odd", configs(`{"type":"Odd"}`), `updateStrategy.type "Odd" is not supported`, "<none>", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := "strategy-" + tt.name
			r := newRig(t, ns)
			if tt.exists {
				r.create(configMaps, ns, configMap("", "a", "theirs"))
			}
			r.start()
			item := r.item("app", 1, tt.extra, configMap(ns, "a", "drover"))
			r.engine.Sync([]wire.Item{item})
			got := r.await(item, "outcome", func(report wire.Report) bool { return len(report.Manifests) == 1 }).Manifests[0]
			if got.Applied != (tt.message == "") || !strings.Contains(got.ApplyMessage, tt.message) {
				t.Errorf("got %v %q, want %q", got.Applied, got.ApplyMessage, tt.message)
			}
			if tt.message == "" && got.Available != (tt.level != "<none>") {
				t.Errorf("available: got %+v", got)
			}
			if got := level(r.get(configMaps, ns, "a")); got != tt.level {
				t.Errorf("level: got %s, want %s", got, tt.level)
			}
			item.Deleting = true
			r.engine.Sync([]wire.Item{item})
			r.awaitDeleted(item)
			// What somebody else had made stays, taken over or not.
			if got := r.get(configMaps, ns, "a") != nil; got != tt.exists {
				t.Errorf("exists after removal: %v", got)
			}
		})
	}
}

func TestSecondOwnerIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, "owners")
	r.start()
	first := r.item("first", 1, "", configMap("owners", "shared", "first"))
	second := r.item("second", 1, "", configMap("owners", "shared", "second"), configMap("owners", "own", "second"))
	r.engine.Sync([]wire.Item{first})
	r.awaitCurrent(first)
	uid := r.get(configMaps, "owners", "shared").GetUID()
	r.engine.Sync([]wire.Item{first, second})
	got := r.await(second, "refusal", func(report wire.Report) bool { return len(report.Manifests) == 2 && report.Manifests[1].Applied })
	want := `ConfigMap owners/shared belongs to work "first" already, so work "second" may not apply it: remove it from one of the two`
	if got.Manifests[0].Applied || got.Manifests[0].ApplyMessage != want {
		t.Errorf("got %+v", got.Manifests[0])
	}
	if got := level(r.get(configMaps, "owners", "shared")); got != "first" {
		t.Errorf("level: %s", got)
	}

	// When the first gives it up, it changes hands and is not deleted.
	moved := r.item("first", 2, "", configMap("owners", "else", "first"))
	r.engine.Sync([]wire.Item{moved, second})
	r.awaitCurrent(moved)
	r.awaitCurrent(second)
	live := r.get(configMaps, "owners", "shared")
	if live == nil || live.GetUID() != uid || level(live) != "second" {
		t.Errorf("after the move: %v, uid before %s", live, uid)
	}
	moved.Deleting, second.Deleting = true, true
	r.engine.Sync([]wire.Item{moved, second})
	r.awaitDeleted(moved)
	r.awaitDeleted(second)
	if r.get(configMaps, "owners", "shared") != nil {
		t.Error("object stays after its new owner was removed")
	}
}

// A work that was created anew under its old name takes its objects over, when
// the hub no longer knows the old one.
func TestUnlistedOwnerGivesWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, "anew")
	r.start()
	before := r.item("app", 1, "", configMap("anew", "a", "1"))
	r.engine.Sync([]wire.Item{before})
	r.awaitCurrent(before)
	uid := r.get(configMaps, "anew", "a").GetUID()
	after := r.item("app", 1, "", configMap("anew", "a", "2"))
	after.UID = "uid-anew-again"
	r.engine.Sync([]wire.Item{after})
	r.awaitCurrent(after)
	if live := r.get(configMaps, "anew", "a"); live.GetUID() != uid || level(live) != "2" {
		t.Errorf("got uid %s level %s, uid before %s", live.GetUID(), level(live), uid)
	}
}

func TestUnchangedMeansNoWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t, "unchanged")
	r.start()
	item := r.item("app", 1, "", configMap("unchanged", "a", "1"), deployment("unchanged", "web", "{}"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	version := r.get(configMaps, "unchanged", "a").GetResourceVersion()
	generation := r.get(deployments, "unchanged", "web").GetGeneration()
	r.takeWrites()
	for range 20 {
		r.engine.Sync(nil)
		r.engine.Sync([]wire.Item{item})
	}
	for range 3 {
		r.stop()
		r.start()
		item.Generation++ // the work changed, its content did not
		r.engine.Sync([]wire.Item{item})
		r.awaitCurrent(item)
	}
	if writes := r.takeWrites(); len(writes) != 0 {
		t.Errorf("wrote %v", writes)
	}
	if got := r.get(configMaps, "unchanged", "a").GetResourceVersion(); got != version {
		t.Errorf("resourceVersion: got %s, want %s", got, version)
	}
	if got := r.get(deployments, "unchanged", "web").GetGeneration(); got != generation {
		t.Errorf("generation: got %d, want %d", got, generation)
	}
}

// Health never speaks of content that was not applied yet.
func TestHealthIsOfTheReportedDigest(t *testing.T) {
	t.Parallel()
	r := newRig(t, "early")
	r.start()
	good := r.item("web", 1, "", deployment("early", "web", "{}"))
	r.engine.Sync([]wire.Item{good})
	r.awaitCurrent(good)
	bad := r.item("web", 2, "", deployment("early", "web", `{"no-such":"node"}`))
	r.engine.Sync([]wire.Item{bad})
	r.await(bad, "failed", func(report wire.Report) bool { return report.Manifests[0].Health == wire.HealthFailed })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range r.reports["web"] {
		if report.Generation == 2 && len(report.Manifests) > 0 && report.Manifests[0].Health == wire.HealthCurrent {
			t.Errorf("health of generation 1 reported for generation 2: %+v", report)
		}
	}
}

func TestContentProblems(t *testing.T) {
	t.Parallel()
	r := newRig(t, "content")
	r.start()
	lost := r.item("lost", 1, "", configMap("content", "lost", "1"))
	wrong := r.item("wrong", 1, "", configMap("content", "wrong", "1"))
	good := r.item("good", 1, "", configMap("content", "good", "1"))
	executor := r.item("executor", 1, `{"executor":{"subject":{}}}`, configMap("content", "executor", "1"))
	r.mu.Lock()
	hidden := r.contents[lost.Digest]
	delete(r.contents, lost.Digest)
	r.contents[wrong.Digest] = []byte("{}")
	r.mu.Unlock()
	r.engine.Sync([]wire.Item{lost, wrong, executor, good})
	r.awaitCurrent(good)
	for _, tt := range []struct {
		item wire.Item
		want string
	}{
		{lost, "fetch content: no such content"},
		{wrong, "fetch content: asked for " + wrong.Digest},
		{executor, "spec.executor.subject.type"},
	} {
		got := r.await(tt.item, "error", func(report wire.Report) bool { return report.Error != "" })
		if !strings.HasPrefix(got.Error, tt.want) || len(got.Manifests) != 0 {
			t.Errorf("%s: got %+v", tt.item.Name, got)
		}
	}
	r.mu.Lock()
	r.contents[lost.Digest] = hidden
	r.mu.Unlock()
	r.awaitCurrent(lost)
}

// The retry of a conflict is slow, but a new generation is tried at once.
func TestNewGenerationIsTriedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, "at-once")
	r.start()
	item := r.item("app", 1, "", configMap("at-once", "Bad_Name", "1"))
	r.engine.Sync([]wire.Item{item})
	r.await(item, "refusal", func(report wire.Report) bool { return report.Manifests[0].ApplyMessage != "" })
	begin := time.Now()
	item = r.item("app", 2, "", configMap("at-once", "good-name", "1"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	t.Logf("after %v", time.Since(begin))
}
