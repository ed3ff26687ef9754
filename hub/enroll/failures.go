// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"sync"
	"time"
)

const (
	freeFailures    = 5
	maxFailureDelay = 256 * time.Second
	maxTracked      = 10_000
)

// failures slows down whoever guesses: after freeFailures refused joins from
// one address, or for one token id, each further one doubles the wait. Behind a
// proxy all agents share an address, hence both.
type failures struct {
	mu  sync.Mutex
	who map[string]failure
}

type failure struct {
	count int
	last  time.Time
}

func newFailures() *failures { return &failures{who: map[string]failure{}} }

func keysOf(address, token string) [2]string { return [2]string{"a/" + address, "t/" + token} }

// delay is how long the next attempt must wait, zero for not at all.
func (f *failures) delay(address, token string, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var longest time.Duration
	for _, k := range keysOf(address, token) {
		x := f.who[k]
		longest = max(longest, x.last.Add(backoff(x.count)).Sub(now))
	}
	return max(longest, 0)
}

func (f *failures) add(address, token string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.who) >= maxTracked {
		for k, x := range f.who {
			if now.Sub(x.last) > maxFailureDelay {
				delete(f.who, k)
			}
		}
	}
	if len(f.who) >= maxTracked {
		return
	}
	for _, k := range keysOf(address, token) {
		f.who[k] = failure{count: f.who[k].count + 1, last: now}
	}
}

func (f *failures) clear(address, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keysOf(address, token) {
		delete(f.who, k)
	}
}

func backoff(count int) time.Duration {
	if count < freeFailures {
		return 0
	}
	return min(time.Second<<min(count-freeFailures, 8), maxFailureDelay)
}
