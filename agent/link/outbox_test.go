// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/wire"
)

// post records what an outbox sends and answers by script.
type post struct {
	mu     sync.Mutex
	sent   []string
	done   []string
	answer func(key, message string) (wire.Ack, error)
}

func (p *post) send(_ context.Context, key, message string) (wire.Ack, error) {
	p.mu.Lock()
	p.sent = append(p.sent, key+"="+message)
	answer := p.answer
	p.mu.Unlock()
	if answer == nil {
		return wire.Ack{}, nil
	}
	return answer(key, message)
}

func (p *post) settled(key, message string, ack wire.Ack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, key+"="+message+ack.Error)
}

func (p *post) say(answer func(key, message string) (wire.Ack, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// take returns what was sent since the last take.
func (p *post) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.sent
	p.sent = nil
	return sent
}

func outbox(t *testing.T, test func(t *testing.T, o *Outbox[string], p *post)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &post{}
		o := NewOutbox(OutboxConfig[string]{Send: p.send, Done: p.settled})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- o.Run(ctx) }()
		synctest.Wait()
		test(t, o, p)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func check(t *testing.T, what string, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestOutboxSends(t *testing.T) {
	t.Parallel()
	outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
		o.Put("a", "1")
		o.Put("b", "1")
		synctest.Wait()
		check(t, "sent", p.take(), []string{"a=1", "b=1"})
		check(t, "done", p.done, []string{"a=1", "b=1"})
		if o.Len() != 0 {
			t.Errorf("%d left", o.Len())
		}
		time.Sleep(time.Hour)
		check(t, "sent again", p.take(), nil)
	})
}

// Only the latest message of a key is sent, and a failed one is not given up.
func TestOutboxRetries(t *testing.T) {
	t.Parallel()
	outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
		p.say(func(string, string) (wire.Ack, error) { return wire.Ack{}, errors.New("timeout") })
		o.Put("a", "1")
		time.Sleep(time.Hour)
		attempts := len(p.take())
		// The wait is at most a minute, at least a fifth of it after the first few.
		if attempts < 60 || attempts > 310 {
			t.Errorf("%d attempts in an hour", attempts)
		}
		p.say(nil)
		o.Put("a", "2")
		synctest.Wait()
		check(t, "sent", p.take(), []string{"a=2"})
	})
}

func TestOutboxAnswers(t *testing.T) {
	t.Parallel()
	outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
		p.say(func(string, string) (wire.Ack, error) { return wire.Ack{Error: "store is away", Retry: true}, nil })
		o.Put("a", "1")
		synctest.Wait()
		p.say(func(string, string) (wire.Ack, error) { return wire.Ack{Error: "unknown work"}, nil })
		time.Sleep(time.Minute)
		check(t, "sent", p.take(), []string{"a=1", "a=1"})
		check(t, "done", p.done, []string{"a=1unknown work"})
		if o.Len() != 0 {
			t.Error("a message refused for good is kept")
		}
	})
}

// While there is no session nothing is tried; Wake sends all at once.
func TestOutboxOffline(t *testing.T) {
	t.Parallel()
	outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
		p.say(func(string, string) (wire.Ack, error) { return wire.Ack{}, fmt.Errorf("request: %w", ErrOffline) })
		o.Put("a", "1")
		synctest.Wait()
		for i := range 50 {
			o.Put("b", fmt.Sprint(i))
		}
		synctest.Wait()
		check(t, "sent", p.take(), []string{"a=1"})
		p.say(nil)
		o.Wake()
		synctest.Wait()
		check(t, "sent", p.take(), []string{"a=1", "b=49"})
	})
}

// A session that begins while Send finds the old one gone is not slept through.
func TestOutboxWakeDuringSend(t *testing.T) {
	t.Parallel()
	outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
		p.say(func(string, string) (wire.Ack, error) {
			p.say(nil)
			o.Wake()
			return wire.Ack{}, ErrOffline
		})
		o.Put("a", "1")
		synctest.Wait()
		check(t, "sent", p.take(), []string{"a=1", "a=1"})
	})
}

// A message that is put while an older one is under way is sent as well.
func TestOutboxPutDuringSend(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint("fails=", fails), func(t *testing.T) {
			t.Parallel()
			outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
				p.say(func(string, string) (wire.Ack, error) {
					time.Sleep(time.Second)
					if fails {
						return wire.Ack{}, errors.New("timeout")
					}
					return wire.Ack{}, nil
				})
				o.Put("a", "1")
				time.Sleep(time.Millisecond)
				p.say(nil)
				o.Put("a", "2")
				time.Sleep(2 * time.Second)
				check(t, "sent", p.take(), []string{"a=1", "a=2"})
				if o.Len() != 0 {
					t.Errorf("%d left", o.Len())
				}
			})
		})
	}
}

func TestOutboxDrop(t *testing.T) {
	t.Parallel()
	outbox(t, func(t *testing.T, o *Outbox[string], p *post) {
		p.say(func(string, string) (wire.Ack, error) { return wire.Ack{}, errors.New("timeout") })
		o.Put("a", "1")
		synctest.Wait()
		o.Drop("a")
		p.take()
		time.Sleep(time.Hour)
		check(t, "sent", p.take(), nil)
	})
}
