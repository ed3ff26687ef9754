// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// OutboxConfig configures an Outbox.
type OutboxConfig[T any] struct {
	// Send delivers one message and returns the hub's answer. An error means that
	// the message was not acknowledged; ErrOffline waits for Wake.
	Send func(ctx context.Context, key string, message T) (wire.Ack, error)
	// SendMany takes the place of Send where the hub takes several messages at
	// once: at most Max of them, of different keys. It may deliver only the first
	// few, one at least; it returns an answer for each of those.
	SendMany func(ctx context.Context, keys []string, messages []T) ([]wire.Ack, error)
	Max      int
	// Done is told of every message that the hub took (Ack.Error empty) or refused
	// for good. It may be nil.
	Done func(key string, message T, ack wire.Ack)
	Log  *zap.Logger

	// Timeout of one Send, Base and Cap of the wait after a failure. Zero values
	// mean 30 s, 1 s and 1 min.
	Timeout, Base, Cap time.Duration
}

// Outbox keeps the latest message of each key until the hub has acknowledged it.
// A message that is put while an older one of its key is under way is sent
// afterwards; keys are served in the order in which they became due.
type Outbox[T any] struct {
	cfg  OutboxConfig[T]
	wake chan struct{}

	mu      sync.Mutex
	entries map[string]*outboxEntry[T]
	seq     uint64
	// Nothing is due before offline, or the next Wake, when Send found no session.
	offline time.Time
	wakes   uint64
}

type outboxEntry[T any] struct {
	message  T
	version  uint64 // of message; also the order among entries due at the same time
	due      time.Time
	failures int
}

// NewOutbox returns an empty outbox; Run sends.
func NewOutbox[T any](cfg OutboxConfig[T]) *Outbox[T] {
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.Base = cmp.Or(cfg.Base, time.Second)
	cfg.Cap = cmp.Or(cfg.Cap, time.Minute)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if send := cfg.Send; cfg.SendMany == nil {
		cfg.Max = 1
		cfg.SendMany = func(ctx context.Context, keys []string, messages []T) ([]wire.Ack, error) {
			ack, err := send(ctx, keys[0], messages[0])
			return []wire.Ack{ack}, err
		}
	}
	cfg.Max = max(cfg.Max, 1)
	return &Outbox[T]{cfg: cfg, wake: make(chan struct{}, 1), entries: map[string]*outboxEntry[T]{}}
}

// Put makes message the one to be sent for key, at once.
func (o *Outbox[T]) Put(key string, message T) {
	o.mu.Lock()
	o.seq++
	o.entries[key] = &outboxEntry[T]{message: message, version: o.seq, due: time.Now()}
	o.mu.Unlock()
	notify(o.wake)
}

// Drop forgets the message of key. One that is under way may still arrive.
func (o *Outbox[T]) Drop(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.entries, key)
}

// Len is the number of messages that are not acknowledged.
func (o *Outbox[T]) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries)
}

// Wake makes every message due now; to be called when a session begins.
func (o *Outbox[T]) Wake() {
	o.mu.Lock()
	o.offline = time.Time{}
	o.wakes++
	now := time.Now()
	for _, e := range o.entries {
		if e.due.After(now) {
			e.due = now
		}
		e.failures = 0
	}
	o.mu.Unlock()
	notify(o.wake)
}

// Run sends until ctx ends, one request at a time.
func (o *Outbox[T]) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, wakes, wait := o.next()
		if len(due) == 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-o.wake:
			case <-timer.C:
			}
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		o.send(ctx, due, wakes)
	}
}

// dueEntry is a copy of an entry, to be sent.
type dueEntry[T any] struct {
	key string
	outboxEntry[T]
}

// next returns copies of the entries that are due, the longest first, or how long
// to wait for one.
func (o *Outbox[T]) next() (due []dueEntry[T], wakes uint64, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if until := o.offline.Sub(now); until > 0 && len(o.entries) > 0 {
		return nil, 0, until
	}
	wait = time.Hour
	for k, e := range o.entries {
		if until := e.due.Sub(now); until > 0 {
			wait = min(wait, until)
			continue
		}
		due = append(due, dueEntry[T]{k, *e})
	}
	slices.SortFunc(due, func(a, b dueEntry[T]) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.version, b.version))
	})
	return due[:min(len(due), o.cfg.Max)], o.wakes, wait
}

func (o *Outbox[T]) send(ctx context.Context, due []dueEntry[T], wakes uint64) {
	attempt, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	keys, messages := make([]string, len(due)), make([]T, len(due))
	for i, e := range due {
		keys[i], messages[i] = e.key, e.message
	}
	acks, err := o.cfg.SendMany(attempt, keys, messages)
	if err == nil {
		for i, ack := range acks[:min(len(acks), len(due))] {
			if ack.Error == "" || !ack.Retry {
				o.settle(due[i].key, &due[i].outboxEntry, ack)
			} else if ctx.Err() == nil {
				o.later(due[i], ack, nil)
			}
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, ErrOffline) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.wakes == wakes { // a session that began meanwhile is another one
			o.offline = time.Now().Add(o.cfg.Cap)
		}
		return
	}
	for _, e := range due {
		o.later(e, wire.Ack{}, err)
	}
}

// later makes a message due again after a while.
func (o *Outbox[T]) later(e dueEntry[T], ack wire.Ack, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	current := o.entries[e.key]
	if current == nil || current.version != e.version {
		return // a newer message is due already
	}
	current.failures++
	wait := backoff(o.cfg.Base, o.cfg.Cap, current.failures, rand.Float64())
	current.due = time.Now().Add(wait)
	o.cfg.Log.Debug("message not acknowledged", zap.String("key", e.key), zap.Duration("retry", wait),
		zap.String("answer", ack.Error), zap.Error(err))
}

// settle drops the entry unless a newer message took its place.
func (o *Outbox[T]) settle(key string, entry *outboxEntry[T], ack wire.Ack) {
	o.mu.Lock()
	if current := o.entries[key]; current != nil && current.version == entry.version {
		delete(o.entries, key)
	}
	o.mu.Unlock()
	if ack.Error != "" {
		o.cfg.Log.Warn("hub refused message", zap.String("key", key), zap.String("answer", ack.Error))
	}
	if o.cfg.Done != nil {
		o.cfg.Done(key, entry.message, ack)
	}
}
