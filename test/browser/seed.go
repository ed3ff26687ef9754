// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/test/local"
)

// Fleet is what Seed stores: clusters that nobody needs to run.
type Fleet struct {
	Clusters int
	// Text is in every field that takes any text.
	Text string
	// Trouble is everywhere, instead of here and there.
	Trouble bool
	// Bare fleets are clusters alone.
	Bare bool
}

type object = map[string]any

func gvr(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

const ocm = ".open-cluster-management.io"

// Clusters of the API.
func Clusters() schema.GroupVersionResource { return gvr("cluster"+ocm, "v1", "managedclusters") }

// Options of a hub that is to be seeded: it must not look for the agents.
func Options() []string { return append(local.Unlimited(), "--lost-after", "24h") }

// Seed stores a fleet by the API, as an administrator and their tools would.
func Seed(ctx context.Context, h *local.Hub, f Fleet) error {
	hub, err := client.New(h.Kubeconfig(), "")
	if err != nil {
		return err
	}
	const writers = 16
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			hub, err := client.New(h.Kubeconfig(), "") // each has a rate of its own
			if err != nil {
				return err
			}
			s := &seeder{ctx: ctx, hub: hub, fleet: f}
			for i := w; i < f.Clusters; i += writers {
				s.cluster(i)
			}
			return s.err
		})
	}
	if err := g.Wait(); err != nil || f.Bare {
		return err
	}
	s := &seeder{ctx: ctx, hub: hub, fleet: f}
	s.catalog()
	return s.err
}

type seeder struct {
	ctx   context.Context
	hub   *client.Client
	fleet Fleet
	err   error
}

// store creates an object, with its status where it has one.
func (s *seeder) store(of schema.GroupVersionResource, obj object) {
	if s.err != nil {
		return
	}
	u := &unstructured.Unstructured{Object: obj}
	r := s.hub.Resource(of).Namespace(u.GetNamespace())
	_, err := r.Create(s.ctx, u.DeepCopy(), metav1.CreateOptions{})
	if err == nil && obj["status"] != nil {
		var patch []byte
		if patch, err = json.Marshal(object{"status": obj["status"]}); err == nil {
			_, err = r.Patch(s.ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		}
	}
	if err != nil {
		s.err = fmt.Errorf("store %s %s: %w", of.Resource, u.GetName(), err)
	}
}

func condition(typ, status, reason, message string, ago time.Duration) object {
	return object{
		"type": typ, "status": status, "reason": reason, "message": message, "observedGeneration": int64(1),
		"lastTransitionTime": time.Now().Add(-ago).UTC().Format(time.RFC3339),
	}
}

// Name of the i-th cluster.
func Name(i int) string { return fmt.Sprintf("shop-%04d", i) }

func (s *seeder) cluster(i int) {
	name, text := Name(i), s.fleet.Text
	ago := time.Duration(i*7919%86400) * time.Second
	available := condition("ManagedClusterConditionAvailable", "True", "ManagedClusterAvailable", "Managed cluster is available", ago)
	ready := int64(3)
	switch {
	case i%17 == 5 || s.fleet.Trouble && i%2 == 1:
		available = condition("ManagedClusterConditionAvailable", "Unknown", "ManagedClusterLeaseUpdateStopped", "The agent is not connected. "+text, ago)
	case i%29 == 7:
		available = condition("ManagedClusterConditionAvailable", "False", "ManagedClusterKubeAPIServerUnavailable", "The API server does not answer: connection refused. "+text, ago)
	case i%23 == 9:
		ready = 2
	}
	env, region := []string{"prod", "stage", "dev"}[i%3], []string{"eu-1", "eu-2", "us-1", "ap-1"}[i%4]
	s.store(Clusters(), object{
		"apiVersion": "cluster" + ocm + "/v1", "kind": "ManagedCluster",
		"metadata": object{"name": name, "labels": object{"env": env, "region": region}, "annotations": object{"note": text}},
		"spec":     object{"hubAcceptsClient": true},
		"status": object{
			"conditions": []any{condition("HubAcceptedManagedCluster", "True", "HubClusterAdminAccepted", "Accepted by hub cluster admin", ago), available},
			"version":    object{"kubernetes": []string{"v1.36.4", "v1.37.0"}[i%2]},
			"capacity":   object{"cpu": "12", "memory": "48Gi"}, "allocatable": object{"cpu": "11", "memory": "44Gi"},
			"agent": object{"version": "v0.9.1", "nodes": int64(3), "nodesReady": ready, "address": fmt.Sprintf("192.0.2.%d:41000", i%250)},
		},
	})
	if s.fleet.Bare || i >= 60 {
		return
	}
	for n, work := range []string{"web", "ingress", "backup"}[:1+i%3] {
		applied, healthy := condition("Applied", "True", "AppliedManifestWorkComplete", "Apply manifest work complete", ago), condition("Healthy", "True", "ResourcesHealthy", "All resources are as desired and ready", ago)
		if (i%11 == 3 || s.fleet.Trouble) && n == 0 {
			healthy = condition("Healthy", "False", "ResourcesFailed", "1 of 1 resources are not ready; Deployment web/web: containers fail: CrashLoopBackOff "+text, ago)
		}
		s.store(gvr("work"+ocm, "v1", "manifestworks"), object{
			"apiVersion": "work" + ocm + "/v1", "kind": "ManifestWork", "metadata": object{"name": work, "namespace": name},
			"spec": object{"workload": object{"manifests": []any{object{
				"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": work, "namespace": "default"}, "data": object{"text": text},
			}}}},
			"status": object{"conditions": []any{applied, healthy}},
		})
	}
}

// catalog makes tokens and addons.
func (s *seeder) catalog() {
	for i, cluster := range []string{"", "shop-next", "edge-7"} {
		s.store(gvr("fleet.drover.io", "v1alpha1", "jointokens"), object{
			"apiVersion": "fleet.drover.io/v1alpha1", "kind": "JoinToken", "metadata": object{"name": fmt.Sprintf("jt-seed-%d", i)},
			"spec": object{"clusterName": cluster, "uses": int64(1), "labels": object{"env": "prod"}, "revoked": i == 2},
		})
	}
	for _, name := range []string{"ingress-nginx", "cert-manager", Addon} {
		s.store(gvr("addon"+ocm, "v1beta1", "clustermanagementaddons"), object{
			"apiVersion": "addon" + ocm + "/v1beta1", "kind": "ClusterManagementAddOn", "metadata": object{"name": name},
			"spec": object{"addOnMeta": object{"displayName": name, "description": "What every cluster needs. " + s.fleet.Text}},
		})
	}
	for i, version := range []string{"1.14.2", "1.15.0"} {
		s.store(gvr("fleet.drover.io", "v1alpha1", "addonversions"), object{
			"apiVersion": "fleet.drover.io/v1alpha1", "kind": "AddOnVersion", "metadata": object{"name": "cert-manager-" + version},
			"spec": object{
				"addOn": "cert-manager", "version": version, "default": i == 0, "description": "Issuers, and what they sign. " + s.fleet.Text,
				"manifests": []any{object{
					"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "issuers", "namespace": "default"},
					"data": object{"version": version},
				}},
			},
		})
	}
}
