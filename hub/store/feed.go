// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

var (
	errReplaced = errors.New("stream was replaced")
	errStalled  = errors.New("consumer stalled")
	errGap      = errors.New("consumer lost a message")
	errReturned = errors.New("connection was made again")
)

const (
	// fetchMost is how many messages one round of the consumer asks for. With
	// objects of MaxObject bytes they are 180 MB.
	fetchMost = 200
	// fetchFor is how long a round waits for them.
	fetchFor = 30 * time.Second
)

// follower takes what follow reads, in order, from one goroutine.
type follower struct {
	record func(message)
	// caughtUp is called when everything the stream held was delivered; true ends follow.
	caughtUp func() bool
}

// follow reads the stream from a sequence on until ctx ends or its consumer
// breaks. last is the stream's end as known before the call.
//
// It is an ordered consumer of our own: the libraries' ones repair themselves
// silently, and have been seen to stall while doing so.
func (s *Store) follow(ctx context.Context, from, last uint64, f follower) error {
	consumer, err := s.js.CreateConsumer(ctx, s.stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("create consumer: %w", err)
	}
	info := consumer.CachedInfo()
	defer s.dropConsumer(ctx, info.Name)
	if info.NumPending == 0 && f.caughtUp() {
		return nil
	}

	for expect := uint64(1); ; {
		done, err := s.fetch(ctx, consumer, last, &expect, f)
		if done || err != nil {
			return err
		}
	}
}

// fetch reads one round of a consumer. It does not use Consumer.Messages, whose
// buffer has no room for heartbeats beside the messages it asked for, so that it
// loses some under load (nats.go 1.55).
func (s *Store) fetch(ctx context.Context, consumer jetstream.Consumer, last uint64, expect *uint64, f follower) (done bool, err error) {
	round, cancel := context.WithTimeout(ctx, fetchFor)
	defer cancel()
	batch, err := consumer.Fetch(fetchMost, jetstream.FetchContext(round),
		jetstream.FetchHeartbeat(min(max(s.opts.StallAfter/2, 500*time.Millisecond), 2*time.Second)))
	if err != nil {
		return false, fmt.Errorf("read consumer: %w", err)
	}
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return false, fmt.Errorf("read consumer: %w", err)
		}
		if meta.Sequence.Consumer != *expect {
			return false, errGap
		}
		*expect++
		f.record(message{
			key:     strings.TrimPrefix(msg.Subject(), s.prefix),
			seq:     meta.Sequence.Stream,
			time:    meta.Timestamp,
			deleted: isMarker(msg.Headers()),
			data:    bytes.Clone(msg.Data()),
		})
		if (meta.NumPending == 0 || meta.Sequence.Stream >= last) && f.caughtUp() {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return false, fmt.Errorf("read consumer: %w", err)
	}
	return false, nil
}

func (s *Store) dropConsumer(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// A consumer that stays behind goes by its InactiveThreshold.
	_ = s.js.DeleteConsumer(ctx, s.stream, name)
}

func isMarker(h nats.Header) bool {
	return len(h) > 0 && (h.Get("KV-Operation") != "" || h.Get(jetstream.MarkerReasonHeader) != "")
}

// Run feeds the cache and its watchers until ctx ends. It repairs a consumer that
// lags, loads all again when the stream was replaced (watchers end with
// ErrExpired), writes the high-water mark, and sends bookmarks. It returns nil
// when ctx ends; the watchers then end with ErrStopped.
func (s *Store) Run(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.feed(gctx) })
	group.Go(func() error { return s.supervise(gctx) })
	group.Go(func() error { return s.tend(gctx) })
	err := group.Wait()

	s.mu.Lock()
	s.stopped = true
	s.endWatchers(ErrStopped)
	last := mark{s.cache.identity, s.cache.revision}
	s.mu.Unlock()
	if merr := s.saveMark(last); merr != nil && err == nil {
		err = merr
	}
	return err
}

// feed follows the stream, again and again.
func (s *Store) feed(ctx context.Context) error {
	const first, most = 50 * time.Millisecond, 2 * time.Second
	pause := first
	for {
		round, cancel := context.WithCancelCause(ctx)
		s.restart.Store(&cancel)
		before := s.Revision()
		err := s.feedOnce(round)
		if cause := context.Cause(round); cause != nil {
			err = cause
		}
		cancel(nil)
		if ctx.Err() != nil {
			return nil
		}
		s.counters.feeds.Add(1)
		if errors.Is(err, errReplaced) {
			s.counters.loads.Add(1)
			s.log.Warn("object stream was replaced, loading it again", zap.String("stream", s.stream))
			s.invalidate()
		} else {
			s.log.Info("object stream's consumer ended, making a new one", zap.Error(err))
		}
		if s.Revision() != before {
			pause = first
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, most)
	}
}

func (s *Store) feedOnce(ctx context.Context) error {
	if s.invalid() {
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
	s.mu.RLock()
	revision, created := s.cache.revision, s.cache.created
	s.mu.RUnlock()
	info, err := s.info(ctx)
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return errReplaced
		}
		return err
	}
	if !info.Created.Equal(created) || info.State.LastSeq < revision {
		return errReplaced
	}
	last := info.State.LastSeq
	return s.follow(ctx, revision+1, last, follower{
		record:   s.ingest,
		caughtUp: func() bool { s.advance(last); return false },
	})
}

// ingest takes one record into the cache and hands the change to the watchers.
func (s *Store) ingest(m message) {
	var key Key
	var header Header
	object := !strings.HasPrefix(m.key, metaPrefix)
	if object {
		key, header, object = s.parse(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.seq <= s.cache.revision {
		return
	}
	s.cache.applyMeta(m)
	s.cache.revision = m.seq
	if object {
		for _, ch := range s.cache.apply(key, m, header, true) {
			s.dispatch(key.Resource, ch)
		}
	}
	s.reached()
}

// advance notes that there is nothing between the cache's revision and this one:
// the stream's last records may be markers that went by their age.
func (s *Store) advance(revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision > s.cache.revision {
		s.cache.revision = revision
	}
	s.reached()
}

// invalidate drops the cache: nothing is answered from it until it is loaded
// again, and all watchers end with ErrExpired.
func (s *Store) invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served.Store(max(s.served.Load(), s.cache.revision))
	s.loading = true
	s.cache = newCache(s.opts.History, s.opts.HistoryBytes)
	s.snapshots = map[snapshotKey]snapshot{}
	s.endWatchers(ErrExpired)
}

func (s *Store) invalid() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.loading
}

// reload is Open's work, again. No revision of before may be continued from.
func (s *Store) reload(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	c.oldest = c.revision
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache, s.loading = c, false
	s.reached()
	return nil
}
