// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Rate is how many requests a second somebody may send, and how many at once
// after a pause. Without PerSecond there is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// maxBuckets bounds how many askers are remembered; who is forgotten begins with
// a full bucket.
const maxBuckets = 10_000

// buckets are token buckets, by who asks.
type buckets struct {
	rate Rate
	now  func() time.Time

	mu    sync.Mutex
	known map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newBuckets(r Rate, now func() time.Time) *buckets {
	if r.Burst < 1 {
		r.Burst = max(1, int(math.Ceil(r.PerSecond)))
	}
	return &buckets{rate: r, now: now, known: map[string]*bucket{}}
}

// take takes a token, or returns after how long there will be one.
func (b *buckets) take(who string) (wait time.Duration, ok bool) {
	if b.rate.PerSecond <= 0 {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.fill(who)
	if k.tokens >= 1 {
		k.tokens--
		return 0, true
	}
	return time.Duration((1 - k.tokens) / b.rate.PerSecond * float64(time.Second)), false
}

// empty reports whether there is no token, without taking one.
func (b *buckets) empty(who string) (wait time.Duration, empty bool) {
	if b.rate.PerSecond <= 0 {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.fill(who)
	return time.Duration((1 - k.tokens) / b.rate.PerSecond * float64(time.Second)), k.tokens < 1
}

// fill returns a bucket as it is now; b.mu is held.
func (b *buckets) fill(who string) *bucket {
	now, most := b.now(), float64(b.rate.Burst)
	k := b.known[who]
	if k == nil {
		if len(b.known) >= maxBuckets {
			b.shrink(now)
		}
		k = &bucket{tokens: most, at: now}
		b.known[who] = k
	}
	if passed := now.Sub(k.at).Seconds(); passed > 0 {
		k.tokens, k.at = min(most, k.tokens+passed*b.rate.PerSecond), now
	}
	return k
}

// shrink forgets those whose buckets are full again, and when that is too few a
// part of the others; b.mu is held.
func (b *buckets) shrink(now time.Time) {
	for who, k := range b.known {
		if k.tokens+now.Sub(k.at).Seconds()*b.rate.PerSecond >= float64(b.rate.Burst) {
			delete(b.known, who)
		}
	}
	for who := range b.known {
		if len(b.known) < maxBuckets*3/4 {
			return
		}
		delete(b.known, who)
	}
}

// source is where a request comes from: its address, of IPv6 the network of one
// customer.
func source(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	network, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return network.String()
}
