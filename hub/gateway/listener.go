// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// listener hands net/http connections whose TLS handshake is complete.
//
// Without a limit a storm of reconnecting agents collapses: every handshake runs
// at once, none ends in time, and all the work is thrown away. So a handshake
// computes only in a slot; it gives the slot back while it waits for the client,
// because otherwise a few clients that stop half way would hold every slot.
type listener struct {
	inner    net.Listener
	tls      *tls.Config
	limits   Limits
	counters *counters

	slots *slots
	ready chan net.Conn
	done  chan struct{} // closed when run returns

	mu     sync.Mutex
	silent *list.List // of *handshake, oldest first

	group sync.WaitGroup
}

func newListener(inner net.Listener, config *tls.Config, limits Limits, c *counters) *listener {
	return &listener{
		inner: inner, tls: config, limits: limits, counters: c,
		slots: newSlots(limits.Handshakes), ready: make(chan net.Conn), done: make(chan struct{}),
		silent: list.New(),
	}
}

// Accept returns the next connection that has completed its handshake.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting; run then ends as well.
func (l *listener) Close() error { return l.inner.Close() }

// Addr is the address listened on.
func (l *listener) Addr() net.Addr { return l.inner.Addr() }

// run accepts until ctx ends, closes what has not completed its handshake and
// waits for it.
func (l *listener) run(ctx context.Context) error {
	defer close(l.done)
	ctx, cancel := context.WithCancel(ctx)
	defer l.group.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.inner.Close() }) //nolint:errcheck // ends Accept
	defer stop()

	for wait := time.Duration(0); ; {
		conn, err := l.inner.Accept()
		if err == nil {
			wait = 0
			l.group.Go(func() { l.handshake(ctx, conn) })
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if !passing(err) {
			return err
		}
		// Out of file descriptors: those who hold them must get on.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// passing tells errors of accept(2) that concern one connection or a shortage
// from those that will not go away.
func passing(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (l *listener) handshake(ctx context.Context, raw net.Conn) {
	l.counters.handshaking.Add(1)
	defer l.counters.handshaking.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, l.limits.SilentTimeout+l.limits.HandshakeTimeout)
	defer cancel()

	hs := &handshake{listener: l, ctx: ctx, conn: raw}
	wrapped := &handshakeConn{Conn: raw, hs: hs}
	conn := tls.Server(wrapped, l.tls)
	err := conn.HandshakeContext(ctx)
	hs.finish()
	wrapped.hs = nil
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		l.counters.handshakeErrors.Add(1)
		raw.Close() //nolint:errcheck // nobody is listening
		return
	}
	l.counters.handshakes.Add(1)
	select {
	case l.ready <- conn:
	case <-ctx.Done():
		raw.Close() //nolint:errcheck // the gateway is closing, or net/http is stuck
	}
}

// handshake is the state of one handshake, used by its goroutine only, but for
// element, which the listener's mutex guards.
type handshake struct {
	listener *listener
	ctx      context.Context
	conn     net.Conn
	element  *list.Element // in listener.silent, unless it has been evicted
	waited   bool          // wait was called
	silent   bool          // and the ClientHello is not complete
	answered bool          // the hub has written, so the costly part is done
	holding  bool          // a slot
}

// wait enters the silent ones, and closes the oldest of them if they are too many.
// It is called when the goroutine is about to read, not at accept: a client whose
// ClientHello merely waits for its goroutine to run is not silent.
func (h *handshake) wait() {
	l := h.listener
	h.waited, h.silent = true, true
	l.counters.silent.Add(1)
	l.mu.Lock()
	h.element = l.silent.PushBack(h)
	var victim *handshake
	if l.silent.Len() > l.limits.Silent {
		front := l.silent.Front()
		victim = l.silent.Remove(front).(*handshake)
		victim.element = nil
	}
	l.mu.Unlock()
	if victim != nil {
		l.counters.silentEvicted.Add(1)
		victim.conn.Close() //nolint:errcheck // its goroutine sees it
	}
}

// hello is called when the whole ClientHello has arrived; the costly part begins.
func (h *handshake) hello() error {
	h.leaveSilent()
	if err := h.conn.SetDeadline(time.Now().Add(h.listener.limits.HandshakeTimeout)); err != nil {
		return err
	}
	return h.acquire()
}

// leaveSilent is called when the client has been heard or is gone.
func (h *handshake) leaveSilent() {
	if !h.silent {
		return
	}
	h.silent = false
	l := h.listener
	l.counters.silent.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.element != nil {
		l.silent.Remove(h.element)
		h.element = nil
	}
}

func (h *handshake) finish() {
	h.leaveSilent()
	h.release()
}

func (h *handshake) acquire() error {
	// Those who are half way go first: their work would be lost.
	if err := h.listener.slots.acquire(h.ctx, h.answered); err != nil {
		return err
	}
	h.holding = true
	return nil
}

func (h *handshake) release() {
	if h.holding {
		h.holding = false
		h.listener.slots.release()
	}
}

// handshakeConn gives the slot back around every read of a handshake.
type handshakeConn struct {
	net.Conn
	hs *handshake // nil after the handshake
}

func (c *handshakeConn) Read(p []byte) (int, error) {
	hs := c.hs
	if hs == nil {
		return c.Conn.Read(p)
	}
	hs.release()
	if !hs.waited || hs.answered {
		// Nothing but the client's round trip is waited for.
		if err := c.Conn.SetReadDeadline(time.Now().Add(hs.listener.limits.SilentTimeout)); err != nil {
			return 0, err
		}
	}
	if !hs.waited {
		hs.wait()
	}
	n, err := c.Conn.Read(p)
	if err == nil && hs.answered {
		err = hs.acquire()
	}
	return n, err
}

func (c *handshakeConn) Write(p []byte) (int, error) {
	if c.hs != nil {
		c.hs.answered = true
	}
	return c.Conn.Write(p)
}
