// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package follow_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// seen is a State that tells what it is given.
type seen struct {
	synced map[string]bool
	names  map[string]bool
	passes chan int     // how many names were known
	again  atomic.Int64 // when the next pass is due without a change; 0: never
	err    error
}

func (s *seen) Apply(ev follow.Event) {
	if ev.Type == store.Bookmark {
		s.synced[ev.Resource] = true
		return
	}
	s.names[ev.Entry.Key.Name] = true
}

func (s *seen) Ready() bool { return len(s.synced) == 2 }

func (s *seen) Pass(context.Context, time.Time) (time.Time, error) {
	s.passes <- len(s.names)
	if d := s.again.Load(); d > 0 {
		return time.Now().Add(time.Duration(d)), s.err
	}
	return time.Time{}, s.err
}

func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := store.Open(ctx, b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(serving) }()
	defer func() { stop(); <-ended }()
	clusters := store.Of[cluster.ManagedCluster](s, cluster.Resource)
	create := func(name string) {
		t.Helper()
		if _, err := clusters.Create(ctx, &cluster.ManagedCluster{
			TypeMeta:   metav1.TypeMeta{APIVersion: cluster.Group + "/" + cluster.Version, Kind: cluster.Kind},
			ObjectMeta: metav1.ObjectMeta{Name: name},
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		create(fmt.Sprint("before-", i))
	}
	state := &seen{synced: map[string]bool{}, names: map[string]bool{}, passes: make(chan int)}
	running, cancelRun := context.WithCancel(ctx)
	result := make(chan error, 1)
	run := func() {
		result <- follow.Run(running, s, 10*time.Millisecond, time.Second, func(f *follow.Follower) (follow.State, error) {
			for _, r := range []string{cluster.Resource, cluster.ResourceSets} {
				if err := f.Watch(store.WatchSelection{Resource: r}); err != nil {
					return nil, err
				}
			}
			return state, nil
		})
	}
	go run()
	pass := func() int {
		t.Helper()
		select {
		case n := <-state.passes:
			return n
		case err := <-result:
			t.Fatalf("ended: %v", err)
		case <-ctx.Done():
			t.Fatal("no pass")
		}
		return 0
	}
	if n := pass(); n != 3 {
		t.Errorf("the first pass knew %d objects, want all 3", n)
	}
	create("after")
	for pass() != 4 { // the bookmarks of both resources may come apart
	}
	// A state that asks for it is called without a change.
	state.again.Store(int64(20 * time.Millisecond))
	create("another")
	for range 3 {
		pass()
	}
	cancelRun()
	for done := false; !done; {
		select {
		case <-state.passes:
		case err := <-result:
			if done = true; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		}
	}
	// An error of a pass ends it, and so does a start that fails.
	running, state.err = ctx, errors.New("no")
	state.synced = map[string]bool{}
	go run()
	<-state.passes
	if err := <-result; !errors.Is(err, state.err) {
		t.Errorf("ended with %v", err)
	}
	if err := follow.Run(ctx, s, 0, 0, func(*follow.Follower) (follow.State, error) { return nil, state.err }); !errors.Is(err, state.err) {
		t.Errorf("ended with %v", err)
	}
}
