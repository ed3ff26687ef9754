// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/drover-io/drover/shared/wire"
)

func pod(name, controller string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	if api, kind, ok := strings.Cut(controller, " "); ok {
		kind, owner, _ := strings.Cut(kind, " ")
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: api, Kind: kind, Name: owner, Controller: &yes}}
	}
	if change != nil {
		change(p)
	}
	return p
}

func TestTally(t *testing.T) {
	t.Parallel()
	owned := map[string]string{
		"apps/Deployment/n/web": "app", "apps/StatefulSet/n/db": "app", "batch/CronJob/n/nightly": "jobs", "batch/Job/n/once": "jobs",
		"/Pod/n/bare": "bare", "example.com/Widget/n/w": "widgets",
	}
	hash := func(h string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Labels = map[string]string{"pod-template-hash": h} }
	}
	y := newTally(func(group, kind, namespace, name string) string {
		return owned[group+"/"+kind+"/"+namespace+"/"+name]
	})
	for _, p := range []*corev1.Pod{
		pod("web-1", "apps/v1 ReplicaSet web-5d", hash("5d")),
		pod("web-2", "apps/v1 ReplicaSet web-5d", func(p *corev1.Pod) {
			hash("5d")(p)
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{RestartCount: 1}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2}, {RestartCount: 4}}
		}),
		pod("other-1", "apps/v1 ReplicaSet web-7f", hash("5d")), // somebody's own ReplicaSet
		pod("other-2", "apps/v1 ReplicaSet web-", nil),
		pod("db-0", "apps/v1 StatefulSet db", nil),
		pod("nightly-x", "batch/v1 Job nightly-29123456", nil),
		pod("nightly-y", "batch/v1 Job nightly-manual", nil),
		pod("once-x", "batch/v1 Job once", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("once-y", "batch/v1 Job once", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("w-0", "example.com/v1 Widget w", nil),
		pod("bare", "", nil),
		pod("foreign", "", nil),
		pod("broken", "a/b/c Widget w", nil),
	} {
		y.add(p)
	}
	metrics := `{"kind":"PodMetricsList","items":[
		{"metadata":{"namespace":"n","name":"web-1"},"containers":[{"usage":{"cpu":"100m","memory":"10Mi"}},{"usage":{"cpu":"1m","memory":"1Mi"}}]},
		{"metadata":{"namespace":"n","name":"foreign"},"containers":[{"usage":{"cpu":"9"}}]},
		{"metadata":{"namespace":"n","name":"db-0"},"containers":[]}]}`
	if err := y.measure(strings.NewReader(metrics)); err != nil {
		t.Fatal(err)
	}
	cpu, memory := 0.101, int64(11<<20)
	now := time.Now()
	want := wire.WorksSample{Time: now, Total: 4, Works: []wire.WorkSample{
		{Name: "app", Pods: 3, Ready: 1, Restarts: 7, CPU: &cpu, Memory: &memory, Measured: 1},
		{Name: "bare", Pods: 1},
		{Name: "jobs", Pods: 2},
		{Name: "widgets", Pods: 1},
	}}
	if diff := cmp.Diff(want, y.sample(now)); diff != "" {
		t.Error(diff)
	}
	if err := y.measure(strings.NewReader(`{"items":[{"metadata":{"namespace":"n","name":"web-1"},"containers":[{"usage":{"cpu":"much"}}]}]}`)); err == nil {
		t.Error("a quantity that is none was taken")
	}
}

func TestTallyIsBounded(t *testing.T) {
	t.Parallel()
	y := newTally(func(_, _, _, name string) string { return "work-of-" + name })
	for i := range 3 * wire.MaxWorkSamples {
		y.add(pod(fmt.Sprintf("p%03d", i), "", nil))
	}
	y.add(pod("z", "", nil))
	y.add(pod("z", "", nil))
	s := y.sample(time.Now())
	if s.Total != 3*wire.MaxWorkSamples+1 || len(s.Works) != wire.MaxWorkSamples || s.Works[wire.MaxWorkSamples-1].Name != "work-of-z" {
		t.Errorf("%d of %d works, the last %+v", len(s.Works), s.Total, s.Works[len(s.Works)-1])
	}
}

// The pods of a Deployment on a real cluster, with the usage that it serves.
func TestWorksOfCluster(t *testing.T) {
	t.Parallel()
	cfg := shared.Cluster(t).RESTConfig()
	client := kubernetes.NewForConfigOrDie(cfg)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tally"}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	replicas := int32(2)
	labels := map[string]string{"app": "web"}
	_, err := client.AppsV1().Deployments("tally").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.invalid/c:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKubernetes(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, ok := k.Works(); ok {
		t.Errorf("counted without a word whose: %+v", s)
	}
	k.Attribute(func(group, kind, namespace, name string) string {
		if group == "apps" && kind == "Deployment" && namespace == "tally" && name == "web" {
			return "addon-web-deploy-0"
		}
		return ""
	})
	await := func(what string, done func(wire.WorkSample) bool) {
		t.Helper()
		var last wire.WorksSample
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if _, _, err := k.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			last, _ = k.Works()
			if len(last.Works) == 1 && done(last.Works[0]) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: never; last %+v", what, last)
			}
		}
	}
	await("two pods ready", func(w wire.WorkSample) bool {
		return w.Name == "addon-web-deploy-0" && w.Pods == 2 && w.Ready == 2 && w.Restarts == 0 && w.CPU == nil
	})
	pods, err := client.CoreV1().Pods("tally").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gvr := schema.GroupVersionResource{Group: "metrics.k8s.io", Version: "v1beta1", Resource: "pods"}
	_, err = dynamic.NewForConfigOrDie(cfg).Resource(gvr).Namespace("tally").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": map[string]any{"name": pods.Items[0].Name},
		"timestamp": "2026-01-01T00:00:00Z", "window": "15s",
		"containers": []any{map[string]any{"name": "c", "usage": map[string]any{"cpu": "250m", "memory": "64Mi"}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await("one of them measured", func(w wire.WorkSample) bool {
		return w.Pods == 2 && w.Measured == 1 && w.CPU != nil && *w.CPU == 0.25 && *w.Memory == 64<<20
	})
}
