// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"strings"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

// adopt asks the policy whether an object that somebody else made may be taken
// over. A refusal is the outcome of the manifest; the error is about the API server.
func (e *Engine) adopt(ctx context.Context, t *task, policy string) error {
	id := t.manifest.ID
	refuse := func(format string, args ...any) {
		t.result.blocked = true
		t.result.fail(&manifest.Error{Reason: wire.ApplyNotAdopted, Message: fmt.Sprintf(format, args...)})
	}
	switch policy {
	case "", wire.AdoptAlways:
		return nil
	case wire.AdoptNever:
		refuse("%s exists and was made by somebody else, and the work's adoption policy is Never", id)
		return nil
	case wire.AdoptIfNoDiff:
	default:
		refuse("%s exists, and the adoption policy %q is not known: use Always, IfNoDiff or Never", id, policy)
		return nil
	}
	live, err := e.cluster.get(ctx, t.result.obj)
	if gone(err) {
		return nil
	}
	if err != nil {
		return e.refuseUnread(t, err)
	}
	asked := *t
	asked.strategy.Force = true
	desired, err := e.write(ctx, &asked, true)
	if err != nil {
		return e.refuseUnread(t, err)
	}
	diffs, total := fields.Diff(desired, live, t.result.obj.identity().Secretive())
	if total > 0 {
		var paths []string
		for _, d := range diffs[:min(len(diffs), 5)] {
			paths = append(paths, d.Path)
		}
		refuse("%s exists, was made by somebody else, and differs in %d fields, so the adoption policy IfNoDiff refuses it: %s",
			id, total, strings.Join(paths, ", "))
	}
	t.version = live.GetResourceVersion()
	return nil
}

// keptKey is the key of the record of what removed items had adopted.
const keptKey = "adopted-objects"

// remember keeps what an item had adopted beyond the end of its record.
func (e *Engine) remember(released []object) error {
	if len(released) == 0 {
		return nil
	}
	e.keeping.Lock()
	defer e.keeping.Unlock()
	e.mu.Lock()
	kept := e.items[keptKey]
	e.mu.Unlock()
	if kept == nil {
		kept = &item{rec: record{Name: keptKey, UID: keptKey}}
	}
	rec := kept.rec
	rec.Released = unite(rec.Released, released)
	if err := e.save(kept, rec); err != nil {
		return err
	}
	e.mu.Lock()
	e.items[keptKey] = kept // never listed, so it only is looked into
	e.mu.Unlock()
	return nil
}

func (e *Engine) refuseUnread(t *task, err error) error {
	if unreachable(err) {
		return err
	}
	t.result.fail(err)
	return nil
}
