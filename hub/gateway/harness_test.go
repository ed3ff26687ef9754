// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats.go"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	leak.Main(m)
}

// authority is a CA of one certificate.
type authority struct {
	td   string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{td: "fleet.test", key: key, cert: cert, pool: pool}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) issue(t testing.TB, notAfter time.Time, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	change(template)
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) server(t testing.TB, names ...string) *tls.Certificate {
	return a.issue(t, time.Now().Add(time.Hour), func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
}

func (a *authority) agent(t testing.TB, cluster string, notAfter time.Time) *tls.Certificate {
	return a.issue(t, notAfter, func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: a.td, Path: "/cluster/" + cluster}}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

// testHub is a gateway with a real broker.
type testHub struct {
	*Gateway
	ca     *authority
	broker *broker.Broker
	nc     *nats.Conn // the hub's own
	stop   func()

	mu       sync.Mutex
	denied   map[string]string // cluster -> reason
	verified int
	onVerify func(call int)
}

func newHub(t testing.TB, change func(*Config)) *testHub {
	t.Helper()
	h := &testHub{ca: newAuthority(t), denied: map[string]string{}}
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	h.broker = b
	if h.nc, err = b.Connect("test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.nc.Close)
	h.start(t, change)
	return h
}

func (h *testHub) start(t testing.TB, change func(*Config)) {
	t.Helper()
	hub := h.ca.server(t, "hub."+h.ca.td)
	api := h.ca.server(t, "api."+h.ca.td, "localhost")
	cfg := Config{
		Addr: "127.0.0.1:0", TrustDomain: h.ca.td, Broker: h.broker, Verify: h.verify,
		GetHubCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return hub, nil },
		GetAPICertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return api, nil },
		Limits:            Limits{DrainSpread: 100 * time.Millisecond, SilentTimeout: patience},
	}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Gateway = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(h.stop)
}

func (h *testHub) deny(cluster, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.denied[cluster] = reason
}

func (h *testHub) verify(_ context.Context, r *http.Request) (Peer, error) {
	refuse := func(reason string) (Peer, error) {
		return Peer{}, &RefusalError{Status: http.StatusUnauthorized, Refusal: wire.Refusal{Reason: reason}}
	}
	h.mu.Lock()
	h.verified++
	call, hook := h.verified, h.onVerify
	h.mu.Unlock()
	if hook != nil {
		hook(call)
	}
	if len(r.TLS.PeerCertificates) == 0 {
		return refuse(wire.ReasonRefused)
	}
	cert := r.TLS.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: h.ca.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return refuse(wire.ReasonExpired)
	}
	cluster := strings.TrimPrefix(cert.URIs[0].Path, "/cluster/")
	h.mu.Lock()
	reason := h.denied[cluster]
	h.mu.Unlock()
	if reason != "" {
		return refuse(reason)
	}
	return Peer{Cluster: cluster, Serial: cert.SerialNumber.String(), NotAfter: cert.NotAfter}, nil
}

// client is an agent's HTTP client that connects to addr.
func (h *testHub) client(cert *tls.Certificate, serverName, addr string) *http.Client {
	config := &tls.Config{RootCAs: h.ca.pool, ServerName: serverName}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		},
	}}
}

// upgrade opens a websocket as the holder of cert.
func (h *testHub) upgrade(ctx context.Context, cert *tls.Certificate, addr string) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(ctx, "https://hub"+wire.PathAgent, &websocket.DialOptions{
		HTTPClient: h.client(cert, "hub."+h.ca.td, addr),
	})
}

func (h *testHub) agentCert(t testing.TB, cluster string) *tls.Certificate {
	return h.ca.agent(t, cluster, time.Now().Add(time.Hour))
}

// rawAgent speaks the NATS protocol by hand.
type rawAgent struct {
	t    testing.TB
	ws   *websocket.Conn
	conn io.ReadWriter
	r    *bufio.Reader
	info string
}

// stream is a websocket as a stream that keeps the reason of its end.
type stream struct {
	ws *websocket.Conn
	r  io.Reader
}

func (s *stream) Read(p []byte) (int, error) {
	if s.r == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, message, err := s.ws.Read(ctx)
		if err != nil {
			return 0, err
		}
		s.r = bytes.NewReader(message)
	}
	n, err := s.r.Read(p)
	if err == io.EOF {
		s.r, err = nil, nil
	}
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return len(p), s.ws.Write(ctx, websocket.MessageBinary, p)
}

func (h *testHub) raw(t testing.TB, cluster string) *rawAgent {
	t.Helper()
	return h.rawWith(t, h.agentCert(t, cluster), h.Addr().String())
}

func (h *testHub) rawWith(t testing.TB, cert *tls.Certificate, addr string) *rawAgent {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := h.upgrade(ctx, cert, addr)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(4 << 20)
	t.Cleanup(func() { ws.CloseNow() })
	return newRaw(t, ws)
}

// newRaw logs in on ws.
func newRaw(t testing.TB, ws *websocket.Conn) *rawAgent {
	t.Helper()
	s := &stream{ws: ws}
	a := &rawAgent{t: t, ws: ws, conn: s, r: bufio.NewReader(s)}
	a.info = a.line()
	a.send(`CONNECT {"verbose":false,"pedantic":false,"protocol":1,"headers":true,"no_responders":true,"echo":true,"lang":"go","version":"1"}` + "\r\nPING\r\n")
	if got := a.line(); got != "PONG" {
		t.Fatalf("after CONNECT: %q", got)
	}
	return a
}

// direct is a raw agent without gateway: the broker and its permissions alone.
func (h *testHub) direct(t testing.TB, cluster string) *rawAgent {
	t.Helper()
	conn, err := h.broker.DialAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	a := &rawAgent{t: t, conn: conn, r: bufio.NewReader(conn)}
	_, nonce, err := rewriteInfo([]byte(a.line()))
	if err != nil {
		t.Fatal(err)
	}
	credential, err := h.broker.Credential(cluster, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := credential.Sign([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	line, err := rewriteConnect([]byte("{}"), cluster, credential.JWT, sig)
	if err != nil {
		t.Fatal(err)
	}
	a.send(string(line) + "PING\r\n")
	if got := a.line(); got != "PONG" {
		t.Fatalf("after CONNECT: %q", got)
	}
	return a
}

func (a *rawAgent) send(text string) {
	a.t.Helper()
	if _, err := a.conn.Write([]byte(text)); err != nil {
		a.t.Fatalf("send %.40q: %v", text, err)
	}
}

func (a *rawAgent) line() string {
	a.t.Helper()
	line, err := a.tryLine()
	if err != nil {
		a.t.Fatalf("read line: %v", err)
	}
	return line
}

func (a *rawAgent) tryLine() (string, error) {
	line, err := a.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// sync returns the lines that arrived before the answer to a PING.
func (a *rawAgent) sync() (lines []string) {
	a.t.Helper()
	a.send("PING\r\n")
	for {
		line := a.line()
		if line == "PONG" {
			return lines
		}
		if line != "PING" { // the broker's own
			lines = append(lines, line)
		}
	}
}

// closed waits for the end and returns the hub's reason.
func (a *rawAgent) closed() string {
	a.t.Helper()
	for {
		if _, err := a.tryLine(); err != nil {
			var reason websocket.CloseError
			if errors.As(err, &reason) {
				return reason.Reason
			}
			return err.Error()
		}
	}
}

// dialer is nats.go's way through the gateway.
type dialer struct {
	hub  *testHub
	cert *tls.Certificate
	addr string
}

func (d dialer) Dial(string, string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := d.hub.upgrade(ctx, d.cert, d.addr)
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

func (d dialer) SkipTLSHandshake() bool { return true }

// connect is an agent with nats.go.
func (h *testHub) connect(t testing.TB, cluster string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := h.tryConnect(t, cluster, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (h *testHub) tryConnect(t testing.TB, cluster string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("nats://hub", append([]nats.Option{
		nats.SetCustomDialer(dialer{h, h.agentCert(t, cluster), h.Addr().String()}), nats.SkipHostLookup(),
		nats.CustomInboxPrefix(wire.InboxPrefix(cluster)), nats.NoReconnect(), nats.Timeout(patience),
	}, opts...)...)
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func pub(subject, reply, body string) string {
	if reply != "" {
		subject += " " + reply
	}
	return fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(body), body)
}
