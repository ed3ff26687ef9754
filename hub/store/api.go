// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"time"
)

// Errors of the store; test with errors.Is.
var (
	// ErrNotFound: no object of that key.
	ErrNotFound = errors.New("object not found")
	// ErrExists: Create found an object of that key.
	ErrExists = errors.New("object already exists")
	// ErrConflict: the object's revision is not the one the caller named.
	ErrConflict = errors.New("object was changed by somebody else")
	// ErrExpired: the revision asked for is older than what the cache can
	// continue from; list again.
	ErrExpired = errors.New("revision is too old")
	// ErrFuture: the revision asked for was not reached within the time a
	// caller may wait for it.
	ErrFuture = errors.New("revision is not reached yet")
	// ErrTooLarge: the object exceeds MaxObject.
	ErrTooLarge = errors.New("object is too large")
	// ErrSlow: the watcher did not keep up; watch again from the last revision seen.
	ErrSlow = errors.New("watcher is too slow")
	// ErrStopped: the watcher was stopped, or the store ended.
	ErrStopped = errors.New("watcher was stopped")
	// ErrInvalid: the key, the JSON of an object, or a continue token is not well formed.
	ErrInvalid = errors.New("not well formed")
)

// MaxObject is the size limit of one encoded object in bytes. Larger content
// belongs into content storage, by digest.
const MaxObject = 900 << 10

// Key names one object. Resource is "plural.group" ("manifestworks.work.open-cluster-management.io",
// "namespaces." + "" for the core group is "namespaces"); Namespace is empty for cluster-scoped kinds.
type Key struct {
	Resource  string
	Namespace string
	Name      string
}

// Entry is one object at one revision. Data must not be changed: it is shared
// with the cache.
type Entry struct {
	Key      Key
	Revision uint64
	Data     []byte
	Header   Header
}

// Header is what the store parses of an object's metadata, for selectors and
// owners without decoding the whole.
type Header struct {
	UID               string
	Generation        int64
	Labels            map[string]string
	CreationTimestamp time.Time
	DeletionTimestamp time.Time // zero unless being deleted
	Finalizers        []string
}

// EventType says what happened to an object.
type EventType int

// Event types. Bookmark carries only a Revision: everything up to it was delivered.
const (
	Added EventType = iota + 1
	Modified
	Deleted
	Bookmark
)

// Event is one change. For Deleted, Entry holds the last object with the
// revision of the deletion. Previous is the object before the change, nil for Added.
type Event struct {
	Type     EventType
	Entry    Entry
	Previous *Entry

	// Initial marks the synthetic Added events of a watch from 0, and the one
	// Bookmark that ends them.
	Initial bool
}

// MaxBatch is the largest number of writes of one Batch, and MaxBatchBytes that
// of the bytes of their objects.
const (
	MaxBatch      = 1000
	MaxBatchBytes = 64 << 20
)
