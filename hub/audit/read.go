// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

const (
	// chunk is how many messages a query reads at a time, going back.
	chunk = 512
	// fetchMost is how many messages one round of a consumer asks for.
	fetchMost = 200
	fetchFor  = 30 * time.Second
)

// DefaultLimit and MaxLimit bound the answer to a query.
const (
	DefaultLimit = 50
	MaxLimit     = 5000
)

// Filter selects events; what is empty selects all.
type Filter struct {
	User, Verb string
	// Resource is the plural name, with or without its group: "joinrequests",
	// "joinrequests.fleet.drover.io".
	Resource, Namespace, Name string
	// Since and Until bound the time at which a request was answered.
	Since, Until time.Time
	// Limit is how many events are returned at most; zero means DefaultLimit, and
	// more than MaxLimit means MaxLimit.
	Limit int
}

func (f Filter) limit() int {
	if f.Limit <= 0 {
		return DefaultLimit
	}
	return min(f.Limit, MaxLimit)
}

// texts are what a record that matches must contain: cheap to look for, before
// the record is decoded.
func (f Filter) texts() [][]byte {
	var out [][]byte
	for _, v := range []string{f.User, f.Verb, f.Namespace, f.Name} {
		if v != "" {
			quoted, _ := json.Marshal(v) // a string always encodes
			out = append(out, quoted)
		}
	}
	return out
}

func (f Filter) match(ev *auditv1.Event) bool {
	ref := ev.ObjectRef
	if ref == nil {
		ref = &auditv1.ObjectReference{}
	}
	at := ev.StageTimestamp.Time
	switch {
	case f.User != "" && ev.User.Username != f.User,
		f.Verb != "" && ev.Verb != f.Verb,
		f.Resource != "" && f.Resource != ref.Resource && f.Resource != ref.Resource+"."+ref.APIGroup,
		f.Namespace != "" && ref.Namespace != f.Namespace,
		f.Name != "" && ref.Name != f.Name,
		!f.Since.IsZero() && at.Before(f.Since),
		!f.Until.IsZero() && !at.Before(f.Until):
		return false
	}
	return true
}

// Query returns the events that match, the newest first. Each carries its
// sequence and hash as annotations. Records that are damaged are left out:
// finding them is Verify's work.
func (l *Log) Query(ctx context.Context, f Filter) ([]auditv1.Event, error) {
	info, err := l.info(ctx)
	if err != nil {
		return nil, err
	}
	out := []auditv1.Event{}
	texts := f.texts()
	for to := info.State.LastSeq; to > 0 && to >= info.State.FirstSeq; {
		from := max(info.State.FirstSeq, 1)
		if to > chunk {
			from = max(from, to-chunk+1)
		}
		var found []auditv1.Event
		older := false // what lies before this chunk is older than Since
		err := l.read(ctx, from, to, func(m message) {
			if !f.Since.IsZero() && m.time.Before(f.Since) {
				older = true
				return
			}
			found = append(found, f.pick(m.data, texts)...)
			if most := f.limit(); len(found) > 2*most {
				found = slices.Clone(found[len(found)-most:])
			}
		})
		if err != nil {
			return nil, err
		}
		for i := len(found) - 1; i >= 0; i-- {
			if out = append(out, found[i]); len(out) == f.limit() {
				return out, nil
			}
		}
		if older || from <= info.State.FirstSeq {
			break
		}
		to = from - 1
	}
	return out, nil
}

// pick returns the events of a message that match, in order.
func (f Filter) pick(data []byte, texts [][]byte) []auditv1.Event {
	var out []auditv1.Event
next:
	for _, text := range lines(data) {
		for _, t := range texts {
			if !bytes.Contains(text, t) {
				continue next
			}
		}
		l, err := parseLine(text)
		if err != nil {
			continue
		}
		var ev auditv1.Event
		if err := json.Unmarshal(l.Event, &ev); err != nil || !f.match(&ev) {
			continue
		}
		if ev.Annotations == nil {
			ev.Annotations = map[string]string{}
		}
		ev.Annotations[AnnotationSequence] = strconv.FormatUint(l.Sequence, 10)
		ev.Annotations[AnnotationHash] = l.Hash
		out = append(out, ev)
	}
	return out
}

func (l *Log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := l.js.Stream(ctx, Stream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", Stream, err)
	}
	return stream.CachedInfo(), nil
}

// message of the stream.
type message struct {
	sequence uint64
	time     time.Time
	data     []byte // valid during the call only
}

var errGap = errors.New("read the audit log: the broker lost a message on the way; try again")

// read calls f for the messages from one sequence to another, those included,
// in order. Sequences that the stream does not hold are passed over.
func (l *Log) read(ctx context.Context, from, to uint64, f func(message)) error {
	consumer, err := l.js.CreateConsumer(ctx, Stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		// A consumer that stays behind goes by its InactiveThreshold.
		_ = l.js.DeleteConsumer(ctx, Stream, consumer.CachedInfo().Name)
	}()
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	left := to - from + 1
	for expect := uint64(1); ; {
		done, err := fetch(ctx, consumer, int(min(left, fetchMost)), to, &expect, f)
		if done || err != nil {
			return err
		}
	}
}

// fetch reads one round.
func fetch(ctx context.Context, consumer jetstream.Consumer, most int, to uint64, expect *uint64, f func(message)) (done bool, err error) {
	round, cancel := context.WithTimeout(ctx, fetchFor)
	defer cancel()
	batch, err := consumer.Fetch(most, jetstream.FetchContext(round))
	if err != nil {
		return false, fmt.Errorf("read the audit log: %w", err)
	}
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return false, fmt.Errorf("read the audit log: %w", err)
		}
		if meta.Sequence.Consumer != *expect {
			return false, errGap
		}
		*expect++
		if meta.Sequence.Stream <= to {
			f(message{meta.Sequence.Stream, meta.Timestamp, msg.Data()})
		}
		if meta.Sequence.Stream >= to || meta.NumPending == 0 {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return false, fmt.Errorf("read the audit log: %w", err)
	}
	return false, nil
}
