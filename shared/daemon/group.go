// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Group runs the parts of a daemon side by side. The first part that fails,
// panics or simply returns while others still run ends all of them.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

// NewGroup returns a group whose parts end when ctx ends.
func NewGroup(ctx context.Context) *Group {
	g := &Group{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

var errPartEnded = errors.New("ended by itself")

// Go starts a part. run must return once its context has ended and everything
// it started has ended.
func (g *Group) Go(name string, run func(context.Context) error) {
	g.wg.Go(func() {
		err := protect(g.ctx, run)
		switch {
		case g.ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
			return
		case err == nil:
			err = errPartEnded
		case errors.Is(err, context.Canceled):
			// Nobody cancelled the group: this is a failure, and must not look like
			// an orderly end to those who ask errors.Is.
			err = fmt.Errorf("%w: %v", errPartEnded, err) //nolint:errorlint // see above
		}
		g.cancel(fmt.Errorf("%s: %w", name, err))
	})
}

// Wait blocks until every part has ended and returns what ended them: nil when
// the context given to NewGroup was cancelled.
func (g *Group) Wait() error {
	g.wg.Wait()
	err := context.Cause(g.ctx)
	g.cancel(nil)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Context ends when the group ends.
func (g *Group) Context() context.Context { return g.ctx }

func protect(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return run(ctx)
}

// Sleep waits for d and returns true, or false as soon as ctx ends.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
