// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// attemptTimeout is how long one attempt of a write waits for its answer.
	attemptTimeout = 3 * time.Second
	// writeTimeout bounds the retries of a write whose caller set no deadline.
	writeTimeout = 30 * time.Second
)

// Codes of the server's answers, as in its errors.json.
const (
	codeWrongSequence      = 10071
	codeWrongConstant      = 10164 // the subject is being written by somebody else
	codeDuplicateInBatch   = 10201
	codeIncompleteBatch    = 10176
	codeTooManyBatches     = 10210
	codeNoLeader           = 10008
	codeNotLeader          = 10009
	codeInsufficient       = 10023
	codeStreamOffline      = 10118
	codeDuplicateUndecided = 10158
)

// errSequence: the last record of the key is not the one expected.
var errSequence = errors.New("wrong last sequence")

// op is one record to write.
type op struct {
	key         string // encoded
	data        []byte
	deleted     bool
	revision    uint64 // of the last record of that key; 0: none
	anyRevision bool
	id          string // names this write across retries
}

// Create stores a new object and returns its revision; ErrExists, ErrTooLarge,
// ErrInvalid. Any other error leaves open whether the object was stored.
func (s *Store) Create(ctx context.Context, key Key, data []byte) (uint64, error) {
	o, err := s.put(key, data, 0)
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", key, err)
	}
	// The marker of a former object of that key is what must be there now.
	o.revision = s.markerOf(key)
	for {
		revision, err := s.write(ctx, o)
		if !errors.Is(err, errSequence) {
			return revision, wrap("create", key, err)
		}
		last, err := s.last(ctx, o.key)
		if err != nil {
			return 0, wrap("create", key, err)
		}
		if last.live {
			return 0, wrap("create", key, ErrExists)
		}
		o.revision = last.revision
	}
}

// Update replaces an object whose revision is still the given one and returns
// the new revision; ErrConflict, ErrNotFound, ErrTooLarge, ErrInvalid. Any other
// error leaves open whether the object was stored.
func (s *Store) Update(ctx context.Context, key Key, data []byte, revision uint64) (uint64, error) {
	o, err := s.put(key, data, revision)
	if err == nil && revision == 0 {
		err = ErrConflict
	}
	if err == nil && s.markerOf(key) == revision {
		err = ErrNotFound
	}
	if err != nil {
		return 0, wrap("update", key, err)
	}
	revision, err = s.write(ctx, o)
	return revision, wrap("update", key, s.refused(ctx, o, err))
}

// Delete removes an object whose revision is still the given one, 0 for any, and
// returns the revision of the deletion; ErrConflict, ErrNotFound. Any other
// error leaves open whether the object was removed.
func (s *Store) Delete(ctx context.Context, key Key, revision uint64) (uint64, error) {
	encoded, err := encodeKey(key)
	if err != nil {
		return 0, wrap("delete", key, err)
	}
	o := op{key: encoded, deleted: true, revision: revision, id: s.nextID()}
	if revision != 0 {
		if s.markerOf(key) == revision {
			return 0, wrap("delete", key, ErrNotFound)
		}
		revision, err = s.write(ctx, o)
		return revision, wrap("delete", key, s.refused(ctx, o, err))
	}
	for {
		last, err := s.last(ctx, encoded)
		if err == nil && !last.live {
			err = ErrNotFound
		}
		if err != nil {
			return 0, wrap("delete", key, err)
		}
		o.revision = last.revision
		revision, err := s.write(ctx, o)
		if !errors.Is(err, errSequence) {
			return revision, wrap("delete", key, err)
		}
	}
}

func wrap(verb string, key Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, key, err)
}

// put checks an object to be stored.
func (s *Store) put(key Key, data []byte, revision uint64) (op, error) {
	encoded, err := encodeKey(key)
	if err != nil {
		return op{}, err
	}
	if len(data) > MaxObject {
		return op{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(data), MaxObject)
	}
	if _, err := checkObject(data); err != nil {
		return op{}, err
	}
	return op{key: encoded, data: data, revision: revision, id: s.nextID()}, nil
}

// refused turns errSequence into what the caller of a compare-and-set needs to know.
func (s *Store) refused(ctx context.Context, o op, err error) error {
	if !errors.Is(err, errSequence) {
		return err
	}
	last, err := s.last(ctx, o.key)
	if err != nil {
		return err
	}
	if !last.live {
		return ErrNotFound
	}
	return ErrConflict
}

// markerOf is the revision of the key's deletion if the cache remembers one, else 0.
func (s *Store) markerOf(key Key) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.markers[key].revision
}

// record is the last record of a key; the zero value when there is none.
type record struct {
	live     bool
	revision uint64
	data     []byte
	id       string
}

// last asks the stream's leader, again and again while it is away.
func (s *Store) last(ctx context.Context, key string) (record, error) {
	var r record
	err := s.persist(ctx, func(ctx context.Context) error {
		msg, err := s.handle.GetLastMsgForSubject(ctx, s.prefix+key)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			r = record{}
			return nil
		}
		if err != nil {
			return err
		}
		r = record{!isMarker(msg.Header), msg.Sequence, msg.Data, msg.Header.Get(jetstream.MsgIDHeader)}
		return nil
	})
	return r, err
}

// persist repeats do while the broker is away, until ctx ends.
func (s *Store) persist(ctx context.Context, do func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, writeTimeout)
		defer cancel()
	}
	const first, most = 10 * time.Millisecond, time.Second
	for pause := first; ; pause = min(2*pause, most) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := do(attempt)
		cancel()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// passing reports whether an error may go away by itself.
func passing(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case codeIncompleteBatch, codeTooManyBatches, codeNoLeader, codeNotLeader, codeInsufficient,
			codeStreamOffline, codeDuplicateUndecided, codeWrongConstant:
			return true
		}
		return api.Code == 503
	}
	for _, e := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, nats.ErrNoServers, nats.ErrStaleConnection,
		jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// send writes one record and returns its revision; errSequence when the last
// record of the key is not the one expected, and this write is not it either.
func (s *Store) send(ctx context.Context, o op) (uint64, error) {
	var revision uint64
	attempts := 0
	began := time.Now()
	err := s.persist(ctx, func(ctx context.Context) error {
		attempts++
		ack, err := s.request(ctx, s.message(o))
		if errors.Is(err, errSequence) && attempts > 1 {
			// An earlier attempt may have been stored and only its answer lost.
			ack, err = s.probe(ctx, o)
		}
		revision = ack.Sequence
		return err
	})
	if err == nil {
		s.counters.stored(1, began)
	}
	return revision, err
}

// probe asks whether a write was stored, by its id: the server looks for
// duplicates before it compares the last id, which no record can have. After the
// server's window, what is stored now is compared. errSequence: it was not.
func (s *Store) probe(ctx context.Context, o op) (ack, error) {
	msg := nats.NewMsg(s.prefix + o.key)
	msg.Header.Set(jetstream.MsgIDHeader, o.id)
	msg.Header.Set(jetstream.ExpectedLastMsgIDHeader, "none")
	a, err := s.request(ctx, msg)
	if err == nil && a.Duplicate {
		return a, nil
	}
	var api *jetstream.APIError
	if err != nil && !errors.As(err, &api) && !errors.Is(err, errSequence) {
		return ack{}, err
	}
	stored, err := s.handle.GetLastMsgForSubject(ctx, s.prefix+o.key)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return ack{}, errSequence
	}
	if err != nil {
		return ack{}, err
	}
	if stored.Header.Get(jetstream.MsgIDHeader) == o.id {
		return ack{Sequence: stored.Sequence}, nil
	}
	return ack{}, errSequence
}

func (s *Store) message(o op) *nats.Msg {
	msg := nats.NewMsg(s.prefix + o.key)
	msg.Data = o.data
	msg.Header.Set(jetstream.MsgIDHeader, o.id)
	if !o.anyRevision {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(o.revision, 10))
	}
	if o.deleted {
		// One record a key: the marker takes the object's place without a rollup.
		msg.Header.Set("KV-Operation", "PURGE")
		msg.Header.Set(jetstream.MsgTTLHeader, s.opts.MarkerTTL.String())
	}
	return msg
}

// ack is the server's answer to a write.
type ack struct {
	Error     *jetstream.APIError `json:"error"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Count     int                 `json:"count"`
}

// request sends a message and reads the answer; errSequence for a refusal by
// compare-and-set.
func (s *Store) request(ctx context.Context, msg *nats.Msg) (ack, error) {
	answer, err := s.js.Conn().RequestMsgWithContext(ctx, msg)
	if err != nil {
		return ack{}, err
	}
	var a ack
	if err := json.Unmarshal(answer.Data, &a); err != nil {
		return ack{}, fmt.Errorf("read the stream's answer: %w", err)
	}
	if a.Error != nil {
		if a.Error.ErrorCode == codeWrongSequence {
			s.counters.refused.Add(1)
			return ack{}, errSequence
		}
		return ack{}, a.Error
	}
	return a, nil
}
