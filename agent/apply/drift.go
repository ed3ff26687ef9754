// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// touch says who owns the fields of an object, in short.
type touch struct {
	own     string // hash of the fields that our last apply still owns
	version string // of the resource
	manager string // that wrote last, beside us and writers of status
}

// drift is what a worker remembers of somebody else's changes to one object.
type drift struct {
	examined    string      // touch.version of the last comparison
	examineAt   time.Time   // no comparison before
	corrections []time.Time // within fightWindow
	total       int         // corrections since the content was applied
	fighting    bool
}

// touchOf looks at the owners of an object's fields. A field that somebody else
// changes leaves the set that our apply owns, and nothing else does that: fields
// that were never ours, status and defaults do not touch it.
func (e *Engine) touchOf(o object, live *unstructured.Unstructured) touch {
	manager := e.cluster.managerOf(o)
	own := fnv.New128a()
	t := touch{version: live.GetResourceVersion()}
	var newest time.Time
	found := false
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource == "status" {
			continue
		}
		var raw []byte
		if entry.FieldsV1 != nil {
			raw = entry.FieldsV1.GetRawBytes()
		}
		var at time.Time
		if entry.Time != nil {
			at = entry.Time.Time
		}
		if entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			found = true
			_, _ = own.Write(raw)
			continue
		}
		if t.manager == "" || at.After(newest) {
			t.manager, newest = entry.Manager, at
		}
	}
	if found {
		t.own = hex.EncodeToString(own.Sum(nil))
	}
	return t
}

// settleDrift remembers what an apply left behind, to notice who changes it.
func (e *Engine) settleDrift(t *task, live *unstructured.Unstructured) {
	r := t.result
	r.obj.Fields = ""
	if t.strategy.writes() {
		r.obj.Fields = r.touch.own
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
	case !r.report.Applied || !r.managed || r.obj.Fields == "" || r.touch.version == "":
		return false
	case r.report.Health == wire.HealthNotFound || r.report.Health == wire.HealthTerminating:
		return false
	case r.touch.own == r.obj.Fields:
		return false
	}
	return r.touch.version != r.drift.examined
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
			if r.touch.own == r.obj.Fields {
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
		if i >= len(c.manifests) || ctx.Err() != nil {
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
func (e *Engine) taskFor(ctx context.Context, it *item, c *content, i int) (*task, error) {
	r := it.results[i]
	t := &task{content: c, manifest: &c.manifests[i], result: &r}
	if err := e.recognise(ctx, t, promises{}); err != nil {
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
	touched := e.touchOf(r.obj, live)
	asked := *t
	asked.strategy.force = true
	dry, err := e.write(ctx, &asked, true)
	if err != nil {
		return err
	}
	d.examined, r.touch = touched.version, touched
	fields, total := diffObjects(dry, live, secretive(r.obj))
	correct := policy.Drift != wire.DriftReport && t.strategy.force
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
		State: wire.DriftStatePresent, Since: since, Total: total, Diffs: fields, Manager: touched.manager, Corrections: d.total,
	}
	d.recall(now)
	switch {
	case !correct:
		return nil
	case d.fighting || len(d.corrections) >= fightRounds:
		if !d.fighting {
			log.Warn("somebody undoes the corrections of an object again and again, it is left as it is",
				zap.Stringer("object", r.obj.identity()), zap.String("manager", touched.manager), zap.String("field", fields[0].Path))
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
		zap.Stringer("object", r.obj.identity()), zap.String("manager", touched.manager), zap.String("field", fields[0].Path), zap.Int("fields", total))
	return nil
}

// applyAgain sends one manifest once more.
func (e *Engine) applyAgain(ctx context.Context, it *item, t *task) error {
	if err := e.applyOne(ctx, it, t); err != nil {
		return err
	}
	t.result.drift.examined, t.result.drift.examineAt = t.result.touch.version, time.Time{}
	return nil
}

// recall forgets corrections that are too old to be part of a fight.
func (d *drift) recall(now time.Time) {
	for len(d.corrections) > 0 && now.Sub(d.corrections[0]) > fightWindow {
		d.corrections = d.corrections[1:]
	}
}

const (
	maxFieldDrift = 20
	maxDriftValue = 256
)

// diffObjects returns the first fields in which live differs from desired, and
// how many there are. What only the server writes does not count. Values are
// left out when hide is set.
func diffObjects(desired, live *unstructured.Unstructured, hide bool) ([]wire.FieldDrift, int) {
	d := differ{hide: hide}
	d.fields("", trimmed(desired.Object), trimmed(live.Object))
	return d.out, d.total
}

func trimmed(object map[string]any) map[string]any {
	out := make(map[string]any, len(object))
	for k, v := range object {
		switch k {
		case "status":
		case "metadata":
			fields, _ := v.(map[string]any)
			kept := make(map[string]any, len(fields))
			for name, value := range fields {
				switch name {
				case "managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink":
				default:
					kept[name] = value
				}
			}
			out[k] = kept
		default:
			out[k] = v
		}
	}
	return out
}

func clip(v any, present bool) string {
	if !present {
		return ""
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return shorten(string(encoded), maxDriftValue)
}
