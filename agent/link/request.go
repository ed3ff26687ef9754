// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/drover-io/drover/shared/wire"
)

// ErrTooLarge is returned for a message above wire.MaxPayload, which is not sent.
var ErrTooLarge = fmt.Errorf("message is larger than %d bytes", wire.MaxPayload)

// Request asks service of the hub: in is sent as JSON and the answer decoded into
// out, which may be nil. The error is ErrOffline without a session and a
// *ServiceError when the hub's answer says so in its header.
func (l *Link) Request(ctx context.Context, service string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request %s: %w", service, err)
	}
	answer, err := l.RequestRaw(ctx, service, body)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode answer of %s: %w", service, err)
	}
	return nil
}

// RequestRaw is Request without the encoding.
func (l *Link) RequestRaw(ctx context.Context, service string, body []byte) ([]byte, error) {
	s, err := l.present()
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", service, err)
	}
	return s.request(ctx, service, body)
}

// Publish sends one sample and does not wait for anything. It returns ErrOffline
// without a session; a sample accepted here may still be lost with the session.
func (l *Link) Publish(kind string, sample []byte) error {
	s, err := l.present()
	if err != nil {
		return err
	}
	if len(sample) > wire.MaxPayload {
		return fmt.Errorf("publish %s: %w", kind, ErrTooLarge)
	}
	if err := s.nc.Publish(wire.MetricsSubject(l.cfg.Cluster, kind), sample); err != nil {
		return fmt.Errorf("publish %s: %w", kind, s.explain(err))
	}
	return nil
}

// present is the session that exists now.
func (l *Link) present() (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		return nil, ErrOffline
	}
	return l.session, nil
}

// request asks the hub and gives up when the session ends.
func (s *session) request(ctx context.Context, service string, body []byte) ([]byte, error) {
	if len(body) > wire.MaxPayload {
		return nil, fmt.Errorf("request %s: %w", service, ErrTooLarge)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(ErrOffline) })()
	msg, err := s.nc.RequestWithContext(ctx, wire.ServiceSubject(s.cluster, service), body)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("request %s: %w", service, s.explain(err))
	}
	if text := msg.Header.Get(wire.HeaderError); text != "" {
		return nil, fmt.Errorf("request %s: %w", service, &ServiceError{Message: text})
	}
	return msg.Data, nil
}

// explain turns the errors of a connection that has ended into ErrOffline.
func (s *session) explain(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || s.ctx.Err() != nil {
		return ErrOffline
	}
	return err
}
