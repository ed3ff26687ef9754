// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"cmp"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

// Pace is how often and how long the link tries.
type Pace struct {
	// Base, doubling up to Cap, is the wait after a failed attempt: 20 % of it
	// fixed, 80 % random.
	Base, Cap time.Duration
	// Window is the least window of the first attempt at start and after a lost
	// session. It grows with the number of agents that the hub told, so that the
	// fleet arrives at no more than AgentsPerSecond.
	Window          time.Duration
	AgentsPerSecond int
	// Stable is how long a session must have lasted for its loss not to count as
	// a failed attempt.
	Stable time.Duration
	// Slow is the wait after a refusal that only an operator can lift, 20 % of it
	// random.
	Slow time.Duration
	// Reopen is the window of the delay before Reconnect's new session.
	Reopen time.Duration

	// DialTimeout bounds TCP, TLS and the upgrade together, GreetTimeout NATS's
	// login and the greeting each.
	DialTimeout, GreetTimeout time.Duration
	// PingInterval is the time between pings; three of them without a byte from
	// the hub end a session.
	PingInterval time.Duration
	// WriteTimeout ends a session whose hub does not read.
	WriteTimeout time.Duration
}

// DefaultPace is for fleets of up to 10,000 agents behind one hub: all are back
// within a minute of an outage, without more than about 400 attempts a second.
func DefaultPace() Pace {
	return Pace{
		Base: 5 * time.Second, Cap: time.Minute,
		Window: time.Second, AgentsPerSecond: 300,
		Stable: 30 * time.Second,
		Slow:   5 * time.Minute,
		Reopen: 10 * time.Second,

		DialTimeout: 45 * time.Second, GreetTimeout: 20 * time.Second,
		PingInterval: 12 * time.Second,
		WriteTimeout: 15 * time.Second,
	}
}

func (p Pace) withDefaults() Pace {
	d := DefaultPace()
	p.Base = cmp.Or(p.Base, d.Base)
	p.Cap = cmp.Or(p.Cap, d.Cap)
	p.Window = cmp.Or(p.Window, d.Window)
	p.AgentsPerSecond = cmp.Or(p.AgentsPerSecond, d.AgentsPerSecond)
	p.Stable = cmp.Or(p.Stable, d.Stable)
	p.Slow = cmp.Or(p.Slow, d.Slow)
	p.Reopen = cmp.Or(p.Reopen, d.Reopen)
	p.DialTimeout = cmp.Or(p.DialTimeout, d.DialTimeout)
	p.GreetTimeout = cmp.Or(p.GreetTimeout, d.GreetTimeout)
	p.PingInterval = cmp.Or(p.PingInterval, d.PingInterval)
	p.WriteTimeout = cmp.Or(p.WriteTimeout, d.WriteTimeout)
	return p
}

// first is the wait before the first attempt of an agent in a fleet of agents;
// random is in [0,1).
func (p Pace) first(agents int, random float64) time.Duration {
	window := time.Duration(agents) * time.Second / time.Duration(p.AgentsPerSecond)
	return time.Duration(random * float64(max(p.Window, window)))
}

// next is the wait after a failed attempt, the failures-th in a row.
func (p Pace) next(err *RefusedError, failures int, random float64) time.Duration {
	wait := backoff(p.Base, p.Cap, failures, random)
	if err == nil {
		return wait
	}
	switch err.Refusal.Reason {
	case wire.ReasonExpired, wire.ReasonRemoved, wire.ReasonRevoked, wire.ReasonSuperseded, wire.ReasonNotAccepted:
		wait = time.Duration((0.8 + 0.2*random) * float64(p.Slow))
	}
	// The hub's word is the earliest time; what comes on top keeps the agents apart.
	if err.RetryAfter > 0 {
		wait = max(wait, err.RetryAfter+time.Duration(0.2*random*float64(err.RetryAfter)))
	}
	return wait
}

// backoff is base doubled per failure after the first, at most limit, of which
// 20 % is fixed and the rest random. The floor keeps a short outage from ending
// in one crowd.
func backoff(base, limit time.Duration, failures int, random float64) time.Duration {
	wait := base
	for i := 1; i < failures && wait < limit; i++ {
		wait *= 2
	}
	wait = min(wait, limit)
	return time.Duration((0.2 + 0.8*random) * float64(wait))
}
