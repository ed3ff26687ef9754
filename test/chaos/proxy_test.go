// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"io"
	"net"
	"sync"
	"time"
)

// proxy stands between the agents and the hub and is the network that fails.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	until   time.Time // no connection is let through before
	stalled time.Time // open ones carry nothing before
	conns   map[net.Conn]bool
	group   sync.WaitGroup
}

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.group.Go(p.serve)
	return p, nil
}

func (p *proxy) url() string { return "https://" + p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.group.Go(func() { p.carry(in) })
	}
}

func (p *proxy) carry(in net.Conn) {
	defer in.Close()
	p.mu.Lock()
	closed := time.Now().Before(p.until)
	p.mu.Unlock()
	if closed {
		return
	}
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, in)
		delete(p.conns, out)
	}()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			// Whoever ends first ends both: an agent must not rely on half a connection.
			defer pair[0].Close()
			defer pair[1].Close()
			_, _ = io.Copy(pair[1], gate{pair[0], p}) // a cut connection is the purpose
		})
	}
	both.Wait()
}

// gate holds back what was read while the network is stalled.
type gate struct {
	net.Conn
	proxy *proxy
}

func (g gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	g.proxy.mu.Lock()
	wait := time.Until(g.proxy.stalled)
	g.proxy.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait) // the stall itself
	}
	return n, err
}

// cut closes every connection and refuses new ones for a while.
func (p *proxy) cut(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(d)
	for c := range p.conns {
		c.Close()
	}
}

// stall keeps connections open and carries nothing for a while.
func (p *proxy) stall(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = time.Now().Add(d)
}

func (p *proxy) close() {
	p.listener.Close()
	p.cut(0)
	p.group.Wait()
}
