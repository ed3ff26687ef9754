// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/wire"
)

var secretResource = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// edit changes an object as another manager.
func (r *rig) edit(gvr schema.GroupVersionResource, name, body string) time.Time {
	r.t.Helper()
	_, err := r.live.Resource(gvr).Namespace(r.ns).Patch(r.t.Context(), name, types.MergePatchType, []byte(body),
		metav1.PatchOptions{FieldManager: "night-shift"})
	if err != nil {
		r.t.Fatal(err)
	}
	return time.Now()
}

func levelOf(u *unstructured.Unstructured) string {
	if u == nil {
		return ""
	}
	got, _, _ := unstructured.NestedString(u.Object, "data", "level")
	return got
}

func state(report wire.Report) string {
	if len(report.Manifests) == 0 || report.Manifests[0].Drift == nil {
		return ""
	}
	return report.Manifests[0].Drift.State
}

func TestDriftIsCorrected(t *testing.T) {
	t.Parallel()
	r := newRig(t, "drift-correct")
	r.start()
	item := r.item("app", 1, "", configMap(r.ns, "a", "info"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.takeWrites()

	// What was never ours, and what changes nothing of ours, is no drift.
	r.edit(configMaps, "a", `{"data":{"other":"theirs"},"metadata":{"labels":{"seen":"yes"}}}`)
	began := r.edit(configMaps, "a", `{"data":{"level":"debug"}}`)
	got := r.await(item, "corrected", func(report wire.Report) bool { return state(report) == wire.DriftStateCorrected })
	t.Logf("foreign edit to the report of its correction: %v", time.Since(began))
	d := got.Manifests[0].Drift
	want := []wire.FieldDrift{{Path: "data.level", Desired: `"info"`, Live: `"debug"`}}
	if diff := cmp.Diff(want, d.Diffs); diff != "" || d.Total != 1 || d.Corrections != 1 || d.Manager != "night-shift" || d.Since.IsZero() {
		t.Errorf("%s%+v", diff, d)
	}
	live := r.get(configMaps, r.ns, "a")
	if levelOf(live) != "info" || live.Object["data"].(map[string]any)["other"] != "theirs" {
		t.Errorf("live: %v", live.Object["data"])
	}
	if w := r.takeWrites(); len(w) != 2 { // one of them a dry run
		t.Errorf("wrote %v", w)
	}

	// After a restart the engine knows what it applied, and asks only what changed.
	r.stop()
	r.edit(configMaps, "a", `{"data":{"level":"trace"}}`)
	r.start()
	r.engine.Sync([]wire.Item{item})
	r.await(item, "corrected after a restart", func(report wire.Report) bool { return state(report) == wire.DriftStateCorrected })
}

func TestDriftIsReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, "drift-report")
	r.start()
	item := r.item("app", 1, "", configMap(r.ns, "a", "info"), configMap(r.ns, "b", "info"))
	item.Policy.Drift = wire.DriftReport
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.edit(configMaps, "a", `{"data":{"level":"debug"}}`)
	got := r.await(item, "present", func(report wire.Report) bool { return state(report) == wire.DriftStatePresent })
	if d := got.Manifests[0].Drift; d.Corrections != 0 || d.Manager != "night-shift" || levelOf(r.get(configMaps, r.ns, "a")) != "debug" {
		t.Errorf("got %+v", d)
	}
	if err := r.live.Resource(configMaps).Namespace(r.ns).Delete(t.Context(), "b", deleteNow); err != nil {
		t.Fatal(err)
	}
	r.await(item, "missing", func(report wire.Report) bool {
		d := report.Manifests[1].Drift
		return d != nil && d.State == wire.DriftStateMissing && report.Manifests[1].Health == wire.HealthNotFound
	})
	r.edit(configMaps, "a", `{"data":{"level":"info"}}`)
	r.await(item, "over", func(report wire.Report) bool { return state(report) == "" })
	if r.get(configMaps, r.ns, "b") != nil {
		t.Error("made again although the policy is to report")
	}
}

// Somebody who undoes three corrections is left alone, and named.
func TestFight(t *testing.T) {
	t.Parallel()
	r := newRig(t, "fight")
	r.start()
	item := r.item("app", 1, "", configMap(r.ns, "a", "info"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	for round := 1; round <= 3; round++ {
		r.edit(configMaps, "a", `{"data":{"level":"debug"}}`)
		r.await(item, "corrected", func(report wire.Report) bool {
			d := report.Manifests[0].Drift
			return d != nil && d.State == wire.DriftStateCorrected && d.Corrections == round
		})
	}
	r.edit(configMaps, "a", `{"data":{"level":"debug"}}`)
	got := r.await(item, "fighting", func(report wire.Report) bool { return state(report) == wire.DriftStateFighting })
	if d := got.Manifests[0].Drift; d.Manager != "night-shift" || d.Corrections != 3 || d.Diffs[0].Path != "data.level" {
		t.Errorf("got %+v", d)
	}
	if got := levelOf(r.get(configMaps, r.ns, "a")); got != "debug" {
		t.Errorf("live level %q: corrected once more", got)
	}
	// New content is applied whatever happened before.
	two := r.item("app", 2, "", configMap(r.ns, "a", "warn"))
	r.engine.Sync([]wire.Item{two})
	got = r.awaitCurrent(two)
	if got.Manifests[0].Drift != nil || levelOf(r.get(configMaps, r.ns, "a")) != "warn" {
		t.Errorf("got %+v", got.Manifests[0].Drift)
	}
}

func TestDriftOfSecretHidesValues(t *testing.T) {
	t.Parallel()
	r := newRig(t, "drift-secret")
	r.start()
	item := r.item("app", 1, "", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"drift-secret"},"stringData":{"password":"canary"}}`)
	item.Policy.Drift = wire.DriftReport
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.edit(secretResource, "s", `{"stringData":{"password":"changed"}}`)
	r.await(item, "present", func(report wire.Report) bool { return state(report) == wire.DriftStatePresent })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range r.reports["app"] {
		for _, m := range report.Manifests {
			if m.Drift == nil {
				continue
			}
			for _, f := range m.Drift.Diffs {
				if f.Desired != "" || f.Live != "" || !strings.HasPrefix(f.Path, "data") && !strings.HasPrefix(f.Path, "stringData") {
					t.Errorf("reported %+v", f)
				}
			}
		}
	}
}

// A replica count that nobody applied is an autoscaler's, one that was applied is not.
func TestReplicasOfAnAutoscaler(t *testing.T) {
	t.Parallel()
	r := newRig(t, "autoscaled")
	r.start()
	free := strings.Replace(deployment(r.ns, "free", "{}"), `"replicas":2,`, "", 1)
	item := r.item("app", 1, "", free, deployment(r.ns, "held", "{}"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.edit(deployments, "free", `{"spec":{"replicas":3}}`)
	r.edit(deployments, "held", `{"spec":{"replicas":3}}`)
	got := r.await(item, "corrected", func(report wire.Report) bool { return report.Manifests[1].Drift != nil })
	if d := got.Manifests[1].Drift; d.Diffs[0].Path != "spec.replicas" || d.Total != 1 {
		t.Errorf("got %+v", d)
	}
	r.await(item, "grown", func(report wire.Report) bool { return report.Manifests[0].Health == wire.HealthCurrent })
	r.mu.Lock()
	drifted := slices.ContainsFunc(r.reports["app"], func(report wire.Report) bool { return report.Manifests[0].Drift != nil })
	r.mu.Unlock()
	if n, _, _ := unstructured.NestedInt64(r.get(deployments, r.ns, "free").Object, "spec", "replicas"); n != 3 || drifted {
		t.Errorf("replicas %d, drifted %v", n, drifted)
	}
}
