// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/wire"
)

const (
	podMetricsAPI  = "metrics.k8s.io/v1beta1"
	podMetricsPath = "/apis/metrics.k8s.io/v1beta1/pods"
	maxPodMetrics  = 64 << 20 // bytes of the answer
)

// Attribute makes Collect count pods by the work that they belong to. workOf names
// the work of an object, empty for none.
func (k *Kubernetes) Attribute(workOf func(group, kind, namespace, name string) string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.workOf = workOf
}

// Works are the pods of works as they were counted last; ok is false when they were
// not.
func (k *Kubernetes) Works() (sample wire.WorksSample, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.works, !k.works.Time.IsZero()
}

// tally counts the pods of works while pods go by. It lives as long as one look.
type tally struct {
	workOf func(group, kind, namespace, name string) string
	works  map[string]*wire.WorkSample
	pods   map[types.NamespacedName]*wire.WorkSample // to be measured
}

func newTally(workOf func(group, kind, namespace, name string) string) *tally {
	if workOf == nil {
		return nil
	}
	return &tally{workOf: workOf, works: map[string]*wire.WorkSample{}, pods: map[types.NamespacedName]*wire.WorkSample{}}
}

func (t *tally) add(pod *corev1.Pod) {
	if t == nil || pod.Status.Phase == corev1.PodSucceeded {
		return
	}
	name := t.whose(pod)
	if name == "" {
		return
	}
	w := t.works[name]
	if w == nil {
		w = &wire.WorkSample{Name: name}
		t.works[name] = w
	}
	w.Pods++
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			w.Ready++
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			w.Restarts += int(statuses[i].RestartCount)
		}
	}
	if pod.Status.Phase == corev1.PodRunning {
		t.pods[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = w
	}
}

// whose names the work of a pod: by the pod itself, by its controller, or by what
// made that. The controllers of Kubernetes tell by the names they give, which spares
// reading ReplicaSets and Jobs.
func (t *tally) whose(pod *corev1.Pod) string {
	c := metav1.GetControllerOf(pod)
	if c == nil {
		return t.workOf("", "Pod", pod.Namespace, pod.Name)
	}
	gv, err := schema.ParseGroupVersion(c.APIVersion)
	if err != nil {
		return ""
	}
	if work := t.workOf(gv.Group, c.Kind, pod.Namespace, c.Name); work != "" {
		return work
	}
	switch {
	case gv.Group == "apps" && c.Kind == "ReplicaSet":
		hash := pod.Labels["pod-template-hash"]
		if deployment, ok := strings.CutSuffix(c.Name, "-"+hash); ok && hash != "" {
			return t.workOf("apps", "Deployment", pod.Namespace, deployment)
		}
	case gv.Group == "batch" && c.Kind == "Job":
		if i := strings.LastIndexByte(c.Name, '-'); i > 0 && digits(c.Name[i+1:]) {
			return t.workOf("batch", "CronJob", pod.Namespace, c.Name[:i])
		}
	}
	return ""
}

// digits says whether s is what a CronJob appends to the names of its Jobs: minutes
// since 1970.
func digits(s string) bool {
	return len(s) >= 8 && strings.Trim(s, "0123456789") == ""
}

// sample is what was counted: of too many works those with the most pods.
func (t *tally) sample(now time.Time) wire.WorksSample {
	s := wire.WorksSample{Time: now, Total: len(t.works), Works: make([]wire.WorkSample, 0, len(t.works))}
	for _, w := range t.works {
		s.Works = append(s.Works, *w)
	}
	if len(s.Works) > wire.MaxWorkSamples {
		slices.SortFunc(s.Works, func(a, b wire.WorkSample) int {
			return cmp.Or(cmp.Compare(b.Pods, a.Pods), cmp.Compare(a.Name, b.Name))
		})
		s.Works = slices.Clone(s.Works[:wire.MaxWorkSamples])
	}
	slices.SortFunc(s.Works, func(a, b wire.WorkSample) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// podMetrics is an item of a PodMetricsList.
type podMetrics struct {
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Containers []struct {
		Usage map[string]string `json:"usage"`
	} `json:"containers"`
}

// measure adds what the pods use, where metrics.k8s.io is served.
func (k *Kubernetes) measure(ctx context.Context, t *tally) error {
	if _, served := slices.BinarySearch(k.served.apis, podMetricsAPI); !served || len(t.pods) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := k.client.Get().AbsPath(podMetricsPath).SetHeader("Accept", "application/json").Stream(ctx)
	switch {
	case apierrors.IsNotFound(err): // metrics of nodes alone
		return nil
	case err != nil:
		return err
	}
	defer body.Close()
	return t.measure(io.LimitReader(body, maxPodMetrics))
}

// measure reads a PodMetricsList pod by pod.
func (t *tally) measure(r io.Reader) error {
	dec := json.NewDecoder(r)
	if err := enterItems(dec); err != nil {
		return err
	}
	for dec.More() {
		var m podMetrics
		if err := dec.Decode(&m); err != nil {
			return err
		}
		w := t.pods[types.NamespacedName{Namespace: m.Metadata.Namespace, Name: m.Metadata.Name}]
		if w == nil {
			continue
		}
		var sum amounts
		for _, c := range m.Containers {
			if err := sum.addStrings(c.Usage); err != nil {
				return err
			}
		}
		if len(sum) == 0 {
			continue
		}
		cpu, memory := sum[corev1.ResourceCPU], sum[corev1.ResourceMemory]
		if w.CPU == nil {
			w.CPU, w.Memory = new(float64), new(int64)
		}
		w.Measured++
		*w.CPU += cpu.AsApproximateFloat64()
		*w.Memory += memory.Value()
	}
	return nil
}
