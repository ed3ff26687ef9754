// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/labels"
)

// Any, as a MinRevision, takes what the cache holds now, without waiting.
const Any uint64 = 1

// Options of a Store. The zero value is usable.
type Options struct {
	// Bucket names the stream KV_<Bucket>; default "objects".
	Bucket string
	// Replicas of the stream; default 1. Above 1 needs a NATS cluster.
	Replicas int
	// Dir holds the file with the highest revision ever served. Empty: no file,
	// and a stream that lost its tail is not noticed at the next start.
	Dir string
	// After makes a stream that has to be created begin beyond this revision.
	After uint64
	Log   *zap.Logger

	// WatchBuffer is how many undelivered events a watcher may have before it
	// ends with ErrSlow; default 4096.
	WatchBuffer int
	// History is how many past events of one resource are kept to resume
	// watches from; default 4096. HistoryBytes bounds their size; default 16 MiB.
	History      int
	HistoryBytes int
	// BookmarkEvery is the interval of bookmarks to every watcher; default 60 s.
	BookmarkEvery time.Duration
	// MarkerTTL is how long the stream remembers a deletion; default 24 h.
	MarkerTTL time.Duration
	// StallAfter is how long the cache may lag behind the stream before its
	// consumer is rebuilt; default 5 s.
	StallAfter time.Duration
}

// Selection says what to list.
type Selection struct {
	Resource  string
	Namespace string // empty: all
	Labels    labels.Selector
	Match     func(Entry) bool // nil: all; must not block
	// Prefix is what names begin with, in Namespace alone (empty: those without
	// one). Nothing else is looked at. Empty: all.
	Prefix string

	// MinRevision is the oldest state to answer from. 0: consistent, waits until
	// the cache holds all the stream's leader acknowledged before the call.
	// Any: the cache as it is. A revision not reached in 3 s: ErrFuture.
	MinRevision uint64
	// Exact answers from the state at exactly MinRevision: the present one or a
	// kept snapshot; ErrExpired when it is gone.
	Exact bool

	// Limit is the largest number of entries of a page; 0: no limit.
	Limit int
	// Continue is a former page's token; it fixes the snapshot, MinRevision
	// and Exact are ignored. A malformed one: ErrInvalid; a snapshot that is
	// gone (5 min, or another process): ErrExpired.
	Continue string
}

// Page is one part of a list, ordered by namespace, then name, all from the
// state at Revision.
type Page struct {
	Entries  []Entry
	Revision uint64
	// Continue asks for the next page; empty on the last.
	Continue string
	// Remaining is how many objects come after this page, -1 when unknown
	// because a selector filters them.
	Remaining int64
}

// WatchSelection says what to watch. An object that stops matching arrives as
// Deleted, one that starts to match as Added.
type WatchSelection struct {
	Resource  string
	Namespace string // empty: all
	Name      string // empty: all
	Labels    labels.Selector
	Match     func(Entry) bool // nil: all; must not block

	// Convert changes each entry before it is delivered, Previous too; nil: not at
	// all. Labels and Match see what is stored. An error ends the watch.
	Convert func(Entry) (Entry, error)

	// From is the revision after which changes are wanted. 0: first every
	// present object as Added, then a Bookmark, all with Initial set, then changes.
	From uint64
	// MinRevision, for From 0, as in Selection.
	MinRevision uint64
}

// Write is one member of a Batch.
type Write struct {
	Key  Key
	Data []byte // nil: delete
	// Revision is what the object must have now; 0: it must not exist. For a
	// deletion 0 means whatever it is.
	Revision uint64
}
