// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// reconcile applies want when that is due, looks at the objects when that is
// due, and says what it knows.
func (e *Engine) reconcile(ctx context.Context, log *zap.Logger, it *item, want wire.Item) wire.Report {
	s := &it.state
	switch {
	case s.digest != want.Digest || it.rec.Deleted:
		e.begin(it, want)
	case s.generation != want.Generation && !s.applyAt.IsZero():
		s.failures, s.applyAt = 0, time.Now()
	}
	s.generation = want.Generation

	if due(s.applyAt) {
		e.attempt(ctx, log, it, want)
	} else if it.rec.Complete && it.rec.Generation != want.Generation {
		rec := it.rec
		rec.Generation = want.Generation
		e.saveOrWarn(log, it, rec)
	}
	if ctx.Err() == nil && due(s.pollAt) {
		e.poll(ctx, log, it)
	}
	return buildReport(want, s.err, it.results)
}

func due(at time.Time) bool { return !at.IsZero() && !at.After(time.Now()) }

// begin turns to new content. Content that is already applied is only looked at.
func (e *Engine) begin(it *item, want wire.Item) {
	it.results = nil
	it.state = progress{digest: want.Digest}
	if it.rec.Complete && it.rec.Digest == want.Digest && !it.rec.Deleted {
		it.results = resultsOf(it.rec)
		it.state.pollAt = time.Now()
		return
	}
	it.state.applyAt = time.Now()
}

// resultsOf rebuilds the outcome of complete content after a restart.
func resultsOf(rec record) []result {
	inventory := make(map[identity]object, len(rec.Inventory))
	for _, o := range rec.Inventory {
		inventory[o.identity()] = o
	}
	results := make([]result, len(rec.Manifests))
	for i, m := range rec.Manifests {
		id := identity{m.Group, m.Kind, m.Namespace, m.Name}
		o, managed := inventory[id]
		if !managed {
			o = object{Group: m.Group, Version: m.Version, Kind: m.Kind, Resource: m.Resource, Namespace: m.Namespace, Name: m.Name}
		}
		o.Version, o.Resource = m.Version, m.Resource
		results[i] = result{report: m, obj: o, managed: managed}
	}
	return results
}

// attempt applies the item once and plans the next attempt.
func (e *Engine) attempt(ctx context.Context, log *zap.Logger, it *item, want wire.Item) {
	s := &it.state
	err := e.apply(ctx, it, want)
	if ctx.Err() != nil {
		return
	}
	failed, lasting, refused := 0, 0, false
	for _, r := range it.results {
		if !r.report.Applied {
			failed++
			if r.lasting {
				lasting++
			}
			refused = refused || r.refused
		}
	}
	e.mu.Lock()
	it.refused = refused
	e.mu.Unlock()

	now := time.Now()
	s.err = ""
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
		delay := jitter(retryDelay(s.failures, failed == lasting))
		s.applyAt = now.Add(delay)
		log.Warn("work applied in part", zap.Int("failed", failed), zap.Int("manifests", len(it.results)), zap.Duration("retry", delay))
	default:
		s.failures, s.repair, s.applyAt = 0, false, time.Time{}
		log.Info("work applied", zap.String("digest", want.Digest), zap.Int("manifests", len(it.results)))
	}
	s.pollAt, s.interval = now, 0
	if s.fullPollAt.IsZero() {
		s.fullPollAt = now.Add(jitter(pollSteady))
	}
}

// load fetches content, checks that it is what digest names, and takes it apart.
func (e *Engine) load(ctx context.Context, digest string) (*content, error) {
	data, err := e.cfg.Content(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("fetch content: %w", err)
	}
	sum := sha256.Sum256(data)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
		return nil, fmt.Errorf("fetch content: asked for %s, got %s", digest, got)
	}
	return parseContent(data)
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

// saveOrWarn is for facts that the next turn finds again.
func (e *Engine) saveOrWarn(log *zap.Logger, it *item, rec record) {
	if err := e.save(it, rec); err != nil {
		log.Warn("record of the work is behind", zap.Error(err))
	}
}

// claim registers the objects as the item's own. It returns, by object, the
// name of the item that owns it already. An item that the hub no longer lists
// loses its claim, since nothing else could ever free the object.
func (e *Engine) claim(uid string, ids []identity) (refused map[identity]string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	refused = make(map[identity]string)
	for _, id := range ids {
		owner := e.owners[id]
		other := e.items[owner]
		switch {
		case owner == "" || owner == uid || other == nil:
		case other.listed || other.busy:
			refused[id] = other.want.Name
			continue
		default:
			rec := other.rec
			rec.Inventory = slices.DeleteFunc(slices.Clone(rec.Inventory), func(o object) bool { return o.identity() == id })
			body, err := encodeRecord(rec)
			if err != nil {
				return nil, err
			}
			if err := e.cfg.Records.SaveRecord(owner, body); err != nil {
				return nil, fmt.Errorf("save record of work %s: %w", other.want.Name, err)
			}
			other.rec = rec
		}
		e.owners[id] = uid
	}
	return refused, nil
}

// disown ends the item's claim to all objects but those in inventory, and lets
// items that were refused try again.
func (e *Engine) disown(uid string, inventory []object) {
	keep := make(map[identity]bool, len(inventory))
	for _, o := range inventory {
		keep[o.identity()] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	freed := false
	for id, owner := range e.owners {
		if owner == uid && !keep[id] {
			delete(e.owners, id)
			freed = true
		}
	}
	if !freed {
		return
	}
	for other, it := range e.items {
		if other != uid && it.listed && it.refused {
			it.again, it.due = true, time.Now()
		}
	}
	e.signal()
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
