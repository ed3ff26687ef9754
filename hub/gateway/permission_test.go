// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/drover-io/drover/shared/wire"
)

// foreignSubjects are what agent aaa must not publish to.
var foreignSubjects = []string{
	"fm.bbb.up.metrics.host", "fm.bbb.up.svc.desired", "fm.bbb.down.hint", "fm.aaa.down.hint",
	"fm.aaa", "fm.aaa.up", "fm.aaab.up.svc.x", "other",
	"_INBOX_bbb.x.y", "_INBOX_aaa.x.y", "_INBOX.x",
	"$JS.API.INFO", "$JS.API.STREAM.INFO.METRICS", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.MSG.GET.METRICS",
	"$JS.API.STREAM.PURGE.METRICS", "$JS.API.STREAM.DELETE.METRICS", "$JS.API.DIRECT.GET.METRICS",
	"$JS.API.CONSUMER.CREATE.METRICS", "$JS.API.CONSUMER.CREATE.METRICS.name", "$JS.API.CONSUMER.DURABLE.CREATE.METRICS.d",
	"$JS.API.CONSUMER.MSG.NEXT.METRICS.d", "$JS.ACK.METRICS.d.1.1.1.1.1",
	"$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$KV.x.y", "_R_.x",
}

// foreignSubscriptions are what agent aaa must not subscribe to.
var foreignSubscriptions = []string{
	">", "*.>", "fm.>", "fm.*.down.>", "fm.*.down.hint", "fm.bbb.down.>", "fm.bbb.down.hint", "fm.*.up.>", "fm.aaa.up.>", "fm.aaa.>",
	"_INBOX_bbb.>", "_INBOX.>", "_INBOX_*.>", "*.x", "$JS.>", "$JS.EVENT.>", "$SYS.>", "$KV.>", "_R_.>",
	"fm.*.up.svc.> hub", "fm.aaa.up.svc.> hub",
}

// The broker alone denies all of it: the filter is not the only line.
func TestPermissionsOfBroker(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	if _, err := h.broker.EnsureMetricsStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := h.direct(t, "aaa")
	for _, subject := range foreignSubjects {
		a.send(pub(subject, "_INBOX_aaa.x", "{}"))
		want := fmt.Sprintf("-ERR 'Permissions Violation for Publish to %q", subject)
		if got := a.sync(); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("publish to %s: %q, want %s", subject, got, want)
		}
	}
	for i, subscription := range foreignSubscriptions {
		subject, _, _ := strings.Cut(subscription, " ")
		a.send(fmt.Sprintf("SUB %s %d\r\n", subscription, i+1))
		want := fmt.Sprintf("-ERR 'Permissions Violation for Subscription to %q", subject)
		if got := a.sync(); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("subscribe to %s: %q, want %s", subscription, got, want)
		}
	}
}

// Through the tunnel every attempt ends the session, and nothing of it arrives.
func TestPermissionsThroughTunnel(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	if _, err := h.broker.EnsureMetricsStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	arrived := make(chan string, 100)
	if _, err := h.nc.Subscribe(">", func(m *nats.Msg) {
		if string(m.Data) == "forged" {
			arrived <- m.Subject
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := h.raw(t, "bbb")
	b.send("SUB fm.bbb.down.> 1\r\nSUB _INBOX_bbb.> 2\r\n")
	b.sync()
	cert := h.agentCert(t, "aaa")
	for _, subject := range foreignSubjects {
		a := h.rawWith(t, cert, h.Addr().String())
		a.send(pub(subject, "", "forged"))
		if got := a.closed(); got != "protocol violation: subject" {
			t.Errorf("publish to %s: %q", subject, got)
		}
	}
	for _, subscription := range foreignSubscriptions {
		a := h.rawWith(t, cert, h.Addr().String())
		a.send(fmt.Sprintf("SUB %s 1\r\n", subscription))
		if got := a.closed(); got != "protocol violation: subject" && got != "protocol violation: queue" {
			t.Errorf("subscribe to %s: %q", subscription, got)
		}
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(arrived) > 0 {
		t.Errorf("arrived on %s", <-arrived)
	}
	if got := b.sync(); len(got) > 0 {
		t.Errorf("bbb received %q", got)
	}
	if got := h.Stats().FilterViolations[ruleSubject]; got < uint64(len(foreignSubjects)) {
		t.Errorf("%d violations counted", got)
	}
}

// An agent may do what it must.
func TestPermissionsAllow(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	if _, err := h.nc.QueueSubscribe(wire.AllServices("x"), "hub", func(m *nats.Msg) { m.Respond([]byte("ok")) }); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	a := h.raw(t, "aaa")
	a.send("sub\t_INBOX_aaa.> 1\r\nSUB  fm.aaa.down.hint\t2 \r\nunsub 2 5\r\npub fm.aaa.up.svc.x _INBOX_aaa.7 0002\r\n{}\r\n")
	want := "MSG _INBOX_aaa.7 1 2"
	if got := a.line(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := a.line(); got != "ok" {
		t.Errorf("got %q", got)
	}
	if got := a.sync(); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}
