// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

func TestSession(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	if _, err := h.nc.QueueSubscribe(wire.AllServices("echo"), "hub", func(m *nats.Msg) { m.Respond(m.Data) }); err != nil {
		t.Fatal(err)
	}
	nc := h.connect(t, "aaa")
	answer, err := nc.Request(wire.ServiceSubject("aaa", "echo"), []byte("hello"), patience)
	if err != nil {
		t.Fatal(err)
	}
	if string(answer.Data) != "hello" {
		t.Errorf("answer %q", answer.Data)
	}
	if _, err := nc.Request(wire.ServiceSubject("aaa", "nobody"), nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("without a service: %v, want %v", err, nats.ErrNoResponders)
	}

	hints, err := nc.SubscribeSync(wire.HintSubject("aaa"))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// Larger than every buffer on the way.
	large := strings.Repeat("x", 900<<10)
	if err := h.nc.Publish(wire.HintSubject("aaa"), []byte(large)); err != nil {
		t.Fatal(err)
	}
	if msg, err := hints.NextMsg(patience); err != nil || string(msg.Data) != large {
		t.Fatalf("large message: %v", err)
	}
	if answer, err := nc.Request(wire.ServiceSubject("aaa", "echo"), []byte(large), patience); err != nil || string(answer.Data) != large {
		t.Fatalf("large request: %v", err)
	}

	s, ok := h.Session("aaa")
	if !ok || s.Cluster != "aaa" || s.Epoch == 0 || s.RemoteAddr == "" || s.Serial == "" {
		t.Errorf("session %+v", s)
	}
	if diff := cmp.Diff([]Session{s}, h.Sessions()); diff != "" {
		t.Error(diff)
	}
	nc.Close()
	eventually(t, "session is over", func() bool { _, ok := h.Session("aaa"); return !ok })
	if stats := h.Stats(); stats.Connects != 1 || stats.Sessions != 0 || stats.BytesFromAgents < 900<<10 {
		t.Errorf("stats %+v", stats)
	}
}

func TestLastSessionWins(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.Limits.FlapCount = 3 })
	agents := []*rawAgent{h.raw(t, "aaa")}
	first, _ := h.Session("aaa")
	for range 3 {
		agents = append(agents, h.raw(t, "aaa"))
	}
	for _, old := range agents[:3] {
		if reason := old.closed(); !strings.Contains(reason, "replaced by a newer session from 127.0.0.1:") {
			t.Errorf("reason %q", reason)
		}
	}
	agents[3].sync()
	s, ok := h.Session("aaa")
	if !ok || s.Epoch <= first.Epoch {
		t.Errorf("session %+v, %v", s, ok)
	}
	if stats := h.Stats(); stats.Sessions != 1 || stats.Replaced != 3 || stats.Flaps != 1 {
		t.Errorf("stats %+v", stats)
	}
}

// A session that ends late must not take the newer one off the books.
func TestOldCloseAfterNewOpen(t *testing.T) {
	t.Parallel()
	r := newRegistry(DefaultLimits(), zap.NewNop())
	// Tunnels without sockets, which have ended as far as they know.
	bare := func(addr string) *tunnel {
		return &tunnel{Session: Session{Cluster: "aaa", RemoteAddr: addr}, over: true, refs: 1}
	}
	var last uint64
	for range 1000 {
		older, newer := bare("old"), bare("new")
		r.add(older)
		var wg sync.WaitGroup
		wg.Go(func() { r.leave(older); r.gone(older) })
		// Before, while or after the old one leaves.
		r.add(newer)
		wg.Wait()
		s, ok := r.session("aaa")
		if !ok || s.RemoteAddr != "new" || s.Epoch <= last {
			t.Fatalf("session %+v, %v after epoch %d", s, ok, last)
		}
		last = s.Epoch
		r.leave(newer)
		r.gone(newer)
		if _, ok := r.session("aaa"); ok {
			t.Fatal("session stays")
		}
	}
	r.wait()
}

func TestSessionEndsWithCertificate(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	a := h.rawWith(t, h.ca.agent(t, "aaa", end), h.Addr().String())
	a.sync()
	if reason := a.closed(); reason != "the certificate has expired" {
		t.Errorf("reason %q", reason)
	}
	if early := time.Until(end); early > time.Second {
		t.Errorf("closed %v early", early)
	}
	eventually(t, "session is over", func() bool { return len(h.Sessions()) == 0 })
}

func TestCloseSessions(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, other := h.raw(t, "aaa"), h.raw(t, "bbb")
	arrived := make(chan string, 10)
	if _, err := h.nc.Subscribe("fm.aaa.>", func(m *nats.Msg) { arrived <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	h.deny("aaa", wire.ReasonRevoked)
	if n := h.CloseSessions("aaa", wire.ReasonRevoked); n != 1 {
		t.Errorf("closed %d", n)
	}
	// Whatever the agent still sends is lost.
	a.conn.Write([]byte(pub(wire.MetricsSubject("aaa", "host"), "", "late")))
	if reason := a.closed(); reason != wire.ReasonRevoked {
		t.Errorf("reason %q", reason)
	}
	other.sync()
	if _, resp, err := h.upgrade(t.Context(), h.agentCert(t, "aaa"), h.Addr().String()); err == nil || resp.StatusCode != 401 {
		t.Errorf("after a revocation: %v", err)
	}
	if n := h.CloseSessions("aaa", wire.ReasonRevoked); n != 0 {
		t.Errorf("closed %d", n)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(arrived) > 0 {
		t.Errorf("arrived after the close: %q", <-arrived)
	}
}

// The cluster is revoked after the first check and before the registration.
func TestRevokedWhileConnecting(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	h.onVerify = func(call int) {
		if call == 2 {
			h.deny("aaa", wire.ReasonRevoked)
		}
	}
	ws, _, err := h.upgrade(t.Context(), h.agentCert(t, "aaa"), h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	_, _, err = ws.Read(t.Context())
	var reason websocket.CloseError
	if !errors.As(err, &reason) || reason.Reason != wire.ReasonRevoked {
		t.Errorf("read: %v", err)
	}
	if stats := h.Stats(); stats.Connects != 0 || stats.Refusals[wire.ReasonRevoked] != 1 {
		t.Errorf("stats %+v", stats)
	}
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	changed, cancel := h.Subscribe()
	defer cancel()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatal("no notice: " + what)
			}
		}
	}
	has := func(cluster string) bool { _, ok := h.Session(cluster); return ok }
	a := h.raw(t, "aaa")
	wait("came", func() bool { return has("aaa") })
	a.ws.CloseNow()
	wait("went", func() bool { return !has("aaa") })
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	agents := []*rawAgent{h.raw(t, "aaa"), h.raw(t, "bbb"), h.raw(t, "ccc")}
	stopped := make(chan struct{})
	go func() { h.stop(); close(stopped) }()
	for _, a := range agents {
		if reason := a.closed(); reason != "hub is shutting down" {
			t.Errorf("reason %q", reason)
		}
	}
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("gateway does not stop")
	}
	if n := len(h.Sessions()); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}
