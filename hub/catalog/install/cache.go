// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import "sync"

// bounded remembers results by key, at most so many: then it begins anew. Errors are
// not remembered.
type bounded[V any] struct {
	most  int
	mu    sync.Mutex
	known map[string]V
}

func (b *bounded[V]) get(key string, produce func() (V, error)) (V, error) {
	b.mu.Lock()
	v, ok := b.known[key]
	b.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := produce()
	if err != nil {
		return v, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= b.most {
		b.known = map[string]V{}
	}
	b.known[key] = v
	return v, nil
}
