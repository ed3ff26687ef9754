// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store keeps the hub's objects: versioned, durable, watchable.
//
// All objects of all kinds live in one JetStream stream with one message a
// subject, and the stream sequence is the object's revision: global, growing,
// and the same number on every replica. A watch cache holds each object's
// encoded bytes and a small parsed header; lists and watches are served from
// it, single reads and writes go to the stream's leader.
//
// The store knows no kinds. It takes JSON bytes whose metadata it parses into
// Header, and never changes them: metadata.resourceVersion is not part of the
// stored bytes, the revision stands beside them.
//
// What a caller may rely on, and why it holds, is in DESIGN.md.
package store
