// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"runtime"
	"time"
)

const (
	// readLimit is the largest websocket message from an agent in bytes: more
	// than the largest NATS payload with its control line and headers.
	readLimit = 2 << 20
	// readBuffer is held only while a frame is read, writeBuffer for the life of
	// a session; both were chosen by memory per agent.
	readBuffer  = 16 << 10
	writeBuffer = 1 << 10
	// hijackReader and hijackWriter replace net/http's 4 KiB buffers.
	hijackReader = 512
	hijackWriter = 256
)

// Limits bound what clients can cost. A zero field takes its default.
type Limits struct {
	// Silent bounds connections that have not sent a whole ClientHello, in number
	// and time. When there are too many the oldest is closed: a real agent is
	// silent for one round trip only. SilentTimeout is also the time for the
	// client's part of the handshake after the hub's.
	Silent        int
	SilentTimeout time.Duration
	// Handshakes is how many TLS handshakes compute at the same time, and
	// HandshakeTimeout bounds one from its ClientHello on, waiting included.
	Handshakes       int
	HandshakeTimeout time.Duration

	// HeaderTimeout bounds the reading of a request's headers, HTTPIdleTimeout
	// the time between requests of one connection.
	HeaderTimeout   time.Duration
	HTTPIdleTimeout time.Duration

	// SetupTimeout bounds an upgrade up to the agent's CONNECT.
	SetupTimeout time.Duration
	// IdleTimeout ends a session whose agent sent nothing for so long; agents
	// ping more often.
	IdleTimeout time.Duration
	// WriteTimeout ends a session whose agent does not read.
	WriteTimeout time.Duration
	// CloseTimeout is how long an agent may take to answer a close frame.
	CloseTimeout time.Duration

	// DrainSpread is the time over which sessions are closed at shutdown, so
	// that the agents do not come back in the same instant.
	DrainSpread     time.Duration
	ShutdownTimeout time.Duration

	// FlapWindow and FlapCount: so many replacements of one cluster's session
	// within the window are an alarm for a copied certificate.
	FlapWindow time.Duration
	FlapCount  int
}

// DefaultLimits are for one hub with up to 20,000 agents.
func DefaultLimits() Limits {
	return Limits{
		Silent:           4096,
		SilentTimeout:    10 * time.Second,
		Handshakes:       4 * runtime.GOMAXPROCS(0),
		HandshakeTimeout: 30 * time.Second,
		HeaderTimeout:    30 * time.Second,
		HTTPIdleTimeout:  2 * time.Minute,
		SetupTimeout:     30 * time.Second,
		IdleTimeout:      40 * time.Second,
		WriteTimeout:     15 * time.Second,
		CloseTimeout:     time.Second,
		DrainSpread:      3 * time.Second,
		ShutdownTimeout:  10 * time.Second,
		FlapWindow:       10 * time.Minute,
		FlapCount:        4,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.Silent = cmp.Or(l.Silent, d.Silent)
	l.SilentTimeout = cmp.Or(l.SilentTimeout, d.SilentTimeout)
	l.Handshakes = cmp.Or(l.Handshakes, d.Handshakes)
	l.HandshakeTimeout = cmp.Or(l.HandshakeTimeout, d.HandshakeTimeout)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, d.HeaderTimeout)
	l.HTTPIdleTimeout = cmp.Or(l.HTTPIdleTimeout, d.HTTPIdleTimeout)
	l.SetupTimeout = cmp.Or(l.SetupTimeout, d.SetupTimeout)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, d.IdleTimeout)
	l.WriteTimeout = cmp.Or(l.WriteTimeout, d.WriteTimeout)
	l.CloseTimeout = cmp.Or(l.CloseTimeout, d.CloseTimeout)
	l.DrainSpread = cmp.Or(l.DrainSpread, d.DrainSpread)
	l.ShutdownTimeout = cmp.Or(l.ShutdownTimeout, d.ShutdownTimeout)
	l.FlapWindow = cmp.Or(l.FlapWindow, d.FlapWindow)
	l.FlapCount = cmp.Or(l.FlapCount, d.FlapCount)
	return l
}
