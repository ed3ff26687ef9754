// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"testing"

	"github.com/drover-io/drover/shared/wire"
)

// What somebody else made stays, though the work that took it over is long gone
// and the object bears nothing but our own marks.
func TestAdoptedIsNotForgotten(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		giveUp func(*rig, wire.Item)
	}{
		{"removed", func(r *rig, first wire.Item) {
			first.Deleting = true
			r.engine.Sync([]wire.Item{first})
			r.awaitDeleted(first)
			r.engine.Sync(nil) // the hub has dropped the tombstone
			r.stop()
			r.start()
		}},
		{"dropped", func(r *rig, first wire.Item) {
			next := r.item("first", 2, "", configMap(r.ns, "own", "first"))
			r.engine.Sync([]wire.Item{next})
			r.awaitCurrent(next)
		}},
		{"only-read", func(r *rig, first wire.Item) {
			next := r.item("first", 2, configs(`{"type":"ReadOnly"}`), configMap(r.ns, "theirs", "first"))
			r.engine.Sync([]wire.Item{next})
			r.awaitCurrent(next)
			next.Generation, next.Deleting = 3, true
			r.engine.Sync([]wire.Item{next})
			r.awaitDeleted(next)
			r.engine.Sync(nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "kept-"+tt.name)
			uid := r.create(configMaps, r.ns, configMap("", "theirs", "theirs")).GetUID()
			r.start()
			first := r.item("first", 1, "", configMap(r.ns, "theirs", "first"))
			r.engine.Sync([]wire.Item{first})
			r.awaitCurrent(first)
			tt.giveUp(r, first)

			second := r.item("second", 1, "", configMap(r.ns, "theirs", "second"))
			r.engine.Sync([]wire.Item{second})
			r.awaitCurrent(second)
			second.Deleting = true
			r.engine.Sync([]wire.Item{second})
			r.awaitDeleted(second)
			if live := r.get(configMaps, r.ns, "theirs"); live == nil || live.GetUID() != uid || level(live) != "second" {
				t.Errorf("got %v, want what somebody else made, with level second", live)
			}
		})
	}
}
