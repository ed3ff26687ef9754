// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/shared/wire"
)

// queueGroup shares the agents' requests among the hub's replicas.
const queueGroup = "hub"

// Handler answers one request of an agent. The cluster comes from the subject,
// which the tunnel guarantees; the reply's subject is set for it. Handlers run side
// by side, but an agent waits for one answer before it asks the next of a kind.
type Handler func(ctx context.Context, cluster string, request []byte) *nats.Msg

// maxHandlers bounds the requests of one service that are handled at the same
// time, so that one slow answer does not hold up the others; perCluster those of
// one cluster, of which more are dropped: an honest agent has hardly two.
const (
	maxHandlers = 64
	perCluster  = 8
	maxWaiting  = 4096 // not yet looked at
)

// Serve answers service for every cluster until ctx ends, and returns when the
// last handler has. NATS permissions do not cover reply subjects, so an answer
// goes only to the inbox of the cluster that asked; every service of the hub is
// served through here for that reason.
func Serve(ctx context.Context, nc *nats.Conn, service string, log *zap.Logger, h Handler) error {
	requests := make(chan *nats.Msg, maxWaiting)
	sub, err := nc.ChanQueueSubscribe(wire.AllServices(service), queueGroup, requests)
	if err != nil {
		return fmt.Errorf("serve %s: %w", service, err)
	}
	busy := share{count: map[string]int{}}
	var handlers errgroup.Group
	handlers.SetLimit(maxHandlers)
	for {
		select {
		case <-ctx.Done():
			if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				log.Debug("unsubscribing failed", zap.String("service", service), zap.Error(err))
			}
			return errors.Join(ctx.Err(), handlers.Wait())
		case m := <-requests:
			cluster, ok := wire.ClusterOf(m.Subject)
			if !ok || !busy.take(cluster) {
				continue
			}
			handlers.Go(func() error {
				defer busy.give(cluster)
				answer(ctx, nc, m, cluster, log, h)
				return nil
			})
		}
	}
}

// share counts the requests of each cluster that are being handled.
type share struct {
	mu    sync.Mutex
	count map[string]int
}

func (s *share) take(cluster string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[cluster] >= perCluster {
		return false
	}
	s.count[cluster]++
	return true
}

func (s *share) give(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[cluster]--; s.count[cluster] == 0 {
		delete(s.count, cluster)
	}
}

func answer(ctx context.Context, nc *nats.Conn, m *nats.Msg, cluster string, log *zap.Logger, h Handler) {
	if !strings.HasPrefix(m.Reply, wire.InboxPrefix(cluster)+".") {
		log.Warn("request with a foreign reply subject dropped",
			zap.String("subject", m.Subject), zap.String("reply", m.Reply))
		return
	}
	reply := h(ctx, cluster, m.Data)
	reply.Subject = m.Reply
	err := nc.PublishMsg(reply)
	if errors.Is(err, nats.ErrMaxPayload) {
		log.Error("answer is larger than a message can be", zap.String("subject", m.Subject), zap.Int("bytes", len(reply.Data)))
		short := nats.NewMsg(m.Reply)
		short.Header.Set(wire.HeaderError, "the hub's answer is larger than a message can be")
		err = nc.PublishMsg(short)
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("answer not sent", zap.String("subject", m.Subject), zap.Error(err))
	}
}

// JSON is a reply with a JSON body.
func JSON(body any) *nats.Msg {
	data, err := json.Marshal(body)
	if err != nil {
		data = []byte(`{"error":"internal error"}`)
	}
	return &nats.Msg{Data: data}
}
