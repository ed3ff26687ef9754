// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// unsettled says what is not yet as it must be in the end, or "" when all is:
// the objects on the cluster, the works on the hub.
func (h *history) unsettled(objects, works map[string]*unstructured.Unstructured) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range 8 {
		name := fmt.Sprintf("o%d", i)
		live := objects[name]
		var values, wanting []string
		for work, w := range h.works {
			if slices.Contains(w.names, name) {
				values, wanting = append(values, w.value), append(wanting, work)
			}
		}
		switch {
		case len(wanting) == 0 && live != nil && !h.foreign[string(live.GetUID())] && !h.orphaned[name] && !h.held(name):
			return fmt.Sprintf("%s is there and nobody wants it", name)
		case len(wanting) > 0 && live == nil:
			return fmt.Sprintf("%s is not there, wanted by %v", name, wanting)
		case len(wanting) > 0 && !slices.Contains(values, valueOf(live)):
			return fmt.Sprintf("%s has value %s, wanted is one of %v", name, valueOf(live), values)
		case len(wanting) > 0:
			if n := claims(works, name, wanting); n != 1 {
				return fmt.Sprintf("%s is wanted by %v, and %d of them say that they have applied it", name, wanting, n)
			}
		}
	}
	for work := range wants {
		w := works[work]
		switch {
		case h.works[work] == nil && w != nil:
			return fmt.Sprintf("work %s is still there", work)
		case h.works[work] != nil && w == nil:
			return fmt.Sprintf("work %s is gone", work)
		case w != nil && appliedGeneration(w) != w.GetGeneration():
			return fmt.Sprintf("work %s reports generation %d of %d", work, appliedGeneration(w), w.GetGeneration())
		}
	}
	return ""
}

// held says that a work which once named the object is in conflict with another
// one: what it does not name any more stays until its content is applied whole.
func (h *history) held(object string) bool {
	for _, sp := range h.spans {
		w := h.works[sp.work]
		if sp.object != object || w == nil {
			continue
		}
		for other, o := range h.works {
			if other != sp.work && slices.ContainsFunc(w.names, func(name string) bool { return slices.Contains(o.names, name) }) {
				return true
			}
		}
	}
	return false
}

// claims counts the works that say they have applied the object.
func claims(works map[string]*unstructured.Unstructured, object string, wanting []string) (n int) {
	for _, name := range wanting {
		if works[name] == nil {
			continue
		}
		list, _, _ := unstructured.NestedSlice(works[name].Object, "status", "resourceStatus", "manifests")
		for _, entry := range list {
			m, _ := entry.(map[string]any)
			if of, _, _ := unstructured.NestedString(m, "resourceMeta", "name"); of == object && isTrue(m["conditions"], "Applied") {
				n++
			}
		}
	}
	return n
}

func isTrue(conditions any, name string) bool {
	list, _ := conditions.([]any)
	for _, c := range list {
		if m, _ := c.(map[string]any); m["type"] == name {
			return m["status"] == "True"
		}
	}
	return false
}

func appliedGeneration(w *unstructured.Unstructured) int64 {
	conditions, _, _ := unstructured.NestedSlice(w.Object, "status", "conditions")
	for _, c := range conditions {
		if m, _ := c.(map[string]any); m["type"] == "Applied" {
			g, _ := m["observedGeneration"].(int64)
			return g
		}
	}
	return 0
}
