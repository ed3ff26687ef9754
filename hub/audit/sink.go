// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/drover-io/drover/shared/daemon"
)

// Sink takes events out of the hub. Write returns when they are safe there; what
// it refuses it gets again, in order, until it takes it. An event may come twice
// after a crash, and carries its sequence for the receiver to tell.
type Sink interface {
	Write(ctx context.Context, events []auditv1.Event) error
}

const (
	sinkFetch    = 64 // messages at a time; each holds up to 256 events
	sinkWait     = time.Second
	sinkFirst    = time.Second // between attempts, then twice as long each time
	sinkMost     = time.Minute
	sinkAckWait  = 10 * time.Minute
	sinkConsumer = "sink-"
)

// Follow hands every record to sink, in order, from where the sink of that name
// was when the hub stopped last, or from now on when it is new. The position is
// in the stream: no file can be lost. Records that cannot be decoded are left
// out; Verify finds those. It returns when ctx ends.
func (l *Log) Follow(ctx context.Context, name string, sink Sink) error {
	for ctx.Err() == nil {
		err := l.follow(ctx, name, sink)
		if ctx.Err() != nil {
			break
		}
		l.log.Warn("following the audit log ended, starting over", zap.String("sink", name), zap.Error(err))
		daemon.Sleep(ctx, sinkFirst)
	}
	return ctx.Err()
}

func (l *Log) follow(ctx context.Context, name string, sink Sink) error {
	consumer, err := l.js.Consumer(ctx, Stream, sinkConsumer+name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = l.js.CreateConsumer(ctx, Stream, jetstream.ConsumerConfig{
			Durable: sinkConsumer + name, DeliverPolicy: jetstream.DeliverNewPolicy,
			AckPolicy: jetstream.AckAllPolicy, AckWait: sinkAckWait, MaxAckPending: 2 * sinkFetch,
		})
	}
	if err != nil {
		return fmt.Errorf("open consumer of sink %s: %w", name, err)
	}
	for ctx.Err() == nil {
		if err := l.pass(ctx, name, sink, consumer); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pass hands on the records that wait, if there are any in a while.
func (l *Log) pass(ctx context.Context, name string, sink Sink, consumer jetstream.Consumer) error {
	round, cancel := context.WithTimeout(ctx, sinkWait)
	defer cancel()
	batch, err := consumer.Fetch(sinkFetch, jetstream.FetchContext(round))
	if err != nil {
		return fmt.Errorf("fetch for sink %s: %w", name, err)
	}
	var events []auditv1.Event
	var last jetstream.Msg
	for m := range batch.Messages() {
		last = m
		events = append(events, Filter{}.pick(m.Data(), nil)...)
	}
	if last == nil {
		if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, jetstream.ErrNoMessages) {
			return fmt.Errorf("fetch for sink %s: %w", name, err)
		}
		return nil
	}
	return l.deliver(ctx, name, sink, events, last)
}

// deliver insists until the sink has taken the events, then moves the position.
func (l *Log) deliver(ctx context.Context, name string, sink Sink, events []auditv1.Event, last jetstream.Msg) error {
	for pause := sinkFirst; ; pause = min(2*pause, sinkMost) {
		err := sink.Write(ctx, events)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.log.Error("the audit sink takes nothing; the records stay in the log until it does",
			zap.String("sink", name), zap.Int("events", len(events)), zap.Duration("retry", pause), zap.Error(err))
		// The broker must not hand the same records out meanwhile.
		if err := last.InProgress(); err != nil {
			return fmt.Errorf("keep the position of sink %s: %w", name, err)
		}
		if !daemon.Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	if err := last.DoubleAck(ctx); err != nil {
		return fmt.Errorf("move the position of sink %s: %w", name, err)
	}
	return nil
}

// encodeEvents is one line of JSON an event.
func encodeEvents(events []auditv1.Event) ([]byte, error) {
	var out []byte
	for i := range events {
		line, err := json.Marshal(&events[i])
		if err != nil {
			return nil, fmt.Errorf("encode audit event: %w", err)
		}
		out = append(append(out, line...), '\n')
	}
	return out, nil
}
