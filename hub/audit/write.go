// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

const (
	// groupMost and groupBytes bound the records of one message. An event is
	// smaller than the difference to the largest message.
	groupMost  = 256
	groupBytes = 512 << 10
	// attemptTimeout is how long one attempt to store a message waits.
	attemptTimeout = 2 * time.Second
	retryEvery     = time.Second
	summaryEvery   = time.Minute
	headEvery      = 5 * time.Second

	// codeStoreFailed: the stream is full, or its disk is; see the server's errors.json.
	codeStoreFailed = 10077
)

var errForeign = errors.New("somebody else has written to the audit log, or replaced it; restart the hub to go on, and run `drover audit --verify`")

// group is the records of one message. Its bytes never change once it was sent:
// only so can a repeated attempt tell whether the first was stored.
type group struct {
	entries []*entry
	lines   []byte
	head    head
}

// Run stores what could not be stored at once, remembers the head, and sums up
// what was only counted, until ctx ends. Recording works without it, also after.
func (l *Log) Run(ctx context.Context) error {
	retry, summary, remember := time.NewTicker(retryEvery), time.NewTicker(summaryEvery), time.NewTicker(headEvery)
	defer retry.Stop()
	defer summary.Stop()
	defer remember.Stop()
	var saved head
	for {
		select {
		case <-ctx.Done():
			l.retry()
			return l.saveHead(&saved)
		case <-retry.C:
			l.retry()
		case <-summary.C:
			l.summarize(ctx)
		case <-remember.C:
			if err := l.saveHead(&saved); err != nil {
				l.log.Error("remembering the end of the audit log failed", zap.Error(err))
			}
		}
	}
}

// retry stores what waits, unless somebody does already.
func (l *Log) retry() {
	l.mu.Lock()
	idle := l.queued > 0 && !l.leading
	l.leading = l.leading || idle
	l.mu.Unlock()
	if idle {
		l.lead()
	}
}

// summarize records that refusals were counted, when no other record tells.
func (l *Log) summarize(ctx context.Context) {
	l.mu.Lock()
	n := l.refused.suppressed
	l.mu.Unlock()
	if n == 0 {
		return
	}
	err := l.Record(ctx, &auditv1.Event{
		Verb: "summary", User: Anonymous(),
		ResponseStatus: &metav1.Status{Status: metav1.StatusFailure, Message: "refused requests that were only counted"},
	})
	if err != nil {
		l.log.Warn("recording the number of refused requests failed", zap.Error(err))
	}
}

func (l *Log) saveHead(saved *head) error {
	l.mu.Lock()
	now := l.head
	l.mu.Unlock()
	if l.opts.HeadFile == "" || now == *saved {
		return nil
	}
	if err := writeHead(l.opts.HeadFile, now); err != nil {
		return err
	}
	*saved = now
	return nil
}

// lead stores what is waiting until nothing is, or the log cannot be written.
func (l *Log) lead() {
	for {
		g := l.next()
		if g == nil {
			return
		}
		seq, err := l.store(g)
		if l.settle(g, seq, err); err != nil {
			return
		}
	}
}

// next seals the next group; when nothing is waiting it ends the leadership.
func (l *Log) next() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sending == nil && len(l.waiting) > 0 {
		g := &group{head: l.head}
		for _, e := range l.waiting {
			if len(g.entries) == groupMost || (len(g.entries) > 0 && len(g.lines)+len(e.event) > groupBytes) {
				break
			}
			g.entries = append(g.entries, e)
			g.lines, g.head = appendRecord(g.lines, g.head, e.event)
		}
		l.waiting = l.waiting[len(g.entries):]
		l.sending = g
	}
	l.leading = l.sending != nil
	return l.sending
}

// settle tells those who wait. After a failure the events stay in line, but
// nobody waits for them any more.
func (l *Log) settle(g *group, seq uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		if l.fault != nil {
			l.log.Info("the audit log can be written again", zap.Uint64("sequence", g.head.Sequence))
		}
		l.head, l.last, l.sending, l.fault = g.head, seq, nil, nil
		l.queued -= len(g.entries)
		answer(g.entries, nil)
		return
	}
	if l.fault == nil {
		l.log.Error("the audit log cannot be written; the API refuses writes until it can", zap.Error(err))
	}
	l.fault = err
	l.leading = false
	answer(g.entries, l.unavailable())
	answer(l.waiting, l.unavailable())
}

func answer(entries []*entry, err error) {
	for _, e := range entries {
		if !e.answered {
			e.answered, e.err = true, err
			close(e.done)
		}
	}
}

// store publishes a group until it is stored, and returns the message's sequence.
func (l *Log) store(g *group) (uint64, error) {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), l.opts.Patience)
	defer cancel()
	const first, most = 10 * time.Millisecond, 500 * time.Millisecond
	for pause := first; ; pause = min(2*pause, most) {
		seq, err := l.publish(ctx, g, last)
		if err == nil || !passing(err) {
			return seq, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(pause):
		}
	}
}

func (l *Log) publish(ctx context.Context, g *group, last uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	msg := nats.NewMsg(Subject)
	msg.Data = g.lines
	ack, err := l.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(Stream), jetstream.WithExpectLastSequence(last))
	if err == nil {
		return ack.Sequence, nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeStoreFailed {
		return 0, fmt.Errorf("store audit records: %w; if the log is full, raise its size or let old records expire", err)
	}
	if api == nil || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, fmt.Errorf("store audit records: %w", err)
	}
	// Either an earlier attempt was stored and only its answer lost, or this
	// process is not the only one that writes.
	stream, err := l.js.Stream(ctx, Stream)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", Stream, err)
	}
	stored, err := stream.GetLastMsgForSubject(ctx, Subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, errForeign
	}
	if err != nil {
		return 0, fmt.Errorf("read the last record: %w", err)
	}
	if !bytes.Equal(stored.Data, g.lines) {
		return 0, errForeign
	}
	return stored.Sequence, nil
}

// passing reports whether an error may go away by itself within moments.
func passing(err error) bool {
	if errors.Is(err, errForeign) {
		return false
	}
	var api *jetstream.APIError
	return !errors.As(err, &api) || (api.Code == 503 && api.ErrorCode != codeStoreFailed)
}
