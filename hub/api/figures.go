// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"sync"
	"time"

	"github.com/drover-io/drover/shared/histogram"
)

// seriesMost bounds the kinds of requests that are told apart: users can add
// resources.
const seriesMost = 256

// Request is what requests are told apart by in Stats.
type Request struct {
	Verb     string // of Kubernetes: get, list, create, ...
	Resource string // "plural.group", with "/status" for the subresource; "other" for those beyond a limit
	Code     int
}

// Stats are the figures of an API at one moment. Totals count since New.
type Stats struct {
	// Requests in flight.
	Writes, Reads, Watches int
	// Sent is how many changes were written to watching clients.
	Sent uint64
	// Requests are the durations in seconds of answered requests about kinds,
	// watches left out.
	Requests map[Request]histogram.Snapshot
}

// figures are what Stats is made of.
type figures struct {
	mu       sync.Mutex
	requests map[Request]*histogram.Histogram
}

func (f *figures) observe(r Request, took time.Duration) {
	f.mu.Lock()
	h := f.requests[r]
	if h == nil {
		if len(f.requests) >= seriesMost {
			r.Resource = "other"
		}
		if h = f.requests[r]; h == nil {
			h = histogram.New(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30)
			if f.requests == nil {
				f.requests = map[Request]*histogram.Histogram{}
			}
			f.requests[r] = h
		}
	}
	f.mu.Unlock()
	h.Observe(took.Seconds())
}

// observe notes that the call was answered.
func (c *call) observe(code int, began time.Time) {
	if c.res == nil || c.info.Verb == "watch" {
		return
	}
	r := Request{Verb: c.info.Verb, Resource: c.res.StoreResource(), Code: code}
	if c.info.Subresource == "status" {
		r.Resource += "/status"
	}
	c.figures.observe(r, time.Since(began))
}

// Stats returns the figures of now.
func (a *API) Stats() Stats {
	out := Stats{
		Writes: len(a.writes), Reads: len(a.reads), Watches: len(a.watches),
		Sent: a.sent.Load(), Requests: map[Request]histogram.Snapshot{},
	}
	a.figures.mu.Lock()
	defer a.figures.mu.Unlock()
	for r, h := range a.figures.requests {
		out.Requests[r] = h.Read()
	}
	return out
}
