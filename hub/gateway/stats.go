// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are counters since the process started; Sessions, Silent and
// Handshaking are current values.
type Stats struct {
	Sessions    int
	Silent      int // connections that have not sent a whole ClientHello yet
	Handshaking int // TLS handshakes under way

	Handshakes       uint64 // completed
	HandshakeErrors  uint64
	SilentEvicted    uint64 // closed because there were too many
	Connects         uint64 // sessions that reached the broker
	Replaced         uint64 // sessions that a newer one of the same cluster ended
	Flaps            uint64 // alarms: two live holders of one identity are likely
	BytesFromAgents  uint64
	BytesToAgents    uint64
	Refusals         map[string]uint64 // by wire.Reason…
	FilterViolations map[string]uint64 // by rule
	Closed           map[string]uint64 // ended sessions by cause
}

type counters struct {
	silent, handshaking                                  atomic.Int64
	handshakes, handshakeErrors, silentEvicted, connects atomic.Uint64
	fromAgents, toAgents                                 atomic.Uint64

	mu                           sync.Mutex
	refusals, violations, closed map[string]uint64
}

func (c *counters) refused(reason string)  { c.count(&c.refusals, reason) }
func (c *counters) violated(reason string) { c.count(&c.violations, reason) }
func (c *counters) ended(cause string)     { c.count(&c.closed, cause) }

func (c *counters) count(m *map[string]uint64, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *m == nil {
		*m = map[string]uint64{}
	}
	(*m)[key]++
}

// Stats returns the counters.
func (g *Gateway) Stats() Stats {
	c := &g.counters
	s := Stats{
		Silent:          int(c.silent.Load()),
		Handshaking:     int(c.handshaking.Load()),
		Handshakes:      c.handshakes.Load(),
		HandshakeErrors: c.handshakeErrors.Load(),
		SilentEvicted:   c.silentEvicted.Load(),
		Connects:        c.connects.Load(),
		BytesFromAgents: c.fromAgents.Load(),
		BytesToAgents:   c.toAgents.Load(),
	}
	s.Sessions, s.Replaced, s.Flaps = g.registry.counts()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Refusals, s.FilterViolations, s.Closed = maps.Clone(c.refusals), maps.Clone(c.violations), maps.Clone(c.closed)
	return s
}
