// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package link is an agent's one connection to the hub: a websocket over mutual
// TLS with the NATS protocol inside. It dials, greets, keeps the connection
// alive and dials again, for ever, at a pace that the hub's admission survives.
package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// ErrOffline is returned while there is no session with the hub.
var ErrOffline = errors.New("not connected to the hub")

// Config of a Link.
type Config struct {
	// URLs of the hub, "https://host[:port]"; each attempt takes the next one.
	URLs        []string
	Cluster     string
	TrustDomain string

	// TLS returns the client configuration for one dial, with the newest
	// certificate and trust bundle; it is called for every attempt. Without a
	// ServerName it gets the hub's, hub.<trust domain>.
	TLS func() *tls.Config
	// Proxy chooses the HTTP proxy; nil takes HTTPS_PROXY and NO_PROXY from the
	// environment.
	Proxy func(*http.Request) (*url.URL, error)
	// Hello returns the greeting of a new session.
	Hello func() wire.Hello
	// Serve are the hub's requests that this agent answers, by service.
	Serve map[string]Handler
	Log   *zap.Logger

	// Pace; a zero field takes its default.
	Pace Pace
}

// Link keeps the connection.
type Link struct {
	cfg  Config
	pace Pace
	log  *zap.Logger

	hints     chan struct{}
	connected chan struct{}
	reopen    chan struct{}

	mu      sync.Mutex
	session *session // nil while offline
	state   State
	welcome wire.Welcome
	watch   map[chan struct{}]struct{}
}

// State is a snapshot of a Link.
type State struct {
	Connected bool      // a session exists and the hub has welcomed it
	Since     time.Time // of Connected's present value
	URL       string    // of the hub last tried
	// Version of the wire protocol of the session; zero before the first.
	Version int

	// LastError is why the last attempt or session ended, nil after a welcome.
	// It is a *RefusedError when the hub said why.
	LastError   error
	Attempts    int       // failed ones since the last session
	NextAttempt time.Time // zero while connected or dialling
	Sessions    int       // so far
}

// Refused returns the hub's reason when the last attempt was refused, one of
// wire's Reason constants, else "".
func (s State) Refused() string {
	var refused *RefusedError
	if errors.As(s.LastError, &refused) {
		return refused.Refusal.Reason
	}
	return ""
}

// RefusedError is the hub's refusal of a session.
type RefusedError struct {
	Status     int // HTTP status; 0 when the hub refused the greeting
	Refusal    wire.Refusal
	RetryAfter time.Duration
}

// Error names the reason and the message.
func (e *RefusedError) Error() string {
	text := "hub refused the connection: " + e.Refusal.Reason
	if e.Refusal.Message != "" {
		text += ": " + e.Refusal.Message
	}
	return text
}

// ServiceError is the text of header wire.HeaderError of an answer.
type ServiceError struct{ Message string }

// Error is the hub's text.
func (e *ServiceError) Error() string { return e.Message }

// New checks cfg. Nothing is dialled before Run.
func New(cfg Config) (*Link, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("link: no hub URL")
	}
	for _, text := range cfg.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("link: hub URL %q: want https://host[:port]", text)
		}
	}
	if cfg.Cluster == "" || cfg.TLS == nil || cfg.Hello == nil {
		return nil, errors.New("link: cluster, TLS and hello are required")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	return &Link{
		cfg:       cfg,
		pace:      cfg.Pace.withDefaults(),
		log:       cfg.Log,
		hints:     make(chan struct{}, 1),
		connected: make(chan struct{}, 1),
		reopen:    make(chan struct{}, 1),
		state:     State{Since: time.Now()},
		watch:     map[chan struct{}]struct{}{},
	}, nil
}

// Hints has a value when the hub has hinted since it was last received from.
// Hints coalesce and may be lost: also look on Connected and from time to time.
func (l *Link) Hints() <-chan struct{} { return l.hints }

// Connected has a value when a session has been welcomed since it was last
// received from.
func (l *Link) Connected() <-chan struct{} { return l.connected }

// Reconnect closes the session, if any, and opens a new one after a short random
// delay, as is due after a renewal of the certificate.
func (l *Link) Reconnect() { notify(l.reopen) }

// State returns the present state.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Welcome returns the hub's answer to the last greeting it accepted.
func (l *Link) Welcome() wire.Welcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.welcome
}

// Subscribe returns a channel that has a value when State has changed since it
// was last received from. cancel releases it.
func (l *Link) Subscribe() (changed <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch[ch] = struct{}{}
	return ch, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watch, ch)
	}
}

// notify leaves a value in a channel of capacity one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
