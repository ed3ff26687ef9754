// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/shared/wire"
)

func TestSession(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.serve("echo", func(m *nats.Msg) { m.Respond(m.Data) })
	h.serve("fail", func(m *nats.Msg) {
		m.RespondMsg(&nats.Msg{Header: nats.Header{wire.HeaderError: {"no such digest"}}})
	})
	samples, err := h.nc.SubscribeSync("fm.*.up.metrics.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	l := h.run(nil)
	receive(t, "connected", l.Connected())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var ack wire.Ack
	if err := l.Request(ctx, "echo", wire.Ack{Error: "x", Retry: true}, &ack); err != nil || ack != (wire.Ack{Error: "x", Retry: true}) {
		t.Errorf("request: %+v, %v", ack, err)
	}
	large := strings.Repeat("x", wire.MaxContent)
	if answer, err := l.RequestRaw(ctx, "echo", []byte(large)); err != nil || string(answer) != large {
		t.Errorf("large request: %d bytes, %v", len(answer), err)
	}
	var refused *link.ServiceError
	if _, err := l.RequestRaw(ctx, "fail", nil); !errors.As(err, &refused) || refused.Message != "no such digest" {
		t.Errorf("failing request: %v", err)
	}
	if _, err := l.RequestRaw(ctx, "nobody", nil); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("request without a service: %v", err)
	}
	if _, err := l.RequestRaw(ctx, "echo", make([]byte, wire.MaxPayload+1)); !errors.Is(err, link.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := l.Publish("host", make([]byte, wire.MaxPayload+1)); !errors.Is(err, link.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := l.Publish(wire.SampleHost, []byte("sample")); err != nil {
		t.Error(err)
	}
	if m, err := samples.NextMsg(patience); err != nil || m.Subject != wire.MetricsSubject("aaa", wire.SampleHost) || string(m.Data) != "sample" {
		t.Errorf("sample: %v, %v", m, err)
	}
	for range 10 {
		if err := h.nc.Publish(wire.HintSubject("aaa"), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "hint", l.Hints())
	s := l.State()
	if !s.Connected || s.URL != h.url() || s.Version != 1 || s.LastError != nil || s.Sessions != 1 || !s.NextAttempt.IsZero() {
		t.Errorf("state %+v", s)
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.stop()
	l := h.run(nil)
	await(t, "attempts", l, func(s link.State) bool { return s.Attempts >= 3 })
	if err := l.Publish("host", nil); !errors.Is(err, link.ErrOffline) {
		t.Errorf("publish: %v", err)
	}
	if _, err := l.RequestRaw(t.Context(), "echo", nil); !errors.Is(err, link.ErrOffline) {
		t.Errorf("request: %v", err)
	}
	s := await(t, "an error", l, func(s link.State) bool { return s.LastError != nil })
	if text := s.LastError.Error(); !strings.HasPrefix(text, "dial "+h.url()+": ") || !strings.Contains(text, "connection refused") {
		t.Errorf("error %q", text)
	}
	h.start()
	await(t, "session", l, connected)
}

func TestHubRestart(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.serve("never", func(*nats.Msg) {})
	l := h.run(nil)
	await(t, "session", l, connected)
	answer := make(chan error, 1)
	go func() {
		_, err := l.RequestRaw(context.Background(), "never", nil)
		answer <- err
	}()
	for n := 2; n <= 4; n++ {
		h.stop()
		await(t, "loss", l, func(s link.State) bool { return !s.Connected })
		h.start()
		await(t, "session", l, func(s link.State) bool { return s.Connected && s.Sessions == n })
	}
	// A request does not outlive its session.
	select {
	case err := <-answer:
		if !errors.Is(err, link.ErrOffline) {
			t.Errorf("request: %v", err)
		}
	case <-time.After(patience):
		t.Error("request does not end")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		refusal refusal
		reason  string
		slow    bool
	}{
		{"revoked", refusal{401, `{"reason":"revoked"}`, ""}, wire.ReasonRevoked, true},
		{"superseded", refusal{401, `{"reason":"superseded"}`, ""}, wire.ReasonSuperseded, true},
		{"expired", refusal{401, `{"reason":"expired","message":"since May"}`, ""}, wire.ReasonExpired, true},
		{"removed", refusal{401, `{"reason":"removed"}`, ""}, wire.ReasonRemoved, true},
		{"not accepted", refusal{403, `{"reason":"not-accepted"}`, ""}, wire.ReasonNotAccepted, true},
		{"busy", refusal{503, `{"reason":"busy"}`, "120"}, wire.ReasonBusy, true},
		{"proxy's page", refusal{502, `<html>`, ""}, wire.ReasonInternal, false},
		{"redirect", refusal{308, ``, ""}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.refuse(&tt.refusal)
			l := h.run(nil)
			s := await(t, "refusal", l, func(s link.State) bool { return s.LastError != nil })
			if s.Refused() != tt.reason {
				t.Errorf("refused %q: %v", s.Refused(), s.LastError)
			}
			if slow := time.Until(s.NextAttempt) > time.Minute; slow != tt.slow {
				t.Errorf("next attempt in %v", time.Until(s.NextAttempt))
			}
			// A new certificate is tried soon, whatever was said of the old one.
			h.refuse(nil)
			l.Reconnect()
			s = await(t, "session", l, connected)
			if s.Refused() != "" || s.Attempts != 0 {
				t.Errorf("state %+v", s)
			}
		})
	}
}

func TestWelcomeRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		welcome wire.Welcome
		want    string
	}{
		{"error", wire.Welcome{Error: "agent is too old: update it"}, "hub refused the connection: refused: agent is too old: update it"},
		{"version", wire.Welcome{Version: 99}, fmt.Sprintf("hub refused the connection: refused: hub speaks protocol version 99, this agent %d to %d", wire.MinVersion, wire.Version)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.mu.Lock()
			h.welcome = tt.welcome
			h.mu.Unlock()
			l := h.run(nil)
			s := await(t, "refusal", l, func(s link.State) bool { return s.LastError != nil })
			if !strings.HasSuffix(s.LastError.Error(), tt.want) || s.Refused() != wire.ReasonRefused || s.Connected {
				t.Errorf("state %+v", s)
			}
			h.mu.Lock()
			h.welcome = wire.Welcome{Version: 1}
			h.mu.Unlock()
			await(t, "session", l, connected)
		})
	}
}

// A hub whose services come up after its port costs no second handshake.
func TestGreetWaitsForServices(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	l := h.run(func(c *link.Config) { c.Cluster = "late.cluster" }) // whom no hello reaches: two tokens
	late := "fm.late.cluster.up.svc.hello"
	deadline := time.Now().Add(patience)
	for h.upgrades.Load() == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if _, err := h.nc.Subscribe(late, func(m *nats.Msg) {
		body, err := json.Marshal(wire.Welcome{Version: 1})
		if err != nil {
			t.Error(err)
		}
		m.Respond(body)
	}); err != nil {
		t.Fatal(err)
	}
	await(t, "session", l, connected)
	if n := h.upgrades.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

func TestCloseReason(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	l := h.run(func(c *link.Config) { c.Pace.Stable, c.Pace.Base, c.Pace.Cap = time.Hour, time.Hour, time.Hour })
	await(t, "session", l, connected)
	h.kick("replaced by a newer session from 192.0.2.1:5")
	s := await(t, "loss", l, func(s link.State) bool { return s.LastError != nil })
	if want := "hub closed the connection: replaced by a newer session from 192.0.2.1:5"; s.LastError.Error() != want {
		t.Errorf("got %q, want %q", s.LastError, want)
	}
	// A session that did not last is a failed attempt: two holders of one
	// certificate must not chase each other at full speed.
	if s.Attempts != 1 || time.Until(s.NextAttempt) < time.Minute {
		t.Errorf("state %+v", s)
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var dials atomic.Int64
	l := h.run(func(c *link.Config) {
		c.TLS = func() *tls.Config { dials.Add(1); return h.tls() }
	})
	await(t, "session", l, connected)
	l.Reconnect()
	await(t, "second session", l, func(s link.State) bool { return s.Connected && s.Sessions == 2 })
	if n := dials.Load(); n != 2 {
		t.Errorf("certificate read %d times", n)
	}
}

// The connection stays open and carries nothing: a laptop that changed its network.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	p := newProxy(t, h.addr, false)
	l := h.run(func(c *link.Config) {
		c.URLs = []string{"https://" + p.Addr().String()}
		c.Pace.PingInterval = 300 * time.Millisecond
		c.Pace.DialTimeout = 500 * time.Millisecond
	})
	await(t, "session", l, connected)
	p.hole.Store(true)
	s := await(t, "loss", l, func(s link.State) bool { return s.LastError != nil })
	if want := "connection lost: no sign of life from the hub for 900ms"; s.LastError.Error() != want {
		t.Errorf("got %q, want %q", s.LastError, want)
	}
	await(t, "failed attempt", l, func(s link.State) bool { return s.Attempts > 0 })
	p.hole.Store(false)
	await(t, "session", l, connected)
}

// A large answer on a slow link takes longer than a dead hub is waited for.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.serve(wire.ServiceContent, func(m *nats.Msg) { m.Respond(make([]byte, 400<<10)) })
	p := newProxy(t, h.addr, false)
	l := h.run(func(c *link.Config) {
		c.URLs = []string{"https://" + p.Addr().String()}
		c.Pace.PingInterval = 300 * time.Millisecond // 900 ms of silence are the end
	})
	await(t, "session", l, connected)
	p.slow.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	answer, err := l.RequestRaw(ctx, wire.ServiceContent, nil)
	if err != nil || len(answer) != 400<<10 {
		t.Errorf("%d bytes after %v: %v", len(answer), time.Since(start), err)
	}
	if s := l.State(); s.Sessions != 1 || !s.Connected {
		t.Errorf("state %+v", s)
	}
	t.Logf("took %v", time.Since(start))
}

func TestProxy(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	p := newProxy(t, h.addr, true)
	l := h.run(func(c *link.Config) {
		c.URLs = []string{"https://hub.example:8443"} // a name that only the proxy can reach
		c.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: p.Addr().String()})
	})
	await(t, "session", l, connected)
	if p.used.Load() != 1 {
		t.Errorf("proxy used %d times", p.used.Load())
	}
}

func TestURLsRotate(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	l := h.run(func(c *link.Config) { c.URLs = []string{"https://" + dead.Addr().String(), h.url()} })
	for n := 1; n <= 3; n++ {
		await(t, "session", l, func(s link.State) bool { return s.Connected && s.URL == h.url() && s.Sessions == n })
		h.kick("go")
	}
}

// The hub is known by its certificate, not by its address.
func TestForeignHub(t *testing.T) {
	t.Parallel()
	h, other := newHub(t), newHub(t)
	l := h.run(func(c *link.Config) { c.TLS = other.tls })
	s := await(t, "refusal", l, func(s link.State) bool { return s.LastError != nil })
	if !strings.Contains(s.LastError.Error(), "certificate") || s.Connected {
		t.Errorf("state %+v", s)
	}
	if n := h.upgrades.Load(); n != 0 {
		t.Errorf("%d requests sent to a foreign hub", n)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		urls []string
		want string
	}{
		{"none", nil, "link: no hub URL"},
		{"plain", []string{"http://hub"}, `link: hub URL "http://hub": want https://host[:port]`},
		{"host only", []string{"hub:443"}, `link: hub URL "hub:443": want https://host[:port]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := link.New(link.Config{URLs: tt.urls}); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
