// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// futureWait is how long a caller may wait for a revision the cache has not reached.
const futureWait = 3 * time.Second

// loadTries is how often Open begins to load when its consumer breaks.
const loadTries = 5

// Store is the object store. It is safe for concurrent use.
type Store struct {
	js     jetstream.JetStream
	opts   Options
	log    *zap.Logger
	stream string // name
	handle jetstream.Stream
	prefix string // of subjects

	// Writing: ids of this process's writes, and what gathers them.
	writer   string
	writes   atomic.Uint64
	batching chan struct{} // holds a token for each batch under way
	gather   gatherer

	// Guarded by mu. loading means that cache is empty and must not answer.
	mu        sync.RWMutex
	cache     *cache
	loading   bool
	stopped   bool
	watchers  map[string]map[*Watcher]struct{} // by resource
	waiters   map[*waiter]struct{}
	snapshots map[snapshotKey]snapshot

	// Feeding.
	restart atomic.Pointer[context.CancelCauseFunc]
	served  atomic.Uint64 // newest revision of a stream that was replaced
	marked  atomic.Uint64 // newest revision in the high-water mark file
	markDue chan struct{}

	counters counters
}

// waiter waits for the cache to reach a revision.
type waiter struct {
	revision uint64
	reached  chan struct{}
}

// Open creates or opens the stream and loads all of it. The Store can be read
// and written when it returns; its cache follows the stream while Run runs.
func Open(ctx context.Context, js jetstream.JetStream, opts Options) (*Store, error) {
	opts.setDefaults()
	s := &Store{
		js: js, opts: opts, log: opts.Log,
		stream:    "KV_" + opts.Bucket,
		prefix:    "$KV." + opts.Bucket + ".",
		writer:    uuid.NewString()[24:] + "-",
		batching:  make(chan struct{}, maxBatches),
		watchers:  map[string]map[*Watcher]struct{}{},
		waiters:   map[*waiter]struct{}{},
		snapshots: map[snapshotKey]snapshot{},
		markDue:   make(chan struct{}, 1),
		counters:  newCounters(),
	}
	began := time.Now()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		var err error
		if s.cache, err = s.load(ctx); err == nil {
			break
		}
		if tries == loadTries || ctx.Err() != nil {
			return nil, err
		}
		s.log.Warn("loading the objects was interrupted, starting over", zap.Error(err))
	}
	m := mark{s.cache.identity, s.cache.revision}
	if err := s.saveMark(m); err != nil {
		return nil, err
	}
	s.log.Info("objects loaded",
		zap.Int("objects", s.cache.objects),
		zap.Uint64("revision", s.cache.revision),
		zap.Duration("took", time.Since(began)))
	return s, nil
}

func (o *Options) setDefaults() {
	if o.Bucket == "" {
		o.Bucket = "objects"
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	positive := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	positive(&o.Replicas, 1)
	positive(&o.WatchBuffer, 4096)
	positive(&o.History, 4096)
	positive(&o.HistoryBytes, 16<<20)
	duration := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	duration(&o.BookmarkEvery, time.Minute)
	duration(&o.MarkerTTL, 24*time.Hour)
	duration(&o.StallAfter, 5*time.Second)
}

// Revision is the newest revision the cache holds.
func (s *Store) Revision() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.revision
}

// Objects is how many objects of all resources the cache holds.
func (s *Store) Objects() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.objects
}

// Identity names the stream's history. It changes when the stream was recreated,
// or restored to an older state.
func (s *Store) Identity() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.identity
}

// Cached reads from the cache, without waiting.
func (s *Store) Cached(key Key) (Entry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.cache.get(key); e != nil {
		return *e, true
	}
	return Entry{}, false
}

// Get reads from the stream's leader; ErrNotFound, ErrInvalid.
func (s *Store) Get(ctx context.Context, key Key) (Entry, error) {
	subject, err := encodeKey(key)
	if err != nil {
		return Entry{}, err
	}
	last, err := s.last(ctx, subject)
	if err != nil {
		return Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	if !last.live {
		return Entry{}, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	header, err := parseHeader(last.data)
	if err != nil {
		s.log.Warn("stream holds an object that is not well formed", zap.Stringer("key", key), zap.Error(err))
	}
	return Entry{Key: key, Revision: last.revision, Data: last.data, Header: header}, nil
}

// wait returns when the cache has reached revision; ErrFuture after futureWait.
// Revision 0 stands for all the leader acknowledged before the call.
func (s *Store) wait(ctx context.Context, revision uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, futureWait, ErrFuture)
	defer cancel()
	if revision == 0 {
		info, err := s.info(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("ask for the newest revision: %w", err)
		}
		revision = info.State.LastSeq
	}
	s.mu.Lock()
	if s.holds(revision) {
		s.mu.Unlock()
		return nil
	}
	w := &waiter{revision, make(chan struct{})}
	s.waiters[w] = struct{}{}
	have := s.cache.revision
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiters, w)
		s.mu.Unlock()
	}()
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
		err := context.Cause(ctx)
		if errors.Is(err, ErrFuture) {
			return fmt.Errorf("revision %d, newest is %d: %w", revision, have, ErrFuture)
		}
		return err
	}
}

// holds reports whether the cache can answer for a revision; s.mu is held.
func (s *Store) holds(revision uint64) bool {
	return !s.loading && (s.cache.revision >= revision || revision == Any)
}

// reached wakes who waits for the revision the cache has now, and asks for a
// high-water mark when the last is far behind; s.mu is held.
func (s *Store) reached() {
	for w := range s.waiters {
		if s.holds(w.revision) {
			close(w.reached)
			delete(s.waiters, w)
		}
	}
	if s.cache.revision > s.marked.Load()+markEvery {
		select {
		case s.markDue <- struct{}{}:
		default:
		}
	}
}

func (s *Store) nextID() string {
	return s.writer + strconv.FormatUint(s.writes.Add(1), 36)
}
