// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/wire"
)

func (r *rig) awaitOutcome(item wire.Item) wire.ManifestReport {
	r.t.Helper()
	return r.await(item, "outcome", func(report wire.Report) bool {
		return len(report.Manifests) > 0 && (report.Manifests[0].Applied || report.Manifests[0].ApplyMessage != "")
	}).Manifests[0]
}

func TestAdoption(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, policy, level, reason, message string }{
		{"always", wire.AdoptAlways, "theirs", "", ""},
		{"no-diff-same", wire.AdoptIfNoDiff, "drover", "", ""},
		{"no-diff-differs", wire.AdoptIfNoDiff, "theirs", wire.ApplyNotAdopted, "differs in 1 fields, so the adoption policy IfNoDiff refuses it: data.level"},
		{"never", wire.AdoptNever, "drover", wire.ApplyNotAdopted, "the work's adoption policy is Never"},
		{"unknown", "Sometimes", "drover", wire.ApplyNotAdopted, `policy "Sometimes" is not known`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "adopt-"+tt.name)
			r.create(configMaps, r.ns, configMap("", "a", tt.level))
			r.start()
			item := r.item("app", 1, "", configMap(r.ns, "a", "drover"))
			item.Policy.Adoption = tt.policy
			r.engine.Sync([]wire.Item{item})
			got := r.awaitOutcome(item)
			if got.Applied != (tt.reason == "") || got.ApplyReason != tt.reason || !strings.Contains(got.ApplyMessage, tt.message) {
				t.Errorf("got %+v", got)
			}
			if tt.reason != "" {
				if got := level(r.get(configMaps, r.ns, "a")); got != tt.level {
					t.Errorf("written although refused: %s", got)
				}
				item.Policy.Adoption = wire.AdoptAlways
				r.engine.Sync([]wire.Item{item})
				r.awaitCurrent(item) // at once: the policy changed
			}
			item.Deleting = true
			r.engine.Sync([]wire.Item{item})
			r.awaitDeleted(item)
			if r.get(configMaps, r.ns, "a") == nil {
				t.Error("an adopted object was deleted")
			}
		})
	}
}

// What one work adopted stays adopted when it moves to another.
func TestMoveKeepsAdoption(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"old-first", "new-first", "take"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "move-"+order)
			theirs := r.create(configMaps, r.ns, configMap("", "theirs", "theirs")).GetUID()
			r.start()
			old := r.item("old", 1, "", configMap(r.ns, "theirs", "old"), configMap(r.ns, "ours", "old"), configMap(r.ns, "stays", "old"))
			r.engine.Sync([]wire.Item{old})
			r.awaitCurrent(old)
			ours := r.get(configMaps, r.ns, "ours").GetUID()

			less := r.item("old", 2, "", configMap(r.ns, "stays", "old"))
			next := r.item("new", 1, "", configMap(r.ns, "theirs", "new"), configMap(r.ns, "ours", "new"))
			switch order {
			case "old-first":
				r.engine.Sync([]wire.Item{less, next})
			case "new-first":
				r.engine.Sync([]wire.Item{next, less})
			case "take":
				next.Policy.TakeFrom = "uid-other," + old.UID
				r.engine.Sync([]wire.Item{old, next})
				r.awaitCurrent(next)
				r.await(old, "refusal", func(report wire.Report) bool {
					return report.Manifests[0].ApplyReason == wire.ApplyOwnedElsewhere && report.Manifests[1].ApplyReason == wire.ApplyOwnedElsewhere
				})
				r.engine.Sync([]wire.Item{less, next})
			}
			r.awaitCurrent(next)
			r.awaitCurrent(less)
			for name, uid := range map[string]any{"ours": ours, "theirs": theirs} {
				if live := r.get(configMaps, r.ns, name); live == nil || any(live.GetUID()) != uid || level(live) != "new" {
					t.Errorf("%s after the move: %v", name, live)
				}
			}
			next.Deleting = true
			r.engine.Sync([]wire.Item{less, next})
			r.awaitDeleted(next)
			if r.get(configMaps, r.ns, "ours") != nil || r.get(configMaps, r.ns, "theirs") == nil {
				t.Error("want ours gone and theirs kept")
			}
		})
	}
}

func TestConflictEndsWithItsCause(t *testing.T) {
	t.Parallel()
	r := newRig(t, "conflict")
	r.create(configMaps, r.ns, configMap("", "a", "theirs"))
	r.start()
	item := r.item("app", 1, configs(`{"type":"ServerSideApply","serverSideApply":{"fieldManager":"work-agent-x"}}`), configMap(r.ns, "a", "drover"))
	r.engine.Sync([]wire.Item{item})
	got := r.awaitOutcome(item)
	if got.ApplyReason != wire.ApplyConflict || !strings.HasPrefix(got.ApplyMessage, `conflict with "local-admin" using v1: .data.level (`) {
		t.Errorf("got %+v", got)
	}
	r.edit(configMaps, "a", `{"data":{"level":null}}`)
	r.awaitCurrent(item)
	var managers []string
	for _, f := range r.get(configMaps, r.ns, "a").GetManagedFields() {
		managers = append(managers, f.Manager+" "+string(f.Operation))
	}
	if !strings.Contains(strings.Join(managers, ", "), "work-agent-x Apply") {
		t.Errorf("managers: %v", managers)
	}
	// Another field manager takes over; the former one keeps nothing.
	two := r.item("app", 2, configs(`{"type":"ServerSideApply"}`), configMap(r.ns, "a", "second"))
	r.engine.Sync([]wire.Item{two})
	r.awaitCurrent(two)
	for _, f := range r.get(configMaps, r.ns, "a").GetManagedFields() {
		if f.Manager == "work-agent-x" {
			t.Errorf("the former manager still owns %s", f.FieldsV1.GetRawBytes())
		}
	}
}

func TestIgnoreFields(t *testing.T) {
	t.Parallel()
	replicas := func(u *unstructured.Unstructured) int64 {
		n, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		return n
	}
	for _, tt := range []struct {
		name, ignore string
		scaled       bool  // by somebody else, before the second content
		want         int64 // after the second content, which says 5
	}{
		{"present-path", `{"condition":"OnSpokePresent","jsonPaths":[".spec.replicas"]}`, false, 2},
		{"present-pointer", `{"jsonPointers":["/spec/replicas"]}`, true, 3},
		{"present-jq", `{"condition":"OnSpokePresent","jqPathExpressions":[".spec.replicas"]}`, true, 3},
		{"change-not", `{"condition":"OnSpokeChange","jsonPaths":["$.spec.replicas"]}`, false, 5},
		{"change", `{"condition":"OnSpokeChange","jsonPaths":["{.spec['replicas']}"]}`, true, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "ignore-"+tt.name)
			r.start()
			extra := `{"manifestConfigs":[{"resourceIdentifier":{"group":"apps","resource":"deployments","namespace":"*","name":"*"},
				"updateStrategy":{"type":"ServerSideApply","serverSideApply":{"force":true,"ignoreFields":[` + tt.ignore + `]}}}]}`
			one := r.item("app", 1, extra, deployment(r.ns, "web", "{}"))
			r.engine.Sync([]wire.Item{one})
			r.awaitCurrent(one)
			if got := replicas(r.get(deployments, r.ns, "web")); got != 2 {
				t.Errorf("made with %d replicas", got)
			}
			if tt.scaled {
				r.edit(deployments, "web", `{"spec":{"replicas":3}}`)
			}
			body := strings.Replace(deployment(r.ns, "web", "{}"), `"replicas":2`, `"replicas":5`, 1)
			two := r.item("app", 2, extra, strings.Replace(body, "web:1", "web:2", 1))
			r.engine.Sync([]wire.Item{two})
			got := r.awaitCurrent(two)
			if got := replicas(r.get(deployments, r.ns, "web")); got != tt.want {
				t.Errorf("replicas: got %d, want %d", got, tt.want)
			}
			if d := got.Manifests[0].Drift; d != nil {
				t.Errorf("an ignored field counts as drift: %+v", d)
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "ignore-endless")
		r.start()
		one := r.item("app", 1, "", configMap(r.ns, "a", "1"))
		r.engine.Sync([]wire.Item{one})
		r.awaitCurrent(one)
		two := r.item("app", 2, configs(`{"type":"ServerSideApply","serverSideApply":{"ignoreFields":[{"jqPathExpressions":[".data | last(repeat(.))"]}]}}`),
			configMap(r.ns, "a", "2"))
		r.engine.Sync([]wire.Item{two})
		if got := r.awaitOutcome(two); got.ApplyReason != wire.ApplyIgnoreField || !strings.Contains(got.ApplyMessage, "not done after 1s") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestExecutor(t *testing.T) {
	t.Parallel()
	r := newRig(t, "executor")
	r.create(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, r.ns, `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"deployer"}}`)
	rbac := func(resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource}
	}
	r.create(rbac("roles"), r.ns, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"deployer"},
		"rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["get","create","patch"]}]}`)
	r.create(rbac("rolebindings"), r.ns, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"deployer"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"deployer"},
		"subjects":[{"kind":"ServiceAccount","name":"deployer","namespace":"executor"}]}`)
	r.start()
	item := r.item("app", 1, `{"executor":{"subject":{"type":"ServiceAccount","serviceAccount":{"namespace":"executor","name":"deployer"}}}}`,
		configMap(r.ns, "allowed", "1"), deployment(r.ns, "web", "{}"))
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "outcome", func(report wire.Report) bool {
		return len(report.Manifests) == 2 && report.Manifests[0].Applied && report.Manifests[1].ApplyReason != ""
	})
	m := got.Manifests[1]
	if m.ApplyReason != wire.ApplyForbidden || !strings.Contains(m.ApplyMessage, `User "system:serviceaccount:executor:deployer" cannot patch resource "deployments"`) {
		t.Errorf("got %+v", m)
	}
	answer, err := r.engine.Diff(t.Context(), wire.DiffRequest{UID: item.UID, Content: r.contents[item.Digest]})
	if err != nil || len(answer.Objects) != 2 || answer.Objects[0].Action != wire.ActionNone || answer.Objects[1].Action != wire.ActionRefuse {
		t.Errorf("diff: %+v, %v", answer, err)
	}
	item.Deleting = true
	r.engine.Sync([]wire.Item{item})
	r.awaitDeleted(item) // with the agent's own rights
}

func wave(manifest string, n int) string {
	return strings.Replace(manifest, `"metadata":{`, fmt.Sprintf(`"metadata":{"annotations":{"fleet.drover.io/wave":"%d"},`, n), 1)
}

func TestWaves(t *testing.T) {
	t.Parallel()
	r := newRig(t, "waves")
	r.start()
	item := r.item("app", 1, "", wave(configMap(r.ns, "last", "1"), 2), wave(deployment(r.ns, "held", `{"no-such":"node"}`), -1),
		configMap(r.ns, "middle", "1"), wave(configMap(r.ns, "first", "1"), -1))
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "waiting", func(report wire.Report) bool {
		return len(report.Manifests) == 4 && report.Manifests[0].ApplyReason == wire.ApplyWaiting && report.Manifests[3].Applied
	})
	if m := got.Manifests[2]; m.ApplyReason != wire.ApplyWaiting || !strings.HasPrefix(m.ApplyMessage, "waits for wave -1: Deployment waves/held (") {
		t.Errorf("got %+v", m)
	}
	if r.get(configMaps, r.ns, "middle") != nil || r.get(configMaps, r.ns, "last") != nil {
		t.Error("a wave did not wait")
	}
	fixed := r.item("app", 2, "", wave(configMap(r.ns, "last", "1"), 2), wave(deployment(r.ns, "held", `{}`), -1),
		configMap(r.ns, "middle", "1"), wave(configMap(r.ns, "first", "1"), -1))
	r.engine.Sync([]wire.Item{fixed})
	r.awaitCurrent(fixed)
	bad := r.item("app", 3, "", wave(configMap(r.ns, "x", "1"), 1), strings.Replace(configMap(r.ns, "y", "1"), `"metadata":{`, `"metadata":{"annotations":{"fleet.drover.io/wave":"one"},`, 1))
	r.engine.Sync([]wire.Item{bad})
	r.await(bad, "refusal", func(report wire.Report) bool {
		return len(report.Manifests) == 2 && strings.Contains(report.Manifests[1].ApplyMessage, `annotation fleet.drover.io/wave "one": want a whole number`)
	})
	// Removal goes from the last wave to the first, each when the one before is gone.
	r.edit(configMaps, "last", `{"metadata":{"finalizers":["example.com/hold"]}}`)
	fixed.Generation, fixed.Deleting = 4, true
	r.engine.Sync([]wire.Item{fixed})
	got = r.await(fixed, "held", func(report wire.Report) bool {
		return len(report.Remaining) == 1 && strings.Contains(report.Remaining[0].Message, "example.com/hold")
	})
	want := []wire.ObjectNote{{Kind: "ConfigMap", Namespace: r.ns, Name: "last", Message: "waits for finalizers: example.com/hold, deleted less than a minute ago"}}
	if diff := cmp.Diff(want, got.Remaining); diff != "" || got.RemainingTotal != 1 {
		t.Error(diff)
	}
	if r.get(configMaps, r.ns, "middle") == nil || r.get(deployments, r.ns, "held") == nil {
		t.Error("a lower wave was removed before the higher one was gone")
	}
	r.edit(configMaps, "last", `{"metadata":{"finalizers":null}}`)
	r.awaitDeleted(fixed)
}

// A CRD that comes with another work is found without waiting for the slowest retry.
func TestKindsThatCome(t *testing.T) {
	t.Parallel()
	r := newRig(t, "kinds")
	r.start()
	const group = "later.example.com"
	user := r.item("user", 1, "", widget(group, r.ns, "w", 1))
	r.engine.Sync([]wire.Item{user})
	if got := r.awaitOutcome(user); !strings.Contains(got.ApplyMessage, "is its CRD installed?") {
		t.Errorf("got %+v", got)
	}
	definer := r.item("definer", 1, "", strings.ReplaceAll(widgetCRD, "GROUP", group))
	r.engine.Sync([]wire.Item{user, definer})
	r.awaitCurrent(user)

	user.Deleting, definer.Deleting, definer.Policy.Prune = true, true, wire.PruneUnguarded
	r.engine.Sync([]wire.Item{user, definer})
	r.awaitDeleted(user)
	r.awaitDeleted(definer)
}

// An APIService without a server stops neither the rest of its work nor its
// removal. Alone, since Kubernetes deletes no namespace meanwhile.
func TestAPIServiceWithoutServer(t *testing.T) {
	r := newRig(t, "aggregated")
	r.start()
	const served = "aggregated.example.com"
	service := `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.` + served + `"},"spec":{"group":"` + served + `","version":"v1",
		"groupPriorityMinimum":1000,"versionPriority":10,"insecureSkipTLSVerify":true,"service":{"namespace":"aggregated","name":"none"}}}`
	api := r.item("api", 1, "", widget(served, r.ns, "w", 1), service, configMap(r.ns, "other", "1"))
	r.engine.Sync([]wire.Item{api})
	got := r.await(api, "outcome", func(report wire.Report) bool {
		return len(report.Manifests) == 3 && report.Manifests[1].Applied && report.Manifests[2].Applied && report.Manifests[0].ApplyMessage != ""
	})
	if got.Error != "" || got.Manifests[0].Applied {
		t.Errorf("an APIService without a server: %+v", got)
	}
	api.Deleting = true
	r.engine.Sync([]wire.Item{api})
	r.awaitDeleted(api)
}

func TestPrunePlans(t *testing.T) {
	t.Parallel()
	r := newRig(t, "plans")
	r.start()
	many := func(generation int64, n int, extra ...string) wire.Item {
		manifests := append([]string{configMap(r.ns, "kept", fmt.Sprint(generation))}, extra...)
		for i := range n {
			manifests = append(manifests, configMap(r.ns, fmt.Sprint("c", i), "1"))
		}
		return r.item("app", generation, "", manifests...)
	}
	claim := `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"plans"},
		"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`
	one := many(1, 12, claim)
	r.engine.Sync([]wire.Item{one})
	r.await(one, "applied", func(report wire.Report) bool {
		return len(report.Manifests) == 14 && report.Manifests[13].Health == wire.HealthCurrent
	})

	two := many(2, 12)
	r.engine.Sync([]wire.Item{two})
	got := r.await(two, "plan", func(report wire.Report) bool { return report.Prune != nil })
	want := &wire.PrunePlan{ID: got.Prune.ID, Reason: wire.PlanReasonProtected, Total: 1, Objects: []wire.ObjectNote{{Kind: "PersistentVolumeClaim", Namespace: r.ns, Name: "data"}}}
	if diff := cmp.Diff(want, got.Prune); diff != "" {
		t.Error(diff)
	}
	if got := level(r.get(configMaps, r.ns, "kept")); got != "2" {
		t.Errorf("a plan that waits stopped the rest: %s", got)
	}
	// The set grows: the old word is not for this.
	three := many(3, 0)
	three.Policy.ApprovedPrune = got.Prune.ID
	r.engine.Sync([]wire.Item{three})
	got = r.await(three, "larger plan", func(report wire.Report) bool { return report.Prune != nil && report.Prune.Total == 13 })
	if got.Prune.ID == want.ID || r.get(configMaps, r.ns, "c0") == nil || got.Prune.Objects[0].Name != "data" {
		t.Errorf("got %+v", got.Prune)
	}
	// The plan survives a restart, and so does the word for it.
	r.stop()
	r.start()
	three.Policy.ApprovedPrune = ""
	r.engine.Sync([]wire.Item{three})
	again := r.await(three, "plan after a restart", func(report wire.Report) bool { return report.Prune != nil })
	if again.Prune.ID != got.Prune.ID {
		t.Errorf("another plan after a restart: %+v", again.Prune)
	}
	r.edit(configMaps, "c3", `{"metadata":{"finalizers":["example.com/hold"]}}`)
	three.Policy.ApprovedPrune = got.Prune.ID
	r.engine.Sync([]wire.Item{three})
	r.await(three, "remaining", func(report wire.Report) bool {
		for _, note := range report.Remaining {
			if note.Name == "c3" && strings.HasPrefix(note.Message, "waits for finalizers: example.com/hold, deleted less than a minute ago") {
				return report.Prune == nil
			}
		}
		return false
	})
	r.awaitGone(configMaps, r.ns, "c0")
	r.stop()
	r.start()
	r.engine.Sync([]wire.Item{three})
	r.await(three, "remaining after a restart", func(report wire.Report) bool { return report.RemainingTotal > 0 })
	r.edit(configMaps, "c3", `{"metadata":{"finalizers":null}}`)
	r.await(three, "done", func(report wire.Report) bool {
		return report.Prune == nil && report.RemainingTotal == 0 && len(report.Manifests) == 1
	})
	if r.get(configMaps, r.ns, "kept") == nil {
		t.Error("pruned too much")
	}
}

func TestTombstoneOfNamespaceNeedsAWord(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.start()
	item := r.item("app", 1, "", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"precious"}}`, configMap("precious", "a", "1"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	item.Deleting = true
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "plan", func(report wire.Report) bool { return report.Prune != nil })
	if p := got.Prune; p.Reason != wire.PlanReasonProtected || p.Total != 2 || p.Objects[0].Kind != "Namespace" {
		t.Errorf("got %+v", p)
	}
	if r.get(configMaps, "precious", "a") == nil {
		t.Error("removed without a word")
	}
	item.Policy.ApprovedPrune = got.Prune.ID
	r.engine.Sync([]wire.Item{item})
	r.awaitDeleted(item)
}

func TestCompleteIsNotWritten(t *testing.T) {
	t.Parallel()
	r := newRig(t, "complete")
	r.start()
	item := r.item("app", 1, "", configMap(r.ns, "a", "1"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.takeWrites()
	item.Complete = true
	r.engine.Sync([]wire.Item{item})
	if err := r.live.Resource(configMaps).Namespace(r.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.await(item, "missing", func(report wire.Report) bool { return report.Manifests[0].Health == wire.HealthNotFound })
	next := r.item("app", 2, "", configMap(r.ns, "a", "2"), configMap(r.ns, "b", "2"))
	next.Complete = true
	r.engine.Sync([]wire.Item{next})
	r.await(next, "looked at", func(report wire.Report) bool {
		return len(report.Manifests) == 2 && report.Manifests[1].Health == wire.HealthNotFound
	})
	if w := r.takeWrites(); len(w) != 0 {
		t.Errorf("wrote %v", w)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, "full")
	r.start()
	r.mu.Lock()
	r.fullDisk = true
	r.mu.Unlock()
	item := r.item("app", 1, "", configMap(r.ns, "a", "1"))
	r.engine.Sync([]wire.Item{item})
	r.await(item, "error", func(report wire.Report) bool { return strings.Contains(report.Error, "no space left on device") })
	if r.get(configMaps, r.ns, "a") != nil {
		t.Error("made an object that the disk does not know")
	}
	r.mu.Lock()
	r.fullDisk = false
	r.mu.Unlock()
	r.awaitCurrent(item)
}

func TestDiff(t *testing.T) {
	t.Parallel()
	r := newRig(t, "diff")
	r.start()
	one := r.item("app", 1, "", configMap(r.ns, "a", "1"), configMap(r.ns, "same", "1"), configMap(r.ns, "gone", "1"))
	other := r.item("other", 1, "", configMap(r.ns, "others", "1"))
	r.engine.Sync([]wire.Item{one, other})
	r.awaitCurrent(one)
	r.awaitCurrent(other)
	r.takeWrites()
	next := r.item("app", 2, "", configMap(r.ns, "a", "2"), configMap(r.ns, "same", "1"), configMap(r.ns, "new", "1"),
		configMap(r.ns, "others", "2"), `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"diff-made"}}`, configMap("diff-made", "inside", "1"),
		configMap(r.ns, "Bad_Name", "1"))
	answer, err := r.engine.Diff(t.Context(), wire.DiffRequest{Work: "app", UID: one.UID, Digest: next.Digest})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range answer.Objects {
		got = append(got, strings.TrimSpace(fmt.Sprint(o.Action, " ", o.Name, " ", o.Fields)))
	}
	want := []string{
		"delete gone []", `change a [{data.level "2" "1"}]`, "none same []", "create new []", "refuse others []",
		"create diff-made []", "create inside []", "refuse Bad_Name []",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(answer.Objects[4].Message, `belongs to work "other"`) || !strings.Contains(answer.Objects[7].Message, "RFC 1123") {
		t.Errorf("messages: %q, %q", answer.Objects[4].Message, answer.Objects[7].Message)
	}
	if r.get(configMaps, r.ns, "new") != nil || level(r.get(configMaps, r.ns, "a")) != "1" || r.get(namespaces, "", "diff-made") != nil {
		t.Error("a comparison wrote")
	}
}
