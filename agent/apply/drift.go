// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// fightWindow and fightRounds: when so many corrections of one object within
	// the window were undone, it is not corrected any more.
	fightWindow = 10 * time.Minute
	fightRounds = 3
	// examineAgain is the pause between comparisons of one object that stays as
	// somebody else made it.
	examineAgain = 10 * time.Second
)

// drift is what a worker remembers of somebody else's changes to one object.
type drift struct {
	examined    string      // touch.Version of the last comparison
	examineAt   time.Time   // no comparison before
	corrections []time.Time // within fightWindow
	total       int         // corrections since the content was applied
	fighting    bool
}

// settleDrift remembers what an apply left behind, to notice who changes it.
func (e *Engine) settleDrift(t *task, live *unstructured.Unstructured) {
	r := t.result
	r.obj.Fields = ""
	if t.strategy.Writes() {
		r.obj.Fields = r.touch.Own
	}
	if d := r.report.Drift; d != nil && d.State != wire.DriftStateCorrected {
		r.drift.total++
		d.State, d.Corrections = wire.DriftStateCorrected, r.drift.total
	}
}

// lost notes that somebody deleted the object.
func (r *result) lost(now time.Time) {
	if !r.managed || (r.report.Drift != nil && r.report.Drift.State == wire.DriftStateMissing) {
		return
	}
	r.report.Drift = &wire.Drift{State: wire.DriftStateMissing, Since: now, Corrections: r.drift.total}
}

// suspect says that somebody else changed what we applied, and that this state
// of the object was not compared yet.
func (r *result) suspect() bool {
	switch {
	case !r.report.Applied || !r.managed || r.obj.Fields == "" || r.touch.Version == "":
		return false
	case r.report.Health == wire.HealthNotFound || r.report.Health == wire.HealthTerminating:
		return false
	case r.touch.Own == r.obj.Fields:
		return false
	}
	return r.touch.Version != r.drift.examined
}

// tendDrift compares objects that somebody else touched with what was applied,
// and corrects or reports them as the item's policy says.
func (e *Engine) tendDrift(ctx context.Context, log *zap.Logger, it *item, want wire.Item) {
	if it.state.digest != want.Digest || want.Complete {
		return
	}
	now := time.Now()
	it.state.tendAt = time.Time{}
	var suspects []int
	for i := range it.results {
		r := &it.results[i]
		switch {
		case !r.suspect():
			if r.touch.Own == r.obj.Fields {
				r.calm()
			}
		case r.drift.examineAt.After(now):
			it.state.tendAt = earlier(it.state.tendAt, r.drift.examineAt)
		default:
			suspects = append(suspects, i)
		}
	}
	if len(suspects) == 0 {
		return
	}
	c, err := e.load(ctx, want.Digest)
	if err != nil {
		log.Warn("changes by others are not compared", zap.Error(err))
		return
	}
	defer c.Close()
	for _, i := range suspects {
		if i >= len(c.Manifests) || ctx.Err() != nil {
			return
		}
		it.results[i].drift.examineAt = now.Add(examineAgain)
		t, err := e.taskFor(ctx, it, c, i)
		if err == nil {
			err = e.examineDrift(ctx, log, it, t, want.Policy)
		}
		if err != nil && ctx.Err() == nil {
			it.state.tendAt = earlier(it.state.tendAt, now.Add(jitter(retryMax)))
			log.Warn("an object that somebody changed is not compared or corrected",
				zap.Stringer("object", it.results[i].obj.identity()), zap.Error(err))
		}
	}
}

// calm drops a drift that is over without our doing.
func (r *result) calm() {
	if d := r.report.Drift; d != nil && (d.State == wire.DriftStatePresent || d.State == wire.DriftStateFighting) {
		r.report.Drift, r.drift.fighting = nil, false
	}
}

// taskFor makes the task of one manifest that is applied already.
func (e *Engine) taskFor(ctx context.Context, it *item, c *manifest.Content, i int) (*task, error) {
	r := it.results[i]
	t := &task{content: c, manifest: &c.Manifests[i], result: &r}
	if err := e.recognise(ctx, t, manifest.Promises{}); err != nil {
		return nil, err
	}
	uid, fields, adopted := it.results[i].obj.UID, it.results[i].obj.Fields, it.results[i].obj.Adopted
	it.results[i].obj = t.result.obj
	t.result = &it.results[i]
	t.result.obj.UID, t.result.obj.Fields, t.result.obj.Adopted = uid, fields, adopted
	t.exists = true
	return t, nil
}

// examineDrift asks the API server what applying once more would change: that
// is the drift, with defaults and conversions already taken into account.
func (e *Engine) examineDrift(ctx context.Context, log *zap.Logger, it *item, t *task, policy wire.Policy) error {
	r, now := t.result, time.Now()
	d := &r.drift
	live, err := e.cluster.get(ctx, r.obj)
	if err != nil {
		if gone(err) {
			r.doubt = true
			return nil
		}
		return err
	}
	touched := fields.TouchOf(live, e.cluster.managerOf(r.obj))
	asked := *t
	asked.strategy.Force = true
	dry, err := e.write(ctx, &asked, true)
	if err != nil {
		return err
	}
	d.examined, r.touch = touched.Version, touched
	diffs, total := fields.Diff(dry, live, r.obj.identity().Secretive())
	correct := policy.Drift != wire.DriftReport && t.strategy.Force
	if total == 0 {
		r.calm()
		if correct && !d.fighting {
			// Somebody holds fields of ours at our own values: take them back, or
			// the next change would go unseen.
			return e.applyAgain(ctx, it, t)
		}
		return nil
	}
	since := now
	if before := r.report.Drift; before != nil && before.State != wire.DriftStateCorrected {
		since = before.Since
	}
	r.report.Drift = &wire.Drift{
		State: wire.DriftStatePresent, Since: since, Total: total, Diffs: diffs, Manager: touched.Manager, Corrections: d.total,
	}
	d.recall(now)
	switch {
	case !correct:
		return nil
	case d.fighting || len(d.corrections) >= fightRounds:
		if !d.fighting {
			log.Warn("somebody undoes the corrections of an object again and again, it is left as it is",
				zap.Stringer("object", r.obj.identity()), zap.String("manager", touched.Manager), zap.String("field", diffs[0].Path))
		}
		d.fighting = true
		r.report.Drift.State = wire.DriftStateFighting
		return nil
	}
	if err := e.applyAgain(ctx, it, t); err != nil {
		return err
	}
	d.corrections = append(d.corrections, now)
	log.Info("corrected an object that somebody changed",
		zap.Stringer("object", r.obj.identity()), zap.String("manager", touched.Manager), zap.String("field", diffs[0].Path), zap.Int("fields", total))
	return nil
}

// applyAgain sends one manifest once more.
func (e *Engine) applyAgain(ctx context.Context, it *item, t *task) error {
	err := e.applyOne(ctx, it, t)
	var overtaken *overtakenError
	if errors.As(err, &overtaken) {
		t.result.doubt = true // it is to be repaired, not corrected
		it.state.pollAt = time.Now()
		return nil
	}
	if err != nil {
		return err
	}
	t.result.drift.examined, t.result.drift.examineAt = t.result.touch.Version, time.Time{}
	return nil
}

// recall forgets corrections that are too old to be part of a fight.
func (d *drift) recall(now time.Time) {
	for len(d.corrections) > 0 && now.Sub(d.corrections[0]) > fightWindow {
		d.corrections = d.corrections[1:]
	}
}
