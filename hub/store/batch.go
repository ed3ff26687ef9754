// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxBatches is how many batches one process has under way; the server takes 50
// for each stream.
const maxBatches = 8

// Batch stores all writes or none, and returns their revisions in the same
// order. The errors are those of Create, Update and Delete, of the first write
// that was refused. No two writes may be of one key. At most MaxBatch.
//
// The writes become visible one after the other, in order.
func (s *Store) Batch(ctx context.Context, writes []Write) ([]uint64, error) {
	if len(writes) == 0 {
		return nil, nil
	}
	if len(writes) > MaxBatch {
		return nil, fmt.Errorf("batch of %d writes: %w: the limit is %d", len(writes), ErrInvalid, MaxBatch)
	}
	ops := make([]op, len(writes))
	seen := make(map[Key]bool, len(writes))
	size := 0
	for i, w := range writes {
		if seen[w.Key] {
			return nil, wrap("batch", w.Key, fmt.Errorf("%w: written twice", ErrInvalid))
		}
		seen[w.Key] = true
		if size += len(w.Data); size > MaxBatchBytes {
			return nil, fmt.Errorf("batch of %d writes: %w: more than %d bytes", len(writes), ErrTooLarge, MaxBatchBytes)
		}
		var err error
		if ops[i], err = s.member(w); err != nil {
			return nil, wrap("batch", w.Key, err)
		}
	}
	for {
		first, err := s.sendBatch(ctx, ops)
		if err == nil {
			revisions := make([]uint64, len(ops))
			for i := range revisions {
				revisions[i] = first + uint64(i)
			}
			return revisions, nil
		}
		if !errors.Is(err, errSequence) {
			return nil, fmt.Errorf("batch of %d writes: %w", len(writes), err)
		}
		if err := s.reconsider(ctx, writes, ops); err != nil {
			return nil, err
		}
	}
}

// member makes a write's record, with what the cache knows of what must be there.
func (s *Store) member(w Write) (op, error) {
	if w.Data == nil {
		key, err := encodeKey(w.Key)
		if err != nil {
			return op{}, err
		}
		revision := w.Revision
		if revision == 0 {
			e, _ := s.Cached(w.Key)
			revision = e.Revision
		}
		return op{key: key, deleted: true, revision: revision, id: s.nextID()}, nil
	}
	o, err := s.put(w.Key, w.Data, w.Revision)
	if err == nil && w.Revision == 0 {
		o.revision = s.markerOf(w.Key)
	}
	return o, err
}

// reconsider finds out why a batch was refused: it returns the error, or nil
// after it has corrected what only the cache had wrong.
func (s *Store) reconsider(ctx context.Context, writes []Write, ops []op) error {
	for i, w := range writes {
		last, err := s.last(ctx, ops[i].key)
		if err != nil {
			return wrap("batch", w.Key, err)
		}
		switch {
		case w.Revision == 0 && w.Data != nil && last.live:
			return wrap("batch", w.Key, ErrExists)
		case (w.Revision != 0 || w.Data == nil) && !last.live:
			return wrap("batch", w.Key, ErrNotFound)
		case w.Revision != 0 && w.Revision != last.revision:
			return wrap("batch", w.Key, ErrConflict)
		}
		ops[i].revision = last.revision
	}
	return nil
}

// sendBatch writes all records or none, at consecutive revisions of which it
// returns the first. errSequence: a record was refused, none is written.
func (s *Store) sendBatch(ctx context.Context, ops []op) (uint64, error) {
	if len(ops) == 1 {
		return s.send(ctx, ops[0])
	}
	select {
	case s.batching <- struct{}{}:
		defer func() { <-s.batching }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	var first uint64
	attempts := 0
	began := time.Now()
	err := s.persist(ctx, func(ctx context.Context) error {
		attempts++
		a, err := s.publishBatch(ctx, ops)
		var api *jetstream.APIError
		if attempts > 1 && errors.As(err, &api) && api.ErrorCode == codeDuplicateInBatch {
			// An earlier attempt was stored. Its records are consecutive.
			a, err = s.probe(ctx, ops[0])
			first = a.Sequence
			return err
		}
		if attempts > 1 && errors.Is(err, errSequence) {
			// Also when the server no longer knows the ids.
			if a, perr := s.probe(ctx, ops[0]); perr == nil {
				first = a.Sequence
				return nil
			} else if !errors.Is(perr, errSequence) {
				return perr
			}
		}
		first = a.Sequence - uint64(len(ops)) + 1
		return err
	})
	if err == nil {
		s.counters.stored(len(ops), began)
	}
	return first, err
}

// publishBatch is one attempt. The answer comes to the last message, which commits.
func (s *Store) publishBatch(ctx context.Context, ops []op) (ack, error) {
	id := s.nextID()
	for i, o := range ops {
		msg := s.message(o)
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(ops)-1 {
			if err := s.js.Conn().PublishMsg(msg); err != nil {
				return ack{}, fmt.Errorf("publish: %w", err)
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		a, err := s.request(ctx, msg)
		if err != nil {
			return ack{}, err
		}
		if a.Count != len(ops) {
			return ack{}, fmt.Errorf("stream stored %d of %d records: %w", a.Count, len(ops), nats.ErrBadHeaderMsg)
		}
		return a, nil
	}
	return ack{}, nil
}
