// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

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
// time, so that one slow answer does not hold up the others.
const maxHandlers = 64

// Serve answers service for every cluster until ctx ends, and returns when the
// last handler has. NATS permissions do not cover reply subjects, so an answer
// goes only to the inbox of the cluster that asked; every service of the hub is
// served through here for that reason.
func Serve(ctx context.Context, nc *nats.Conn, service string, log *zap.Logger, h Handler) error {
	requests := make(chan *nats.Msg, maxHandlers)
	sub, err := nc.ChanQueueSubscribe(wire.AllServices(service), queueGroup, requests)
	if err != nil {
		return fmt.Errorf("serve %s: %w", service, err)
	}
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
			handlers.Go(func() error {
				answer(ctx, nc, m, log, h)
				return nil
			})
		}
	}
}

func answer(ctx context.Context, nc *nats.Conn, m *nats.Msg, log *zap.Logger, h Handler) {
	cluster, ok := wire.ClusterOf(m.Subject)
	if !ok || !strings.HasPrefix(m.Reply, wire.InboxPrefix(cluster)+".") {
		log.Warn("request with a foreign reply subject dropped",
			zap.String("subject", m.Subject), zap.String("reply", m.Reply))
		return
	}
	reply := h(ctx, cluster, m.Data)
	reply.Subject = m.Reply
	if err := nc.PublishMsg(reply); err != nil && ctx.Err() == nil {
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
