// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// dedupeWindow is how long the server recognises a repeated write by its id. The
// server holds every id of that time in memory.
const dedupeWindow = 30 * time.Second

// streamConfig differs from what jetstream.CreateKeyValue makes in AllowDirect
// (a follower may answer stale) and in AllowAtomicPublish.
func (s *Store) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                   s.stream,
		Description:            "objects of the hub",
		Subjects:               []string{s.prefix + ">"},
		Retention:              jetstream.LimitsPolicy,
		Discard:                jetstream.DiscardNew,
		Storage:                jetstream.FileStorage,
		Replicas:               s.opts.Replicas,
		MaxMsgs:                -1,
		MaxBytes:               -1,
		MaxMsgsPerSubject:      1,
		MaxMsgSize:             -1,
		Duplicates:             dedupeWindow,
		AllowDirect:            false,
		AllowRollup:            true,
		DenyDelete:             true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: s.opts.MarkerTTL,
		AllowAtomicPublish:     true,
	}
}

// prepare makes the stream what it must be: there, advanced past the highest
// revision ever served, and with an identity.
func (s *Store) prepare(ctx context.Context) error {
	high, err := readMark(s.opts.Dir)
	if err != nil {
		return err
	}
	served := max(high.Revision, s.served.Load(), s.opts.After)
	stream, err := s.js.Stream(ctx, s.stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		cfg := s.streamConfig()
		if served > 0 {
			cfg.FirstSeq = served + markSlack
			s.log.Warn("object stream is missing, creating an empty one that continues its revisions",
				zap.String("stream", s.stream), zap.Uint64("revision", cfg.FirstSeq))
		}
		if stream, err = s.js.CreateStream(ctx, cfg); err != nil {
			return fmt.Errorf("create stream %s: %w", s.stream, err)
		}
	case err != nil:
		return fmt.Errorf("look up stream %s: %w", s.stream, err)
	default:
		cfg := s.streamConfig()
		cfg.FirstSeq = stream.CachedInfo().Config.FirstSeq
		if stream, err = s.js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("update stream %s: %w", s.stream, err)
		}
	}
	if s.handle == nil { // it holds nothing but the name
		s.handle = stream
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("inspect stream %s: %w", s.stream, err)
	}

	if info.State.LastSeq < served {
		s.log.Warn("object stream is behind the revisions already served, advancing it",
			zap.Uint64("last", info.State.LastSeq), zap.Uint64("served", served))
		if err := s.advanceStream(ctx, info.State.LastSeq, served+markSlack); err != nil {
			return fmt.Errorf("advance stream %s: %w", s.stream, err)
		}
		return nil
	}
	return s.ensureIdentity(ctx, info.Config.FirstSeq)
}

// advanceStream gives the stream a new identity, and publishes fillers until the
// next revision is beyond to. Nobody may continue from a revision below it: what
// they saw may be lost. The fillers come last, so that an interruption repeats all.
func (s *Store) advanceStream(ctx context.Context, last, to uint64) error {
	for _, o := range []op{
		{key: metaIdentity, data: newIdentity()},
		{key: metaFloor, data: strconv.AppendUint(nil, to, 10)},
	} {
		o.anyRevision, o.id = true, s.nextID()
		var err error
		if last, err = s.send(ctx, o); err != nil {
			return err
		}
	}
	for last < to {
		n := min(to-last, MaxBatch)
		ops := make([]op, n)
		for i := range ops {
			ops[i] = op{key: metaFiller, anyRevision: true, id: s.nextID()}
		}
		first, err := s.sendBatch(ctx, ops)
		if err != nil {
			return err
		}
		last = first + n - 1
	}
	return nil
}

func newIdentity() []byte { return []byte(uuid.NewString()[:13]) }

// ensureIdentity writes the two records a new stream begins with. So a stream is
// never at revision 0, which clients would read as "from the start". A stream that
// continues the revisions of a lost one knows nothing of what was before first.
func (s *Store) ensureIdentity(ctx context.Context, first uint64) error {
	for _, o := range []op{
		{key: metaIdentity, data: newIdentity(), id: s.nextID()},
		{key: metaFloor, data: strconv.AppendUint(nil, first, 10), id: s.nextID()},
	} {
		if _, err := s.send(ctx, o); err != nil && !errors.Is(err, errSequence) {
			return fmt.Errorf("write %s: %w", o.key, err)
		}
	}
	return nil
}

// load reads the whole stream.
func (s *Store) load(ctx context.Context) (*cache, error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	c := newCache(s.opts.History, s.opts.HistoryBytes)
	c.created = info.Created
	err = s.follow(ctx, 1, info.State.LastSeq, follower{
		record: func(m message) {
			if !c.applyMeta(m) {
				if key, header, ok := s.parse(m); ok {
					c.apply(key, m, header, false)
				}
			}
			c.revision = m.seq
		},
		caughtUp: func() bool { return true },
	})
	if err != nil {
		return nil, fmt.Errorf("load stream %s: %w", s.stream, err)
	}
	c.revision = max(c.revision, info.State.LastSeq)

	// Deletions the stream has forgotten must not be missed: nobody may continue
	// from before them. If no process recorded that floor for long, take all.
	c.oldest = c.floor
	if expired(c.floorAt, time.Now(), s.opts.MarkerTTL/2) {
		c.oldest = c.revision
	}
	return c, nil
}

// applyMeta takes one of the store's own records; false: it is not one.
func (c *cache) applyMeta(m message) bool {
	switch m.key {
	case metaIdentity:
		c.identity = strconv.FormatInt(c.created.UnixNano(), 36) + "-" + string(m.data)
	case metaFloor:
		if n, err := strconv.ParseUint(string(m.data), 10, 64); err == nil {
			c.floor, c.floorAt = max(c.floor, n), m.time
		}
	case metaFiller:
	default:
		return false
	}
	c.revision = m.seq
	return true
}

// parse reads a record's key and header. A record it cannot read is logged and
// left out: somebody else wrote into the stream.
func (s *Store) parse(m message) (Key, Header, bool) {
	key, err := decodeKey(m.key)
	if err != nil {
		s.log.Warn("stream holds a record that is not an object", zap.String("key", m.key), zap.Error(err))
		return Key{}, Header{}, false
	}
	if m.deleted {
		return key, Header{}, true
	}
	header, err := parseHeader(m.data)
	if err != nil {
		s.log.Warn("stream holds an object that is not well formed", zap.Stringer("key", key), zap.Error(err))
	}
	return key, header, true
}

// info asks the stream's leader.
func (s *Store) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := s.js.Stream(ctx, s.stream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", s.stream, err)
	}
	return stream.CachedInfo(), nil
}
