// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// recorder notes when a watch first showed each of the keys that objects have.
type recorder struct {
	stop func()

	mu    sync.Mutex
	first map[string]time.Time
	news  chan struct{} // closed and replaced on every event
}

func record(ctx context.Context, r dynamic.ResourceInterface, keys func(*unstructured.Unstructured) []string) (*recorder, error) {
	list, err := r.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	w, err := toolswatch.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return r.Watch(ctx, o) },
	})
	if err != nil {
		return nil, err
	}
	x := &recorder{stop: w.Stop, first: map[string]time.Time{}, news: make(chan struct{})}
	go func() {
		for ev := range w.ResultChan() {
			now := time.Now()
			u, ok := ev.Object.(*unstructured.Unstructured)
			if !ok || ev.Type == watch.Deleted {
				continue
			}
			x.mu.Lock()
			for _, key := range keys(u) {
				if x.first[key].IsZero() {
					x.first[key] = now
				}
			}
			close(x.news)
			x.news = make(chan struct{})
			x.mu.Unlock()
		}
	}()
	return x, nil
}

// forget makes the next sight of a key its first.
func (x *recorder) forget(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.first, key)
}

var errNotSeen = errors.New("not seen in time")

// at waits until key was seen, and says when that was.
func (x *recorder) at(ctx context.Context, key string, limit time.Duration) (time.Time, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		x.mu.Lock()
		seen, news := x.first[key], x.news
		x.mu.Unlock()
		if !seen.IsZero() {
			return seen, nil
		}
		select {
		case <-ctx.Done():
			return seen, ctx.Err()
		case <-timer.C:
			return seen, fmt.Errorf("%s: %w (%s)", key, errNotSeen, limit)
		case <-news:
		}
	}
}

// addSpread adds a row of durations, its value the median in milliseconds.
func (f *figures) addSpread(name string, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	ms := func(p int) float64 {
		return float64(took[max(0, (len(took)*p+99)/100-1)].Microseconds()) / 1000
	}
	f.add(name, ms(50), false, "p50 %.1f  p90 %.1f  p99 %.1f ms  (n=%d)", ms(50), ms(90), ms(99), len(took))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
