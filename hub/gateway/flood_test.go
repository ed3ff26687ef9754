// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

// clientHello is the first flight of a TLS client.
func clientHello(t *testing.T, serverName string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go tls.Client(theirs, &tls.Config{ServerName: serverName}).Handshake()
	buf := make([]byte, 16<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// Neither silent clients nor ones that stop half way keep a real agent out.
func TestFloods(t *testing.T) {
	t.Parallel()
	hello := clientHello(t, "hub.fleet.test")
	for _, tt := range []struct {
		name string
		says []byte
	}{
		{"silent", nil},
		{"one byte", hello[:1]},
		{"half a hello", hello[:len(hello)/2]},
		{"hello and no more", hello},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, func(c *Config) {
				c.Limits.Silent, c.Limits.Handshakes = 50, 2
				c.Limits.HandshakeTimeout = patience
			})
			for range 200 {
				conn, err := net.Dial("tcp", h.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.Write(tt.says) // fails if it has been closed already
			}
			if len(tt.says) < len(hello) {
				eventually(t, "flood is seen", func() bool {
					s := h.Stats()
					return s.Silent == 50 && s.SilentEvicted == 150
				})
			} else {
				eventually(t, "flood is seen", func() bool { return h.Stats().Handshaking == 200 })
			}
			h.raw(t, "aaa").sync()
		})
	}
}

func TestSilentTimeout(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.Limits.SilentTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v, want %v", err, io.EOF)
	}
	eventually(t, "nothing left", func() bool { s := h.Stats(); return s.Silent == 0 && s.Handshaking == 0 })
}

func TestSlowReaderIsCut(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.Limits.WriteTimeout = 500 * time.Millisecond })
	a := h.raw(t, "aaa")
	a.send("SUB fm.aaa.down.hint 1\r\n")
	a.sync()
	// From here on the agent does not read.
	load := make([]byte, 512<<10)
	eventually(t, "session is cut", func() bool {
		if err := h.nc.Publish(wire.HintSubject("aaa"), load); err != nil {
			t.Fatal(err)
		}
		return len(h.Sessions()) == 0
	})
	// The gateway must not stay behind with goroutines that cannot write.
	done := make(chan struct{})
	go func() { h.stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("gateway does not stop")
	}
}

// blackHole forwards until it is closed up, and then keeps the connections.
type blackHole struct {
	net.Listener
	shut  atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

func newBlackHole(t *testing.T, target string) *blackHole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &blackHole{Listener: l}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				conn.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, conn, out)
			p.mu.Unlock()
			group.Go(func() { p.copy(conn, out) })
			group.Go(func() { p.copy(out, conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			conn.Close()
		}
		p.mu.Unlock()
		group.Wait()
	})
	return p
}

func (p *blackHole) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.shut.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.Limits.IdleTimeout = time.Second })
	proxy := newBlackHole(t, h.Addr().String())
	a := h.rawWith(t, h.agentCert(t, "aaa"), proxy.Addr().String())
	a.sync()
	proxy.shut.Store(true)
	eventually(t, "session is over", func() bool { return len(h.Sessions()) == 0 })
	if got := h.Stats().Closed["agent silent"]; got != 1 {
		t.Errorf("closed: %v", h.Stats().Closed)
	}
}

func TestStorm(t *testing.T) {
	t.Parallel()
	const agents = 300
	h := newHub(t, func(c *Config) { c.Limits.Handshakes = 4 })
	certs := make([]*tls.Certificate, agents)
	for i := range certs {
		certs[i] = h.agentCert(t, fmt.Sprintf("c%d", i))
	}
	var group sync.WaitGroup
	start := time.Now()
	for _, cert := range certs {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			ws, _, err := h.upgrade(ctx, cert, h.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { ws.CloseNow() })
			_, info, err := ws.Read(ctx)
			if err != nil || !strings.HasPrefix(string(info), "INFO ") {
				t.Errorf("read %q, %v", info, err)
			}
		})
	}
	group.Wait()
	eventually(t, "all are in", func() bool { return len(h.Sessions()) == agents })
	stats := h.Stats()
	if stats.Handshakes != agents || stats.HandshakeErrors != 0 {
		t.Errorf("stats %+v", stats)
	}
	t.Logf("%d agents in %v", agents, time.Since(start))
}

// Slots are never more than promised, and those half way go first.
func TestSlots(t *testing.T) {
	t.Parallel()
	s := newSlots(2)
	var busy, most atomic.Int64
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if i%10 == 0 {
				cancel()
			}
			defer cancel()
			if s.acquire(ctx, i%2 == 0) != nil {
				return
			}
			n := busy.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			busy.Add(-1)
			s.release()
		})
	}
	group.Wait()
	if s.free != 2 || most.Load() > 2 {
		t.Errorf("%d free, at most %d busy", s.free, most.Load())
	}

	s = newSlots(0)
	order := make(chan string, 2)
	group.Go(func() { s.acquire(context.Background(), false); order <- "new"; s.release() })
	eventually(t, "waits", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.then.Len() == 1 })
	group.Go(func() { s.acquire(context.Background(), true); order <- "half way"; s.release() })
	eventually(t, "waits", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.first.Len() == 1 })
	s.release()
	group.Wait()
	if first := <-order; first != "half way" {
		t.Errorf("first was %s", first)
	}
}
