// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/wire"
)

func deployment(name, podSpec string) string {
	return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%[1]q},"spec":{"replicas":1,
		"selector":{"matchLabels":{"app":%[1]q}},"template":{"metadata":{"labels":{"app":%[1]q}},
		"spec":{%[2]s"containers":[{"name":"c","image":"registry.invalid/web:1"}]}}}}`, name, podSpec)
}

// explain asks until the answer satisfies ok.
func (r *rig) explain(live func() *unstructured.Unstructured, report wire.ManifestReport, ok func(wire.ManifestReport) bool) wire.ManifestReport {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		got := report
		err := r.observer.Explain(r.t.Context(), live(), &got)
		if err == nil && ok(got) {
			return got
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("got %+v, error %v", got, err)
		}
	}
}

func TestExplainDeployment(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared.Cluster(t).RESTConfig())
	r.namespace("explain")
	r.create(deployments, "explain", deployment("web", `"nodeSelector":{"no-such":"node"},`))
	r.create(pods, "explain", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"stranger","labels":{"app":"web"}},
		"spec":{"nodeSelector":{"other":"node"},"containers":[{"name":"c","image":"registry.invalid/web:1"}]}}`)
	report := wire.ManifestReport{Kind: "Deployment", Health: wire.HealthInProgress, HealthMessage: "LessReady: Ready: 0/1"}
	live := func() *unstructured.Unstructured {
		u, err := r.in(deployments, "explain").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	got := r.explain(live, report, func(got wire.ManifestReport) bool {
		return slices.ContainsFunc(got.Events, func(e wire.EventNote) bool { return e.Reason == "FailedScheduling" })
	})
	if !strings.HasPrefix(got.HealthMessage, "LessReady: Ready: 0/1; Pod web-") || !strings.Contains(got.HealthMessage, ": Unschedulable: 0/1 nodes are available") {
		t.Errorf("message %q", got.HealthMessage)
	}
	for _, e := range got.Events {
		if !strings.HasPrefix(e.Object, "Pod/web-") {
			t.Errorf("event of %s", e.Object)
		}
	}

	// What is well is not asked about.
	current := wire.ManifestReport{Kind: "Deployment", Health: wire.HealthCurrent}
	if err := r.observer.Explain(t.Context(), live(), &current); err != nil || current.Events != nil || current.HealthMessage != "" {
		t.Errorf("got %+v, %v", current, err)
	}
}

// What keeps pods from being made at all is said about the ReplicaSet.
func TestExplainQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared.Cluster(t).RESTConfig())
	r.namespace("quota")
	quotas := pods
	quotas.Resource = "resourcequotas"
	r.create(quotas, "quota", `{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"tight"},"spec":{"hard":{"pods":"0"}}}`)
	r.create(deployments, "quota", deployment("web", ""))
	report := wire.ManifestReport{Kind: "Deployment", Health: wire.HealthInProgress}
	r.explain(func() *unstructured.Unstructured {
		u, err := r.in(deployments, "quota").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}, report, func(got wire.ManifestReport) bool {
		return slices.ContainsFunc(got.Events, func(e wire.EventNote) bool {
			return strings.HasPrefix(e.Object, "ReplicaSet/web-") && strings.Contains(e.Message, "exceeded quota: tight")
		})
	})
}

func TestExplainClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t, shared.Cluster(t).RESTConfig())
	r.namespace("claims")
	r.create(classes, "", `{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"late"},"provisioner":"example.com/none","volumeBindingMode":"WaitForFirstConsumer"}`)
	r.create(classes, "", `{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"soon"},"provisioner":"example.com/none","volumeBindingMode":"Immediate"}`)
	for _, tt := range []struct{ class, health, message string }{
		{"late", wire.HealthCurrent, ""},
		{"soon", wire.HealthInProgress, "NotBound"},
		{"missing", wire.HealthInProgress, `NotBound; StorageClass "missing" does not exist`},
	} {
		r.create(claims, "claims", fmt.Sprintf(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":%[1]q},
			"spec":{"storageClassName":%[1]q,"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`, tt.class))
		report := wire.ManifestReport{Kind: "PersistentVolumeClaim", Health: wire.HealthInProgress, HealthMessage: "NotBound"}
		r.explain(func() *unstructured.Unstructured {
			u, err := r.in(claims, "claims").Get(t.Context(), tt.class, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return u
		}, report, func(got wire.ManifestReport) bool { return got.Health == tt.health && got.HealthMessage == tt.message })
	}
}
