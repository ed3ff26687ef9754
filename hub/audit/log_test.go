// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

func TestRestartContinuesTheChain(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	opts := Options{HeadFile: filepath.Join(t.TempDir(), "audit.head")}
	for round := range 3 {
		l, stop := b.open(opts)
		mustRecord(t, l, event("ann", fmt.Sprint("a", round)), event("bob", fmt.Sprint("b", round)))
		wantWhole(t, l, uint64(2*(round+1)))
		stop()
		b.stop()
		b.start()
	}
	l, _ := b.open(opts)
	wantWhole(t, l, 6)
}

func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{})
	const writers, each = 64, 20
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if err := l.Record(timeout(t), event("u"+strconv.Itoa(w), fmt.Sprintf("c-%d-%d", w, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	wantWhole(t, l, writers*each)
	seen := map[string]int{}
	for _, ev := range mustQuery(t, l, Filter{Limit: MaxLimit}) {
		seen[ev.ObjectRef.Name]++
	}
	if len(seen) != writers*each {
		t.Errorf("%d names, want %d", len(seen), writers*each)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is recorded %d times", name, n)
		}
	}
	t.Logf("%d records in %d messages", writers*each, len(b.messages()))
}

func TestTampering(t *testing.T) {
	t.Parallel()
	source := newBroker(t)
	l, stop := source.open(Options{})
	for i := range 20 {
		mustRecord(t, l, event("ann", fmt.Sprint("c", i)))
	}
	wantWhole(t, l, 20)
	l.mu.Lock()
	known := l.head
	l.mu.Unlock()
	stop()
	good := source.messages()

	forged := func(m [][]byte) [][]byte { // a record with a right hash of its own
		parsed, err := parseLine(bytes.TrimSuffix(m[9], []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		parsed.Event = bytes.Replace(parsed.Event, []byte(`"ann"`), []byte(`"bob"`), 1)
		parsed.Hash = digest(parsed.Sequence, parsed.Previous, parsed.Event)
		m[9] = appendLine(nil, parsed)
		return m
	}
	flip := func(what string) func(m [][]byte) [][]byte {
		return func(m [][]byte) [][]byte {
			at := bytes.Index(m[9], []byte(what)) + len(what) - 1
			m[9][at] ^= 0x01
			return m
		}
	}
	tests := []struct {
		name   string
		tamper func(m [][]byte) [][]byte
		first  uint64 // bad sequence; 0: none
	}{
		{"untouched", func(m [][]byte) [][]byte { return m }, 0},
		{"a byte of the event", flip(`"username":"a`), 10},
		{"a byte of the hash", flip(`"hash":"0`), 10},
		{"a byte of the previous hash", flip(`"previous":"0`), 10},
		{"a byte of the sequence", flip(`"sequence":1`), 10},
		{"a byte of a name", flip(`"seq`), 10},
		{"the newline", func(m [][]byte) [][]byte { m[9][len(m[9])-1] = ' '; return m }, 10},
		{"a forged record", forged, 11},
		{"a removed record", func(m [][]byte) [][]byte { return append(m[:9], m[10:]...) }, 10},
		{"the first is removed", func(m [][]byte) [][]byte { return m[1:] }, 1},
		{"the last is removed", func(m [][]byte) [][]byte { return m[:19] }, 20},
		{"everything is removed", func([][]byte) [][]byte { return nil }, 1},
		{"two are swapped", func(m [][]byte) [][]byte { m[9], m[10] = m[10], m[9]; return m }, 10},
		{"one is doubled", func(m [][]byte) [][]byte { return append(m[:10:10], m[9:]...) }, 11},
		{"an empty message", func(m [][]byte) [][]byte { m[9] = nil; return m }, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			copied := make([][]byte, len(good))
			for i := range good {
				copied[i] = bytes.Clone(good[i])
			}
			b := newBroker(t)
			_, stop := b.open(Options{}) // makes the stream
			stop()
			for _, data := range tt.tamper(copied) {
				if _, err := b.js.Publish(timeout(t), Subject, data); err != nil {
					t.Fatal(err)
				}
			}
			// A log that knows where the chain ended, as one that was running does.
			file := filepath.Join(t.TempDir(), "audit.head")
			if err := writeHead(file, known); err != nil {
				t.Fatal(err)
			}
			l, _ := b.open(Options{HeadFile: file})
			r := mustVerify(t, l)
			t.Logf("%+v %+v", r, r.FirstBad)
			switch {
			case tt.first == 0 && r.FirstBad != nil:
				t.Errorf("bad: %+v", r.FirstBad)
			case tt.first != 0 && (r.FirstBad == nil || r.FirstBad.Sequence != tt.first):
				t.Errorf("first bad = %+v, want record %d", r.FirstBad, tt.first)
			}
			// The log goes on, whatever was done to it.
			mustRecord(t, l, event("ann", "after"))
			if got := mustQuery(t, l, Filter{Name: "after"}); len(got) != 1 {
				t.Errorf("%d events after the damage, want 1", len(got))
			}
		})
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{})
	start := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	const n = 1500 // more than two chunks
	var group sync.WaitGroup
	for i := range n {
		ev := event([]string{"ann", "bob"}[i%2], fmt.Sprintf("c%04d", i))
		ev.Verb = []string{"create", "delete", "patch"}[i%3]
		ev.ObjectRef.Namespace = fmt.Sprint("ns", i%5)
		ev.StageTimestamp = metav1.NewMicroTime(start.Add(time.Duration(i) * time.Second))
		if i%100 != 0 {
			group.Go(func() { mustRecord(t, l, ev) })
			continue
		}
		group.Wait()
		mustRecord(t, l, ev)
	}
	group.Wait()
	count := func(f Filter) int {
		f.Limit = MaxLimit
		return len(mustQuery(t, l, f))
	}
	tests := []struct {
		name   string
		filter Filter
		want   int
	}{
		{"all", Filter{}, n},
		{"user", Filter{User: "ann"}, n / 2},
		{"verb", Filter{Verb: "patch"}, n / 3},
		{"namespace", Filter{Namespace: "ns3"}, n / 5},
		{"name", Filter{Name: "c0007"}, 1},
		{"part of a name", Filter{Name: "c00"}, 0},
		{"resource", Filter{Resource: "managedclusters"}, n},
		{"resource with group", Filter{Resource: "managedclusters.x.example.io"}, n},
		{"another resource", Filter{Resource: "jointokens"}, 0},
		{"until", Filter{Until: start.Add(100 * time.Second)}, 100},
		{"since", Filter{Since: start.Add(1400 * time.Second)}, 100},
		{"both", Filter{User: "bob", Verb: "create"}, n / 6},
		{"nobody", Filter{User: `"`}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := count(tt.filter); got != tt.want {
				t.Errorf("%d events, want %d", got, tt.want)
			}
		})
	}
	got := mustQuery(t, l, Filter{Limit: 3})
	var sequences []string
	for _, ev := range got {
		sequences = append(sequences, ev.Annotations[AnnotationSequence])
	}
	if diff := cmp.Diff([]string{"1500", "1499", "1498"}, sequences); diff != "" {
		t.Errorf("newest (-want +got):\n%s", diff)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{Refusals: 3})
	refusal := event("", "x")
	refusal.Verb, refusal.User, refusal.ResponseStatus = "list", Anonymous(), &metav1.Status{Code: 401}
	for range 10 {
		mustRecord(t, l, refusal)
	}
	wantWhole(t, l, 3)
	mustRecord(t, l, event("ann", "c1"), event("ann", "c2"))
	var got []string
	for _, ev := range mustQuery(t, l, Filter{}) {
		got = append(got, ev.Annotations[AnnotationSuppressed])
	}
	if diff := cmp.Diff([]string{"", "7", "", "", ""}, got); diff != "" {
		t.Errorf("suppressed, newest first (-want +got):\n%s", diff)
	}
	mustRecord(t, l, refusal)
	l.summarize(timeout(t))
	if ev := mustQuery(t, l, Filter{})[0]; ev.Verb != "summary" || ev.Annotations[AnnotationSuppressed] != "1" {
		t.Errorf("summary = %+v", ev)
	}
}

// flaky refuses to store while it is down, or stores and loses the answer.
type flaky struct {
	jetstream.JetStream
	mu         sync.Mutex
	down, deaf bool
}

func (f *flaky) set(down, deaf bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.deaf = down, deaf
}

func (f *flaky) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	f.mu.Lock()
	down, deaf := f.down, f.deaf
	f.mu.Unlock()
	if down {
		return nil, errors.New("connection lost")
	}
	ack, err := f.JetStream.PublishMsg(ctx, m, opts...)
	if deaf && err == nil {
		return nil, context.DeadlineExceeded
	}
	return ack, err
}

func TestOutage(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	f := &flaky{JetStream: b.js}
	b.js = f
	l, _ := b.open(Options{Patience: 100 * time.Millisecond})
	mustRecord(t, l, event("ann", "before"))
	for _, deaf := range []bool{false, true} {
		f.set(!deaf, deaf)
		name := fmt.Sprint("during-", deaf)
		if err := l.Record(timeout(t), event("ann", name)); !deaf && !errors.Is(err, ErrUnavailable) {
			t.Fatalf("error = %v, want ErrUnavailable", err)
		}
		if !deaf {
			if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("Ready = %v, want ErrUnavailable", err)
			}
			for range 5 { // at once, and kept in line
				if err := l.Record(timeout(t), event("ann", "queued")); !errors.Is(err, ErrUnavailable) {
					t.Fatalf("error = %v, want ErrUnavailable", err)
				}
			}
		}
		f.set(false, false)
		eventually(t, "the log can be written", func() bool { return l.Ready() == nil })
	}
	mustRecord(t, l, event("ann", "after"))
	var got []string
	for _, ev := range mustQuery(t, l, Filter{}) {
		got = append(got, ev.ObjectRef.Name)
	}
	want := []string{"after", "during-true", "queued", "queued", "queued", "queued", "queued", "during-false", "before"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	wantWhole(t, l, uint64(len(want)))
}

func TestAnotherWriter(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, _ := b.open(Options{})
	mustRecord(t, l, event("ann", "c1"))
	if _, err := b.js.Publish(timeout(t), Subject, []byte("intruder")); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(timeout(t), event("ann", "c2")); !errors.Is(err, errForeign) {
		t.Fatalf("error = %v, want %v", err, errForeign)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	l, stop := b.open(Options{MaxBytes: 8 << 10})
	var err error
	stored := uint64(0)
	for ; err == nil && stored < 100; stored++ {
		err = l.Record(timeout(t), event("ann", "c"))
	}
	if !errors.Is(err, ErrUnavailable) || !errors.Is(l.Ready(), ErrUnavailable) {
		t.Fatalf("error = %v after %d records, want ErrUnavailable", err, stored)
	}
	t.Log(err)
	stop()
	// Nothing was dropped to make room, and more room is all it takes.
	l, _ = b.open(Options{MaxBytes: 1 << 20})
	wantWhole(t, l, stored-1)
	mustRecord(t, l, event("ann", "c"))
}

func TestExpiredBeginning(t *testing.T) {
	t.Parallel()
	c := &checker{partial: true}
	var h head
	var data []byte
	for i := range 5 {
		data, h = appendRecord(data[:0], h, []byte(`{"kind":"Event"}`))
		if i >= 2 {
			c.message(uint64(i+1), data)
		}
	}
	if r := c.end(h); r.Breaks != 0 || r.First != 3 || r.Last != 5 {
		t.Errorf("report = %+v", r)
	}
	if err := (&Log{}).Record(t.Context(), &auditv1.Event{
		ObjectRef: &auditv1.ObjectReference{APIGroup: "authorization.k8s.io"}, Verb: "create",
	}); err != nil {
		t.Errorf("an event that is not recorded: %v", err)
	}
}
