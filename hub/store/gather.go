// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// The server syncs once for each single write and about once for each batch, but
// a batch costs as much as some ten single writes. So the first few concurrent
// writes go one by one, and those beyond are gathered.
const (
	// gatherAbove is how many single writes are under way before others are gathered.
	gatherAbove = 8
	// gatherFor is how long the first of a batch waits for others.
	gatherFor = time.Millisecond
	// gatherLeast is the smallest batch worth its cost.
	gatherLeast = 8
	// gatherMost and gatherBytes bound a batch.
	gatherMost  = 256
	gatherBytes = 8 << 20
)

// gatherer gathers concurrent writes into batches.
type gatherer struct {
	mu      sync.Mutex
	single  int // writes under way one by one
	waiting []*gathered
	leading bool // a goroutine sends what is waiting; it ends when nothing is
}

// gathered is a write that waits to be sent with others.
type gathered struct {
	ctx  context.Context
	op   op
	done chan struct{}

	revision uint64
	err      error
}

// write is send, together with other writes of the moment when there are many.
func (s *Store) write(ctx context.Context, o op) (uint64, error) {
	g := &s.gather
	g.mu.Lock()
	if !g.leading && g.single < gatherAbove {
		g.single++
		g.mu.Unlock()
		defer func() {
			g.mu.Lock()
			g.single--
			g.mu.Unlock()
		}()
		return s.send(ctx, o)
	}
	m := &gathered{ctx: ctx, op: o, done: make(chan struct{})}
	g.waiting = append(g.waiting, m)
	if !g.leading {
		g.leading = true
		go s.lead()
	}
	g.mu.Unlock()
	select {
	case <-m.done:
		return m.revision, m.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// lead sends what is waiting until nothing is. It lasts no longer than the
// writes it carries have callers.
func (s *Store) lead() {
	<-time.After(gatherFor)
	for {
		members := s.gather.take()
		if len(members) == 0 {
			return
		}
		s.sendGathered(members)
	}
}

// take removes the next batch, no two of one key; when nothing is waiting it
// ends the leadership.
func (g *gatherer) take() []*gathered {
	g.mu.Lock()
	defer g.mu.Unlock()
	var members, rest []*gathered
	keys := map[string]bool{}
	bytes := 0
	for _, m := range g.waiting {
		if len(members) == gatherMost || keys[m.op.key] || (len(members) > 0 && bytes+len(m.op.data) > gatherBytes) {
			rest = append(rest, m)
			continue
		}
		keys[m.op.key] = true
		bytes += len(m.op.data)
		members = append(members, m)
	}
	g.waiting = rest
	g.leading = len(members) > 0
	return members
}

func (s *Store) sendGathered(members []*gathered) {
	if len(members) >= gatherLeast {
		ctx, cancel := whileAnyLives(members)
		ops := make([]op, len(members))
		for i, m := range members {
			ops[i] = m.op
		}
		first, err := s.sendBatch(ctx, ops)
		cancel()
		if !errors.Is(err, errSequence) {
			for i, m := range members {
				m.revision, m.err = first+uint64(i), err
				close(m.done)
			}
			return
		}
		// One of them was refused: let each speak for itself.
	}
	var group sync.WaitGroup
	for _, m := range members {
		group.Go(func() {
			m.revision, m.err = s.send(m.ctx, m.op)
			close(m.done)
		})
	}
	group.Wait()
}

// whileAnyLives is a context that ends when the callers of all members have gone.
func whileAnyLives(members []*gathered) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	var alive atomic.Int64
	alive.Store(int64(len(members)))
	stops := make([]func() bool, len(members))
	for i, m := range members {
		stops[i] = context.AfterFunc(m.ctx, func() {
			if alive.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
