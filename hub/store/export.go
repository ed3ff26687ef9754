// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Export returns all objects of all resources as they are at one revision, which
// is not older than what the leader had acknowledged before the call. It holds up
// nobody and copies nothing: what it returns shares memory with the cache, and
// may be read at leisure while writes go on.
//
// Objects come by resource, namespace and name. Deletions are not part of it.
func (s *Store) Export(ctx context.Context) (iter.Seq[Entry], uint64, error) {
	if err := s.wait(ctx, 0); err != nil {
		return nil, 0, fmt.Errorf("export: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading {
		return nil, 0, fmt.Errorf("export: %w", ErrFuture)
	}
	var trees []*tree
	for _, name := range slices.Sorted(maps.Keys(s.cache.resources)) {
		trees = append(trees, s.cache.snapshot(name))
	}
	return func(yield func(Entry) bool) {
		for _, t := range trees {
			more := true
			t.Scan(func(e *Entry) bool {
				more = yield(*e)
				return more
			})
			if !more {
				return
			}
		}
	}, s.cache.revision, nil
}
