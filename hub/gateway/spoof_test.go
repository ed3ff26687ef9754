// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/shared/wire"
)

func hpub(subject, headers, body string) string {
	block := "NATS/1.0\r\n" + headers + "\r\n"
	return fmt.Sprintf("HPUB %s %d %d\r\n%s%s\r\n", subject, len(block), len(block)+len(body), block, body)
}

// Each of these passes the broker's permissions and does harm; the filter stops it.
func TestSpoofs(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	js := h.broker.JetStream()
	// A stream without the precautions of METRICS.
	lax, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "LAX", Subjects: []string{"fm.*.up.lax.>"}, AllowRollup: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.nc.Subscribe(wire.AllServices("x"), func(m *nats.Msg) { m.Respond([]byte("answer")) }); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := h.raw(t, "bbb")
	b.send("SUB fm.bbb.down.> 1\r\n")
	b.sync()

	messages := func(subject string) uint64 {
		info, err := lax.Info(t.Context(), jetstream.WithSubjectFilter(subject))
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Subjects[subject]
	}
	reset := func() {
		if err := lax.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "fm.bbb.up.lax.own", []byte("own")); err != nil {
			t.Fatal(err)
		}
	}
	toB := func() bool { return len(b.sync()) > 0 }

	for _, tt := range []struct {
		name, text, rule string
		harm             func() bool
	}{
		{"service answer to another's command subject", pub("fm.aaa.up.svc.x", "fm.bbb.down.hint", "q"), ruleReply, toB},
		{"PubAck to another's command subject", pub("fm.aaa.up.lax.x", "fm.bbb.down.hint", "q"), ruleReply, toB},
		{"PubAck stored as another's message", pub("fm.aaa.up.lax.x", "fm.bbb.up.lax.forged", "q"), ruleReply, func() bool { return messages("fm.bbb.up.lax.forged") > 0 }},
		{"rollup empties the stream", hpub("fm.aaa.up.lax.x", "Nats-Rollup: all\r\n", "q"), ruleHeader, func() bool { return messages("fm.bbb.up.lax.own") == 0 }},
		{"message id pre-empts another's", hpub("fm.aaa.up.lax.x", "Nats-Msg-Id: 1\r\n", "q"), ruleHeader, func() bool {
			ack, err := js.Publish(t.Context(), "fm.bbb.up.lax.own", []byte("own"), jetstream.WithMsgID("1"))
			return err != nil || ack.Duplicate
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reset()
			through := h.raw(t, "aaa")
			through.send(tt.text)
			if got := through.closed(); got != "protocol violation: "+tt.rule {
				t.Errorf("filter: %q", got)
			}
			if tt.name != "message id pre-empts another's" && tt.harm() {
				t.Error("harm in spite of the filter")
			}
			reset()
			direct := h.direct(t, "aaa")
			direct.send(tt.text)
			direct.sync()
			eventually(t, "harm without the filter", tt.harm)
		})
	}
}

// The stream of samples takes the two PubAck cases away even without a filter.
func TestMetricsStreamAnswersNobody(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	stream, err := h.broker.EnsureMetricsStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := h.raw(t, "bbb")
	b.send("SUB fm.bbb.down.> 1\r\n")
	b.sync()
	a := h.direct(t, "aaa")
	a.send(pub("fm.aaa.up.metrics.host", "fm.bbb.down.hint", "q") +
		pub("fm.aaa.up.metrics.host", "fm.bbb.up.metrics.host", "q") +
		hpub("fm.aaa.up.metrics.host", "Nats-Rollup: all\r\n", "q"))
	a.sync()
	eventually(t, "samples stored", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs >= 2
	})
	if got := b.sync(); len(got) > 0 {
		t.Errorf("bbb received %q", got)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("fm.bbb.>"))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.State.Subjects) > 0 {
		t.Errorf("stored as bbb's: %v", info.State.Subjects)
	}
}
