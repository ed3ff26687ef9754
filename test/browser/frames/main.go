// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command frames measures how smoothly the dashboard shows a fleet that changes: the
// time from frame to frame in a real Chromium while clusters change on a real hub.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/test/browser"
	"github.com/drover-io/drover/test/local"
)

func main() {
	programs := flag.String("programs", "bin", "where drover-hub and drover are")
	sizes := flag.String("clusters", "1000,5000", "sizes of the fleet")
	rate := flag.Int("rate", 500, "changes a second")
	span := flag.Duration("for", 10*time.Second, "how long to look")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err == nil {
			err = measure(ctx, local.Programs(*programs), n, *rate, *span)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "frames:", err)
			os.Exit(1)
		}
	}
}

// looking collects the times between frames, in milliseconds.
const looking = `new Promise((done) => {
  const times = [], end = performance.now() + %d;
  let last = performance.now();
  const frame = (now) => {
    times.push(now - last);
    last = now;
    now < end ? requestAnimationFrame(frame) : done(times.slice(1));
  };
  requestAnimationFrame(frame);
})`

func measure(ctx context.Context, programs local.Programs, clusters, rate int, span time.Duration) error {
	dir, err := os.MkdirTemp("", "drover-frames-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := programs.StartHub(ctx, dir, "127.0.0.1:0", browser.Options()...)
	if err != nil {
		return err
	}
	defer h.Process.Stop(20 * time.Second)
	if err := browser.Seed(ctx, h, browser.Fleet{Clusters: clusters, Bare: true}); err != nil {
		return err
	}
	b, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	p, err := b.Open(1600, 1000)
	if err != nil {
		return err
	}
	if err := p.Login(h); err != nil {
		return err
	}
	began := time.Now()
	if err := p.Go(h, "/"); err != nil {
		return err
	}
	if err := p.Until("all clusters", `document.querySelectorAll('a[href^="/clusters/"]').length >= %d`, clusters); err != nil {
		return err
	}
	first := time.Since(began)

	changing, cancel := context.WithCancel(ctx)
	defer cancel()
	var done atomic.Int64
	g, gctx := errgroup.WithContext(changing)
	g.Go(func() error { return change(gctx, h, clusters, rate, &done) })
	from := time.Now()
	times, err := browser.Eval[[]float64](p, looking, span.Milliseconds())
	if err != nil {
		return err
	}
	changes := float64(done.Load()) / time.Since(from).Seconds()
	heap, err := browser.Eval[float64](p, "performance.memory.usedJSHeapSize / 1048576")
	if err != nil {
		return err
	}
	cancel()
	if err := g.Wait(); err != nil && changing.Err() == nil {
		return err
	}
	slices.Sort(times)
	at := func(share float64) float64 { return times[min(int(share*float64(len(times))), len(times)-1)] }
	fmt.Printf("%d clusters, %.0f changes/s: %d frames, p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, heap %.1f MiB, all shown after %s\n",
		clusters, changes, len(times), at(0.5), at(0.95), at(0.99), heap, first.Round(time.Millisecond))
	return nil
}

// change makes clusters come and go, at a rate, until ctx ends.
func change(ctx context.Context, h *local.Hub, clusters, rate int, done *atomic.Int64) error {
	const writers = 32
	next := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(next)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	for range writers {
		g.Go(func() error {
			hub, err := client.New(h.Kubeconfig(), "") // each has a rate of its own
			if err != nil {
				return err
			}
			for i := range next {
				status := []string{"True", "Unknown"}[i/clusters%2]
				patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{map[string]any{
					"type": "ManagedClusterConditionAvailable", "status": status, "reason": "R", "message": "change " + strconv.Itoa(i),
					"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
				}}}})
				if err != nil {
					return err
				}
				_, err = hub.Resource(browser.Clusters()).Patch(ctx, browser.Name(i*7919%clusters), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
				if err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	return g.Wait()
}
