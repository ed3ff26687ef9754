// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// remove takes the item's objects off the cluster, the last class first, and
// each class only when the one before is gone: controllers outlive the objects
// whose finalizers they serve.
func (e *Engine) remove(ctx context.Context, log *zap.Logger, it *item, want wire.Item) wire.Report {
	report := wire.Report{Name: want.Name, UID: want.UID, Generation: want.Generation, Digest: want.Digest}
	s := &it.state
	if s.digest != "" || it.results != nil {
		it.results, *s = nil, progress{}
		e.follow(want.UID, nil)
	}
	if s.policy != want.Policy {
		s.policy, s.failures, s.interval = want.Policy, 0, 0
	}
	s.plan, s.remaining, s.left = nil, nil, 0
	if it.rec.Deleted {
		report.Deleted = true
		return report
	}
	before := len(it.rec.Inventory)
	err := e.prepareRemoval(ctx, it, want)
	if err == nil && !it.rec.Approved {
		err = e.approveRemoval(ctx, it, want)
	}
	var left []wire.ManifestReport
	if err == nil && it.rec.Approved {
		left, err = e.removeStep(ctx, it)
	}
	if ctx.Err() != nil {
		return report
	}
	if err == nil && it.rec.Approved && len(it.rec.Inventory) == 0 {
		rec := it.rec
		rec.Complete, rec.Manifests, rec.Rules, rec.Total, rec.Deleted = false, nil, nil, 0, true
		if err = e.remember(rec.Released); err == nil {
			err = e.save(it, rec)
		}
		if err == nil {
			e.disown(want.UID, nil)
			log.Info("work removed")
			*s = progress{}
			report.Deleted = true
			return report
		}
	}
	now := time.Now()
	report.Manifests = left[:min(len(left), maxListed)]
	report.Prune, report.Remaining, report.RemainingTotal = s.plan, s.remaining, s.left
	if err != nil {
		report.Error = err.Error()
		s.failures++
		s.applyAt = now.Add(jitter(retryDelay(s.failures, permanent(err))))
		log.Warn("work not removed yet", zap.Error(err))
		return fit(report)
	}
	s.failures = 0
	if len(it.rec.Inventory) < before {
		s.interval = 0
	}
	s.interval = nextInterval(s.interval, false)
	s.applyAt = now.Add(s.interval)
	if s.plan != nil {
		s.applyAt = now.Add(jitter(replan))
	}
	return fit(report)
}

// prepareRemoval makes sure that the record has the delete option of the
// content the tombstone names: the operator may have changed it last. Without
// any record (the state dir was lost, or nothing was ever applied) the content
// also says which objects to look for.
func (e *Engine) prepareRemoval(ctx context.Context, it *item, want wire.Item) error {
	rec := it.rec
	unknown := rec.UID == ""
	if !unknown && !rec.Complete && (want.Digest == "" || rec.DeleteDigest == want.Digest) {
		return nil
	}
	rec.Name, rec.UID, rec.Generation, rec.Complete = want.Name, want.UID, want.Generation, false
	// What is on its way out belongs to the removal: it is not over before.
	rec.Inventory = unite(rec.owned(), without(rec.Leaving, rec.owned()))
	rec.Dropped, rec.Leaving = nil, nil
	if want.Digest != "" && (unknown || rec.DeleteDigest != want.Digest) {
		c, err := e.load(ctx, want.Digest)
		if err != nil {
			return err
		}
		defer c.Close()
		rec.Delete, rec.DeleteDigest = c.Delete, want.Digest
		// What the content that was applied protects stays protected.
		for i := range rec.Inventory {
			o := &rec.Inventory[i]
			o.Protected = o.Protected || c.Protects(o.identity())
		}
		if unknown {
			rec.Digest = want.Digest
			rec.Inventory = e.takeUnowned(want.UID, c)
		}
	}
	return e.save(it, rec)
}

// approveRemoval lets a removal begin that takes nothing of a protected kind, or
// whose plan has its word. From then on it goes to its end.
func (e *Engine) approveRemoval(ctx context.Context, it *item, want wire.Item) error {
	v, err := e.judgeAll(ctx, want.UID, it.rec.Inventory, it.rec.Delete)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(v.doomed, object.protected) {
		if plan := planOf(v.doomed, wire.PlanReasonProtected); !approves(want.Policy, plan) {
			it.state.plan = plan
			return nil
		}
	}
	rec := it.rec
	rec.Approved = true
	rec.Released = unite(rec.Released, v.passing)
	return e.save(it, rec)
}

// takeUnowned lists the objects that the content names and no item owns, and makes
// them the item's own, so that no other makes one while this one looks for it.
func (e *Engine) takeUnowned(uid string, c *manifest.Content) []object {
	e.mu.Lock()
	defer e.mu.Unlock()
	var objects []object
	for i := range c.Manifests {
		m := &c.Manifests[i]
		if owner := e.owners[m.ID]; m.Problem != "" || (owner != "" && owner != uid) {
			continue
		}
		e.owners[m.ID] = uid
		objects = append(objects, object{
			Group: m.GVK.Group, Version: m.GVK.Version, Kind: m.GVK.Kind, Namespace: m.ID.Namespace, Name: m.ID.Name, Wave: m.Wave,
			Protected: c.Protects(m.ID),
		})
	}
	return unite(nil, objects)
}

// removeStep works on the last class of the last wave in the inventory and drops
// from it what is gone or released. It returns what is left of the class.
func (e *Engine) removeStep(ctx context.Context, it *item) ([]wire.ManifestReport, error) {
	owners, err := e.elsewhere(ctx, it.rec.UID, it.rec.Inventory)
	if err != nil {
		return nil, err
	}
	var left []wire.ManifestReport
	var notes []wire.ObjectNote
	var errs []error
	inventory := slices.Clone(it.rec.Inventory)
	sortObjects(inventory)
	for len(inventory) > 0 && len(left) == 0 {
		last := inventory[len(inventory)-1]
		first := slices.IndexFunc(inventory, func(o object) bool { return o.Wave == last.Wave && o.class() == last.class() })
		outcomes, err := e.giveUpAll(ctx, inventory[first:], it.rec.Delete, owners)
		if err != nil {
			return nil, err
		}
		var stay []object
		for i, out := range slices.Backward(outcomes) {
			o := inventory[first+i]
			if out.err != nil {
				errs = append(errs, fmt.Errorf("delete %s: %w", o.identity(), out.err))
			} else if out.done {
				continue
			}
			stay = append(stay, o)
			left = append(left, remaining(len(left), o, out.live))
			notes = append(notes, noteOf(o, out.live))
		}
		inventory = append(inventory[:first], stay...)
	}
	sortObjects(inventory)
	e.mu.Lock()
	it.rec.Inventory = inventory
	e.mu.Unlock()
	it.state.remaining, it.state.left = notes[:min(len(notes), wire.MaxNamed)], len(notes)
	return left, joinFirst(errs)
}

// outcome is what became of one object that is given up.
type outcome struct {
	done bool // the item has nothing to do with it any more; else it is on its way out
	live *observation
	err  error
}

// neverMade says that an object was planned, not seen, and is of an API that is
// registered without a server: there was nobody to make it.
func neverMade(o object, err error) bool { return o.UID == "" && apierrors.IsServiceUnavailable(err) }

// giveUpAll removes or releases objects, several at once. The error says that the
// API server does not answer.
func (e *Engine) giveUpAll(ctx context.Context, objects []object, option work.DeleteOption, owners map[manifest.Identity]heir) ([]outcome, error) {
	outcomes := make([]outcome, len(objects))
	var present []int
	var asked []object
	for i, o := range objects {
		k, err := e.cluster.resolve(ctx, o.gvk())
		switch {
		case gone(err), neverMade(o, err):
			outcomes[i].done = true
			continue
		case err != nil && (ctx.Err() != nil || unreachable(err)):
			return nil, apiError(err)
		case err != nil:
			outcomes[i].err = err
			continue
		}
		if o.Resource = k.Resource; !k.Namespaced {
			o.Namespace = ""
		}
		present, asked = append(present, i), append(asked, o)
	}
	sights, err := e.cluster.survey(ctx, asked)
	if err != nil {
		return nil, apiError(err)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	heirs := make(map[string][]int)
	for n, i := range present {
		o, out := asked[n], &outcomes[i]
		if out.err = sights[n].err; out.err != nil {
			continue
		}
		out.live = sights[n].seen
		switch judge(o, out.live, option, owners[o.identity()].name) {
		case fateWait:
		case fateDelete:
			group.Go(func() error {
				err := e.cluster.delete(gctx, o, out.live.uid)
				switch {
				case err != nil && (gctx.Err() != nil || unreachable(err)):
					return apiError(err)
				// A conflict means that another object has the name by now: look again.
				case err != nil && !gone(err) && !apierrors.IsConflict(err):
					out.err = err
				}
				return nil
			})
		case fateRelease:
			if owner := owners[o.identity()]; owner.uid != "" && !owner.has {
				heirs[owner.uid] = append(heirs[owner.uid], n)
				continue
			}
			out.done = true
		case fateGone:
			out.done = true
		}
	}
	for uid, members := range heirs {
		var left []object
		for _, n := range members {
			o := asked[n]
			o.UID = sights[n].seen.uid
			left = append(left, o)
		}
		handed, err := e.bequeath(uid, left)
		for _, n := range members {
			out := &outcomes[present[n]]
			out.done, out.err = handed, err
		}
	}
	return outcomes, group.Wait()
}

func remaining(ordinal int, o object, live *observation) wire.ManifestReport {
	m := wire.ManifestReport{
		Ordinal: ordinal, Group: o.Group, Version: o.Version, Kind: o.Kind,
		Resource: o.Resource, Namespace: o.Namespace, Name: o.Name,
		Applied: true, Available: true, Health: wire.HealthTerminating, HealthMessage: "being deleted",
	}
	if live != nil && len(live.finalizers) > 0 {
		m.HealthMessage = "waits for finalizers: " + strings.Join(live.finalizers, ", ")
	}
	return m
}
