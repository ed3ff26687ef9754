// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
)

// TestAuditLog: every message comes back as it was and in order, since each
// holds the hash of the one before.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	js := h.broker.JetStream()
	if _, err := js.CreateStream(timeout(t), broker.AuditConfig(0, 0)); err != nil {
		t.Fatal(err)
	}
	const messages = 300
	line := func(i int) string { return fmt.Sprintf("{\"sequence\":%d}\n{\"of\":\"two\"}\n", i) }
	for i := range messages {
		if _, err := js.Publish(timeout(t), broker.AuditSubject, []byte(line(i))); err != nil {
			t.Fatal(err)
		}
	}
	saved := h.backup()
	dir := filepath.Join(t.TempDir(), "new")
	r, err := Restore(timeout(t), file(t, saved), dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if r.AuditMessages != messages {
		t.Errorf("%d messages saved, want %d", r.AuditMessages, messages)
	}
	n := start(t, dir)
	stream, err := n.broker.JetStream().Stream(timeout(t), broker.AuditStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != messages {
		t.Fatalf("%d messages restored, want %d", got, messages)
	}
	for i := range messages {
		m, err := stream.GetMsg(timeout(t), uint64(i+1), jetstream.WithGetMsgSubject(broker.AuditSubject))
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != line(i) {
			t.Fatalf("message %d is %q", i, m.Data)
		}
	}
}
