// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
)

// state of an owner, as one of its dependents sees it.
type state int

const (
	solid   state = iota // there, and keeps the dependent
	gone                 // not there
	waiting              // there, and waits for its dependents to go
	unknown              // cannot be told
)

// stateOf looks at one owner.
func (c *Collector) stateOf(ctx context.Context, g *graph, r ref, namespace string) (state, error) {
	key, ok := g.locate(r, namespace)
	if !ok {
		return unknown, nil
	}
	e, ok := c.store.Cached(key)
	if !ok || e.Header.UID != r.uid {
		// Only the leader knows that something is not there.
		var err error
		if e, err = c.store.Get(ctx, key); errors.Is(err, store.ErrNotFound) {
			return gone, nil
		} else if err != nil {
			return unknown, err
		}
	}
	obj, err := decode(e)
	if err != nil {
		return unknown, err
	}
	switch {
	case obj.text("uid") != r.uid:
		return gone, nil
	case obj.deleting() && obj.has(Foreground):
		return waiting, nil
	}
	return solid, nil
}

// collect deletes an object that no owner keeps; otherwise it forgets those
// owners that do not.
func (c *Collector) collect(ctx context.Context, g *graph, entry store.Entry, obj object) error {
	counts, without := map[state]int{}, map[string]bool{}
	for _, r := range obj.owners() {
		s, err := c.stateOf(ctx, g, r, entry.Key.Namespace)
		if err != nil {
			return fmt.Errorf("look at owner %s: %w", r, err)
		}
		if counts[s]++; s == gone || s == waiting {
			without[r.uid] = true
		}
	}
	switch {
	case counts[unknown] > 0:
		return nil // to delete something by mistake is worse than to keep it
	case counts[solid] > 0 && len(without) == 0:
		return nil
	case counts[solid] > 0:
		obj.disown(without)
		return c.put(ctx, entry, obj)
	}
	children := g.dependents[obj.text("uid")]
	inOrder := counts[waiting] > 0 && len(children) > 0
	if inOrder {
		for key := range children {
			if e, ok := c.store.Cached(key); ok && ordered(&e) {
				// A circle: somebody must go first.
				obj.unblock()
				break
			}
		}
		obj.meta()["finalizers"] = append(obj.finalizers(), Foreground)
	}
	c.log.Info("deleting an object whose owners are gone", zap.Stringer("object", entry.Key), zap.Bool("foreground", inOrder))
	return c.remove(ctx, entry, obj)
}

// foreground lets an owner go when the dependents that block it are gone, and has
// them looked at until then.
func (c *Collector) foreground(ctx context.Context, g *graph, entry store.Entry, obj object) error {
	uid, blocked := obj.text("uid"), false
	for _, n := range g.dependents[uid] {
		g.check(n.key)
		for _, r := range n.owners {
			blocked = blocked || r.uid == uid && r.blocks
		}
	}
	if blocked {
		return nil // the end of the last of them is an event
	}
	obj.drop(Foreground)
	return c.release(ctx, entry, obj)
}

// orphan makes an owner's dependents independent, and lets it go.
func (c *Collector) orphan(ctx context.Context, g *graph, entry store.Entry, obj object) error {
	uid := obj.text("uid")
	for key := range g.dependents[uid] {
		e, err := c.store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		dependent, err := decode(e)
		if err != nil {
			return err
		}
		dependent.disown(map[string]bool{uid: true})
		if err := c.put(ctx, e, dependent); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	obj.drop(Orphan)
	return c.release(ctx, entry, obj)
}

// remove deletes an object, or begins that when finalizers hold it.
func (c *Collector) remove(ctx context.Context, entry store.Entry, obj object) error {
	if len(obj.finalizers()) == 0 {
		_, err := c.store.Delete(ctx, entry.Key, entry.Revision)
		return err
	}
	if obj.deleting() {
		return nil
	}
	obj.mark()
	return c.put(ctx, entry, obj)
}

// release stores an object that is being deleted and lost a finalizer; with the
// last one it goes.
func (c *Collector) release(ctx context.Context, entry store.Entry, obj object) error {
	if len(obj.finalizers()) > 0 {
		return c.put(ctx, entry, obj)
	}
	_, err := c.store.Delete(ctx, entry.Key, entry.Revision)
	return err
}

func (c *Collector) put(ctx context.Context, entry store.Entry, obj object) error {
	data, err := obj.encode()
	if err != nil {
		return err
	}
	_, err = c.store.Update(ctx, entry.Key, data, entry.Revision)
	return err
}
