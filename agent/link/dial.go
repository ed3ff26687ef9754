// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/drover-io/drover/shared/wire"
)

// readLimit is the largest websocket message from the hub in bytes.
const readLimit = 2 << 20

// closeTimeout is how long the hub may take to answer a close frame.
const closeTimeout = 250 * time.Millisecond

// dial opens the websocket on hub, "https://host[:port]".
func (l *Link) dial(ctx context.Context, hub string) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, l.pace.DialTimeout)
	defer cancel()

	// A transport of its own for every attempt: nothing of an earlier one, its
	// certificate least of all, is used again.
	var mu sync.Mutex
	var raw net.Conn
	config := l.cfg.TLS()
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = "hub." + l.cfg.TrustDomain
	}
	dialer := &net.Dialer{Timeout: l.pace.DialTimeout, KeepAlive: 15 * time.Second}
	transport := &http.Transport{
		Proxy:           l.cfg.Proxy,
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			mu.Lock()
			raw = conn
			mu.Unlock()
			return conn, err
		},
		TLSHandshakeTimeout: l.pace.DialTimeout,
		DisableKeepAlives:   true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	ws, resp, err := websocket.Dial(ctx, strings.TrimSuffix(hub, "/")+wire.PathAgent, &websocket.DialOptions{
		HTTPClient:      client,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= 400 {
			return nil, refusalOf(resp)
		}
		return nil, fmt.Errorf("dial %s: %w", hub, plain(err))
	}
	ws.SetReadLimit(readLimit)
	mu.Lock()
	defer mu.Unlock()
	return &socket{ws: ws, raw: raw, idle: 3 * l.pace.PingInterval}, nil
}

// plain strips the layers of HTTP and websocket off a failed dial.
func plain(err error) error {
	for _, layer := range []string{"failed to WebSocket dial: ", "failed to send handshake request: "} {
		if text, ok := strings.CutPrefix(err.Error(), layer); ok {
			if inner := errors.Unwrap(err); inner != nil && inner.Error() == text {
				err = inner
			}
		}
	}
	return err
}

// refusalOf reads the hub's reason.
func refusalOf(resp *http.Response) *RefusedError {
	refused := &RefusedError{Status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if json.Unmarshal(body, &refused.Refusal) != nil || refused.Refusal.Reason == "" {
		// Not the hub's words: a proxy's, or another server's.
		refused.Refusal = wire.Refusal{Reason: wire.ReasonInternal, Message: "HTTP status " + resp.Status}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		refused.RetryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	return refused
}

// maxRetryAfter bounds the hub's word.
const maxRetryAfter = 10 * time.Minute

// socket is the websocket as the stream that nats.go wants. Its deadlines are
// those of the TCP connection, which a fired deadline makes useless.
type socket struct {
	ws   *websocket.Conn
	raw  net.Conn
	idle time.Duration // the longest silence of the hub

	reader io.Reader // of the message being read; used by one goroutine

	mu     sync.Mutex
	reason *websocket.CloseError // the hub's last words
}

// Read returns bytes of the binary messages, whose borders have no meaning.
func (s *socket) Read(p []byte) (int, error) {
	for {
		// Any byte is a sign of life: on a slow link the answer to a ping may be a
		// minute behind a large message.
		if err := s.raw.SetReadDeadline(time.Now().Add(s.idle)); err != nil {
			return 0, err
		}
		if s.reader == nil {
			kind, r, err := s.ws.Reader(context.Background())
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, fmt.Errorf("no sign of life from the hub for %s", s.idle)
			}
			if err != nil {
				var reason websocket.CloseError
				if errors.As(err, &reason) {
					s.mu.Lock()
					s.reason = &reason
					s.mu.Unlock()
				}
				return 0, err
			}
			if kind != websocket.MessageBinary {
				return 0, errors.New("hub sent a text message")
			}
			s.reader = r
		}
		n, err := s.reader.Read(p)
		if err == io.EOF {
			s.reader, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends p as one message.
func (s *socket) Write(p []byte) (int, error) {
	if err := s.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye, and does not wait long for the answer.
func (s *socket) Close() error {
	timer := time.AfterFunc(closeTimeout, func() { s.raw.Close() }) //nolint:errcheck // ends ws.Close
	defer timer.Stop()
	return s.ws.Close(websocket.StatusNormalClosure, "")
}

// closeReason is what the hub said when it closed, nil if it did not.
func (s *socket) closeReason() *websocket.CloseError {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

func (s *socket) LocalAddr() net.Addr                { return s.raw.LocalAddr() }
func (s *socket) RemoteAddr() net.Addr               { return s.raw.RemoteAddr() }
func (s *socket) SetDeadline(t time.Time) error      { return s.raw.SetDeadline(t) }
func (s *socket) SetReadDeadline(t time.Time) error  { return s.raw.SetReadDeadline(t) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.raw.SetWriteDeadline(t) }
