// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"strings"
	"testing"

	"github.com/drover-io/drover/shared/wire"
)

// The rules of an addon decide about the health of what they are for, by the
// content that was applied.
func TestHealthRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, "rules")
	r.start()
	manifests := []string{configMap("rules", "a", "info"), configMap("rules", "b", "info"), deployment("rules", "web", "{}")}
	rules := func(timeout, expression string) string {
		return `{"health":[{"name":"loud","object":{"kind":"ConfigMap","name":"a"},"expression":"` + expression + `","message":"a is not loud","timeout":"` + timeout + `"}]}`
	}
	item := r.item("app", 1, rules("1h", "object.data.level == 'debug'"), manifests...)
	item.Policy.Drift = wire.DriftReport
	r.engine.Sync([]wire.Item{item})
	is := func(item wire.Item, health, message string) {
		t.Helper()
		r.await(item, health+" "+message, func(report wire.Report) bool {
			a, b, web := report.Manifests[0], report.Manifests[1], report.Manifests[2]
			return a.Applied && a.Health == health && strings.Contains(a.HealthMessage, message) &&
				b.Health == wire.HealthCurrent && web.Health == wire.HealthCurrent
		})
	}
	is(item, wire.HealthInProgress, "a is not loud")
	if got := r.engine.WorkOf("apps", "Deployment", "rules", "web"); got != "app" {
		t.Errorf("the Deployment is of work %q", got)
	}
	if got := r.engine.WorkOf("apps", "Deployment", "rules", "other"); got != "" {
		t.Errorf("a Deployment of nobody is of work %q", got)
	}
	r.edit(configMaps, "a", `{"data":{"level":"debug"}}`)
	is(item, wire.HealthCurrent, "")
	r.edit(configMaps, "a", `{"data":{"level":"info"}}`)
	is(item, wire.HealthInProgress, "a is not loud")

	// Time that passes is seen without an event, and after a restart too, in which
	// nothing is written.
	late := r.item("app", 2, rules("2s", "object.data.level == 'debug'"), manifests...)
	late.Policy.Drift = wire.DriftReport
	r.engine.Sync([]wire.Item{late})
	is(late, wire.HealthFailed, "a is not loud (for more than 2s)")
	r.stop()
	r.takeWrites()
	r.start()
	r.engine.Sync([]wire.Item{late})
	is(late, wire.HealthFailed, "a is not loud (for more than 2s)")
	if writes := r.takeWrites(); len(writes) > 0 {
		t.Errorf("written after the restart: %v", writes)
	}

	broken := r.item("app", 3, rules("1h", "object.spec.none"), manifests...)
	r.engine.Sync([]wire.Item{broken})
	is(broken, wire.HealthUnknown, `health rule "loud": no such key: spec`)
}

// What an addon protects is not removed without a word: neither by the content
// that drops it, whether that still names the pattern or not, nor with the work.
func TestProtectedObjects(t *testing.T) {
	t.Parallel()
	r := newRig(t, "guarded")
	r.start()
	const extra = `{"protected":[{"kind":"ConfigMap","namespace":"guarded","name":"data"}]}`
	data, other, third := configMap("guarded", "data", "x"), configMap("guarded", "other", "x"), configMap("guarded", "third", "x")
	item := r.item("app", 1, extra, data, other, third)
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)

	item = r.item("app", 2, extra, data, third)
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.awaitGone(configMaps, "guarded", "other")

	planned := func(report wire.Report) bool {
		return report.Prune != nil && report.Prune.Reason == wire.PlanReasonProtected && len(report.Prune.Objects) > 0 && report.Prune.Objects[0].Name == "data"
	}
	item = r.item("app", 3, "", third)
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "a plan", planned)
	item.Policy.ApprovedPrune = got.Prune.ID
	if r.get(configMaps, "guarded", "data") == nil {
		t.Fatal("removed without a word")
	}
	r.engine.Sync([]wire.Item{item})
	r.awaitGone(configMaps, "guarded", "data")

	item = r.item("app", 4, extra, data, third)
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	// The word of the newest content counts when it was not applied any more.
	item = r.item("app", 5, `{"protected":[{"name":"third"}]}`, data, third)
	item.Deleting = true
	r.stop()
	r.start()
	r.engine.Sync([]wire.Item{item})
	got = r.await(item, "a plan", planned)
	if got.Prune.Total != 2 {
		t.Errorf("plan of %d objects, want 2", got.Prune.Total)
	}
	item.Policy.Prune = wire.PruneUnguarded
	r.engine.Sync([]wire.Item{item})
	r.awaitDeleted(item)
	r.awaitGone(configMaps, "guarded", "data")
}
