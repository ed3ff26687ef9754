// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
)

const (
	// linesMost and linesBytes bound the lines that are remembered. Watchers of a
	// kind want the same ones within moments.
	linesMost  = 256
	linesBytes = 8 << 20
)

// lineKey is what a line of a watch depends on. Tables are not remembered: they
// hold ages.
type lineKey struct {
	kind     string // ADDED, MODIFIED or DELETED
	gvk      schema.GroupVersionKind
	key      store.Key
	revision uint64
	as       string
	version  string
}

// lines are the latest lines written to watching clients: each is encoded once
// for all of them.
type lines struct {
	mu    sync.Mutex
	known map[lineKey][]byte
	order []lineKey // oldest first
	bytes int
}

func (l *lines) get(k lineKey) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line, ok := l.known[k]
	return line, ok
}

// put remembers a line, which must not change any more.
func (l *lines) put(k lineKey, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[k]; ok || len(line) > linesBytes/8 {
		return
	}
	if l.known == nil {
		l.known = map[lineKey][]byte{}
	}
	l.known[k] = line
	l.order = append(l.order, k)
	l.bytes += len(line)
	for len(l.order) > linesMost || l.bytes > linesBytes {
		oldest := l.order[0]
		l.bytes -= len(l.known[oldest])
		delete(l.known, oldest)
		l.order = l.order[1:]
	}
}
