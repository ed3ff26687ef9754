// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// An engine that is killed while it repairs goes on with that: what somebody else
// put in the place of an object does not count as applied.
func TestKilledInARepair(t *testing.T) {
	t.Parallel()
	shared.Cluster(t)
	for _, late := range []bool{false, true} { // theirs is made while no engine runs
		for killAt := 1; killAt <= 6; killAt++ {
			t.Run(fmt.Sprintf("late=%v/%d", late, killAt), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, fmt.Sprintf("kill-repair-%v-%d", late, killAt))
				item := r.item("app", 1, "", configMap(r.ns, "a", "ours"), configMap(r.ns, "b", "ours"))
				r.start()
				r.engine.Sync([]wire.Item{item})
				r.awaitCurrent(item)
				r.await(item, "settled", func(wire.Report) bool { return r.lastGood(item) })
				r.mu.Lock()
				r.events, r.killAt = 0, killAt
				r.mu.Unlock()
				if err := r.live.Resource(configMaps).Namespace(r.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				if !late {
					r.create(configMaps, r.ns, configMap("", "a", "theirs"))
				}
				for began := time.Now(); !r.isDead() && level(r.get(configMaps, r.ns, "a")) != "ours"; time.Sleep(5 * time.Millisecond) {
					if time.Since(began) > patience {
						t.Fatal("neither repaired nor killed")
					}
				}
				r.stop()
				if late && r.get(configMaps, r.ns, "a") == nil {
					r.create(configMaps, r.ns, configMap("", "a", "theirs"))
				}
				r.mu.Lock()
				r.killAt = 0
				r.mu.Unlock()
				r.start()
				r.engine.Sync([]wire.Item{item})
				for began := time.Now(); level(r.get(configMaps, r.ns, "a")) != "ours"; time.Sleep(5 * time.Millisecond) {
					if time.Since(began) > patience {
						t.Fatal("it stays as somebody else made it")
					}
				}
			})
		}
	}
}
