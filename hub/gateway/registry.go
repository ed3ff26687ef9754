// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"
)

// Session is one live websocket of one agent.
type Session struct {
	Cluster    string
	Epoch      uint64 // grows with every session of this hub, across restarts too; below 2^53
	RemoteAddr string
	Since      time.Time
	Serial     string // of the certificate that opened it
}

// Sessions returns the live sessions, ordered by cluster.
func (g *Gateway) Sessions() []Session { return g.registry.sessions() }

// Session returns the live session of cluster.
func (g *Gateway) Session(cluster string) (Session, bool) { return g.registry.session(cluster) }

// CloseSessions ends all sockets of cluster, whatever certificate opened them, and
// tells the agent why. When it returns, nothing that arrives on them reaches the
// broker any more. It returns how many sessions there were.
func (g *Gateway) CloseSessions(cluster, reason string) int {
	return g.registry.closeAll(cluster, reason)
}

// Subscribe returns a channel that has a value when sessions came or went since it
// was last received from, and at first. Changes coalesce; read Sessions for the
// state. The channel is never closed; cancel releases it.
func (g *Gateway) Subscribe() (changed <-chan struct{}, cancel func()) {
	return g.registry.subscribe()
}

// registry holds the live tunnels: at most one current per cluster, and older ones
// until their sockets are gone.
type registry struct {
	limits Limits
	log    *zap.Logger

	mu       sync.Mutex
	epoch    uint64
	current  map[string]*tunnel
	ending   map[*tunnel]struct{} // no longer current, socket not gone yet
	flaps    map[string][]time.Time
	watchers map[chan struct{}]struct{}
	draining bool
	replaced uint64
	flapped  uint64

	group sync.WaitGroup // of upgrades, and of tunnels, current and ending
}

func newRegistry(limits Limits, log *zap.Logger) *registry {
	return &registry{
		limits: limits, log: log,
		current: map[string]*tunnel{}, ending: map[*tunnel]struct{}{},
		flaps: map[string][]time.Time{}, watchers: map[chan struct{}]struct{}{},
	}
}

// enter announces an upgrade, unless the gateway is closing; the caller ends it
// with group.Done.
func (r *registry) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.draining {
		r.group.Add(1)
	}
	return !r.draining
}

// add makes t the current tunnel of its cluster and ends the one before. It
// returns false when the gateway is closing.
func (r *registry) add(t *tunnel) bool {
	r.mu.Lock()
	if r.draining {
		r.mu.Unlock()
		return false
	}
	r.epoch = max(r.epoch+1, uint64(time.Now().UnixMicro())) //nolint:gosec // after 1970
	t.Epoch = r.epoch
	old := r.current[t.Cluster]
	r.current[t.Cluster] = t
	r.group.Add(1)
	alarm := false
	if old != nil {
		r.ending[old] = struct{}{}
		r.replaced++
		alarm = r.flap(t.Cluster)
	}
	r.notify()
	r.mu.Unlock()

	if old != nil {
		old.end("replaced", websocket.StatusPolicyViolation, "replaced by a newer session from "+t.RemoteAddr)
	}
	if alarm {
		r.log.Warn("sessions of one cluster replace each other; its certificate may have been copied",
			zap.String("cluster", t.Cluster), zap.String("address", t.RemoteAddr), zap.String("other", old.RemoteAddr))
	}
	return true
}

// flap records a replacement and reports whether there were too many.
func (r *registry) flap(cluster string) bool {
	now := time.Now()
	recent := slices.DeleteFunc(r.flaps[cluster], func(t time.Time) bool { return now.Sub(t) > r.limits.FlapWindow })
	recent = append(recent, now)
	if len(recent) < r.limits.FlapCount {
		r.flaps[cluster] = recent
		return false
	}
	delete(r.flaps, cluster)
	r.flapped++
	return true
}

// leave takes t out of the current ones if it still is one: a newer tunnel of the
// cluster stays.
func (r *registry) leave(t *tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current[t.Cluster] != t {
		return
	}
	delete(r.current, t.Cluster)
	r.ending[t] = struct{}{}
	r.notify()
}

// gone forgets t when its socket and its goroutines are.
func (r *registry) gone(t *tunnel) {
	r.mu.Lock()
	delete(r.ending, t)
	r.mu.Unlock()
	r.group.Done()
}

func (r *registry) sessions() []Session {
	r.mu.Lock()
	all := make([]Session, 0, len(r.current))
	for _, t := range r.current {
		all = append(all, t.Session)
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Session) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return all
}

func (r *registry) session(cluster string) (Session, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.current[cluster]; t != nil {
		return t.Session, true
	}
	return Session{}, false
}

func (r *registry) counts() (sessions int, replaced, flapped uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.current), r.replaced, r.flapped
}

func (r *registry) closeAll(cluster, reason string) int {
	r.mu.Lock()
	n := 0
	t := r.current[cluster]
	var late []*tunnel
	for old := range r.ending {
		if old.Cluster == cluster {
			late = append(late, old)
		}
	}
	r.mu.Unlock()
	if t != nil {
		n++
		t.end("closed", websocket.StatusPolicyViolation, reason)
	}
	for _, old := range late {
		old.cut()
	}
	return n
}

func (r *registry) subscribe() (changed <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[ch] = struct{}{}
	return ch, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, ch)
	}
}

func (r *registry) notify() {
	for ch := range r.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// drain refuses new tunnels and ends the others in random order, spread over
// Limits.DrainSpread.
func (r *registry) drain() {
	r.mu.Lock()
	r.draining = true
	all := make([]*tunnel, 0, len(r.current))
	for _, t := range r.current {
		all = append(all, t)
	}
	r.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	// A few sessions need no spreading.
	spread := min(r.limits.DrainSpread, time.Duration(len(all))*time.Millisecond)
	start := time.Now()
	for i, t := range all {
		due := start.Add(spread * time.Duration(i) / time.Duration(len(all)))
		if wait := time.Until(due); wait > time.Millisecond {
			<-time.After(wait)
		}
		t.end("shutdown", websocket.StatusGoingAway, "hub is shutting down")
	}
}

// wait returns when all tunnels are gone; to be called after drain.
func (r *registry) wait() { r.group.Wait() }
