// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// take marks the item that should be worked on now as busy: changed ones first,
// then the one that waits longest.
func (e *Engine) take(now time.Time) *item {
	e.mu.Lock()
	defer e.mu.Unlock()
	var best *item
	for _, it := range e.items {
		if !it.listed || it.busy || it.due.IsZero() || it.due.After(now) {
			continue
		}
		if best == nil || (it.fresh && !best.fresh) || (it.fresh == best.fresh && it.due.Before(best.due)) {
			best = it
		}
	}
	if best != nil {
		best.busy, best.fresh, best.due = true, false, time.Time{}
		if best.again {
			best.again, best.state.applyAt = false, now
		}
	}
	return best
}

// put ends a turn: the item is due when its worker said so, or now when
// something new was said or seen meanwhile.
func (e *Engine) put(it *item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	it.busy = false
	switch {
	case it.fresh: // Sync has set due
	case it.again:
		it.due = time.Now()
	default:
		it.due = it.state.next()
		if len(it.sightings) > 0 {
			it.due = earlier(it.due, e.sightingDue(it, time.Now()))
		}
	}
	for _, other := range e.items {
		if other != it && other.moving {
			e.retry(other)
		}
	}
	if !it.listed {
		e.forget(it.want.UID, it)
	}
}

// retry makes an item try again what stopped it. It needs mu.
func (e *Engine) retry(it *item) {
	if it.listed {
		it.again, it.due = true, time.Now()
		e.signal()
	}
}

// forget drops an item that is not listed and owns nothing. Anything else keeps
// its record, since only a tombstone deletes. It needs mu.
func (e *Engine) forget(uid string, it *item) {
	if it.rec.UID != "" && !it.rec.Deleted {
		return
	}
	if it.rec.UID != "" {
		if err := e.cfg.Records.DeleteRecord(uid); err != nil {
			e.cfg.Log.Warn("record of a removed work stays on disk", zap.String("work", it.want.Name), zap.Error(err))
			return
		}
	}
	e.unfollow(uid)
	delete(e.items, uid)
	if e.cfg.Observer != nil {
		e.cfg.Observer.Follow(uid, nil)
	}
}

func (e *Engine) untilDue(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait := time.Hour
	for _, it := range e.items {
		if it.listed && !it.busy && !it.due.IsZero() {
			wait = min(wait, it.due.Sub(now))
		}
	}
	return max(wait, 0)
}

func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// next is when the item needs its worker again; zero for never.
func (p *progress) next() time.Time {
	var next time.Time
	for _, at := range []time.Time{p.applyAt, p.pollAt, p.tendAt, p.pruneAt} {
		if next.IsZero() || (!at.IsZero() && at.Before(next)) {
			next = at
		}
	}
	return next
}

func due(at time.Time) bool { return !at.IsZero() && !at.After(time.Now()) }

// jitter spreads d by ±10 % so that a fleet does not act in step.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
