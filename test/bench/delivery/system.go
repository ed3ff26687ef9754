// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/test/local"
)

var (
	worksResource = schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}
	mapsResource  = corev1.SchemeGroupVersion.WithResource("configmaps")
)

// system is one hub with one agent, and how it is measured.
type system struct {
	options
	figures
	namespace string // of the objects on the managed cluster
	agent     *local.Process
	hub       *local.Hub                // nil but for Drover
	works     dynamic.ResourceInterface // on the hub
	maps      dynamic.ResourceInterface // on the managed cluster

	onCluster, onHub *recorder
	changes          int // makes every written value new
}

// follow starts the two watches from which all times are taken.
func (s *system) follow(ctx context.Context, cluster dynamic.Interface) (err error) {
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": s.namespace}}}
	_, err = cluster.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Create(ctx, ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	s.maps = cluster.Resource(mapsResource).Namespace(s.namespace)
	if s.onCluster, err = record(ctx, s.maps, func(u *unstructured.Unstructured) []string {
		v, _, _ := unstructured.NestedString(u.Object, "data", "value")
		return []string{u.GetName() + "=" + v}
	}); err != nil {
		return err
	}
	s.onHub, err = record(ctx, s.works, workKeys)
	return err
}

func (s *system) unfollow() {
	s.onCluster.stop()
	s.onHub.stop()
}

// workKeys says what a work's status proves: "applied/NAME=VALUE" once Applied
// speaks of the present generation, "whole/NAME" the same for a work without
// manifests of its own, "field/NAME=VALUE" for a feedback value.
func workKeys(u *unstructured.Unstructured) (keys []string) {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		g, _ := m["observedGeneration"].(int64)
		if m["type"] != "Applied" || m["status"] != "True" || g != u.GetGeneration() {
			continue
		}
		manifests, _, _ := unstructured.NestedSlice(u.Object, "spec", "workload", "manifests")
		switch len(manifests) {
		case 0:
			keys = append(keys, "whole/"+u.GetName())
		case 1:
			v, _, _ := unstructured.NestedString(manifests[0].(map[string]any), "data", "value")
			keys = append(keys, "applied/"+u.GetName()+"="+v)
		}
	}
	statuses, _, _ := unstructured.NestedSlice(u.Object, "status", "resourceStatus", "manifests")
	for _, st := range statuses {
		m, _ := st.(map[string]any)
		values, _, _ := unstructured.NestedSlice(m, "statusFeedback", "values")
		for _, v := range values {
			text, _, _ := unstructured.NestedString(v.(map[string]any), "fieldValue", "string")
			keys = append(keys, "field/"+u.GetName()+"="+text)
		}
	}
	return keys
}

// manifestWork holds one ConfigMap of about 1 KB.
func (s *system) manifestWork(name, value string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": work.Group + "/" + work.Version, "kind": work.Kind,
		"metadata": map[string]any{"name": name, "namespace": clusterName},
		"spec": map[string]any{"workload": map[string]any{"manifests": []any{map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": name, "namespace": s.namespace},
			"data":     map[string]any{"value": value, "filler": strings.Repeat("x", 1000)},
		}}}},
	}}
}

func (s *system) value() string {
	s.changes++
	return fmt.Sprint(s.changes)
}

func (s *system) memory(ctx context.Context, works int) error {
	if err := pause(ctx, s.settle); err != nil {
		return err
	}
	select {
	case <-s.agent.Done():
		return fmt.Errorf("the agent has ended: %s", s.agent.Tail())
	default:
	}
	rss, err := s.agent.RSS()
	if err != nil {
		return err
	}
	s.add(fmt.Sprintf("agent RSS, %d works", works), float64(rss)/1e6, false, "%.1f MB", float64(rss)/1e6)
	return nil
}

func (s *system) idle(ctx context.Context) error { return s.memory(ctx, 0) }

// lightLoad creates works at 2.5/s, then changes each.
func (s *system) lightLoad(ctx context.Context) error {
	write := map[string]func(name, value string) error{
		"create": func(name, value string) error {
			_, err := s.works.Create(ctx, s.manifestWork(name, value), metav1.CreateOptions{})
			return err
		},
		"change": func(name, value string) error {
			patch := fmt.Sprintf(`[{"op":"replace","path":"/spec/workload/manifests/0/data/value","value":%q}]`, value)
			_, err := s.works.Patch(ctx, name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
			return err
		},
	}
	for _, verb := range []string{"create", "change"} {
		var object, applied []time.Duration
		t := time.NewTicker(400 * time.Millisecond)
		defer t.Stop()
		for i := range s.light {
			name, value := fmt.Sprintf("light-%d", i), s.value()
			began := time.Now()
			if err := write[verb](name, value); err != nil {
				return err
			}
			seen, err := s.onCluster.at(ctx, name+"="+value, time.Minute)
			if err != nil {
				return err
			}
			object = append(object, seen.Sub(began))
			if seen, err = s.onHub.at(ctx, "applied/"+name+"="+value, time.Minute); err != nil {
				return err
			}
			applied = append(applied, seen.Sub(began))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.C:
			}
		}
		s.addSpread(verb+" at 2.5/s -> object on the cluster", object)
		s.addSpread(verb+" at 2.5/s -> Applied on the hub", applied)
	}
	return nil
}

// bursts creates works as fast as eight clients can, twice, and reads memory.
func (s *system) bursts(ctx context.Context) error {
	total := s.light
	for round, n := range []int{s.first - s.light, s.burst} {
		if n <= 0 {
			continue
		}
		total += n
		began := time.Now()
		var g errgroup.Group
		g.SetLimit(8)
		keys := make([]string, n)
		for i := range n {
			name, value := fmt.Sprintf("burst-%d-%d", round, i), s.value()
			keys[i] = name + "=" + value
			g.Go(func() error {
				_, err := s.works.Create(ctx, s.manifestWork(name, value), metav1.CreateOptions{})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		created := time.Since(began)
		last := func(r *recorder, prefix string) (time.Duration, error) {
			var latest time.Time
			for _, key := range keys {
				seen, err := r.at(ctx, prefix+key, 5*time.Minute)
				if err != nil {
					return 0, err
				}
				if seen.After(latest) {
					latest = seen
				}
			}
			return latest.Sub(began), nil
		}
		object, err := last(s.onCluster, "")
		if err != nil {
			return err
		}
		applied, err := last(s.onHub, "applied/")
		if err != nil {
			return err
		}
		rate := float64(n) / created.Seconds()
		s.add(fmt.Sprintf("burst of %d works: created/s", n), rate, true, "%.1f/s, the last after %.2f s", rate, created.Seconds())
		rate = float64(n) / object.Seconds()
		s.add(fmt.Sprintf("burst of %d works: objects/s", n), rate, true, "%.1f/s, the last after %.2f s", rate, object.Seconds())
		rate = float64(n) / applied.Seconds()
		s.add(fmt.Sprintf("burst of %d works: Applied on the hub/s", n), rate, true, "%.1f/s, the last after %.2f s", rate, applied.Seconds())
		if err := s.memory(ctx, total); err != nil {
			return err
		}
	}
	return nil
}

// fieldStatus changes a field that is not in the manifest, and waits for its
// value on the hub, with either way of scraping that a work can ask for.
func (s *system) fieldStatus(ctx context.Context) error {
	for _, scrape := range []string{"", "Watch"} {
		name, value := "field"+strings.ToLower(scrape), s.value()
		w := s.manifestWork(name, value)
		config := map[string]any{
			"resourceIdentifier": map[string]any{"resource": "configmaps", "namespace": s.namespace, "name": name},
			"feedbackRules":      []any{map[string]any{"type": "JSONPaths", "jsonPaths": []any{map[string]any{"name": "live", "path": ".data.live"}}}},
		}
		if scrape != "" {
			config["feedbackScrapeType"] = scrape
		}
		if err := unstructured.SetNestedSlice(w.Object, []any{config}, "spec", "manifestConfigs"); err != nil {
			return err
		}
		if _, err := s.works.Create(ctx, w, metav1.CreateOptions{}); err != nil {
			return err
		}
		if _, err := s.onHub.at(ctx, "applied/"+name+"="+value, time.Minute); err != nil {
			return err
		}
		var took []time.Duration
		for range s.fields {
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
			live, began := s.value(), time.Now()
			if _, err := s.maps.Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"data":{"live":%q}}`, live), metav1.PatchOptions{}); err != nil {
				return err
			}
			seen, err := s.onHub.at(ctx, "field/"+name+"="+live, 3*time.Minute)
			if err != nil {
				return err
			}
			took = append(took, seen.Sub(began))
		}
		label := "field on the cluster -> value on the hub"
		if scrape != "" {
			label += ", " + scrape
		}
		s.addSpread(label, took)
	}
	return nil
}

// drift edits applied fields, all at once, and waits until they are put right.
func (s *system) drift(ctx context.Context) error {
	began := time.Now()
	desired := map[string]string{}
	for i := range min(s.drifts, s.light) {
		name := fmt.Sprintf("light-%d", i)
		live, err := s.maps.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		desired[name], _, _ = unstructured.NestedString(live.Object, "data", "value")
		s.onCluster.forget(name + "=" + desired[name])
		if _, err := s.maps.Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"value":"foreign"}}`), metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	var took []time.Duration
	for name, value := range desired {
		seen, err := s.onCluster.at(ctx, name+"="+value, s.driftWait)
		if errors.Is(err, errNotSeen) {
			took = append(took, s.driftWait)
			continue
		}
		if err != nil {
			return err
		}
		took = append(took, seen.Sub(began))
	}
	s.addSpread("foreign edit -> repaired", took)
	return nil
}
