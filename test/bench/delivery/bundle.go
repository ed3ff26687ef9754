// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/work"
)

const bundleLimit = 15 * time.Minute

// bundlePhase applies one bundle of many ConfigMaps. Only Drover has bundles.
func (s *system) bundlePhase(ctx context.Context) error {
	if s.hub == nil || s.bundle == 0 {
		return nil
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for i := range s.bundle {
		err := enc.Encode(map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": fmt.Sprintf("bundled-%d", i), "namespace": s.namespace},
			"data":     map[string]any{"value": s.value(), "filler": strings.Repeat("x", 200)},
		})
		if err != nil {
			return err
		}
	}
	file := s.hub.Path("bundle.json")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return err
	}
	began := time.Now()
	digest, err := s.hub.Drover(ctx, "bundle", "push", file, "-o", "digest")
	if err != nil {
		return err
	}
	s.add(fmt.Sprintf("bundle of %d ConfigMaps: pushed", s.bundle), time.Since(began).Seconds(), false, "%.2f s", time.Since(began).Seconds())
	const name = "bundle"
	w := s.manifestWork(name, s.value())
	w.SetAnnotations(map[string]string{work.AnnotationBundle: strings.TrimSpace(digest)})
	if err := unstructured.SetNestedSlice(w.Object, nil, "spec", "workload", "manifests"); err != nil {
		return err
	}
	began = time.Now()
	if _, err := s.works.Create(ctx, w, metav1.CreateOptions{}); err != nil {
		return err
	}
	done, stop := context.WithCancel(ctx)
	var peak int64
	var g errgroup.Group
	g.Go(func() error {
		for pause(done, 100*time.Millisecond) == nil {
			rss, err := s.agent.RSS()
			if err != nil {
				return err
			}
			peak = max(peak, rss)
		}
		return nil
	})
	seen, err := s.onHub.at(ctx, "whole/"+name, bundleLimit)
	stop()
	if werr := g.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return err
	}
	took := seen.Sub(began).Seconds()
	s.add(fmt.Sprintf("bundle of %d ConfigMaps: Applied on the hub", s.bundle), took, false, "%.2f s, %.0f objects/s", took, float64(s.bundle)/took)
	s.add("agent RSS meanwhile, the highest", float64(peak)/1e6, false, "%.1f MB", float64(peak)/1e6)
	rss, err := s.hub.Process.RSS()
	if err != nil {
		return err
	}
	s.add("hub RSS then", float64(rss)/1e6, false, "%.1f MB", float64(rss)/1e6)
	return nil
}
