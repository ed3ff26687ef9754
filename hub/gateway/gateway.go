// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the hub's one HTTPS port. The TLS server name decides
// whom a connection belongs to: agents, people and tools with client
// certificates, or browsers. An agent's websocket becomes a session: the NATS
// protocol spliced to the broker through a filter, so that an agent reaches
// nothing but its own cluster's subjects.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

// Peer is the verified identity behind a request on the agents' side.
type Peer struct {
	Cluster  string
	Serial   string    // of the certificate
	NotAfter time.Time // of the certificate; the session ends then
}

// Verify turns the client certificate of r into an identity, or refuses with a
// *RefusalError. It is called before the upgrade of every agent's websocket and
// again after the session is registered, which closes the race with a
// revocation, so it must not have side effects that make the second call fail.
type Verify func(ctx context.Context, r *http.Request) (Peer, error)

// RefusalError is a refusal that the agent is told in full.
type RefusalError struct {
	Status     int // HTTP status, 4xx or 5xx
	Refusal    wire.Refusal
	RetryAfter time.Duration // header Retry-After, rounded up to seconds; zero leaves it out
}

// Error names the reason and the message.
func (e *RefusalError) Error() string {
	if e.Refusal.Message == "" {
		return "refused: " + e.Refusal.Reason
	}
	return "refused: " + e.Refusal.Reason + ": " + e.Refusal.Message
}

// Broker is the NATS side of a session.
type Broker interface {
	// DialAgent opens one raw NATS client connection.
	DialAgent(ctx context.Context) (net.Conn, error)
	// Credential mints a credential for one connection of cluster.
	Credential(cluster string, notAfter time.Time) (*broker.Credential, error)
}

// GetCertificate returns the server certificate for a handshake; it is asked
// every time, so a renewed certificate is served at once.
type GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Config of a Gateway.
type Config struct {
	// Listener to serve on, or Addr ("host:port", port 0 picks one) to listen on.
	Listener net.Listener
	Addr     string

	// TrustDomain gives the server names hub.<td> (agents) and api.<td> (clients
	// with certificates). Every other name is a browser's.
	TrustDomain string

	// Certificates per kind of client. Browsers get GetPeopleCertificate, or
	// GetAPICertificate when it is nil.
	GetHubCertificate    GetCertificate
	GetAPICertificate    GetCertificate
	GetPeopleCertificate GetCertificate

	// AgentHandler serves the agents' paths other than wire.PathAgent.
	AgentHandler http.Handler
	// PeopleHandler serves everything on the other server names.
	PeopleHandler http.Handler

	Verify Verify
	Broker Broker
	Log    *zap.Logger

	// Limits; zero values take the defaults of DefaultLimits.
	Limits Limits
}

// Gateway serves the port.
type Gateway struct {
	cfg      Config
	limits   Limits
	log      *zap.Logger
	listener *listener
	registry *registry
	counters counters
	buffers  sync.Pool // of *buffers
}

// New listens, so that Addr is known and a port in use is reported here, but
// serves nothing before Run. A Gateway that is never run must be closed.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.TrustDomain == "":
		return nil, errors.New("gateway: trust domain is empty")
	case cfg.GetHubCertificate == nil || cfg.GetAPICertificate == nil:
		return nil, errors.New("gateway: hub and api certificates are required")
	case cfg.Verify == nil || cfg.Broker == nil:
		return nil, errors.New("gateway: verify and broker are required")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	g := &Gateway{cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Log}
	g.buffers.New = func() any { return new(buffers) }
	g.registry = newRegistry(g.limits, cfg.Log)

	inner := cfg.Listener
	if inner == nil {
		var err error
		if inner, err = Listen(cfg.Addr); err != nil {
			return nil, err
		}
	}
	g.listener = newListener(inner, g.tlsConfig(), g.limits, &g.counters)
	return g, nil
}

// Listen opens a TCP listener whose errors name the address and the cause in one line.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return nil, fmt.Errorf("listen on %s: %w", addr, errno)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return nil, fmt.Errorf("listen on %s: %w", addr, op.Err)
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// Addr is the address the gateway listens on.
func (g *Gateway) Addr() net.Addr { return g.listener.inner.Addr() }

// Close releases the port of a Gateway that was not run. Run does it itself.
func (g *Gateway) Close() error { return g.listener.inner.Close() }

// Run serves until ctx ends, then closes the sessions spread over
// Limits.DrainSpread and waits for open requests up to Limits.ShutdownTimeout.
func (g *Gateway) Run(ctx context.Context) error {
	noise, err := zap.NewStdLogAt(g.log, zap.DebugLevel) // of clients that speak no HTTP
	if err != nil {
		return fmt.Errorf("make HTTP log: %w", err)
	}
	server := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: g.limits.HeaderTimeout,
		IdleTimeout:       g.limits.HTTPIdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          noise,
		// Requests outlive ctx until shutdown has drained them.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	accepting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	handshakes := make(chan error, 1)
	go func() { handshakes <- g.listener.run(accepting) }()
	served := make(chan error, 1)
	go func() { served <- server.Serve(g.listener) }()

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-handshakes:
		handshakes <- failed
	}

	// The port closes first, so that nobody who is sent away comes back to it.
	stop()
	<-handshakes
	g.registry.drain()
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limits.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(shutdown); err != nil {
		server.Close() //nolint:errcheck // the deadline is over, what is left is cut
	}
	<-served
	g.registry.wait()
	if failed != nil {
		return fmt.Errorf("accept on %s: %w", g.Addr(), failed)
	}
	return nil
}

// retryAfter is the header's value for d, in whole seconds, at least 1.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}
