// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// metricsWindow is how often the timestamp of the node's metrics moves on.
const metricsWindow = 15 * time.Second

// installMetrics stands in for metrics-server: CRDs in the place of its API,
// and usage of the node that a test may overwrite.
func installMetrics(ctx context.Context, client dynamic.Interface) error {
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, crd := range []*unstructured.Unstructured{
		metricsCRD("nodes", "node", "NodeMetrics", "Cluster"),
		metricsCRD("pods", "pod", "PodMetrics", "Namespaced"),
	} {
		if _, err := crds.Create(ctx, crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create CRD %s: %w", crd.GetName(), err)
		}
	}
	return poll(ctx, "the metrics API", func(ctx context.Context) error {
		_, err := nodeMetrics(client).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "metrics.k8s.io/v1beta1",
			"kind":       "NodeMetrics",
			"metadata":   map[string]any{"name": nodeName},
			"timestamp":  time.Now().UTC().Format(time.RFC3339),
			"window":     metricsWindow.String(),
			"usage":      map[string]any{"cpu": "850m", "memory": "2Gi"},
		}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// refreshMetrics keeps the timestamp of the node's metrics young, and leaves
// its usage alone, until ctx ends. Failures are not reported: the test may
// have removed the object or the CRD on purpose.
func refreshMetrics(ctx context.Context, client dynamic.Interface) {
	t := time.NewTicker(metricsWindow)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			patch := fmt.Sprintf(`{"timestamp":%q}`, now.UTC().Format(time.RFC3339))
			_, _ = nodeMetrics(client).Patch(ctx, nodeName, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		}
	}
}

func nodeMetrics(client dynamic.Interface) dynamic.ResourceInterface {
	return client.Resource(schema.GroupVersionResource{Group: "metrics.k8s.io", Version: "v1beta1", Resource: "nodes"})
}

func metricsCRD(plural, singular, kind, scope string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata": map[string]any{
			"name":        plural + ".metrics.k8s.io",
			"annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, tests only"},
		},
		"spec": map[string]any{
			"group": "metrics.k8s.io",
			"scope": scope,
			"names": map[string]any{"plural": plural, "singular": singular, "kind": kind, "listKind": kind + "List"},
			"versions": []any{map[string]any{
				"name": "v1beta1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
				}},
			}},
		},
	}}
}
