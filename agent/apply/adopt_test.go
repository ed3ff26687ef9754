// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"net/http"
	"strings"
	"sync"
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

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What somebody else makes between the engine's look and its first apply is
// theirs, though the engine saw nothing there.
func TestMadeBetweenLookAndApply(t *testing.T) {
	t.Parallel()
	r := newRig(t, "made-between")
	var once sync.Once
	r.cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPatch && strings.HasSuffix(req.URL.Path, "/configmaps/theirs") {
				once.Do(func() { r.create(configMaps, r.ns, configMap("", "theirs", "theirs")) })
			}
			return next.RoundTrip(req)
		})
	})
	r.start()
	item := r.item("work", 1, "", configMap(r.ns, "theirs", "ours"), configMap(r.ns, "own", "ours"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	item.Deleting = true
	r.engine.Sync([]wire.Item{item})
	r.awaitDeleted(item)
	if live := r.get(configMaps, r.ns, "theirs"); live == nil || level(live) != "ours" {
		t.Errorf("theirs is %v, want it kept with level ours", live)
	}
	if live := r.get(configMaps, r.ns, "own"); live != nil {
		t.Errorf("own is still there: %v", live)
	}
}
