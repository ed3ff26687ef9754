// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// tunnel is one agent's websocket and its connection to the broker. Whichever side
// ends, both are closed.
type tunnel struct {
	Session

	g    *Gateway
	ws   *websocket.Conn
	conn net.Conn // what ws runs on, for deadlines

	mu     sync.Mutex
	nats   net.Conn
	expiry *time.Timer
	refs   int // goroutines that use the tunnel
	over   bool
}

// serveAgent upgrades an agent's request to a session. The handler returns while
// the session lives: its stack and net/http's buffers would cost every agent.
func (g *Gateway) serveAgent(w http.ResponseWriter, r *http.Request) {
	if len(r.Header.Values("Origin")) > 0 {
		g.refuse(w, &RefusalError{Status: http.StatusForbidden, Refusal: wire.Refusal{
			Reason: wire.ReasonBadRequest, Message: "this path is for agents, not for browsers",
		}})
		return
	}
	if !g.registry.enter() {
		g.refuse(w, &RefusalError{Status: http.StatusServiceUnavailable, Refusal: wire.Refusal{
			Reason: wire.ReasonBusy, Message: "hub is shutting down",
		}, RetryAfter: time.Second})
		return
	}
	defer g.registry.group.Done()
	peer, err := g.cfg.Verify(r.Context(), r)
	if err != nil {
		g.refuse(w, err)
		return
	}
	hijacker := &smallHijacker{ResponseWriter: w}
	ws, err := websocket.Accept(hijacker, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		g.counters.refused(wire.ReasonBadRequest) // Accept has answered
		return
	}
	ws.SetReadLimit(readLimit)

	t := &tunnel{
		Session: Session{Cluster: peer.Cluster, RemoteAddr: r.RemoteAddr, Since: time.Now(), Serial: peer.Serial},
		g:       g, ws: ws, conn: hijacker.conn, refs: 1,
	}
	if !g.registry.add(t) {
		t.closeSocket(websocket.StatusGoingAway, "hub is shutting down")
		return
	}
	defer t.release()

	// The request's context ended with the hijack.
	ctx, cancel := context.WithTimeout(context.Background(), g.limits.SetupTimeout)
	defer cancel()
	// A revocation between the first check and the registration closed nothing:
	// it must show now.
	if _, err := g.cfg.Verify(ctx, r); err != nil {
		var refusal *RefusalError
		if errors.As(err, &refusal) {
			g.counters.refused(refusal.Refusal.Reason)
			t.end("refused", websocket.StatusPolicyViolation, refusal.Refusal.Reason)
			return
		}
		t.fail("verify", err)
		return
	}
	f, err := t.open(ctx, peer)
	if err != nil {
		t.fail("open", err)
		return
	}
	t.hold()
	t.hold()
	go t.fromAgent(f)
	go t.toAgent(peer.NotAfter)
}

// open connects to the broker and greets the agent; the filter it returns
// completes the login with the agent's CONNECT.
func (t *tunnel) open(ctx context.Context, peer Peer) (*filter, error) {
	nats, err := t.g.cfg.Broker.DialAgent(ctx)
	if err != nil {
		return nil, err
	}
	if !t.attach(nats, peer.NotAfter) {
		nats.Close() //nolint:errcheck // ended meanwhile, nothing was sent
		return nil, net.ErrClosed
	}
	deadline, _ := ctx.Deadline()
	if err := nats.SetReadDeadline(deadline); err != nil {
		return nil, fmt.Errorf("read INFO: %w", err)
	}
	line, err := readLine(nats, maxInfoLine)
	if err != nil {
		return nil, fmt.Errorf("read INFO: %w", err)
	}
	if err := nats.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("read INFO: %w", err)
	}
	info, nonce, err := rewriteInfo(line)
	if err != nil {
		return nil, err
	}
	credential, err := t.g.cfg.Broker.Credential(t.Cluster, peer.NotAfter)
	if err != nil {
		return nil, err
	}
	sig, err := credential.Sign([]byte(nonce))
	if err != nil {
		return nil, err
	}
	if err := t.send(info); err != nil {
		return nil, fmt.Errorf("send INFO: %w", err)
	}
	t.g.counters.connects.Add(1)
	t.g.log.Info("agent connected", t.fields()...)
	return newFilter(t.Cluster, func(line []byte) ([]byte, error) {
		return rewriteConnect(line, t.Cluster, credential.JWT, sig)
	}), nil
}

// attach gives t its broker side and its end, unless it has ended already.
func (t *tunnel) attach(nats net.Conn, notAfter time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.nats = nats
	t.expiry = time.AfterFunc(time.Until(notAfter), t.expire)
	return true
}

func (t *tunnel) expire() {
	t.end("expired", websocket.StatusPolicyViolation, "the certificate has expired")
}

// fromAgent moves bytes to the broker through the filter.
func (t *tunnel) fromAgent(f *filter) {
	defer t.release()
	idle := t.g.limits.SetupTimeout // up to CONNECT
	for {
		if err := t.conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
			t.lost("agent", err)
			return
		}
		kind, r, err := t.ws.Reader(context.Background())
		if err != nil {
			t.lost("agent", err)
			return
		}
		if kind != websocket.MessageBinary {
			t.violate(&violation{reason: "text"})
			return
		}
		idle = t.g.limits.IdleTimeout
		if !t.message(f, r) {
			return
		}
	}
}

// message moves one websocket message. The buffers are held only meanwhile, not
// while the agent is silent.
func (t *tunnel) message(f *filter, r io.Reader) bool {
	b := t.g.buffers.Get().(*buffers)
	defer t.g.buffers.Put(b)
	for {
		n, err := r.Read(b.in[:])
		if n > 0 {
			t.g.counters.fromAgents.Add(uint64(n))
			out, bad := f.feed(b.out[:0], b.in[:n])
			if bad != nil {
				t.violate(bad)
				return false
			}
			if len(out) > 0 {
				if _, err := t.nats.Write(out); err != nil {
					t.lost("broker", err)
					return false
				}
			}
		}
		if err == io.EOF {
			return true
		}
		if err == nil {
			err = t.conn.SetReadDeadline(time.Now().Add(t.g.limits.IdleTimeout))
		}
		if err != nil {
			t.lost("agent", err)
			return false
		}
	}
}

// toAgent moves bytes from the broker.
func (t *tunnel) toAgent(notAfter time.Time) {
	defer t.release()
	small := make([]byte, writeBuffer)
	var large *buffers
	defer func() {
		if large != nil {
			t.g.buffers.Put(large)
		}
	}()
	for {
		buf := small
		if large != nil {
			buf = large.in[:]
		}
		n, err := t.nats.Read(buf)
		if err != nil {
			// The user's JWT ends in the same second as the certificate.
			if time.Until(notAfter) < time.Second {
				t.expire()
				return
			}
			t.lost("broker", err)
			return
		}
		if err := t.send(buf[:n]); err != nil {
			t.lost("agent", err)
			return
		}
		// More is waiting: a large answer goes out in large pieces.
		switch {
		case n == len(buf) && large == nil:
			large = t.g.buffers.Get().(*buffers)
		case n < len(buf) && large != nil:
			t.g.buffers.Put(large)
			large = nil
		}
	}
}

func (t *tunnel) send(p []byte) error {
	if err := t.conn.SetWriteDeadline(time.Now().Add(t.g.limits.WriteTimeout)); err != nil {
		return err
	}
	t.g.counters.toAgents.Add(uint64(len(p)))
	return t.ws.Write(context.Background(), websocket.MessageBinary, p)
}

// violate ends a session whose agent broke the rules.
func (t *tunnel) violate(bad *violation) {
	if t.end("violation", websocket.StatusPolicyViolation, "protocol violation: "+bad.reason) {
		t.g.counters.violated(bad.reason)
		t.g.log.Warn("agent broke the protocol", append(t.fields(), zap.String("rule", bad.reason))...)
	}
}

// fail ends a session that the hub could not set up.
func (t *tunnel) fail(step string, err error) {
	if t.end("internal", websocket.StatusInternalError, "internal error, see the hub's log") {
		t.g.log.Error("session failed", append(t.fields(), zap.String("step", step), zap.Error(err))...)
	}
}

// lost ends a session one of whose sides has gone.
func (t *tunnel) lost(side string, err error) {
	code, reason := websocket.StatusGoingAway, ""
	cause := "agent left"
	var timeout net.Error
	switch {
	case side == "broker":
		cause, reason = "broker closed", "the hub's broker closed the connection"
	case websocket.CloseStatus(err) >= 0:
		cause = "agent closed"
	case errors.As(err, &timeout) && timeout.Timeout():
		cause, reason = "agent silent", "no sign of life"
	}
	t.end(cause, code, reason)
}

// end closes both sides, once, and reports whether this call did. When it returns
// the broker hears no more of this agent.
func (t *tunnel) end(cause string, code websocket.StatusCode, reason string) bool {
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return false
	}
	t.over = true
	t.refs++ // of the closing goroutine; not zero before, or over would be set
	if t.nats != nil {
		t.nats.Close() //nolint:errcheck // ends both directions
	}
	if t.expiry != nil {
		t.expiry.Stop()
	}
	t.mu.Unlock()

	t.g.registry.leave(t)
	t.g.counters.ended(cause)
	t.g.log.Info("agent session ended", append(t.fields(), zap.String("cause", cause), zap.String("reason", reason))...)
	go func() {
		defer t.release()
		t.closeSocket(code, reason)
	}()
	return true
}

// closeSocket sends a close frame and waits a moment for its answer, as the agent
// logs the reason.
func (t *tunnel) closeSocket(code websocket.StatusCode, reason string) {
	timer := time.AfterFunc(t.g.limits.CloseTimeout, t.cut)
	defer timer.Stop()
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	t.ws.Close(code, reason) //nolint:errcheck // cut makes sure
	t.cut()
}

// cut closes the TCP connection at once; TLS would first try to say goodbye.
func (t *tunnel) cut() {
	conn := t.conn
	if tls, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = tls.NetConn()
	}
	conn.Close() //nolint:errcheck // nothing to be done
}

// hold and release count the goroutines of t; the last one takes it off the books.
func (t *tunnel) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refs++
}

func (t *tunnel) release() {
	t.mu.Lock()
	t.refs--
	last := t.refs == 0
	t.mu.Unlock()
	if last {
		t.g.registry.gone(t)
	}
}

func (t *tunnel) fields() []zap.Field {
	return []zap.Field{zap.String("cluster", t.Cluster), zap.Uint64("epoch", t.Epoch), zap.String("address", t.RemoteAddr), zap.String("serial", t.Serial)}
}

// maxReason is the longest reason in bytes a close frame carries.
const maxReason = 123

// buffers are used while a message passes.
type buffers struct {
	in [readBuffer]byte
	// out also takes a control line and a header block held back before.
	out [readBuffer + maxLine + maxHeader]byte
}

// smallHijacker replaces net/http's two 4 KiB buffers of a hijacked connection,
// which a session would hold for life.
type smallHijacker struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack takes the connection over, with what has been read of it already.
func (h *smallHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil {
		return nil, nil, err
	}
	// What is buffered must stay so: Accept takes the rest from conn itself.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	r := bufio.NewReaderSize(bytes.NewReader(bytes.Clone(early)), max(hijackReader, len(early)))
	if _, err := r.Peek(len(early)); err != nil {
		return nil, nil, err
	}
	h.conn = conn
	return conn, bufio.NewReadWriter(r, bufio.NewWriterSize(conn, hijackWriter)), nil
}
