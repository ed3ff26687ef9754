// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/shared/wire"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) { leak.Main(m) }

// testHub is a nats-server behind a websocket: the hub as an agent sees it.
type testHub struct {
	t     *testing.T
	certs []tls.Certificate
	roots *x509.CertPool
	nats  *server.Server
	nc    *nats.Conn

	upgrades atomic.Int64
	greeted  atomic.Int64

	mu      sync.Mutex
	welcome wire.Welcome
	refusal *refusal // instead of an upgrade
	http    *http.Server
	addr    string
	sockets map[*websocket.Conn]struct{}
	group   sync.WaitGroup
}

type refusal struct {
	status int
	body   string
	retry  string
}

func newHub(t *testing.T) *testHub {
	t.Helper()
	h := &testHub{t: t, welcome: wire.Welcome{Version: 1, Agents: 1}, sockets: map[*websocket.Conn]struct{}{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"hub.fleet.test"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	h.roots = x509.NewCertPool()
	h.roots.AddCert(cert)
	h.certs = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}

	if h.nats, err = server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true}); err != nil {
		t.Fatal(err)
	}
	h.nats.Start()
	t.Cleanup(func() { h.nats.Shutdown(); h.nats.WaitForShutdown() })
	if h.nc, err = nats.Connect("", nats.InProcessServer(h.nats)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.nc.Close)
	h.serve(wire.ServiceHello, func(m *nats.Msg) {
		h.greeted.Add(1)
		h.mu.Lock()
		body, err := json.Marshal(h.welcome)
		h.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		m.Respond(body)
	})
	h.addr = "127.0.0.1:0"
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *testHub) serve(service string, handle nats.MsgHandler) {
	h.t.Helper()
	if _, err := h.nc.QueueSubscribe(wire.AllServices(service), "hub", handle); err != nil {
		h.t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

// start listens, on the same port as before after a stop.
func (h *testHub) start() {
	h.t.Helper()
	l, err := tls.Listen("tcp", h.addr, &tls.Config{
		Certificates: h.certs, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = l.Addr().String()
	h.http = &http.Server{Handler: http.HandlerFunc(h.handle), ErrorLog: nil}
	h.group.Go(func() { h.http.Serve(l) })
}

// stop is the sudden end of the hub's process.
func (h *testHub) stop() {
	h.http.Close()
	h.mu.Lock()
	for ws := range h.sockets {
		go ws.CloseNow()
	}
	h.mu.Unlock()
	h.group.Wait()
}

func (h *testHub) handle(w http.ResponseWriter, r *http.Request) {
	h.upgrades.Add(1)
	h.mu.Lock()
	no := h.refusal
	h.mu.Unlock()
	if no != nil {
		if no.retry != "" {
			w.Header().Set("Retry-After", no.retry)
		}
		w.WriteHeader(no.status)
		io.WriteString(w, no.body)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ws.SetReadLimit(2 << 20)
	h.mu.Lock()
	h.sockets[ws] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.sockets, ws)
		h.mu.Unlock()
	}()
	defer ws.CloseNow()
	inner, err := h.nats.InProcessConn()
	if err != nil {
		return
	}
	defer inner.Close()
	outer := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	h.group.Go(func() {
		io.Copy(outer, inner)
		ws.CloseNow()
	})
	io.Copy(inner, outer)
}

func (h *testHub) refuse(r *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusal = r
}

// kick closes all sockets with a reason.
func (h *testHub) kick(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ws := range h.sockets {
		h.group.Go(func() { ws.Close(websocket.StatusPolicyViolation, reason) })
	}
}

func (h *testHub) url() string { return "https://" + h.addr }

func (h *testHub) tls() *tls.Config {
	return &tls.Config{RootCAs: h.roots} // the name is the link's to add
}

// quick is a pace for tests.
var quick = link.Pace{
	Base: 20 * time.Millisecond, Cap: 100 * time.Millisecond, Window: 10 * time.Millisecond,
	Stable: time.Nanosecond, Reopen: 10 * time.Millisecond, Slow: time.Hour,
}

// run starts a link to h.
func (h *testHub) run(change func(*link.Config)) *link.Link {
	h.t.Helper()
	cfg := link.Config{
		URLs: []string{h.url()}, Cluster: "aaa", TrustDomain: "fleet.test", TLS: h.tls,
		Hello: func() wire.Hello { return wire.Hello{AgentVersion: "test"} }, Pace: quick,
	}
	if change != nil {
		change(&cfg)
	}
	l, err := link.New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				h.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			h.t.Error("Run does not end")
		}
	})
	return l
}

func await(t *testing.T, what string, l *link.Link, ok func(link.State) bool) link.State {
	t.Helper()
	changed, cancel := l.Subscribe()
	defer cancel()
	deadline := time.After(patience)
	for {
		if s := l.State(); ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("timed out: %s: %+v", what, l.State())
		}
	}
}

func connected(s link.State) bool { return s.Connected }

func receive(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("timed out: %s", what)
	}
}

// proxy forwards TCP, and answers HTTP CONNECT first if asked to.
type proxy struct {
	net.Listener
	target  string
	connect bool
	hole    atomic.Bool // forwards nothing and closes nothing
	slow    atomic.Bool // forwards little at a time
	used    atomic.Int64
	mu      sync.Mutex
	conns   []net.Conn
	group   sync.WaitGroup
}

func newProxy(t *testing.T, target string, connect bool) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target, connect: connect}
	p.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.group.Go(func() { p.forward(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.drop()
		p.group.Wait()
	})
	return p
}

// drop closes all connections.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
}

func (p *proxy) forward(conn net.Conn) {
	p.used.Add(1)
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		conn.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, conn, out)
	p.mu.Unlock()
	if p.connect {
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || string(buf[:min(n, 8)]) != "CONNECT " {
			conn.Close()
			out.Close()
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	}
	p.group.Go(func() { p.copy(conn, out) })
	p.copy(out, conn)
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		part := buf
		if p.slow.Load() {
			time.Sleep(20 * time.Millisecond)
			part = buf[:4<<10]
		}
		n, err := from.Read(part)
		if err != nil {
			return
		}
		if p.hole.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
