// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/agent/health"
	"github.com/drover-io/drover/shared/wire"
)

func object(t testing.TB, body string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(body)); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct{ name, body, health, message string }{
		{
			"deployment past its deadline",
			`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"generation":1},"spec":{"replicas":1,"progressDeadlineSeconds":600},
			"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"conditions":[
			{"type":"Available","status":"False","reason":"MinimumReplicasUnavailable","message":"Deployment does not have minimum availability."},
			{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded","message":"ReplicaSet \"w\" has timed out progressing."}]}}`,
			wire.HealthFailed, "ProgressDeadlineExceeded: Progress deadline exceeded: Deployment does not have minimum availability.: ReplicaSet \"w\" has timed out progressing.",
		},
		{
			"deployment over its quota",
			`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"generation":1},"spec":{"replicas":1},
			"status":{"observedGeneration":1,"conditions":[{"type":"ReplicaFailure","status":"True","reason":"FailedCreate","message":"exceeded quota: tight"}]}}`,
			wire.HealthInProgress, "LessReplicas: Replicas: 0/1: exceeded quota: tight",
		},
		{
			"older generation observed",
			`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"generation":2},"spec":{"replicas":0},"status":{"observedGeneration":1}}`,
			wire.HealthInProgress, "LatestGenerationNotObserved: Deployment generation is 2, but latest observed generation is 1",
		},
		{
			"statefulset by hand, not ready",
			`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"generation":1},"spec":{"replicas":2,"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":1,"replicas":2,"readyReplicas":1}}`,
			wire.HealthInProgress, "LessReady: Ready: 1/2",
		},
		{
			"statefulset, pods too young",
			`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"generation":1},"spec":{"replicas":1,"minReadySeconds":60,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}}},
			"status":{"observedGeneration":1,"replicas":1,"readyReplicas":1,"updatedReplicas":1,"currentReplicas":1,"availableReplicas":0}}`,
			wire.HealthInProgress, "LessAvailable: Available: 0/1",
		},
		{
			"statefulset ready",
			`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"generation":1},"spec":{"replicas":1,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}}},
			"status":{"observedGeneration":1,"replicas":1,"readyReplicas":1,"updatedReplicas":1,"currentReplicas":1,"availableReplicas":1}}`,
			wire.HealthCurrent, "",
		},
		{
			"daemonset by hand with old pods",
			`{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"generation":2},"spec":{"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":2,"desiredNumberScheduled":3,"currentNumberScheduled":3,"updatedNumberScheduled":0,"numberAvailable":3,"numberReady":3}}`,
			wire.HealthCurrent, "",
		},
		{
			"daemonset rolling",
			`{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"generation":2},"spec":{},
			"status":{"observedGeneration":2,"desiredNumberScheduled":3,"currentNumberScheduled":3,"updatedNumberScheduled":1,"numberAvailable":3,"numberReady":3}}`,
			wire.HealthInProgress, "LessUpdated: Updated: 1/3",
		},
		{
			"job runs", `{"apiVersion":"batch/v1","kind":"Job","metadata":{},"spec":{"completions":3},"status":{"startTime":"2026-01-01T00:00:00Z","active":1,"succeeded":1,"failed":2}}`,
			wire.HealthInProgress, "JobRunning: succeeded: 1/3, failed: 2",
		},
		{
			"job suspended", `{"apiVersion":"batch/v1","kind":"Job","metadata":{},"spec":{"suspend":true}}`, wire.HealthCurrent, "",
		},
		{
			"job complete", `{"apiVersion":"batch/v1","kind":"Job","metadata":{},"status":{"conditions":[{"type":"Complete","status":"True"}]}}`,
			wire.HealthCurrent, "",
		},
		{
			"job failed", `{"apiVersion":"batch/v1","kind":"Job","metadata":{},"status":{"conditions":[{"type":"Failed","status":"True","reason":"BackoffLimitExceeded","message":"Job has reached the specified backoff limit"}]}}`,
			wire.HealthFailed, "JobFailed: BackoffLimitExceeded: Job has reached the specified backoff limit",
		},
		{
			"pod failed", `{"apiVersion":"v1","kind":"Pod","metadata":{},"status":{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: memory."}}`,
			wire.HealthFailed, "Evicted: The node was low on resource: memory.",
		},
		{
			"pod ready", `{"apiVersion":"v1","kind":"Pod","metadata":{},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`,
			wire.HealthCurrent, "",
		},
		{"claim bound", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{},"status":{"phase":"Bound"}}`, wire.HealthCurrent, ""},
		{"claim pending", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{},"status":{"phase":"Pending"}}`, wire.HealthInProgress, "NotBound: PVC is not Bound. phase: Pending"},
		{"claim lost", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{},"status":{"phase":"Lost"}}`, wire.HealthFailed, "Lost: its volume does not exist any more"},
		{
			"load balancer without address", `{"apiVersion":"v1","kind":"Service","metadata":{},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1"}}`,
			wire.HealthInProgress, "NoAddress: no load balancer has given the Service an address",
		},
		{
			"load balancer", `{"apiVersion":"v1","kind":"Service","metadata":{},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`,
			wire.HealthCurrent, "",
		},
		{
			"crd established", `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{},"status":{"conditions":[{"type":"Established","status":"True"}]}}`,
			wire.HealthCurrent, "",
		},
		{
			"crd with a name clash", `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{},"status":{"conditions":[{"type":"NamesAccepted","status":"False","reason":"PluralConflict","message":"widgets is in use"}]}}`,
			wire.HealthFailed, "PluralConflict: widgets is in use",
		},
		{
			"apiservice without server", `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{},"status":{"conditions":[{"type":"Available","status":"False","reason":"ServiceNotFound","message":"service/metrics not found"}]}}`,
			wire.HealthInProgress, "ServiceNotFound: service/metrics not found",
		},
		{
			"custom object not ready", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"generation":1},"status":{"conditions":[{"type":"Ready","status":"False","reason":"NoDisk","message":"disk is full"}]}}`,
			wire.HealthInProgress, "NoDisk: disk is full",
		},
		{
			"being deleted", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["example.com/hold"]}}`,
			wire.HealthTerminating, "waits for finalizers: example.com/hold",
		},
		{
			"conditions of the wrong shape", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{},"status":{"conditions":"none"}}`,
			wire.HealthUnknown, "status cannot be understood",
		},
		{
			"pod that makes kstatus panic", `{"apiVersion":"v1","kind":"Pod","metadata":{},"status":{"phase":"Running","containerStatuses":["x"]}}`,
			wire.HealthUnknown, "status cannot be understood",
		},
		{
			"endless message", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{},"status":{"conditions":[{"type":"Ready","status":"False","message":"` + long + `"}]}}`,
			wire.HealthInProgress, strings.Repeat("x", 1000),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, message := health.Of(object(t, tt.body))
			if got != tt.health || !strings.Contains(message, tt.message) || (tt.message == "" && message != "") || len(message) > 1024 {
				t.Errorf("got %s %q, want %s %q", got, message, tt.health, tt.message)
			}
		})
	}
}

// A running clock must not be needed to judge an old pod.
func TestUnschedulablePod(t *testing.T) {
	t.Parallel()
	u := object(t, `{"apiVersion":"v1","kind":"Pod","metadata":{},"status":{"phase":"Pending","conditions":[
		{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available"}]}}`)
	u.SetCreationTimestamp(metaTime(time.Now()))
	if got, _ := health.Of(u); got != wire.HealthInProgress {
		t.Errorf("fresh pod: got %s", got)
	}
	u.SetCreationTimestamp(metaTime(time.Now().Add(-time.Hour)))
	if got, message := health.Of(u); got != wire.HealthFailed || !strings.Contains(message, "0/1 nodes are available") {
		t.Errorf("old pod: got %s %q", got, message)
	}
}

func FuzzOf(f *testing.F) {
	f.Add(`{"apiVersion":"v1","kind":"Pod","metadata":{},"status":{"phase":"Running","containerStatuses":[1]}}`)
	f.Add(`{"apiVersion":"batch/v1","kind":"Job","metadata":{},"spec":{"suspend":"x"},"status":{"conditions":[{"type":1}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		var fields map[string]any
		if json.Unmarshal([]byte(body), &fields) != nil || fields == nil {
			return
		}
		if got, _ := health.Of(&unstructured.Unstructured{Object: fields}); got == "" {
			t.Error("no health")
		}
	})
}
