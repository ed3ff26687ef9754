// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/wire"
)

const (
	// explainAfter is how long an object may be on its way before anybody asks why.
	explainAfter = 2 * time.Second
	// maxExplained bounds the objects that one look asks about.
	maxExplained = 8
	// explainTimeout bounds the time for one of them.
	explainTimeout = 10 * time.Second
)

// poll looks at the applied objects: at all of them from time to time, at those
// that are not Current more often, and now at those that a sighting left in doubt.
func (e *Engine) poll(ctx context.Context, log *zap.Logger, it *item) {
	s, now := &it.state, time.Now()
	full, timer := !now.Before(s.fullPollAt), due(s.pollAt)
	explain := e.patients(it, now, timer || full)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	unchanged := make(map[*result]bool)
	if full {
		unchanged = e.unchanged(ctx, it)
	}
	for i := range it.results {
		r := &it.results[i]
		if unchanged[r] && !r.doubt {
			continue
		}
		if !r.report.Applied || (!full && !r.doubt && (!timer || r.report.Health == wire.HealthCurrent)) {
			continue
		}
		group.Go(func() error { return e.look(gctx, r, explain[r]) })
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		for i := range it.results {
			if it.results[i].report.Applied {
				it.results[i].unknown(apiError(err))
			}
		}
	}

	settled, missing := true, 0
	for i := range it.results {
		r := &it.results[i]
		r.doubt = false
		if r.report.Applied && r.report.Health != wire.HealthCurrent {
			settled = false
			if r.managed && r.report.Health == wire.HealthNotFound && it.repairs() {
				r.redo = true
				missing++
			}
		}
	}
	if full {
		s.fullPollAt = now.Add(jitter(e.resync(len(it.results))))
	}
	if timer || s.pollAt.IsZero() {
		s.interval = e.nextLook(s.interval, settled, len(it.results))
		s.pollAt = now.Add(jitter(s.interval))
	}

	switch {
	case missing > 0 && s.applyAt.IsZero():
		e.scheduleRepair(log, s, now, missing)
	case settled && s.repairs > 0 && now.Sub(s.repairedAt) > repairsForgotten:
		s.repairs = 0
	}
	if settled && it.rec.Complete && it.rec.LastGood != it.rec.Digest {
		rec := it.rec
		rec.LastGood, rec.LastGoodBundle = rec.Digest, rec.Bundle
		e.saveOrWarn(log, it, rec)
	}
}

// repairs says that what is missing is to be made again.
func (it *item) repairs() bool {
	return it.state.policy.Drift != wire.DriftReport && !it.state.complete
}

// unchanged are the objects whose metadata say that nothing happened since they
// were judged Current. A survey that fails says nothing.
func (e *Engine) unchanged(ctx context.Context, it *item) map[*result]bool {
	var asked []*result
	var objects []object
	for i := range it.results {
		r := &it.results[i]
		if r.report.Applied && r.report.Health == wire.HealthCurrent && r.version != "" {
			asked, objects = append(asked, r), append(objects, r.obj)
		}
	}
	same := make(map[*result]bool, len(asked))
	if len(asked) < listFrom {
		return same
	}
	sights, err := e.cluster.survey(ctx, objects)
	if err != nil {
		return same
	}
	for i, r := range asked {
		if seen := sights[i].seen; seen != nil && seen.version == r.version {
			same[r] = true
		}
	}
	return same
}

// patients are the objects to ask about: those longest not asked about first.
func (e *Engine) patients(it *item, now time.Time, timer bool) map[*result]bool {
	if e.cfg.Observer == nil {
		return nil
	}
	var all []*result
	for i := range it.results {
		r := &it.results[i]
		switch {
		case !r.report.Applied || r.obj.identity().ExistenceOnly() || (!timer && !r.doubt):
		case r.report.Health == wire.HealthFailed, r.report.Health == wire.HealthInProgress && now.Sub(r.unwellSince) >= explainAfter:
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b *result) int { return a.explainedAt.Compare(b.explainedAt) })
	asked := make(map[*result]bool)
	for _, r := range all[:min(len(all), maxExplained)] {
		r.explainedAt = now
		asked[r] = true
	}
	return asked
}

// scheduleRepair plans to apply what is missing again. Somebody who deletes it
// again and again meets growing pauses.
func (e *Engine) scheduleRepair(log *zap.Logger, s *progress, now time.Time, missing int) {
	s.repairs++
	s.repairedAt = now
	delay := jitter(retryDelay(s.repairs, false))
	s.applyAt = now.Add(delay)
	log.Warn("applied objects are missing from the cluster, applying them again",
		zap.Int("missing", missing), zap.Int("repairs", s.repairs), zap.Duration("after", delay))
}

// look reads one object and writes down how it is, and, if explain is set, why.
// The error says that the API server does not answer.
func (e *Engine) look(ctx context.Context, r *result, explain bool) error {
	if r.obj.identity().Secretive() {
		return e.glance(ctx, r)
	}
	live, err := e.cluster.get(ctx, r.obj)
	switch {
	case gone(err):
		r.missing("does not exist")
		return nil
	case err != nil:
		return r.unread(err)
	case r.replaced(string(live.GetUID())):
		return nil
	}
	e.see(r, live)
	if !explain || r.report.Health == wire.HealthCurrent {
		return nil
	}
	ectx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	explained := r.report
	explained.Health, explained.HealthMessage = r.found.health, r.found.message
	if err := e.cfg.Observer.Explain(ectx, live, &explained); err != nil {
		// What was found out before is better than half of it.
		e.cfg.Log.Debug("why an object is not ready is not known", zap.Error(err))
		return nil
	}
	if sameEvents(r.report.Events, explained.Events) {
		explained.Events = r.report.Events
	}
	r.report = explained
	return nil
}

// glance reads the metadata of an object alone.
func (e *Engine) glance(ctx context.Context, r *result) error {
	live, err := e.cluster.observe(ctx, r.obj)
	switch {
	case err != nil:
		return r.unread(err)
	case live == nil:
		r.missing("does not exist")
	case r.replaced(live.uid):
	case !live.terminating.IsZero():
		r.set(wire.HealthTerminating, "being deleted")
	default:
		r.set(wire.HealthCurrent, "")
	}
	return nil
}

// eventsRefreshed is how old the counts of unchanged events may get in a report.
const eventsRefreshed = 5 * time.Minute

// sameEvents says that the events are the same but for their counts, and those
// not much newer: a report is not sent because the same thing happened once more.
func sameEvents(before, now []wire.EventNote) bool {
	return slices.EqualFunc(before, now, func(a, b wire.EventNote) bool {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message)) == 0 &&
			b.Last.Sub(a.Last) < eventsRefreshed
	})
}

// see derives health, feedback and conditions from the live object. A finding
// that is the same as before keeps what was found out about its reasons.
func (e *Engine) see(r *result, live *unstructured.Unstructured) {
	r.adopt(e.sight(r.obj, r.rules, r.applied, live))
}

func (r *result) set(health, message string) {
	r.report.Available, r.report.AvailableMessage = true, ""
	if r.found == (finding{health, message}) {
		return // and keep what Explain added
	}
	if health != wire.HealthCurrent && (r.found.health == "" || r.found.health == wire.HealthCurrent) {
		r.unwellSince = time.Now()
	}
	r.found = finding{health, message}
	r.report.Health, r.report.HealthMessage = health, message
	if health == wire.HealthCurrent {
		r.report.Events, r.report.Restarts = nil, 0
	}
}

func (r *result) missing(message string) {
	r.found = finding{wire.HealthNotFound, message}
	r.report.Available, r.report.AvailableMessage = false, message
	r.report.Health, r.report.HealthMessage = wire.HealthNotFound, message
	r.report.Events, r.report.Restarts = nil, 0
	r.lost(time.Now())
}

// replaced notices that somebody deleted our object and made another one.
func (r *result) replaced(uid string) bool {
	if !r.managed || r.obj.UID == "" || r.obj.UID == uid {
		return false
	}
	r.missing("was deleted, and somebody else created an object of the same name")
	return true
}

// unread keeps what is known of existence: not being able to look is no change.
func (r *result) unread(err error) error {
	if unreachable(err) {
		return err
	}
	r.unknown(err)
	return nil
}

func (r *result) unknown(err error) {
	r.found = finding{}
	r.report.Health, r.report.HealthMessage = wire.HealthUnknown, fmt.Sprintf("cannot be read: %v", err)
	if !r.report.Available && r.report.AvailableMessage == "" {
		r.report.AvailableMessage = "not looked at yet since the agent started"
	}
}
