// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package audit keeps the record of who did what: an append-only chain of
// audit.k8s.io/v1 Events on a JetStream stream of its own. Each record holds the
// hash of the one before, so that a record that was changed or taken away shows.
// DESIGN.md says what the chain proves and what it does not.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/drover-io/drover/hub/broker"
)

// The stream and the subject of its messages.
const (
	Stream  = broker.AuditStream
	Subject = broker.AuditSubject
)

// Annotations that the log adds to events.
const (
	// AnnotationSequence and AnnotationHash are a record's place in the chain; only
	// what is read from the log has them.
	AnnotationSequence = "audit.drover.io/sequence"
	AnnotationHash     = "audit.drover.io/hash"
	// AnnotationSuppressed is how many refusals before this record were only counted.
	AnnotationSuppressed = "audit.drover.io/suppressed"
	// AnnotationMissed is how many events before this record could not be recorded.
	AnnotationMissed = "audit.drover.io/not-recorded"
	// AnnotationMasked says why a request's object is not in its record.
	AnnotationMasked = "audit.drover.io/object-omitted"
)

// ErrUnavailable: the log cannot be written at the moment.
var ErrUnavailable = errors.New("the audit log cannot be written")

// Options of a Log. The zero value keeps everything for ever.
type Options struct {
	// MaxAge is how long records are kept; zero means for ever. Once it was set,
	// leave it set: without it Verify takes a missing beginning for tampering.
	MaxAge time.Duration
	// MaxBytes is the size at which the log refuses more, and with it the API
	// refuses writes; zero means no limit. The log never drops a record to make room.
	MaxBytes int64
	// HeadFile remembers the end of the chain, so that a lost end shows even when
	// the whole stream is gone; empty means no file.
	HeadFile string
	// Patience is how long a record may take to be stored; zero means 5 s.
	Patience time.Duration
	// Refusals is how many requests of unknown users, and reads that were refused,
	// are recorded each minute; more are only counted. Zero means 60.
	Refusals int
	// Policy decides how much of each request is recorded; nil means Level.
	Policy *Policy
	Log    *zap.Logger
}

// Log is the audit log. One process writes it.
type Log struct {
	js   jetstream.JetStream
	opts Options
	log  *zap.Logger

	mu      sync.Mutex
	waiting []*entry // not yet in the chain, in order
	sending *group   // in the chain, perhaps stored
	leading bool     // a goroutine stores what is waiting; it ends when nothing is
	queued  int      // entries in waiting and sending
	fault   error    // why the last attempt failed; nil while the log can be written
	head    head     // of the last record known to be stored
	last    uint64   // the stream's sequence of its message
	missed  uint64   // events that were not recorded since the last record
	refused refusals
}

// entry is one event on its way into the log.
type entry struct {
	event    []byte
	done     chan struct{}
	answered bool
	err      error
}

// queueMost bounds what is kept in memory while the log cannot be written.
const queueMost = 4096

// Open makes the stream what it must be and finds the end of the chain. A chain
// that is damaged is continued: Verify shows the damage, and the log goes on.
func Open(ctx context.Context, js jetstream.JetStream, opts Options) (*Log, error) {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.Patience <= 0 {
		opts.Patience = 5 * time.Second
	}
	if opts.Refusals <= 0 {
		opts.Refusals = 60
	}
	l := &Log{js: js, opts: opts, log: opts.Log, refused: refusals{most: opts.Refusals}}
	stream, err := js.CreateOrUpdateStream(ctx, broker.AuditConfig(opts.MaxAge, opts.MaxBytes))
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", Stream, err)
	}
	if err := l.findHead(ctx, stream); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return l, nil
}

// findHead takes the later of what the stream ends with and what the head file
// remembers.
func (l *Log) findHead(ctx context.Context, stream jetstream.Stream) error {
	known, err := readHead(l.opts.HeadFile)
	if err != nil {
		l.log.Error("the remembered end of the audit log cannot be read", zap.Error(err))
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("inspect stream %s: %w", Stream, err)
	}
	l.last = info.State.LastSeq
	var stored head
	if info.State.Msgs > 0 {
		msg, err := stream.GetMsg(ctx, l.last)
		if err != nil {
			return fmt.Errorf("read the last record: %w", err)
		}
		if stored, err = lastOf(msg.Data); err != nil {
			l.log.Error("the audit log's last record is damaged; `drover audit --verify` shows where", zap.Error(err))
		}
	}
	l.head = stored
	expired := l.opts.MaxAge > 0 && info.State.Msgs == 0
	if known.Sequence > stored.Sequence {
		l.head = known
		if !expired {
			l.log.Error("the audit log has lost its end; `drover audit --verify` shows where",
				zap.Uint64("remembered", known.Sequence), zap.Uint64("stored", stored.Sequence))
		}
	}
	return nil
}

// Ready returns nil while the log can be written, else an error that wraps
// ErrUnavailable. A caller asks before it does what could not be recorded.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unavailable()
}

func (l *Log) unavailable() error {
	if l.fault == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, l.fault)
}

// Record stores an event, masked and at the level of the policy, and returns
// when it is on the disk. ctx bounds the wait, not the event's way into the log:
// an event whose record failed is stored when the log can be written again, if
// this process lives that long. Some events are not recorded: those of level
// None, and refusals beyond the limit, which are counted. ev is not changed.
func (l *Log) Record(ctx context.Context, ev *auditv1.Event) error {
	out := *ev
	out.Annotations = maps.Clone(ev.Annotations)
	if out.Level = l.opts.Policy.level(ev); out.Level == auditv1.LevelNone {
		return nil
	}
	complete(&out)
	e, lead, err := l.enqueue(&out)
	if e == nil || err != nil {
		return err
	}
	if lead {
		go l.lead()
	}
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// complete fills in what every event has, and takes out what none may have.
func complete(ev *auditv1.Event) {
	ev.TypeMeta = metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Event"}
	if ev.AuditID == "" {
		ev.AuditID = types.UID(uuid.NewString())
	}
	if ev.Stage == "" {
		ev.Stage = auditv1.StageResponseComplete
	}
	now := metav1.NowMicro()
	if ev.StageTimestamp.IsZero() {
		ev.StageTimestamp = now
	}
	if ev.RequestReceivedTimestamp.IsZero() {
		ev.RequestReceivedTimestamp = ev.StageTimestamp
	}
	ev.RequestURI = maskURI(ev.RequestURI)
	ev.Verb, ev.UserAgent = clip(ev.Verb, 64), clip(ev.UserAgent, 256)
	if ref := ev.ObjectRef; ref != nil {
		// a path that was refused can hold anything
		ev.ObjectRef = &auditv1.ObjectReference{
			Resource: clip(ref.Resource, 253), Namespace: clip(ref.Namespace, 253), Name: clip(ref.Name, 253),
			UID: ref.UID, APIGroup: clip(ref.APIGroup, 253), APIVersion: clip(ref.APIVersion, 64),
			ResourceVersion: ref.ResourceVersion, Subresource: clip(ref.Subresource, 64),
		}
	}
	ev.ResponseObject = nil
	maskEvent(ev)
}

// enqueue puts an event in line. A nil entry without an error: the event was
// only counted. lead tells the caller to start the goroutine that stores it.
func (l *Log) enqueue(ev *auditv1.Event) (e *entry, lead bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queued >= queueMost {
		l.missed++
		return nil, false, fmt.Errorf("%w: %d events wait already", ErrUnavailable, l.queued)
	}
	if limited(ev) && !l.refused.allow(time.Now()) {
		return nil, false, nil
	}
	annotateCount(ev, AnnotationSuppressed, l.refused.suppressed)
	annotateCount(ev, AnnotationMissed, l.missed)
	data, err := json.Marshal(ev)
	if err != nil {
		l.missed++
		return nil, false, fmt.Errorf("encode audit event: %w", err)
	}
	l.refused.suppressed, l.missed = 0, 0
	e = &entry{event: data, done: make(chan struct{})}
	l.waiting = append(l.waiting, e)
	l.queued++
	if err := l.unavailable(); err != nil {
		e.answered = true // Run stores it when that is possible again
		return nil, false, err
	}
	lead = !l.leading
	l.leading = true
	return e, lead, nil
}

func annotateCount(ev *auditv1.Event, name string, n uint64) {
	if n == 0 {
		return
	}
	if ev.Annotations == nil {
		ev.Annotations = map[string]string{}
	}
	ev.Annotations[name] = strconv.FormatUint(n, 10)
}
