// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
)

// auditLog adds the messages of the audit log as they are, up to the end that the
// log has when this begins: the chain goes on after a restore.
func (s Source) auditLog(ctx context.Context, a *archive) (int, error) {
	stream, err := s.JetStream.Stream(ctx, broker.AuditStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil // a hub that was stopped at its first start
	}
	if err != nil {
		return 0, err
	}
	state := stream.CachedInfo().State
	chunk := chunks{archive: a, prefix: auditPrefix}
	n := 0
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; {
		m, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(broker.AuditSubject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break // the rest has expired meanwhile
		}
		if err != nil {
			return 0, err
		}
		if err := chunk.add(record{Name: broker.AuditSubject, Revision: m.Sequence, data: m.Data}); err != nil {
			return 0, err
		}
		n++
		seq = m.Sequence + 1
	}
	return n, chunk.flush()
}

// audit brings one message of the audit log back.
func (r *restore) audit(ctx context.Context, rec record) error {
	_, err := r.js.Publish(ctx, broker.AuditSubject, rec.data, jetstream.WithExpectStream(broker.AuditStream))
	if err != nil {
		return fmt.Errorf("restore the audit log: %w", err)
	}
	return nil
}
