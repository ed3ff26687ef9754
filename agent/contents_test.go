// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/drover-io/drover/shared/wire"
)

// TestGatherer: what many want at once comes in few requests, each in its own
// words, and what is too large for a message of several comes alone.
func TestGatherer(t *testing.T) {
	t.Parallel()
	for _, many := range []bool{false, true} {
		t.Run(fmt.Sprintf("many=%t", many), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			g := newGatherer(func(_ context.Context, req wire.ContentRequest) ([]byte, error) {
				asked.Add(1)
				switch {
				case req.Digest == "none":
					return nil, errors.New("no such content")
				case req.Digest != "":
					return []byte("of " + req.Digest), nil
				case !many:
					t.Error("asked for several")
				}
				var got wire.Contents
				for i, d := range req.Digests {
					c := wire.Content{Digest: d, Data: []byte("of " + d)}
					if d == "none" {
						c.Data, c.Error = nil, "no such content"
					}
					if d == "large" || i == 5 { // no more fits
						break
					}
					got.Contents = append(got.Contents, c)
				}
				return json.Marshal(got)
			}, func() bool { return many })
			var wg sync.WaitGroup
			for i := range 100 {
				for _, digest := range []string{fmt.Sprint("d", i%40), "large", "none"} {
					wg.Go(func() {
						data, err := g.get(t.Context(), digest)
						if digest == "none" {
							if err == nil || !strings.Contains(err.Error(), "no such content") {
								t.Errorf("none: %q, %v", data, err)
							}
							return
						}
						if err != nil || string(data) != "of "+digest {
							t.Errorf("%s: %q, %v", digest, data, err)
						}
					})
				}
			}
			wg.Wait()
			if len(g.open) != 0 || len(g.wanted) != 0 || len(g.free) != parallelAsks {
				t.Errorf("left behind: %d open, %d wanted, %d free", len(g.open), len(g.wanted), len(g.free))
			}
			t.Logf("%d requests", asked.Load())
		})
	}
}

// TestGathererEnd: who gives up takes nobody along.
func TestGathererEnd(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	g := newGatherer(func(ctx context.Context, _ wire.ContentRequest) ([]byte, error) {
		if calls.Add(1) == 1 {
			began <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []byte("here"), nil
	}, func() bool { return true })
	first := make(chan error)
	go func() {
		_, err := g.get(ctx, "d")
		first <- err
	}()
	<-began
	second := make(chan error)
	go func() {
		data, err := g.get(t.Context(), "d")
		if err == nil && string(data) != "here" {
			err = fmt.Errorf("got %q", data)
		}
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
}
