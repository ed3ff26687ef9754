// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/test/kube"
)

var shared = kube.Shared{Metrics: true}

// It counts every pod of the cluster, so it runs before the tests that are parallel.
func TestKubernetes(t *testing.T) {
	cfg := shared.Cluster(t).RESTConfig()
	client := kubernetes.NewForConfigOrDie(cfg)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "collect"}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A pod that no node takes keeps its requests and stays Pending.
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: corev1.PodSpec{
			NodeSelector:   map[string]string{"no-such": "node"},
			InitContainers: []corev1.Container{container("500m", "32Mi")},
			Containers:     []corev1.Container{container("100m", "64Mi")},
		},
	}
	pod.Spec.Containers[0].Name, pod.Spec.Containers[0].Image = "c", "registry.invalid/c:1"
	pod.Spec.InitContainers[0].Name, pod.Spec.InitContainers[0].Image = "i", "registry.invalid/i:1"
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := client.CoreV1().Pods("collect").Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			break
		}
		// The ServiceAccount of a new namespace takes a moment.
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}

	k, err := NewKubernetes(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sample, status, err := k.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !status.Healthy || status.HealthMessage != "" || !sample.Healthy {
		t.Errorf("not healthy: %+v", status)
	}
	system, err := client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if status.ClusterUID != string(system.UID) || !strings.HasPrefix(status.Version, "v1.") {
		t.Errorf("uid %q, version %q", status.ClusterUID, status.Version)
	}
	if status.Nodes != 1 || status.NodesReady != 1 || sample.Nodes != 1 || sample.NodesReady != 1 {
		t.Errorf("nodes: %+v", status)
	}
	if status.Capacity["cpu"] == "" || status.Allocatable["memory"] == "" || sample.PodsCapacity == 0 {
		t.Errorf("capacity: %+v %+v", status, sample)
	}
	if diff := cmp.Diff(map[string]string{"cpu": "500m", "memory": "64Mi"}, status.Requests); diff != "" {
		t.Errorf("requests: %s", diff)
	}
	if diff := cmp.Diff(map[string]int{"Pending": 1}, sample.PodsByPhase); diff != "" {
		t.Errorf("pods: %s", diff)
	}
	if diff := cmp.Diff(map[string]string{"cpu": "850m", "memory": "2Gi"}, sample.Usage); diff != "" {
		t.Errorf("usage: %s", diff)
	}
}

// refuse answers some paths itself and hands the rest on.
type refuse struct {
	next  http.RoundTripper
	codes map[string]int
}

func (r refuse) RoundTrip(req *http.Request) (*http.Response, error) {
	code, ok := r.codes[req.URL.Path]
	if !ok {
		return r.next.RoundTrip(req)
	}
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func TestKubernetesDegrades(t *testing.T) {
	t.Parallel()
	base := shared.Cluster(t).RESTConfig()
	for _, tt := range []struct {
		name    string
		codes   map[string]int
		healthy bool
		message string // of the health
		err     string
	}{
		{"no livez", map[string]int{"/livez": 404}, true, "", ""},
		{"livez forbidden", map[string]int{"/livez": 403}, true, "", ""},
		{"neither", map[string]int{"/livez": 403, "/healthz": 403}, false, "The kube-apiserver is not ok, status code: 403, ", ""},
		{"sick", map[string]int{"/livez": 500}, false, "The kube-apiserver is not ok, status code: 500, ", ""},
		{"pods forbidden", map[string]int{"/api/v1/pods": 403}, true, "", "read pods: "},
		{"nodes fail", map[string]int{"/api/v1/nodes": 500}, true, "", "read nodes: "},
		{"no metrics", map[string]int{"/apis/metrics.k8s.io/v1beta1/nodes": 404}, true, "", ""},
		{"metrics broken", map[string]int{"/apis/metrics.k8s.io/v1beta1/nodes": 503}, true, "", "read metrics of nodes: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := rest.CopyConfig(base)
			cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return refuse{next: rt, codes: tt.codes} })
			k, err := NewKubernetes(cfg)
			if err != nil {
				t.Fatal(err)
			}
			sample, status, err := k.Collect(t.Context())
			if (tt.err == "") != (err == nil) || (err != nil && !strings.HasPrefix(err.Error(), tt.err)) {
				t.Errorf("error: got %v, want %q", err, tt.err)
			}
			if status.Healthy != tt.healthy || sample.Healthy != tt.healthy || !strings.HasPrefix(status.HealthMessage, tt.message) {
				t.Errorf("health: got %v %q", status.Healthy, status.HealthMessage)
			}
			if status.Version == "" || status.ClusterUID == "" {
				t.Errorf("one failure spoiled the rest: %+v", status)
			}
		})
	}
}
