// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// task is one manifest on its way to the cluster.
type task struct {
	content  *manifest.Content
	manifest *manifest.Manifest
	result   *result
	strategy manifest.Strategy
	awaited  bool   // its kind is not served yet, but will be by the same work
	exists   bool   // it was on the cluster before
	created  bool   // by the apply that was sent last
	foreign  bool   // made by somebody else, and not taken over yet
	version  string // that may be written to alone, when the policy saw no difference
	former   string // field manager that the record has and the strategy no longer names
}

// note writes down what went wrong with the manifest. The error it returns is
// about the API server or the end of ctx.
func (t *task) note(ctx context.Context, err error) error {
	if err != nil && (ctx.Err() != nil || unreachable(err)) {
		return err
	}
	var overtaken *overtakenError
	switch {
	case errors.As(err, &overtaken):
		t.result.overtaken = overtaken
	case err != nil:
		t.result.fail(err)
	}
	return nil
}

// apply brings the content of want to the cluster. What went wrong with one
// manifest is in the item's results; the error is about the item as a whole.
func (e *Engine) apply(ctx context.Context, it *item, want wire.Item) error {
	c, err := e.load(ctx, want.Digest)
	if err != nil {
		return err
	}
	defer c.Close()
	if len(it.results) != len(c.Manifests) {
		it.results = make([]result, len(c.Manifests))
	}
	const looks = 3 // at what somebody else keeps making and deleting
	for look := 1; ; look++ {
		tasks, err := e.prepare(ctx, it, c, want.Policy)
		if err != nil {
			return err
		}
		// From here on the disk knows of every object before the cluster does.
		if tasks, err = e.plan(it, want, c, tasks); err != nil {
			return err
		}
		if err := e.send(ctx, it, tasks); err != nil {
			return err
		}
		if !it.overtaken(look == looks) {
			break
		}
	}
	for i := range it.results {
		if !it.results[i].report.Applied {
			return nil
		}
	}
	return e.finish(ctx, it, want, c)
}

// overtaken says that objects are not what was seen and written down, so that
// another look is due; when that was the last one it makes them failures.
func (it *item) overtaken(last bool) bool {
	found := false
	for i := range it.results {
		r := &it.results[i]
		switch {
		case r.overtaken == nil:
		case last:
			r.fail(r.overtaken)
			r.overtaken = nil
		default:
			found = true
		}
	}
	return found
}

// prepare finds out what each manifest that is still to be applied is on this
// cluster, and looks at the live object. It returns those that can be applied.
func (e *Engine) prepare(ctx context.Context, it *item, c *manifest.Content, policy wire.Policy) ([]*task, error) {
	promised := c.Promises()
	var tasks []*task
	for i := range c.Manifests {
		m, r := &c.Manifests[i], &it.results[i]
		if r.report.Applied && !r.redo {
			continue
		}
		r.begin(m)
		t := &task{content: c, manifest: m, result: r}
		if err := e.recognise(ctx, t, promised); err != nil {
			if ctx.Err() != nil || unreachable(err) {
				return nil, apiError(err)
			}
			r.fail(err)
			continue
		}
		tasks = append(tasks, t)
	}
	if err := e.examine(ctx, it, tasks); err != nil {
		return nil, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	for _, t := range tasks {
		if t.foreign && t.strategy.Writes() && t.result.report.ApplyMessage == "" {
			group.Go(func() error { return e.adopt(gctx, t, policy.Adoption) })
		}
	}
	if err := group.Wait(); err != nil {
		return nil, apiError(err)
	}
	return slices.DeleteFunc(tasks, func(t *task) bool { return t.result.report.ApplyMessage != "" }), nil
}

// recognise resolves the kind of a manifest and everything that follows from it.
func (e *Engine) recognise(ctx context.Context, t *task, promised manifest.Promises) error {
	m := t.manifest
	if m.Problem != "" {
		return &manifest.Error{Message: m.Problem}
	}
	k, err := e.cluster.resolve(ctx, m.GVK)
	var unknown *noMatchError
	if errors.As(err, &unknown) || (err != nil && promised.Served[m.GVK.GroupVersion()] && !unreachable(err)) {
		if defined, ok := promised.Kinds[m.GVK]; ok {
			k, err, t.awaited = defined, nil, true
		} else if promised.Served[m.GVK.GroupVersion()] {
			t.awaited, t.result.managed = true, true
			return nil // what it is will be known when the APIService is there
		}
	}
	if err != nil {
		return err
	}
	return t.settle(k)
}

// settle checks the manifest against its kind.
func (t *task) settle(k manifest.Kind) error {
	m, r := t.manifest, t.result
	switch {
	case k.Namespaced && m.ID.Namespace == "":
		return &manifest.Error{Message: fmt.Sprintf("metadata.namespace is missing: a %s lives in a namespace", m.ID.Kind)}
	case !k.Namespaced:
		m.ID.Namespace = ""
	}
	var err error
	if t.strategy, err = t.content.StrategyFor(m.ID, k.Resource); err != nil {
		return err
	}
	r.managed = t.strategy.Kind != work.StrategyReadOnly
	r.name(m, k.Resource)
	r.obj.Manager, r.obj.Protected = t.strategy.Manager, t.content.Protects(m.ID)
	r.rules = t.content.RulesFor(m.ID, k.Resource)
	return nil
}

// examine looks at the live objects, so that the plan knows which would be
// created, kept or taken over.
func (e *Engine) examine(ctx context.Context, it *item, tasks []*task) error {
	var present []*task
	var objects []object
	for _, t := range tasks {
		if !t.awaited {
			present, objects = append(present, t), append(objects, t.result.obj)
		}
	}
	sights, err := e.cluster.survey(ctx, objects)
	if err != nil {
		return apiError(err)
	}
	known := it.rec.held()
	for i, t := range present {
		if err := sights[i].err; err != nil {
			t.result.fail(err)
			continue
		}
		if seen := sights[i].seen; seen != nil {
			e.recall(t, seen, known)
		}
	}
	return nil
}

// recall compares what is on the cluster with what the record says of it.
func (e *Engine) recall(t *task, seen *observation, known map[manifest.Identity]object) {
	o := &t.result.obj
	before, held := known[o.identity()]
	t.exists = true
	o.UID = seen.uid
	o.Adopted = !seen.ours || e.adoptedBefore(o.identity(), seen.uid)
	t.foreign = o.Adopted
	if held && before.UID == seen.uid {
		o.Adopted = before.Adopted
		t.foreign = before.Adopted && !seen.ours && before.Fields == "" // planned, and not written yet
		if before.Manager != o.Manager {
			t.former = e.cluster.managerOf(before)
		}
	}
}

// plan claims the objects and writes down the union of what the item has and
// what it is about to have. It returns the tasks that no other item's claim stops.
func (e *Engine) plan(it *item, want wire.Item, c *manifest.Content, tasks []*task) ([]*task, error) {
	var ids []manifest.Identity
	for _, t := range tasks {
		if t.result.managed {
			ids = append(ids, t.manifest.ID)
		}
	}
	claimed := e.claim(want, &it.state, ids)
	var free []*task
	var planned []object
	for _, t := range tasks {
		r := t.result
		if owner, taken := claimed.refused[t.manifest.ID]; taken && r.managed {
			r.refused, r.moving = true, claimed.moving[t.manifest.ID]
			message := fmt.Sprintf("%s belongs to work %q already, so work %q may not apply it: remove it from one of the two",
				t.manifest.ID, owner, want.Name)
			if r.moving {
				message = fmt.Sprintf("%s will be taken over from work %q as soon as that is not being applied", t.manifest.ID, owner)
			}
			r.fail(&manifest.Error{Reason: wire.ApplyOwnedElsewhere, Message: message})
			continue
		}
		if before, moved := claimed.taken[t.manifest.ID]; moved && before.UID == r.obj.UID {
			r.obj.Adopted = before.Adopted
		}
		free = append(free, t)
		if r.managed {
			o := r.obj
			o.Planned = r.redo
			planned = append(planned, o)
		}
	}
	rec := it.rec
	rec.Name, rec.UID, rec.Generation = want.Name, want.UID, want.Generation
	rec.Deleted, rec.Approved = false, false
	if rec.Digest != want.Digest {
		rec.Complete, rec.Manifests, rec.Total, rec.AppliedAt = false, nil, 0, time.Time{}
	}
	rec.Digest, rec.Bundle, rec.Delete, rec.DeleteDigest = want.Digest, c.Bundle, c.Delete, want.Digest
	if rec.Complete {
		rec.Inventory = unite(rec.Inventory, planned)
	} else {
		// What was dropped and not pruned yet stays the item's: it may be named again.
		rec.Inventory = unite(rec.owned(), planned)
		rec.Dropped = nil
	}
	rec.Leaving = without(rec.Leaving, planned)
	if err := e.saveChange(it, rec); err != nil {
		e.releaseClaims(claimed, &it.state)
		return nil, err
	}
	if err := e.settleClaims(claimed); err != nil {
		return nil, err
	}
	e.offerUnnamed(it, want, c)
	return free, nil
}

// offerUnnamed offers other items what the content does not name.
func (e *Engine) offerUnnamed(it *item, want wire.Item, c *manifest.Content) {
	named := make([]object, 0, len(it.results))
	for i := range c.Manifests {
		id, o := c.Manifests[i].ID, it.results[i].obj
		if id.Name == "" || id.Kind == "" || c.Manifests[i].GVK.Version == "" {
			return // unreadable: it may name anything
		}
		named = append(named, o)
		if o.identity() != id {
			named = append(named, object{Group: id.Group, Kind: id.Kind, Namespace: id.Namespace, Name: id.Name})
		}
	}
	e.offer(it, want.Digest, dropped(it.rec.owned(), named))
}

// applyOne brings one manifest to the cluster.
func (e *Engine) applyOne(ctx context.Context, it *item, t *task) error {
	r := t.result
	if t.awaited {
		k, err := e.cluster.resolve(ctx, t.manifest.GVK)
		if err != nil {
			return err
		}
		if err := t.settle(k); err != nil {
			return err
		}
		if seen, err := e.cluster.observe(ctx, r.obj); err != nil {
			return err
		} else if seen != nil {
			return &overtakenError{id: t.manifest.ID} // whose it is has to be on disk first
		}
	}
	if t.strategy.Kind == work.StrategyReadOnly || (t.strategy.Kind == work.StrategyCreateOnly && t.exists) {
		r.report.Applied, r.redo, r.doubt, r.applied = true, false, true, time.Now() // nobody has looked at its state yet
		return nil
	}
	live, err := e.write(ctx, t, false)
	if t.former != "" && conflictsOnlyWith(err, t.former) {
		t.strategy.Force = true
		live, err = e.write(ctx, t, false)
	}
	if err != nil {
		return err
	}
	if t.former != "" {
		e.giveUpFields(ctx, t)
	}
	if uid := string(live.GetUID()); uid != r.obj.UID {
		// A server that takes no precondition may have found somebody else's.
		r.obj.UID, r.obj.Adopted = uid, !t.created
	}
	r.report.Applied, r.redo, r.applied = true, false, time.Now()
	e.see(r, live)
	e.settleDrift(t, live)
	return nil
}

// write sends one manifest, or only asks what sending it would do. It writes only
// what examine saw: the object with that UID, or none. So our field manager comes
// to an object that somebody else made only after the record says that it is
// adopted, and an object that was planned and bears it is one that we made: that
// is how an engine tells them apart that was killed before it could write down
// the answer.
func (e *Engine) write(ctx context.Context, t *task, dryRun bool) (*unstructured.Unstructured, error) {
	const tries = 3 // while somebody else writes the same object
	for try := 1; ; try++ {
		u, err := t.content.Object(t.manifest)
		if err != nil {
			return nil, err
		}
		if t.strategy.Ignores() && t.exists {
			switch live, err := e.cluster.get(ctx, t.result.obj); {
			case gone(err):
			case err != nil:
				return nil, err
			case !dryRun && string(live.GetUID()) != t.result.obj.UID:
				return nil, &overtakenError{id: t.manifest.ID}
			default:
				if err := t.strategy.Withhold(ctx, u, live, e.cluster.managerOf(t.result.obj)); err != nil {
					return nil, err
				}
			}
		}
		if !t.result.obj.Adopted {
			manifest.Mark(u)
		}
		opts := applyOptions{
			user: t.content.Executor, manager: e.cluster.managerOf(t.result.obj), dryRun: dryRun, created: &t.created,
			force: t.strategy.Force || t.strategy.Kind == work.StrategyCreateOnly,
		}
		switch {
		case dryRun:
		case t.exists:
			opts.uid, opts.version = t.result.obj.UID, t.version
		default:
			opts.absent = true
		}
		live, err := e.cluster.apply(ctx, t.result.obj, u, opts)
		if apierrors.IsConflict(err) && u.GetResourceVersion() != "" && try < tries && !conflicting(err) {
			continue
		}
		return live, forbidden(err, t.content.Executor)
	}
}

// giveUpFields ends the ownership of the field manager with which the object was
// applied before. Failing leaves a second owner of the same fields, which harms
// nobody.
func (e *Engine) giveUpFields(ctx context.Context, t *task) {
	empty := &unstructured.Unstructured{}
	empty.SetGroupVersionKind(t.manifest.GVK)
	empty.SetName(t.manifest.ID.Name)
	empty.SetNamespace(t.manifest.ID.Namespace)
	_, _ = e.cluster.apply(ctx, t.result.obj, empty, applyOptions{user: t.content.Executor, manager: t.former, uid: t.result.obj.UID})
}

// finish writes the final record and begins to prune what the content no longer
// names. Every manifest was applied.
func (e *Engine) finish(ctx context.Context, it *item, want wire.Item, c *manifest.Content) error {
	var named, inventory []object
	rec := it.rec
	rec.Manifests, rec.Rules, rec.Health = nil, nil, c.Health
	if rec.AppliedAt.IsZero() {
		rec.AppliedAt = time.Now().UTC().Round(0)
	}
	for i := range it.results {
		r := &it.results[i]
		if len(r.rules.Feedback)+len(r.rules.Conditions) > 0 {
			if rec.Rules == nil {
				rec.Rules = make(map[int]manifest.Rules)
			}
			rec.Rules[i] = r.rules
		}
		named = append(named, r.obj)
		if r.managed {
			inventory = append(inventory, r.obj)
			continue
		}
		m := r.report
		rec.Manifests = append(rec.Manifests, wire.ManifestReport{
			Ordinal: m.Ordinal, Group: m.Group, Version: m.Version, Kind: m.Kind, Resource: m.Resource,
			Namespace: m.Namespace, Name: m.Name, Applied: true,
		})
	}
	rec.Dropped = dropped(it.rec.owned(), named)
	for i := range rec.Dropped { // what the former content protects stays protected
		o := &rec.Dropped[i]
		o.Protected = o.Protected || c.Protects(o.identity())
	}
	// What is named but no more to be written is given up without a deletion.
	unwritten := without(without(it.rec.owned(), inventory), rec.Dropped)
	rec.Released = unite(rec.Released, slices.DeleteFunc(slices.Clone(unwritten), func(o object) bool { return !o.Adopted }))
	rec.Complete, rec.Total, rec.Inventory = true, len(it.results), unite(nil, inventory)
	if err := e.saveChange(it, rec); err != nil {
		return err
	}
	e.disown(want.UID, it.rec.owned())
	e.prune(ctx, it, want)
	return nil
}
