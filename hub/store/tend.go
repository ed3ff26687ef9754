// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/drover-io/drover/shared/durable"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// supervise compares the cache with the stream and restarts the feed when the
// cache lags, or when the stream is another one.
func (s *Store) supervise(ctx context.Context) error {
	tick := time.NewTicker(max(s.opts.StallAfter/4, 10*time.Millisecond))
	defer tick.Stop()
	listener := s.js.Conn().StatusChanged(nats.CONNECTED)
	defer s.js.Conn().RemoveStatusListener(listener)
	connected := listener
	var lagging time.Time // since when
	var at uint64         // the revision it lagged at
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-connected:
			if !open { // closed for good
				connected = nil
				continue
			}
			// The server may have forgotten the consumer.
			s.restartFeed(errReturned)
			continue
		case <-tick.C:
		}
		if s.invalid() {
			continue
		}
		s.mu.RLock()
		before, created := s.cache.revision, s.cache.created
		s.mu.RUnlock()
		info, err := s.info(ctx)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s.restartFeed(errReplaced)
			continue
		}
		if err != nil {
			continue // the broker is away; the feed notices its return
		}
		s.mu.RLock()
		after, objects := s.cache.revision, s.cache.objects
		same := s.cache.created.Equal(created)
		s.mu.RUnlock()
		switch state := info.State; {
		case !same:
			// Loaded again meanwhile.
		case !info.Created.Equal(created), state.LastSeq < before,
			before == after && after == state.LastSeq && state.Msgs < uint64(objects):
			// Recreated, restored from a backup, or purged by hand.
			s.restartFeed(errReplaced)
		case after >= state.LastSeq:
			lagging = time.Time{}
		case lagging.IsZero() || after != at:
			lagging, at = time.Now(), after
		case time.Since(lagging) > s.opts.StallAfter:
			s.log.Warn("watch cache lags behind the stream",
				zap.Uint64("revision", after), zap.Uint64("last", state.LastSeq))
			s.restartFeed(errStalled)
			lagging = time.Time{}
		}
	}
}

func (s *Store) restartFeed(cause error) {
	if cancel := s.restart.Load(); cancel != nil {
		(*cancel)(cause)
	}
}

// tend does what is due now and then: bookmarks, high-water mark, floor record,
// and forgetting old snapshots and markers.
func (s *Store) tend(ctx context.Context) error {
	bookmarks := time.NewTicker(s.opts.BookmarkEvery)
	defer bookmarks.Stop()
	marks := time.NewTicker(time.Second)
	defer marks.Stop()
	floors := time.NewTicker(max(s.opts.MarkerTTL/32, 100*time.Millisecond))
	defer floors.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-bookmarks.C:
			s.bookmark()
		case <-s.markDue:
			s.noteMark()
		case <-marks.C:
			s.noteMark()
			s.dropSnapshots(time.Now())
		case <-floors.C:
			if err := s.recordFloor(ctx, time.Now()); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot record the floor of deletions", zap.Error(err))
			}
		}
	}
}

func (s *Store) noteMark() {
	s.mu.RLock()
	m, loading := mark{s.cache.identity, s.cache.revision}, s.loading
	s.mu.RUnlock()
	if loading {
		return
	}
	if err := s.saveMark(m); err != nil {
		s.log.Warn("cannot note the highest revision", zap.Error(err))
	}
}

// saveMark is called by tend, and by Run after tend has ended.
func (s *Store) saveMark(m mark) error {
	if m.Revision <= s.marked.Load() {
		return nil
	}
	if err := writeMark(s.opts.Dir, m); err != nil {
		return err
	}
	s.marked.Store(m.Revision)
	return nil
}

// recordFloor stores the revision of the newest deletion that is older than a
// quarter of MarkerTTL, at least every eighth of it. A process that starts when
// markers have expired learns so up to where deletions may be forgotten; when
// the record itself is older than half of MarkerTTL it trusts nothing.
func (s *Store) recordFloor(ctx context.Context, now time.Time) error {
	s.mu.Lock()
	c := s.cache
	floor, due := c.floor, expired(c.floorAt, now, s.opts.MarkerTTL/8)
	for key, m := range c.markers {
		if expired(m.time, now, s.opts.MarkerTTL/4) {
			floor = max(floor, m.revision)
		}
		if expired(m.time, now, s.opts.MarkerTTL) {
			delete(c.markers, key)
		}
	}
	loading := s.loading
	s.mu.Unlock()
	if !due || loading {
		return nil
	}
	_, err := s.send(ctx, op{
		key: metaFloor, data: strconv.AppendUint(nil, floor, 10), anyRevision: true, id: s.nextID(),
	})
	return err
}

const (
	// markFile holds the high-water mark below Options.Dir.
	markFile = "revision"
	// markSlack is how far beyond the mark a stream that lost its tail is
	// advanced. The mark is written every markEvery revisions, and once a second.
	markSlack = 10_000
	markEvery = markSlack / 2
)

// mark is the newest revision known to have been served, kept outside the stream.
type mark struct {
	Identity string `json:"identity"`
	Revision uint64 `json:"revision"`
}

func readMark(dir string) (mark, error) {
	if dir == "" {
		return mark{}, nil
	}
	path := filepath.Join(dir, markFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, fmt.Errorf("read high-water mark: %w", err)
	}
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return mark{}, fmt.Errorf("read high-water mark %s: %w (remove the file if you accept that clients may miss changes)", path, err)
	}
	return m, nil
}

func writeMark(dir string, m mark) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, markFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write high-water mark: %w", err)
	}
	return nil
}
