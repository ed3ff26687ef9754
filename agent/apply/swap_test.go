// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/wire"
)

// swap is two items that each drop what the other wants and want what the other
// still holds, beside one object of their own.
func (r *rig) swap() (before, after []wire.Item) {
	item := func(name string, generation int64, objects ...string) wire.Item {
		var manifests []string
		for _, o := range objects {
			manifests = append(manifests, configMap(r.ns, o, fmt.Sprintf("%s/%d", name, generation)))
		}
		return r.item(name, generation, "", manifests...)
	}
	return []wire.Item{item("b", 1, "left", "b-own"), item("c", 1, "right", "c-own")},
		[]wire.Item{item("b", 2, "right", "b-own"), item("c", 2, "left", "c-own")}
}

func (r *rig) uids(names ...string) map[string]types.UID {
	uids := make(map[string]types.UID)
	for _, name := range names {
		if live := r.get(configMaps, r.ns, name); live != nil {
			uids[name] = live.GetUID()
		}
	}
	return uids
}

func (r *rig) expectSwapped(before map[string]types.UID) {
	r.t.Helper()
	for name, want := range map[string]string{"left": "c/2", "right": "b/2", "b-own": "b/2", "c-own": "c/2"} {
		live := r.get(configMaps, r.ns, name)
		if live == nil || live.GetUID() != before[name] || level(live) != want {
			r.t.Errorf("%s: got %v, want level %s of uid %s", name, live, want, before[name])
		}
	}
}

// What the newest content of an item does not name passes to the item that names
// it, though the content that drops it is not applied whole: two such items would
// wait for each other for ever.
func TestSwap(t *testing.T) {
	t.Parallel()
	r := newRig(t, "swap")
	r.start()
	before, after := r.swap()
	r.engine.Sync(before)
	r.awaitCurrent(before[0])
	r.awaitCurrent(before[1])
	uids := r.uids("left", "right", "b-own", "c-own")
	r.engine.Sync(after)
	r.awaitCurrent(after[0])
	r.awaitCurrent(after[1])
	r.expectSwapped(uids)

	// Each is the new owner's alone.
	after[0].Deleting = true
	r.engine.Sync(after)
	r.awaitDeleted(after[0])
	if r.get(configMaps, r.ns, "right") != nil || r.get(configMaps, r.ns, "left") == nil {
		t.Error("want right gone with its new owner, and left kept")
	}
}

// Only an object that somebody names passes on: what is dropped beside it stays
// until the content is applied whole.
func TestConflictDoesNotPrune(t *testing.T) {
	t.Parallel()
	r := newRig(t, "half")
	r.start()
	holder := r.item("holder", 1, "", configMap(r.ns, "held", "holder"))
	first := r.item("app", 1, "", configMap(r.ns, "dropped", "1"), configMap(r.ns, "wanted", "1"))
	r.engine.Sync([]wire.Item{holder, first})
	r.awaitCurrent(holder)
	r.awaitCurrent(first)
	uids := r.uids("wanted", "dropped")
	second := r.item("app", 2, "", configMap(r.ns, "held", "2"))
	other := r.item("other", 1, "", configMap(r.ns, "wanted", "other"))
	r.engine.Sync([]wire.Item{holder, second, other})
	r.awaitCurrent(other)
	r.await(second, "refusal", func(report wire.Report) bool {
		return len(report.Manifests) == 1 && report.Manifests[0].ApplyReason == wire.ApplyOwnedElsewhere
	})
	got := r.uids("wanted", "dropped")
	if got["wanted"] != uids["wanted"] || got["dropped"] != uids["dropped"] {
		t.Errorf("uids: got %v, want %v", got, uids)
	}
	r.engine.Sync([]wire.Item{second, other, {Name: holder.Name, UID: holder.UID, Generation: 2, Digest: holder.Digest, Deleting: true}})
	r.awaitCurrent(second)
	r.awaitGone(configMaps, r.ns, "dropped")
	if live := r.get(configMaps, r.ns, "wanted"); live == nil || live.GetUID() != uids["wanted"] {
		t.Errorf("what passed on: %v, want uid %s", live, uids["wanted"])
	}
}

// An engine that is killed anywhere in a swap neither deletes nor makes anew.
func TestKilledInASwap(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	for killAt := 1; killAt <= 16; killAt++ {
		t.Run(fmt.Sprint(killAt), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fmt.Sprint("kill-swap-", killAt))
			before, after := r.swap()
			r.start()
			r.engine.Sync(before)
			r.awaitCurrent(before[0])
			r.awaitCurrent(before[1])
			uids := r.uids("left", "right", "b-own", "c-own")
			r.mu.Lock()
			r.events, r.killAt = 0, killAt
			r.mu.Unlock()
			r.engine.Sync(after)
			r.awaitHealthyOrDead(after[0])
			r.awaitHealthyOrDead(after[1])
			r.stop()
			r.mu.Lock()
			r.killAt = 0
			r.mu.Unlock()
			r.start()
			r.engine.Sync(after)
			r.awaitCurrent(after[0])
			r.awaitCurrent(after[1])
			r.expectSwapped(uids)
		})
	}
}

// What one item gives up because another names it belongs to that one, even when
// it is removed before it ever applied the object, and wherever the engine dies.
func TestKilledInAHandOver(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	for killAt := 1; killAt <= 8; killAt++ {
		t.Run(fmt.Sprint(killAt), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fmt.Sprint("kill-heir-", killAt))
			r.start()
			giver := r.item("giver", 1, "", configMap(r.ns, "left", "giver"))
			r.engine.Sync([]wire.Item{giver})
			r.awaitCurrent(giver)
			heir := r.item("heir", 1, "", configMap(r.ns, "left", "heir"))
			r.engine.Sync([]wire.Item{giver, heir})
			r.await(heir, "refusal", func(report wire.Report) bool { return len(report.Manifests) == 1 })
			r.mu.Lock()
			r.events, r.killAt = 0, killAt
			r.mu.Unlock()
			giver.Deleting = true
			r.engine.Sync([]wire.Item{giver, heir})
			r.awaitDeletedOrDead(giver)
			r.stop()
			r.mu.Lock()
			r.killAt = 0
			r.mu.Unlock()
			r.start()
			heir.Deleting = true
			r.engine.Sync([]wire.Item{giver, heir})
			r.awaitDeleted(giver)
			r.awaitDeleted(heir)
			if r.get(configMaps, r.ns, "left") != nil {
				t.Error("the object stays, and nobody owns it")
			}
		})
	}
}
