// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// errReopen ends a session that Reconnect wants replaced.
var errReopen = errors.New("reopening")

// session is one connection, from a welcome to its end.
type session struct {
	cluster string
	nc      *nats.Conn
	socket  *socket
	ctx     context.Context // ends with the connection
	served  served
}

// Run keeps a session with the hub until ctx ends. It returns nil: whatever
// happens, it shows in State and is tried again. One loop owns the connection;
// nats.go's own reconnection is off, because its pace is not the fleet's.
func (l *Link) Run(ctx context.Context) error {
	defer l.set(func(s *State) { s.NextAttempt = time.Time{} })
	wait := l.pace.first(0, rand.Float64())
	failures := 0
	// Agents with several URLs spread over them from the start.
	for turn := rand.IntN(len(l.cfg.URLs)); ; turn++ {
		if !l.sleep(ctx, wait) {
			return nil
		}
		hub := l.cfg.URLs[turn%len(l.cfg.URLs)]
		l.set(func(s *State) { s.URL, s.NextAttempt = hub, time.Time{} })

		lasted, err := l.attempt(ctx, hub)
		if ctx.Err() != nil {
			return nil
		}
		var refused *RefusedError
		switch {
		case errors.Is(err, errReopen):
			failures = 0
			wait = time.Duration(rand.Float64() * float64(l.pace.Reopen))
			turn += len(l.cfg.URLs) - 1 // this hub is good
		case lasted >= l.pace.Stable:
			failures = 0
			wait = l.pace.first(l.Welcome().Agents, rand.Float64())
		default:
			failures++
			errors.As(err, &refused)
			wait = l.pace.next(refused, failures, rand.Float64())
			if lasted > 0 {
				wait = max(wait, l.pace.first(l.Welcome().Agents, rand.Float64()))
			}
		}
		l.log.Warn("no session with the hub", zap.String("url", hub), zap.Duration("retry", wait), zap.Error(err))
		l.set(func(s *State) {
			s.LastError, s.Attempts, s.NextAttempt = err, failures, time.Now().Add(wait)
		})
	}
}

// sleep waits, less if Reconnect is called, and reports whether to go on.
func (l *Link) sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-l.reopen:
			wait = min(wait, time.Duration(rand.Float64()*float64(l.pace.Reopen)))
			timer.Reset(wait)
		}
	}
}

// attempt opens a session and stays until it ends. It returns how long the
// session lasted, zero if there was none, and why it ended.
func (l *Link) attempt(ctx context.Context, hub string) (lasted time.Duration, err error) {
	// This attempt takes the newest certificate; nobody need ask for another.
	select {
	case <-l.reopen:
	default:
	}
	socket, err := l.dial(ctx, hub)
	if err != nil {
		return 0, err
	}
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	nc, err := l.login(socket, end)
	if err != nil {
		socket.Close() //nolint:errcheck // the login's error says more
		return 0, ended(socket, fmt.Errorf("log in to %s: %w", hub, err))
	}
	defer nc.Close()
	s := &session{cluster: l.cfg.Cluster, nc: nc, socket: socket, ctx: over}
	defer func() {
		end()
		s.served.wait()
	}()
	welcome, err := l.greet(ctx, s)
	if err != nil {
		return 0, ended(socket, fmt.Errorf("greet %s: %w", hub, err))
	}

	start := time.Now()
	l.begin(s, welcome)
	l.log.Info("connected to the hub", zap.String("url", hub), zap.Int("version", welcome.Version))
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.reopen:
		err = errReopen
	case <-over.Done():
		err = ended(socket, errors.New("connection lost"))
		if cause := nc.LastError(); cause != nil {
			err = ended(socket, fmt.Errorf("connection lost: %w", cause))
		}
	}
	l.finish()
	return max(time.Since(start), 1), err
}

// ended is err, or the hub's own words when it closed the connection.
func ended(s *socket, err error) error {
	if reason := s.closeReason(); reason != nil && reason.Reason != "" {
		return fmt.Errorf("hub closed the connection: %s", reason.Reason)
	}
	return err
}

// login speaks NATS on socket; closed is called when the connection has ended.
func (l *Link) login(socket *socket, closed func()) (*nats.Conn, error) {
	return nats.Connect("nats://hub", // never resolved: the dialer has the connection
		nats.SetCustomDialer(&once{conn: socket}),
		nats.SkipHostLookup(),
		nats.NoReconnect(),
		nats.IgnoreDiscoveredServers(),
		nats.Name(l.cfg.Cluster),
		nats.CustomInboxPrefix(wire.InboxPrefix(l.cfg.Cluster)),
		nats.Timeout(l.pace.GreetTimeout),
		nats.FlusherTimeout(l.pace.WriteTimeout),
		nats.PingInterval(l.pace.PingInterval),
		nats.MaxPingsOutstanding(math.MaxInt32), // the socket watches for silence
		nats.PermissionErrOnSubscribe(true),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.log.Warn("hub reported an error", zap.Error(err))
		}),
		nats.ClosedHandler(func(*nats.Conn) { closed() }),
	)
}

// greet subscribes to the hints, so that none is lost after the welcome, and says hello.
func (l *Link) greet(ctx context.Context, s *session) (wire.Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, l.pace.GreetTimeout)
	defer cancel()
	if _, err := s.nc.Subscribe(wire.HintSubject(s.cluster), func(*nats.Msg) { notify(l.hints) }); err != nil {
		return wire.Welcome{}, fmt.Errorf("subscribe to hints: %w", err)
	}
	if err := l.serve(s); err != nil {
		return wire.Welcome{}, err
	}
	hello := l.cfg.Hello()
	hello.Version = wire.Version
	body, err := json.Marshal(hello)
	if err != nil {
		return wire.Welcome{}, fmt.Errorf("encode hello: %w", err)
	}
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		answer, err := s.request(ctx, wire.ServiceHello, body)
		if errors.Is(err, nats.ErrNoResponders) {
			// The hub is starting. Another handshake would cost it more than this.
			select {
			case <-time.After(wait):
				continue
			case <-ctx.Done():
			}
		}
		if err != nil {
			return wire.Welcome{}, err
		}
		var welcome wire.Welcome
		if err := json.Unmarshal(answer, &welcome); err != nil {
			return wire.Welcome{}, fmt.Errorf("decode welcome: %w", err)
		}
		if welcome.Error != "" {
			return wire.Welcome{}, &RefusedError{Refusal: wire.Refusal{Reason: wire.ReasonRefused, Message: welcome.Error}}
		}
		if welcome.Version < 1 || welcome.Version > wire.Version {
			return wire.Welcome{}, &RefusedError{Refusal: wire.Refusal{
				Reason:  wire.ReasonRefused,
				Message: fmt.Sprintf("hub speaks protocol version %d, this agent 1 to %d", welcome.Version, wire.Version),
			}}
		}
		return welcome, nil
	}
}

func (l *Link) begin(s *session, welcome wire.Welcome) {
	l.mu.Lock()
	l.session, l.welcome = s, welcome
	l.mu.Unlock()
	l.set(func(st *State) {
		st.Connected, st.Since, st.Version = true, time.Now(), welcome.Version
		st.LastError, st.Attempts = nil, 0
		st.Sessions++
	})
	notify(l.connected)
}

func (l *Link) finish() {
	l.mu.Lock()
	l.session = nil
	l.mu.Unlock()
	l.set(func(st *State) { st.Connected, st.Since = false, time.Now() })
}

// set changes the state and tells those who watch.
func (l *Link) set(change func(*State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.state)
	for ch := range l.watch {
		notify(ch)
	}
}

// once is nats.go's dialer: it hands the one connection out.
type once struct{ conn net.Conn }

// Dial returns the connection, the first time.
func (o *once) Dial(string, string) (net.Conn, error) {
	conn := o.conn
	o.conn = nil
	if conn == nil {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// SkipTLSHandshake tells nats.go that TLS is underneath already.
func (o *once) SkipTLSHandshake() bool { return true }
