// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package api serves the hub's kinds as a Kubernetes-style REST API: discovery,
// OpenAPI, all verbs, patches, server-side apply, tables, watches.
//
// Kinds are data: each is a document in the shape of a CustomResourceDefinition,
// and pruning, defaulting, validation, field ownership, columns and OpenAPI come
// from its schema. The algorithms are Kubernetes' own libraries; REST, storage
// access, watch framing and discovery are written here.
//
// A document may list several versions. Objects are stored in one of them, and
// converted for those who ask for another; hooks see the stored one. Users add
// kinds with CustomResourceDefinitions: Run follows these and puts another set of
// kinds in the place of the one that is served, which requests under way keep.
// Schemas are compiled when they are first needed.
//
// A write goes: authenticate, authorize, decode strictly, prune, default, patch
// or apply, hook, validate, drop when nothing changed, compare-and-swap. Single
// reads and writes see the stream's leader; lists and watches see the store's
// cache, which waits for the leader.
package api
