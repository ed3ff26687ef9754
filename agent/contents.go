// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/drover-io/drover/shared/wire"
)

// gatherer asks the hub for content. What is wanted while requests are under way is
// asked for together: the first at once, and the more the busier the agent is.
type gatherer struct {
	// ask sends one request and returns the answer, many says that the hub answers
	// for several digests at once.
	ask  func(ctx context.Context, req wire.ContentRequest) ([]byte, error)
	many func() bool
	free chan struct{} // holds a value a request that may begin

	mu     sync.Mutex
	wanted []*wish // not asked for yet, the oldest first
	open   map[string]*wish
}

// wish is content that somebody waits for.
type wish struct {
	digest string
	asked  bool // guarded by gatherer.mu
	done   chan struct{}
	data   []byte
	err    error
}

// parallelAsks of one agent are fewer than the hub answers at once.
const parallelAsks = 4

func newGatherer(ask func(context.Context, wire.ContentRequest) ([]byte, error), many func() bool) *gatherer {
	g := &gatherer{ask: ask, many: many, free: make(chan struct{}, parallelAsks), open: map[string]*wish{}}
	for range parallelAsks {
		g.free <- struct{}{}
	}
	return g
}

// errAskAgain: who asked has ended, or the answer was not about this.
var errAskAgain = errors.New("ask again")

// get returns what the hub says that digest names. The data is not checked, and is
// shared by all who ask at the same time.
func (g *gatherer) get(ctx context.Context, digest string) ([]byte, error) {
	for ctx.Err() == nil {
		w := g.join(digest)
		for asked := false; !asked; {
			select {
			case <-w.done:
				asked = true
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-g.free:
				g.lead(ctx)
				g.free <- struct{}{}
				g.mu.Lock()
				asked = w.asked
				g.mu.Unlock()
			}
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !errors.Is(w.err, errAskAgain) {
			return w.data, w.err
		}
	}
	return nil, ctx.Err()
}

// join wants digest, together with all who want it already.
func (g *gatherer) join(digest string) *wish {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.open[digest]
	if w == nil {
		w = &wish{digest: digest, done: make(chan struct{})}
		g.open[digest] = w
		g.wanted = append(g.wanted, w)
	}
	return w
}

// lead asks once for what is wanted.
func (g *gatherer) lead(ctx context.Context) {
	most := 1
	if g.many() {
		most = wire.MaxContents
	}
	g.mu.Lock()
	n := min(len(g.wanted), most)
	mine := slices.Clone(g.wanted[:n])
	g.wanted = slices.Delete(g.wanted, 0, n)
	for _, w := range mine {
		w.asked = true
	}
	g.mu.Unlock()
	switch n {
	case 0:
	case 1:
		mine[0].data, mine[0].err = g.ask(ctx, wire.ContentRequest{Digest: mine[0].digest})
	default:
		g.askMany(ctx, mine)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range mine {
		if w.err != nil && ctx.Err() != nil {
			w.err = errAskAgain // the others have not ended
		}
		delete(g.open, w.digest)
		close(w.done)
	}
}

// askMany fills in the outcome of each wish.
func (g *gatherer) askMany(ctx context.Context, mine []*wish) {
	req := wire.ContentRequest{Digests: make([]string, len(mine))}
	for i, w := range mine {
		req.Digests[i], w.err = w.digest, errAskAgain
	}
	var got wire.Contents
	answer, err := g.ask(ctx, req)
	if err == nil {
		err = json.Unmarshal(answer, &got)
	}
	if err != nil {
		for _, w := range mine {
			w.err = err
		}
		return
	}
	if len(got.Contents) == 0 { // the first is too large to travel with others
		mine[0].data, mine[0].err = g.ask(ctx, wire.ContentRequest{Digest: mine[0].digest})
		return
	}
	for i, c := range got.Contents[:min(len(got.Contents), len(mine))] {
		w := mine[i]
		switch {
		case c.Digest != w.digest:
			w.err = fmt.Errorf("the hub answered for %.80q instead", c.Digest)
		case c.Error != "":
			w.err = errors.New(c.Error)
		default:
			w.data, w.err = c.Data, nil
		}
	}
}
