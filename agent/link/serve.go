// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// Handler answers one request of the hub. ctx ends with the session.
type Handler func(ctx context.Context, request []byte) []byte

// maxServed is how many of the hub's requests of one service are answered or wait
// at the same time; one at a time is worked on. More are dropped, and the hub
// hears nothing: it has its own deadline.
const maxServed = 8

// served are the requests of one session that are being answered.
type served struct {
	group sync.WaitGroup
	// closing is set when no more may begin.
	mu      sync.Mutex
	closing bool
}

// wait ends the taking of requests and returns when the last is answered.
func (s *served) wait() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.group.Wait()
}

func (s *served) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.group.Go(f)
	return true
}

// serve subscribes to the services that this agent answers.
func (l *Link) serve(s *session) error {
	for service, handle := range l.cfg.Serve {
		waiting, working := make(chan struct{}, maxServed), make(chan struct{}, 1)
		_, err := s.nc.Subscribe(wire.DownSubject(s.cluster, service), func(m *nats.Msg) {
			if !strings.HasPrefix(m.Reply, wire.ReplyPrefix(s.cluster)) {
				return // nowhere an agent may answer to
			}
			select {
			case waiting <- struct{}{}:
			default:
				return
			}
			if !s.served.begin(func() {
				defer func() { <-waiting }()
				select {
				case working <- struct{}{}:
				case <-s.ctx.Done():
					return
				}
				defer func() { <-working }()
				l.answer(s, service, m, handle)
			}) {
				<-waiting
			}
		})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", service, err)
		}
	}
	return nil
}

func (l *Link) answer(s *session, service string, m *nats.Msg, handle Handler) {
	answer := handle(s.ctx, m.Data)
	if s.ctx.Err() != nil {
		return
	}
	if len(answer) > wire.MaxPayload {
		l.log.Error("answer is larger than a message can be", zap.String("service", service), zap.Int("bytes", len(answer)))
		return
	}
	if err := s.nc.Publish(m.Reply, answer); err != nil {
		l.log.Warn("answer not sent", zap.String("service", service), zap.Error(s.explain(err)))
	}
}
