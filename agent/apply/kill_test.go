// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

// An engine that is killed before or after any save of a record and any write
// to the cluster leaves no object that its successor does not know of.
func TestKilledAnywhereLeavesNoOrphans(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	for killAt := 1; killAt <= 40; killAt++ {
		t.Run(fmt.Sprint(killAt), func(t *testing.T) {
			t.Parallel()
			ns := fmt.Sprint("kill-", killAt)
			r := newRig(t, ns)
			one := r.item("app", 1, "", configMap(ns, "a", "1"), configMap(ns, "b", "1"))
			two := r.item("app", 2, "", configMap(ns, "b", "2"), configMap(ns, "c", "2"))
			last := r.item("app", 3, "", configMap(ns, "d", "3"))

			r.killAt = killAt
			r.start()
			for _, item := range []wire.Item{one, two} {
				r.engine.Sync([]wire.Item{item})
				r.awaitHealthyOrDead(item)
			}
			r.stop()
			r.mu.Lock()
			killed := r.dead
			r.killAt = 0
			r.mu.Unlock()

			r.start()
			r.engine.Sync([]wire.Item{last})
			r.awaitCurrent(last)
			for _, name := range []string{"a", "b", "c"} {
				r.awaitGone(configMaps, ns, name)
			}
			if r.get(configMaps, ns, "d") == nil {
				t.Error("the new object is missing")
			}

			// The same while everything is removed.
			r.mu.Lock()
			r.events, r.killAt = 0, killAt
			r.mu.Unlock()
			last.Deleting = true
			r.engine.Sync([]wire.Item{last})
			r.awaitDeletedOrDead(last)
			r.stop()
			r.mu.Lock()
			r.killAt = 0
			r.mu.Unlock()
			r.start()
			r.engine.Sync([]wire.Item{last})
			r.awaitDeleted(last)
			if r.get(configMaps, ns, "d") != nil {
				t.Error("removed object still exists")
			}
			t.Logf("killed: %v", killed)
		})
	}
}

// An engine that is killed anywhere in a move neither deletes nor makes anew what
// moves, and what one item had adopted stays adopted.
func TestKilledInAMove(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	for killAt := 1; killAt <= 8; killAt++ {
		t.Run(fmt.Sprint(killAt), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fmt.Sprint("kill-move-", killAt))
			theirs := r.create(configMaps, r.ns, configMap("", "theirs", "theirs")).GetUID()
			r.start()
			old := r.item("old", 1, "", configMap(r.ns, "theirs", "old"), configMap(r.ns, "ours", "old"), configMap(r.ns, "stays", "old"))
			r.engine.Sync([]wire.Item{old})
			r.awaitCurrent(old)
			ours := r.get(configMaps, r.ns, "ours").GetUID()

			next := r.item("new", 1, "", configMap(r.ns, "theirs", "new"), configMap(r.ns, "ours", "new"))
			next.Policy.TakeFrom = old.UID
			less := r.item("old", 2, "", configMap(r.ns, "stays", "old"))
			r.mu.Lock()
			r.events, r.killAt = 0, killAt
			r.mu.Unlock()
			r.engine.Sync([]wire.Item{less, next})
			r.awaitHealthyOrDead(next)
			r.stop()
			r.mu.Lock()
			r.killAt = 0
			r.mu.Unlock()
			r.start()
			r.engine.Sync([]wire.Item{less, next})
			r.awaitCurrent(next)
			r.awaitCurrent(less)
			if r.get(configMaps, r.ns, "ours").GetUID() != ours || r.get(configMaps, r.ns, "theirs").GetUID() != theirs {
				t.Error("made anew")
			}
			next.Deleting = true
			r.engine.Sync([]wire.Item{less, next})
			r.awaitDeleted(next)
			if r.get(configMaps, r.ns, "ours") != nil || r.get(configMaps, r.ns, "theirs") == nil || r.get(configMaps, r.ns, "stays") == nil {
				t.Error("want ours gone, theirs and stays kept")
			}
		})
	}
}

func (r *rig) isDead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead
}

func (r *rig) awaitHealthyOrDead(item wire.Item) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !r.isDead(); time.Sleep(10 * time.Millisecond) {
		report, found := r.newest(item.Name)
		if found && report.Digest == item.Digest && report.Error == "" && len(report.Manifests) == 2 && report.Manifests[1].Health == wire.HealthCurrent {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("neither applied nor killed: %+v", report)
		}
	}
}

func (r *rig) awaitDeletedOrDead(item wire.Item) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !r.isDead(); time.Sleep(10 * time.Millisecond) {
		if report, found := r.newest(item.Name); found && report.Deleted {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal("neither removed nor killed")
		}
	}
}
