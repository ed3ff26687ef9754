// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	// ResourceNamespaces is the resource as the store names it.
	ResourceNamespaces = "namespaces"
	// DefaultNamespace always exists.
	DefaultNamespace = "default"

	labelName    = "kubernetes.io/metadata.name"
	labelCluster = cluster.Group + "/managedCluster"
)

const (
	// emptyEvery is how often a Namespace that does not get empty is looked at.
	emptyEvery = time.Second
	// namespacesEvery is how long those of further new clusters are gathered,
	// namespacesMost how many at most, and namespacesLeast how many are worth a
	// batch, which costs as much as some ten single writes.
	namespacesEvery = 250 * time.Millisecond
	namespacesMost  = 500
	namespacesLeast = 8
)

// runNamespaces makes the namespaces of clusters and empties those that go.
func (c *Collector) runNamespaces(ctx context.Context) error {
	for {
		err := c.followNamespaces(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, store.ErrSlow) && !errors.Is(err, store.ErrExpired) {
			c.log.Warn("keeping namespaces failed, will try again", zap.Error(err))
		}
		daemon.Sleep(ctx, retryFirst)
	}
}

func (c *Collector) followNamespaces(ctx context.Context) error {
	if err := c.ensureNamespace(ctx, DefaultNamespace, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	going := make(chan string, 256)
	w, err := c.store.Watch(ctx, store.WatchSelection{Resource: ResourceNamespaces, Match: terminating})
	if err != nil {
		cancel(nil)
		return fmt.Errorf("watch namespaces: %w", err)
	}
	go func() {
		defer close(done)
		defer w.Stop()
		cancel(fmt.Errorf("watch namespaces: %w", forwardNames(ctx, w, going)))
	}()
	defer func() { <-done }()
	defer cancel(nil)
	clusters, err := c.store.Watch(ctx, store.WatchSelection{Resource: cluster.Resource})
	if err != nil {
		return fmt.Errorf("watch managed clusters: %w", err)
	}
	defer clusters.Stop()
	made := make(chan error, 1)
	go func() { made <- c.ensureNamespaces(ctx, clusters) }()
	defer func() {
		if made != nil {
			cancel(nil)
			<-made
		}
	}()
	left := map[string]bool{}
	again := time.NewTicker(emptyEvery)
	defer again.Stop()
	for {
		select {
		case name := <-going:
			left[name] = true
		case <-again.C:
		case err := <-made:
			made = nil
			return fmt.Errorf("watch managed clusters: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for name := range left {
			empty, err := c.emptyNamespace(ctx, name)
			if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
				c.log.Warn("emptying a namespace failed, will try again", zap.String("namespace", name), zap.Error(err))
			}
			if !empty {
				continue
			}
			delete(left, name)
			if _, ok := c.store.Cached(store.Key{Resource: cluster.Resource, Name: name}); ok {
				// a cluster of that name came meanwhile
				if err := c.ensureNamespace(ctx, name, map[string]string{labelCluster: name}); err != nil {
					return err
				}
			}
		}
	}
}

func terminating(e store.Entry) bool {
	return !e.Header.DeletionTimestamp.IsZero() && slices.Contains(e.Header.Finalizers, fleet.FinalizerNamespace)
}

func forwardNames(ctx context.Context, w *store.Watcher, out chan<- string) error {
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if ev.Type != store.Added {
			continue
		}
		select {
		case out <- ev.Entry.Key.Name:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ensureNamespaces makes the namespace of every cluster that appears: of one at
// once, of many that appear together in few writes, so that these do not hold up
// those of whoever makes the clusters. Works are accepted as soon as their cluster
// is there.
func (c *Collector) ensureNamespaces(ctx context.Context, w *store.Watcher) error {
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		names := appeared(nil, ev)
		for len(names) < namespacesMost {
			ev, ok, err := w.Ready()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			names = appeared(names, ev)
		}
		made, err := c.makeNamespaces(ctx, names)
		if err != nil {
			return err
		}
		if made && !daemon.Sleep(ctx, namespacesEvery) {
			return ctx.Err()
		}
	}
}

func appeared(names []string, ev store.Event) []string {
	if ev.Type == store.Added {
		names = append(names, ev.Entry.Key.Name)
	}
	return names
}

// makeNamespaces makes those that are missing, and reports whether any was.
func (c *Collector) makeNamespaces(ctx context.Context, names []string) (bool, error) {
	slices.Sort(names)
	var writes []store.Write
	for _, name := range slices.Compact(names) {
		write, missing, err := c.missingNamespace(name, map[string]string{labelCluster: name})
		if err != nil {
			return false, err
		}
		if missing {
			writes = append(writes, write)
		}
	}
	if len(writes) >= namespacesLeast {
		_, err := c.store.Batch(ctx, writes)
		if err == nil || !errors.Is(err, store.ErrExists) {
			return true, err
		}
		// somebody else made one of them: each for itself
	}
	for _, write := range writes {
		if err := c.createNamespace(ctx, write); err != nil {
			return true, err
		}
	}
	return len(writes) > 0, nil
}

// ensureNamespace makes a namespace that is missing.
func (c *Collector) ensureNamespace(ctx context.Context, name string, labels map[string]string) error {
	write, missing, err := c.missingNamespace(name, labels)
	if err != nil || !missing {
		return err
	}
	return c.createNamespace(ctx, write)
}

func (c *Collector) createNamespace(ctx context.Context, w store.Write) error {
	if _, err := c.store.Create(ctx, w.Key, w.Data); err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("create namespace %s: %w", w.Key.Name, err)
	}
	return nil
}

// missingNamespace is the write that makes a namespace; false: it is there.
func (c *Collector) missingNamespace(name string, labels map[string]string) (store.Write, bool, error) {
	key := store.Key{Resource: ResourceNamespaces, Name: name}
	if _, ok := c.store.Cached(key); ok {
		return store.Write{}, false, nil
	}
	all := map[string]string{labelName: name}
	for k, v := range labels {
		all[k] = v
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{
			"name": name, "uid": uuid.NewString(), "creationTimestamp": time.Now().UTC().Format(time.RFC3339),
			"generation": 1, "labels": all,
		},
		"status": map[string]any{"phase": "Active"},
	})
	if err != nil {
		return store.Write{}, false, fmt.Errorf("encode namespace: %w", err)
	}
	return store.Write{Key: key, Data: data}, true, nil
}

// emptyNamespace deletes what is in a namespace that goes, and then the
// namespace. It reports whether nothing is left to do.
func (c *Collector) emptyNamespace(ctx context.Context, name string) (bool, error) {
	key := store.Key{Resource: ResourceNamespaces, Name: name}
	entry, err := c.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	obj, err := decode(entry)
	if err != nil {
		return false, err
	}
	if !obj.deleting() || !obj.has(fleet.FinalizerNamespace) {
		return true, nil
	}
	var left []string
	var failed error
	for _, k := range c.kinds() {
		if !k.Namespaced {
			continue
		}
		n, err := c.emptyKind(ctx, k.Resource, name)
		failed = errors.Join(failed, err)
		if n > 0 {
			left = append(left, fmt.Sprintf("%s has %d", k.Resource, n))
		}
	}
	if failed != nil {
		return false, failed
	}
	if len(left) > 0 {
		slices.Sort(left)
		return false, c.explain(ctx, entry, obj, "objects wait for their finalizers: "+strings.Join(left, ", "))
	}
	obj.drop(fleet.FinalizerNamespace)
	return false, c.release(ctx, entry, obj)
}

// emptyKind deletes the objects of one resource and returns how many stay,
// because finalizers hold them or somebody else was faster.
func (c *Collector) emptyKind(ctx context.Context, resource, namespace string) (left int, err error) {
	page, err := c.store.List(ctx, store.Selection{Resource: resource, Namespace: namespace})
	if err != nil {
		return 0, err
	}
	for _, e := range page.Entries {
		if !e.Header.DeletionTimestamp.IsZero() {
			left++
			continue
		}
		obj, err := decode(e)
		if err != nil {
			return left, err
		}
		held := len(obj.finalizers()) > 0
		switch err := c.remove(ctx, e, obj); {
		case errors.Is(err, store.ErrConflict):
			left++
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return left, fmt.Errorf("delete %s: %w", e.Key, err)
		case held:
			left++
		}
	}
	return left, nil
}

// explain says in the namespace's status why it is still there.
func (c *Collector) explain(ctx context.Context, entry store.Entry, obj object, message string) error {
	status, _ := obj["status"].(map[string]any)
	if status == nil {
		status = map[string]any{}
		obj["status"] = status
	}
	const condition = "NamespaceContentRemaining"
	list, _ := status["conditions"].([]any)
	list = slices.Clone(list)
	i := slices.IndexFunc(list, func(e any) bool { m, _ := e.(map[string]any); return m["type"] == condition })
	entryOf := map[string]any{
		"type": condition, "status": "True", "reason": "SomeResourcesRemain", "message": message,
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}
	if i >= 0 {
		if old, _ := list[i].(map[string]any); old["message"] == message {
			return nil
		} else if old["lastTransitionTime"] != nil {
			entryOf["lastTransitionTime"] = old["lastTransitionTime"]
		}
		list[i] = entryOf
	} else {
		list = append(list, entryOf)
	}
	status["phase"], status["conditions"] = "Terminating", list
	return c.put(ctx, entry, obj)
}
