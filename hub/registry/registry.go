// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package registry serves the Cluster of clusterregistry.k8s.io as a view of the
// ManagedCluster of the same name: there is one object, and two ways to write it.
// So a cluster can be registered that has no agent, and one that has shows its
// health.
//
// What a ManagedCluster has no field for is kept in its AnnotationRecord: who
// reaches an address, where credentials are found, conditions that others wrote,
// and who owns which fields of the view.
package registry

import (
	"context"
	"fmt"

	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/clusterregistry"
)

// AnnotationRecord of a ManagedCluster holds what only the registry knows, as
// JSON. It is the hub's to write.
const AnnotationRecord = "fleet.drover.io/registry"

// Store is a store in which Clusters are views of ManagedClusters. Revisions are
// those of the ManagedClusters.
type Store struct{ *store.Store }

func viewed(resource string) bool { return resource == clusterregistry.Resource }

// original is the key of what is stored.
func original(k store.Key) store.Key { return store.Key{Resource: cluster.Resource, Name: k.Name} }

// Create registers a cluster: it makes a ManagedCluster that no agent may join
// before somebody accepts it.
func (s Store) Create(ctx context.Context, key store.Key, data []byte) (uint64, error) {
	if !viewed(key.Resource) {
		return s.Store.Create(ctx, key, data)
	}
	stored, err := merge(nil, data)
	if err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, original(key), stored)
}

// Update writes the part of a ManagedCluster that the view shows.
func (s Store) Update(ctx context.Context, key store.Key, data []byte, revision uint64) (uint64, error) {
	if !viewed(key.Resource) {
		return s.Store.Update(ctx, key, data, revision)
	}
	e, ok := s.Store.Cached(original(key))
	if !ok || e.Revision != revision {
		var err error
		if e, err = s.Store.Get(ctx, original(key)); err != nil {
			return 0, err
		}
	}
	if e.Revision != revision {
		return 0, fmt.Errorf("update cluster %s: %w", key.Name, store.ErrConflict)
	}
	stored, err := merge(e.Data, data)
	if err != nil {
		return 0, err
	}
	return s.Store.Update(ctx, original(key), stored, revision)
}

// Delete removes the ManagedCluster.
func (s Store) Delete(ctx context.Context, key store.Key, revision uint64) (uint64, error) {
	if viewed(key.Resource) {
		key = original(key)
	}
	return s.Store.Delete(ctx, key, revision)
}

// Get reads from the stream's leader.
func (s Store) Get(ctx context.Context, key store.Key) (store.Entry, error) {
	if !viewed(key.Resource) {
		return s.Store.Get(ctx, key)
	}
	e, err := s.Store.Get(ctx, original(key))
	if err != nil {
		return store.Entry{}, err
	}
	return view(e)
}

// Cached reads from the cache.
func (s Store) Cached(key store.Key) (store.Entry, bool) {
	if !viewed(key.Resource) {
		return s.Store.Cached(key)
	}
	e, ok := s.Store.Cached(original(key))
	if !ok {
		return store.Entry{}, false
	}
	e, err := view(e)
	return e, err == nil
}

// List reads a page from the cache.
func (s Store) List(ctx context.Context, sel store.Selection) (store.Page, error) {
	if !viewed(sel.Resource) {
		return s.Store.List(ctx, sel)
	}
	sel.Resource = cluster.Resource
	page, err := s.Store.List(ctx, sel)
	if err != nil {
		return page, err
	}
	entries := make([]store.Entry, len(page.Entries))
	for i, e := range page.Entries {
		if entries[i], err = view(e); err != nil {
			return page, err
		}
	}
	page.Entries = entries
	return page, nil
}

// Watch follows the changes of ManagedClusters.
func (s Store) Watch(ctx context.Context, sel store.WatchSelection) (*store.Watcher, error) {
	if viewed(sel.Resource) {
		sel.Resource, sel.Convert = cluster.Resource, view
	}
	return s.Store.Watch(ctx, sel)
}

// decode reads a stored object.
func decode(data []byte) (map[string]any, error) {
	var obj map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &obj); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	return obj, nil
}
