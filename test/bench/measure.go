// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

const (
	cluster   = "bench-1"
	namespace = "default"
)

type bench struct {
	options
	hub     *local.Hub
	agent   *local.Process
	managed *kube.Cluster
}

// works is the works of a cluster, on the hub.
func (b *bench) works(cluster string) (dynamic.ResourceInterface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", b.hub.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{} // the filler works are for nobody on purpose
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return c.Resource(schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}).Namespace(cluster), nil
}

func (b *bench) configMaps() (dynamic.ResourceInterface, error) {
	c, err := dynamic.NewForConfig(b.managed.RESTConfig())
	if err != nil {
		return nil, err
	}
	return c.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace), nil
}

func manifestWork(name string, maps int, value string) *unstructured.Unstructured {
	var manifests []any
	for i := range maps {
		manifests = append(manifests, map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": fmt.Sprintf("%s-%d", name, i), "namespace": namespace},
			"data":     map[string]any{"value": value},
		})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": work.Group + "/" + work.Version, "kind": work.Kind,
		"metadata": map[string]any{"name": name, "namespace": cluster},
		"spec":     map[string]any{"workload": map[string]any{"manifests": manifests}},
	}}
}

// latency measures from the start of the apply request at the hub to the watch
// event of the changed object on the managed cluster, and to the report that
// the hub shows for that generation. The first apply creates, the others change.
func (b *bench) latency(ctx context.Context) error {
	works, err := b.works(cluster)
	if err != nil {
		return err
	}
	maps, err := b.configMaps()
	if err != nil {
		return err
	}
	onCluster, err := follow(ctx, maps, "lat-0", func(u *unstructured.Unstructured) string {
		v, _, _ := unstructured.NestedString(u.Object, "data", "value")
		return v
	})
	if err != nil {
		return err
	}
	defer onCluster.stop()
	onHub, err := follow(ctx, works, "lat", appliedValue)
	if err != nil {
		return err
	}
	defer onHub.stop()
	var object, report []time.Duration
	t := time.NewTicker(b.pause)
	defer t.Stop()
	for i := range b.applies {
		value := fmt.Sprint(i)
		began := time.Now()
		if _, err := works.Apply(ctx, "lat", manifestWork("lat", 1, value), metav1.ApplyOptions{FieldManager: "bench", Force: true}); err != nil {
			return err
		}
		seen, err := onCluster.at(ctx, value)
		if err != nil {
			return err
		}
		object = append(object, seen.Sub(began))
		if seen, err = onHub.at(ctx, value); err != nil {
			return err
		}
		report = append(report, seen.Sub(began))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	rate := float64(time.Second) / float64(b.pause)
	figure(fmt.Sprintf("apply on the hub -> object on the cluster, %.3g/s", rate), "%s", spread(object))
	figure("apply on the hub -> Applied for that generation on the hub", "%s", spread(report))
	return nil
}

// appliedValue is the value of the work's manifest once the work's Applied
// condition speaks of the present generation.
func appliedValue(u *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		g, _ := m["observedGeneration"].(int64)
		if m["type"] != work.ConditionApplied || m["status"] != "True" || g != u.GetGeneration() {
			continue
		}
		manifests, _, _ := unstructured.NestedSlice(u.Object, "spec", "workload", "manifests")
		if len(manifests) == 1 {
			v, _, _ := unstructured.NestedString(manifests[0].(map[string]any), "data", "value")
			return v
		}
	}
	return ""
}

// follower notes when each value of an object was first seen by a watch.
type follower struct {
	watch watch.Interface
	mu    sync.Mutex
	first map[string]time.Time
	news  chan struct{}
}

func follow(ctx context.Context, r dynamic.ResourceInterface, name string, value func(*unstructured.Unstructured) string) (*follower, error) {
	w, err := r.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return nil, err
	}
	f := &follower{watch: w, first: map[string]time.Time{}, news: make(chan struct{}, 1)}
	go func() {
		for ev := range w.ResultChan() {
			now := time.Now()
			u, ok := ev.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			f.mu.Lock()
			if v := value(u); v != "" && f.first[v].IsZero() {
				f.first[v] = now
			}
			f.mu.Unlock()
			select {
			case f.news <- struct{}{}:
			default:
			}
		}
	}()
	return f, nil
}

func (f *follower) stop() { f.watch.Stop() }

func (f *follower) at(ctx context.Context, value string) (time.Time, error) {
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for {
		f.mu.Lock()
		t := f.first[value]
		f.mu.Unlock()
		if !t.IsZero() {
			return t, nil
		}
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-limit.C:
			return t, errors.New("value " + value + " was not seen within 30 s")
		case <-f.news:
		}
	}
}

// agentMemory reads the agent's RSS while it manages a work of 50 objects.
func (b *bench) agentMemory(ctx context.Context) error {
	works, err := b.works(cluster)
	if err != nil {
		return err
	}
	healthy, err := follow(ctx, works, "fifty", func(u *unstructured.Unstructured) string {
		manifests, _, _ := unstructured.NestedSlice(u.Object, "status", "resourceStatus", "manifests")
		return fmt.Sprint(len(manifests))
	})
	if err != nil {
		return err
	}
	defer healthy.stop()
	if _, err := works.Apply(ctx, "fifty", manifestWork("fifty", 50, "x"), metav1.ApplyOptions{FieldManager: "bench"}); err != nil {
		return err
	}
	if _, err := healthy.at(ctx, "50"); err != nil {
		return err
	}
	if err := pause(ctx, b.settling); err != nil {
		return err
	}
	rss, err := b.agent.RSS()
	if err != nil {
		return err
	}
	figure("agent RSS, managing a work of 50 objects", "%.1f MiB", float64(rss)/(1<<20))
	return nil
}

// hubStart fills the hub, restarts it, and measures how long it takes to serve
// and what it then needs.
func (b *bench) hubStart(ctx context.Context) error {
	works, err := b.works("nobody")
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range b.objects {
		w := manifestWork(fmt.Sprintf("fill-%d", i), 1, "x")
		w.SetNamespace("nobody")
		if _, err := works.Create(ctx, w, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	figure(fmt.Sprintf("create %d works, one client, one after the other", b.objects), "%.0f/s", float64(b.objects)/time.Since(began).Seconds())
	address := b.hub.Address()
	b.hub.Process.Stop(20 * time.Second)
	began = time.Now()
	if err := b.hub.Start(ctx, address, local.Unlimited()...); err != nil {
		return err
	}
	figure(fmt.Sprintf("hub start to serving, %d objects", b.objects), "%.2f s", time.Since(began).Seconds())
	if err := b.hub.Available(ctx, cluster, b.agent); err != nil {
		return err
	}
	if err := pause(ctx, b.settling); err != nil {
		return err
	}
	rss, err := b.hub.Process.RSS()
	if err != nil {
		return err
	}
	figure(fmt.Sprintf("hub RSS idle, %d objects, one agent", b.objects), "%.1f MiB", float64(rss)/(1<<20))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
