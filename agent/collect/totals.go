// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/drover-io/drover/shared/wire"
)

// amounts are quantities by resource name. The zero value is empty and ready.
type amounts map[corev1.ResourceName]resource.Quantity

func (a *amounts) add(list corev1.ResourceList) {
	if *a == nil && len(list) > 0 {
		*a = make(amounts, len(list))
	}
	for name, quantity := range list {
		sum := (*a)[name]
		sum.Add(quantity)
		(*a)[name] = sum
	}
}

func (a *amounts) addStrings(values map[string]string) error {
	list := make(corev1.ResourceList, len(values))
	for name, value := range values {
		quantity, err := resource.ParseQuantity(value)
		if err != nil {
			return fmt.Errorf("quantity %q of %s: %w", value, name, err)
		}
		list[corev1.ResourceName(name)] = quantity
	}
	a.add(list)
	return nil
}

// raise makes each amount at least that of list.
func (a *amounts) raise(list map[corev1.ResourceName]resource.Quantity) {
	if *a == nil && len(list) > 0 {
		*a = make(amounts, len(list))
	}
	for name, quantity := range list {
		if have, ok := (*a)[name]; !ok || have.Cmp(quantity) < 0 {
			(*a)[name] = quantity.DeepCopy()
		}
	}
}

// strings leaves out zeros, which nodes report for every page size they lack.
// It is nil when nothing is left.
func (a amounts) strings() map[string]string {
	var out map[string]string
	for name, quantity := range a {
		if quantity.IsZero() {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(a))
		}
		out[string(name)] = quantity.String()
	}
	return out
}

type nodeTotals struct {
	count, ready          int
	capacity, allocatable amounts
	// what differs between the nodes of a cluster
	architectures, systems, runtimes words
	platform                         string // of the first node that tells
}

// words are few different strings. The zero value is empty and ready.
type words []string

func (w *words) add(word string) {
	if word != "" && len(*w) < wire.MaxWords && !slices.Contains(*w, word) {
		*w = append(*w, word)
	}
}

func (w words) sorted() []string {
	slices.Sort(w)
	return w
}

func (t *nodeTotals) add(node *corev1.Node) {
	t.count++
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			t.ready++
			break
		}
	}
	info := &node.Status.NodeInfo
	t.architectures.add(info.Architecture)
	t.systems.add(info.OperatingSystem)
	runtime, _, _ := strings.Cut(info.ContainerRuntimeVersion, "://")
	t.runtimes.add(runtime)
	if t.platform == "" {
		t.platform = platform(node.Spec.ProviderID)
	}
	t.capacity.add(node.Status.Capacity)
	t.allocatable.add(node.Status.Allocatable)
}

type podTotals struct {
	byPhase  map[string]int
	requests amounts
}

func (t *podTotals) add(pod *corev1.Pod) {
	if t.byPhase == nil {
		t.byPhase = make(map[string]int)
	}
	phase := pod.Status.Phase
	if phase == "" {
		phase = corev1.PodUnknown
	}
	t.byPhase[string(phase)]++
	if phase != corev1.PodSucceeded && phase != corev1.PodFailed {
		t.requests.add(corev1.ResourceList(requestsOf(&pod.Spec)))
	}
}

// requestsOf is what the scheduler reserves for a pod: the containers and
// sidecars together, or more if an init container, with the sidecars started
// before it, needs more; plus the overhead. Requests of the pod as a whole take
// the place of the sum.
func requestsOf(spec *corev1.PodSpec) amounts {
	var running, starting, sidecars amounts
	for i := range spec.Containers {
		running.add(spec.Containers[i].Resources.Requests)
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			running.add(c.Resources.Requests)
			sidecars.add(c.Resources.Requests)
			starting.raise(sidecars)
			continue
		}
		var step amounts
		step.add(corev1.ResourceList(sidecars))
		step.add(c.Resources.Requests)
		starting.raise(step)
	}
	running.raise(starting)
	if spec.Resources != nil {
		for name, quantity := range spec.Resources.Requests {
			if running == nil {
				running = make(amounts)
			}
			running[name] = quantity.DeepCopy()
		}
	}
	running.add(spec.Overhead)
	return running
}
