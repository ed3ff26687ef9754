// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
)

// kind is one of the kinds written.
type kind struct {
	schema.GroupVersionResource
	kind       string
	namespaced bool
}

var (
	works    = kind{schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}, work.Kind, true}
	clusters = kind{schema.GroupVersionResource{Group: cluster.Group, Version: cluster.Version, Resource: "managedclusters"}, cluster.Kind, false}
)

func (k kind) name() string { return k.Resource + "." + k.Group }

func (k kind) of(c dynamic.Interface) dynamic.ResourceInterface {
	if k.namespaced {
		return c.Resource(k.GroupVersionResource).Namespace(namespace)
	}
	return c.Resource(k.GroupVersionResource)
}

func (k kind) path() string {
	path := "/apis/" + k.Group + "/" + k.Version
	if k.namespaced {
		path += "/namespaces/" + namespace
	}
	return path + "/" + k.Resource
}

// object is of about 1 KiB.
func (k kind) object(name string, i int) *unstructured.Unstructured {
	spec := map[string]any{"hubAcceptsClient": false, "taints": []any{map[string]any{"key": "a", "value": strings.Repeat("x", 200), "effect": "NoSelect"}}}
	if k == works {
		spec = map[string]any{"workload": map[string]any{"manifests": []any{map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": "default"},
			"data": map[string]any{"value": strings.Repeat("x", 200)},
		}}}}
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": k.Group + "/" + k.Version, "kind": k.kind,
		"metadata": map[string]any{
			"name":        name,
			"labels":      map[string]any{"env": "prod", "group": fmt.Sprintf("g%d", i%10)},
			"annotations": map[string]any{"note": strings.Repeat("y", 200)},
		},
		"spec": spec,
	}}
	if k.namespaced {
		u.SetNamespace(namespace)
	}
	return u
}

// status is a merge patch of the status, as a controller sends it.
func (k kind) status(n int) []byte {
	value := "True"
	if n%2 == 1 {
		value = "False"
	}
	data, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{map[string]any{
		"type": "Bench", "status": value, "lastTransitionTime": "2026-01-02T03:04:05Z",
		"reason": "Bench", "message": fmt.Sprintf("the state of the thing is number %d", n),
	}}}})
	if err != nil {
		panic(err) // of constants
	}
	return data
}

// share spreads count pieces of work over clients, each with its own connection.
func share(ctx context.Context, s server, clients, count int, do func(ctx context.Context, c *client, i int) error) (time.Duration, error) {
	all := make([]*client, clients)
	for i := range all {
		c, err := newClient(s)
		if err != nil {
			return 0, err
		}
		defer c.close()
		// The handshake is no part of the figure.
		resp, err := c.get(ctx, "/version")
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		all[i] = c
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, c := range all {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return nil
				}
				if err := do(ctx, c, i); err != nil {
					return err
				}
			}
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// writeRates creates objects and patches the status of each. They stay.
func (b *bench) writeRates(ctx context.Context, s server, k kind, clients, round int) error {
	count := b.writes
	name := func(i int) string { return fmt.Sprintf("rate-%d-%d-%d", clients, round, i) }
	took, err := share(ctx, s, clients, count, func(ctx context.Context, c *client, i int) error {
		_, err := k.of(c.dynamic).Create(ctx, k.object(name(i), i), metav1.CreateOptions{FieldManager: "bench"})
		return err
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	b.note(s, fmt.Sprintf("create %s, %d clients", k.kind, clients), "1/s", more, float64(count)/took.Seconds())
	took, err = share(ctx, s, clients, count, func(ctx context.Context, c *client, i int) error {
		_, err := k.of(c.dynamic).Patch(ctx, name(i), types.MergePatchType, k.status(i), metav1.PatchOptions{FieldManager: "status"}, "status")
		return err
	})
	if err != nil {
		return fmt.Errorf("patch status: %w", err)
	}
	b.note(s, fmt.Sprintf("patch status of %s, %d clients", k.kind, clients), "1/s", more, float64(count)/took.Seconds())
	return nil
}

// fill brings the number of works to count; a tenth of the new ones has a status.
func (b *bench) fill(ctx context.Context, s server, count int) error {
	c, err := newClient(s)
	if err != nil {
		return err
	}
	defer c.close()
	have, err := countOf(ctx, c)
	if err != nil {
		return err
	}
	first := b.filled[s.name()]
	b.filled[s.name()] += count - have
	_, err = share(ctx, s, 32, count-have, func(ctx context.Context, c *client, i int) error {
		name := fmt.Sprintf("fill-%06d", first+i)
		_, err := works.of(c.dynamic).Create(ctx, works.object(name, i), metav1.CreateOptions{FieldManager: "bench"})
		if err == nil && i%10 == 0 {
			_, err = works.of(c.dynamic).Patch(ctx, name, types.MergePatchType, works.status(i), metav1.PatchOptions{FieldManager: "status"}, "status")
		}
		return err
	})
	return err
}

// countOf is how many works there are, consistently.
func countOf(ctx context.Context, c *client) (int, error) {
	list, err := works.of(c.dynamic).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, err
	}
	n := len(list.Items)
	if more := list.GetRemainingItemCount(); more != nil {
		n += int(*more)
	}
	return n, nil
}
