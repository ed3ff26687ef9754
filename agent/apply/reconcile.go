// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

// reconcile applies want when that is due, looks at the objects when that is
// due, and says what it knows.
func (e *Engine) reconcile(ctx context.Context, log *zap.Logger, it *item, want wire.Item) wire.Report {
	s := &it.state
	switch {
	case s.digest != want.Digest || it.rec.Deleted:
		e.begin(it, want)
	case s.generation != want.Generation || s.policy != want.Policy:
		e.reconsider(it, want)
	}
	s.generation, s.policy, s.complete = want.Generation, want.Policy, want.Complete

	switch {
	case due(s.applyAt):
		e.attempt(ctx, log, it, want)
	case it.rec.Complete && it.rec.Generation != want.Generation:
		rec := it.rec
		rec.Generation = want.Generation
		e.saveOrWarn(log, it, rec)
	}
	e.takeSightings(it)
	if ctx.Err() == nil && it.pollDue() {
		e.poll(ctx, log, it)
	}
	if ctx.Err() == nil {
		e.tendDrift(ctx, log, it, want)
	}
	if s.waiting && s.applyAt.IsZero() && it.waveReady() {
		s.applyAt = time.Now()
	}
	if ctx.Err() == nil && due(s.pruneAt) {
		e.prune(ctx, it, want)
	}
	return buildReport(want, s, it.results)
}

// begin turns to new content. Content that is already applied is only looked at.
func (e *Engine) begin(it *item, want wire.Item) {
	it.results = nil
	it.state = progress{digest: want.Digest, policy: want.Policy, generation: want.Generation}
	if it.rec.Complete && it.rec.Digest == want.Digest && !it.rec.Deleted {
		it.results = resultsOf(it.rec)
		it.state.pollAt = time.Now()
		for i := range it.results {
			if r := &it.results[i]; r.redo && it.repairs() {
				it.state.applyAt = time.Now()
			}
		}
		e.follow(want.UID, it.results)
		e.offer(it, want.Digest, it.rec.Dropped)
		if len(it.rec.Dropped)+len(it.rec.Leaving) > 0 {
			it.state.pruneAt = time.Now()
		}
		return
	}
	it.state.applyAt = time.Now()
}

// reconsider reacts to a new generation or policy of the same content: what
// waited for it is tried at once.
func (e *Engine) reconsider(it *item, want wire.Item) {
	s, now := &it.state, time.Now()
	if !s.applyAt.IsZero() {
		s.failures, s.applyAt = 0, now
	}
	if s.policy == want.Policy {
		return
	}
	s.took = nil
	if s.policy.Drift != want.Policy.Drift {
		s.pollAt, s.fullPollAt = now, now
		for i := range it.results {
			it.results[i].drift.examined, it.results[i].drift.examineAt = "", time.Time{}
		}
	}
	if len(it.rec.Dropped)+len(it.rec.Leaving) > 0 {
		s.pruneAt = now
	}
}

// resultsOf rebuilds the outcome of complete content after a restart.
func resultsOf(rec record) []result {
	inventory := make(map[manifest.Identity]object, len(rec.Inventory))
	for _, o := range rec.Inventory {
		inventory[o.identity()] = o
	}
	results := make([]result, max(rec.Total, len(rec.Manifests)))
	for _, m := range rec.Manifests {
		if m.Ordinal < 0 || m.Ordinal >= len(results) {
			continue
		}
		id := manifest.Identity{Group: m.Group, Kind: m.Kind, Namespace: m.Namespace, Name: m.Name}
		o, managed := inventory[id]
		if !managed {
			o = object{Group: m.Group, Version: m.Version, Kind: m.Kind, Resource: m.Resource, Namespace: m.Namespace, Name: m.Name}
		}
		o.Version, o.Resource = m.Version, m.Resource
		results[m.Ordinal] = result{report: m, obj: o, managed: managed, rules: rec.rulesOf(m.Ordinal, o), applied: rec.AppliedAt}
	}
	for _, o := range rec.Inventory {
		if o.Ordinal < 1 || o.Ordinal > len(results) {
			continue
		}
		results[o.Ordinal-1] = result{report: wire.ManifestReport{
			Ordinal: o.Ordinal - 1, Group: o.Group, Version: o.Version, Kind: o.Kind, Resource: o.Resource,
			Namespace: o.Namespace, Name: o.Name, Applied: true,
		}, obj: o, managed: true, redo: o.Planned, rules: rec.rulesOf(o.Ordinal-1, o), applied: rec.AppliedAt}
		results[o.Ordinal-1].obj.Planned = false
	}
	return results
}

// rulesOf are the rules for one object of complete content.
func (r *record) rulesOf(ordinal int, o object) manifest.Rules {
	rules := r.Rules[ordinal]
	rules.Health = manifest.HealthFor(r.Health, o.identity())
	return rules
}

// attempt applies the item once and plans the next attempt.
func (e *Engine) attempt(ctx context.Context, log *zap.Logger, it *item, want wire.Item) {
	s := &it.state
	var err error
	if want.Complete {
		err = e.lookOnly(ctx, it, want)
	} else {
		err = e.apply(ctx, it, want)
	}
	if ctx.Err() != nil {
		return
	}
	failed, lasting, waiting := 0, 0, 0
	refused, moving, unserved := false, false, false
	for i := range it.results {
		r := &it.results[i]
		switch {
		case r.report.Applied:
		case r.waiting:
			waiting++
		default:
			failed++
			if r.lasting {
				lasting++
			}
			refused, moving, unserved = refused || r.refused, moving || r.moving, unserved || r.unserved
		}
	}
	e.mu.Lock()
	it.refused, it.moving, it.unserved = refused, moving, unserved
	e.mu.Unlock()

	now := time.Now()
	s.err, s.waiting = "", waiting > 0
	switch {
	case err != nil:
		s.err = err.Error()
		for i := range it.results {
			if m := &it.results[i].report; !m.Applied && m.ApplyMessage == "" {
				m.ApplyMessage = "not tried: " + s.err
			}
		}
		s.failures++
		delay := jitter(retryDelay(s.failures, permanent(err)))
		s.applyAt = now.Add(delay)
		log.Warn("work not applied", zap.Error(err), zap.Duration("retry", delay))
	case failed > 0:
		s.failures++
		delay := retryDelay(s.failures, failed == lasting)
		if unserved {
			delay = min(delay, retryUnserved)
		}
		delay = jitter(delay)
		s.applyAt = now.Add(delay)
		log.Warn("work applied in part", zap.Int("failed", failed), zap.Int("manifests", len(it.results)), zap.Duration("retry", delay))
	case waiting > 0:
		s.failures, s.applyAt = 0, time.Time{}
		log.Info("waves of the work wait for lower ones", zap.Int("waiting", waiting), zap.Int("manifests", len(it.results)))
	default:
		s.failures, s.applyAt = 0, time.Time{}
		log.Info("work applied", zap.String("digest", want.Digest), zap.Int("manifests", len(it.results)))
	}
	s.pollAt, s.interval = now, 0
	if e.cfg.Observer != nil {
		s.pollAt = now.Add(lookFirst)
	}
	if s.fullPollAt.IsZero() {
		s.fullPollAt = now.Add(jitter(e.resync(len(it.results))))
	}
	e.follow(want.UID, it.results)
}

// lookOnly takes stock of complete work that was not applied by this agent, or
// in another content: it is not written any more.
func (e *Engine) lookOnly(ctx context.Context, it *item, want wire.Item) error {
	c, err := e.load(ctx, want.Digest)
	if err != nil {
		return err
	}
	defer c.Close()
	it.results = make([]result, len(c.Manifests))
	for i := range c.Manifests {
		r := &it.results[i]
		r.begin(&c.Manifests[i])
		t := &task{content: c, manifest: &c.Manifests[i], result: r}
		if err := e.recognise(ctx, t, manifest.Promises{}); err != nil {
			if ctx.Err() != nil || unreachable(err) {
				return apiError(err)
			}
			r.fail(err)
			r.lasting = true
			continue
		}
		if before, held := it.rec.held()[r.obj.identity()]; held {
			r.obj.UID, r.obj.Adopted = before.UID, before.Adopted
		}
		r.managed, r.report.Applied, r.doubt = false, true, true
	}
	return nil
}

// waveReady says that the manifests of the lowest wave that waits need not any more.
func (it *item) waveReady() bool {
	lowest, found := 0, false
	for i := range it.results {
		if r := &it.results[i]; r.waiting && (!found || r.obj.Wave < lowest) {
			lowest, found = r.obj.Wave, true
		}
	}
	return found && waitsFor(it.results, lowest) == ""
}

// save makes rec the record of the item, on disk first.
func (e *Engine) save(it *item, rec record) error {
	body, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	if err := e.cfg.Records.SaveRecord(rec.UID, body); err != nil {
		return fmt.Errorf("save record of the work: %w", err)
	}
	e.mu.Lock()
	it.rec = rec
	e.mu.Unlock()
	return nil
}

// saveChange saves what differs by more than the marks of owned fields: those are
// found again.
func (e *Engine) saveChange(it *item, rec record) error {
	unmarked := func(rec record) record {
		rec.Inventory = slices.Clone(rec.Inventory)
		for i := range rec.Inventory {
			rec.Inventory[i].Fields = ""
		}
		return rec
	}
	if reflect.DeepEqual(unmarked(rec), unmarked(it.rec)) {
		e.mu.Lock()
		it.rec = rec
		e.mu.Unlock()
		return nil
	}
	return e.save(it, rec)
}

// saveOrWarn is for facts that the next turn finds again.
func (e *Engine) saveOrWarn(log *zap.Logger, it *item, rec record) {
	if err := e.save(it, rec); err != nil {
		log.Warn("record of the work is behind", zap.Error(err))
	}
}
