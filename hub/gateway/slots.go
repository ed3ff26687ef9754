// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"context"
	"sync"
)

// slots is a semaphore with two queues, each first come first served.
type slots struct {
	mu    sync.Mutex
	free  int
	first list.List // of chan struct{}, served before second
	then  list.List
}

func newSlots(n int) *slots { return &slots{free: n} }

// acquire waits for a slot; urgent callers are served before all others.
func (s *slots) acquire(ctx context.Context, urgent bool) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	queue := &s.then
	if urgent {
		queue = &s.first
	}
	granted := make(chan struct{})
	element := queue.PushBack(granted)
	s.mu.Unlock()

	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	select {
	case <-granted: // at the last moment: it goes to the next one
		s.mu.Unlock()
		s.release()
	default:
		queue.Remove(element)
		s.mu.Unlock()
	}
	return ctx.Err()
}

// release gives a slot to the next in line.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, queue := range []*list.List{&s.first, &s.then} {
		if front := queue.Front(); front != nil {
			close(queue.Remove(front).(chan struct{}))
			return
		}
	}
	s.free++
}
