// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// A change may delete so many objects, or such a part of the item's, without a word.
	freeObjects = 10
	freePercent = 20

	// replan is how often a plan that waits is made again.
	replan = 30 * time.Second
)

// verdicts is what removal would do with objects.
type verdicts struct {
	doomed  []object            // would be deleted, or are being deleted; with their UIDs
	passing []object            // adopted ones, which stay
	heirs   map[string][]object // what other items name and do not have yet, by their UIDs
}

// prune deletes what the item had and its content no longer names, when it may,
// and follows what is on its way out. It does not wait until the objects are gone.
func (e *Engine) prune(ctx context.Context, it *item, want wire.Item) {
	s := &it.state
	s.pruneAt, s.pruneErr, s.plan, s.remaining, s.left, s.kept = time.Time{}, "", nil, nil, 0, false
	err := e.decide(ctx, it, want)
	if err == nil {
		err = e.expel(ctx, it)
	}
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
		s.pruneErr = err.Error()
		s.pruneAt = time.Now().Add(jitter(retryDelay(2, permanent(err))))
	case len(it.rec.Leaving) > 0:
		s.leaveEvery = nextInterval(s.leaveEvery, false)
		s.pruneAt = time.Now().Add(s.leaveEvery)
	case s.kept:
		s.leaveEvery = nextInterval(s.leaveEvery, false)
		s.pruneAt = time.Now().Add(s.leaveEvery)
	case len(it.rec.Dropped) > 0:
		s.pruneAt = time.Now().Add(jitter(replan))
	}
}

// decide turns what was dropped into what is to be deleted, or into a plan that
// waits for a word.
func (e *Engine) decide(ctx context.Context, it *item, want wire.Item) error {
	if len(it.rec.Dropped) == 0 {
		return nil
	}
	v, err := e.judgeAll(ctx, want.UID, it.rec.Dropped, it.rec.Delete)
	if err != nil {
		return err
	}
	if reason := pruneReason(v.doomed, len(it.rec.Inventory)+len(it.rec.Dropped)); reason != "" {
		if plan := planOf(v.doomed, reason); !approves(want.Policy, plan) {
			it.state.plan = plan
			return nil
		}
	}
	var kept []object
	for heir, objects := range v.heirs {
		handed, err := e.bequeath(heir, objects)
		if err != nil {
			return err
		}
		if !handed {
			kept = append(kept, objects...)
		}
	}
	rec := it.rec
	rec.Dropped, rec.Leaving = kept, unite(rec.Leaving, v.doomed)
	rec.Released = unite(rec.Released, v.passing)
	// The disk knows what is to go before any of it goes.
	if err := e.save(it, rec); err != nil {
		return err
	}
	e.disown(want.UID, it.rec.owned())
	it.state.leaveEvery = 0
	it.state.kept = len(kept) > 0
	return nil
}

// expel deletes what was decided to go, the last first, and reports what is left.
func (e *Engine) expel(ctx context.Context, it *item) error {
	if len(it.rec.Leaving) == 0 {
		return nil
	}
	owners, err := e.elsewhere(ctx, it.rec.UID, it.rec.Leaving)
	if err != nil {
		return err
	}
	var stay []object
	var notes []wire.ObjectNote
	var errs []error
	leaving := slices.Clone(it.rec.Leaving)
	sortObjects(leaving)
	slices.Reverse(leaving)
	for len(leaving) > 0 {
		run := leaving[:firstStep(leaving)]
		leaving = leaving[len(run):]
		outcomes, err := e.giveUpAll(ctx, run, it.rec.Delete, owners)
		if err != nil {
			return err
		}
		for i, out := range outcomes {
			o := run[i]
			if out.err != nil {
				errs = append(errs, fmt.Errorf("prune %s: %w", o.identity(), out.err))
			} else if out.done {
				continue
			}
			stay = append(stay, o)
			notes = append(notes, noteOf(o, out.live))
		}
	}
	it.state.remaining, it.state.left = notes[:min(len(notes), wire.MaxNamed)], len(notes)
	if len(stay) < len(it.rec.Leaving) {
		rec := it.rec
		rec.Leaving = unite(nil, stay)
		if len(stay) == 0 {
			rec.Leaving = nil
		}
		if err := e.save(it, rec); err != nil {
			return err
		}
	}
	return joinFirst(errs)
}

// firstStep is the number of objects at the start that are of one wave and class.
func firstStep(objects []object) int {
	for i, o := range objects {
		if o.Wave != objects[0].Wave || o.class() != objects[0].class() {
			return i
		}
	}
	return len(objects)
}

// pruneReason says why a change needs a word, empty when it does not.
func pruneReason(doomed []object, total int) string {
	switch {
	case slices.ContainsFunc(doomed, object.protected):
		return wire.PlanReasonProtected
	case len(doomed) > max(freeObjects, total*freePercent/100):
		return wire.PlanReasonBudget
	}
	return ""
}

// approves says that the policy lets the plan be carried out.
func approves(policy wire.Policy, plan *wire.PrunePlan) bool {
	return policy.Prune == wire.PruneUnguarded || (policy.ApprovedPrune != "" && policy.ApprovedPrune == plan.ID)
}

// planOf names the plan by its objects: those protected first, then by name.
func planOf(doomed []object, reason string) *wire.PrunePlan {
	objects := slices.Clone(doomed)
	slices.SortFunc(objects, func(a, b object) int {
		rank := func(o object) int {
			if o.protected() {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var lines []string
	plan := &wire.PrunePlan{Reason: reason, Total: len(objects)}
	for _, o := range objects {
		lines = append(lines, strings.Join([]string{o.Group, o.Kind, o.Namespace, o.Name, o.UID}, "/"))
		if len(plan.Objects) < wire.MaxNamed {
			plan.Objects = append(plan.Objects, wire.ObjectNote{Group: o.Group, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
		}
	}
	slices.Sort(lines)
	plan.ID = manifest.Digest([]byte(strings.Join(lines, "\n")))
	return plan
}

// judgeAll looks at objects the item gives up and says what would become of them.
func (e *Engine) judgeAll(ctx context.Context, uid string, objects []object, option work.DeleteOption) (verdicts, error) {
	var v verdicts
	owners, err := e.elsewhere(ctx, uid, objects)
	if err != nil {
		return v, err
	}
	var present []object
	for _, o := range objects {
		k, err := e.cluster.resolve(ctx, o.gvk())
		switch {
		case gone(err), neverMade(o, err):
			continue
		case err != nil:
			return v, apiError(err)
		}
		if o.Resource = k.Resource; !k.Namespaced {
			o.Namespace = ""
		}
		present = append(present, o)
	}
	sights, err := e.cluster.survey(ctx, present)
	if err != nil {
		return v, apiError(err)
	}
	for i, o := range present {
		if err := sights[i].err; err != nil {
			return v, fmt.Errorf("look at %s before removing it: %w", o.identity(), err)
		}
		live, owner := sights[i].seen, owners[o.identity()]
		switch judge(o, live, option, owner.name) {
		case fateDelete, fateWait:
			o.UID = live.uid
			v.doomed = append(v.doomed, o)
		case fateRelease:
			o.UID = live.uid
			if o.Adopted {
				v.passing = append(v.passing, o)
			}
			if owner.uid != "" && !owner.has {
				if v.heirs == nil {
					v.heirs = make(map[string][]object)
				}
				v.heirs[owner.uid] = append(v.heirs[owner.uid], o)
			}
		case fateGone:
		}
	}
	return v, nil
}

func (o object) gvk() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: o.Group, Version: o.Version, Kind: o.Kind}
}

// noteOf says what an object that is being removed waits for.
func noteOf(o object, live *observation) wire.ObjectNote {
	note := wire.ObjectNote{Group: o.Group, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Message: "being deleted"}
	if live == nil || live.terminating.IsZero() {
		return note
	}
	if len(live.finalizers) > 0 {
		note.Message = "waits for finalizers: " + strings.Join(live.finalizers, ", ")
	}
	note.Message += ", deleted " + ageText(time.Since(live.terminating)) + " ago"
	return note
}

// ageText is coarse, so that a report does not change with every second.
func ageText(age time.Duration) string {
	switch {
	case age < time.Minute:
		return "less than a minute"
	case age < time.Hour:
		minutes := 1
		for _, step := range []int{2, 5, 10, 20, 30} {
			if int(age.Minutes()) >= step {
				minutes = step
			}
		}
		return fmt.Sprintf("more than %d min", minutes)
	case age < 48*time.Hour:
		return fmt.Sprintf("%d h", int(age.Hours()))
	default:
		return fmt.Sprintf("%d days", int(age.Hours()/24))
	}
}

// joinFirst is the first error, and how many more there are.
func joinFirst(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return errors.Join(fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1))
}
