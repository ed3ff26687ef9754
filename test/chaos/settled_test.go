// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/work"
)

// unsettled says what is not yet as it must be in the end, or "" when all is:
// the objects on the cluster, the works on the hub.
func (h *history) unsettled(objects, works map[string]*unstructured.Unstructured) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(everything())) {
		live := objects[name]
		var wanting, claiming []string
		for of, w := range h.works {
			if slices.Contains(w.names, name) {
				wanting = append(wanting, of)
				if applied(works[of], name) {
					claiming = append(claiming, of)
				}
			}
		}
		switch {
		case len(wanting) == 0 && live != nil && !h.stays(live, works):
			return fmt.Sprintf("%s is there and nobody wants it", name)
		case len(wanting) == 0:
		case len(claiming) > 1:
			return fmt.Sprintf("%s is wanted by %v, and %v say that they have applied it", name, wanting, claiming)
		case len(claiming) == 0:
			// Whoever has it, or had it last, is in its way with good reason.
			if !slices.ContainsFunc(wanting, func(work string) bool { return h.stuck(works[work], work, name, live) }) {
				return fmt.Sprintf("%s is wanted by %v, and none of them says that it has applied it", name, wanting)
			}
		case live == nil:
			return fmt.Sprintf("%s is not there, wanted by %v", name, wanting)
		case valueOf(live) != h.works[claiming[0]].value:
			return fmt.Sprintf("%s has value %s, wanted is %s", name, valueOf(live), h.works[claiming[0]].value)
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

// count adds up how things ended.
func (h *history) count(works map[string]*unstructured.Unstructured) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for work, w := range h.works {
		for _, name := range w.names {
			if !applied(works[work], name) {
				h.met["objects refused in the end"]++
			}
		}
	}
	if awaitsWord(works[large], wants[large][free]) {
		h.met["removals that wait in the end"]++
	}
}

// everything is the names of all objects.
func everything() map[string]bool {
	all := map[string]bool{}
	for _, names := range wants {
		for _, name := range names {
			all[name] = true
		}
	}
	return all
}

// stays says that an object which nobody wants has a reason to be there: somebody
// else made it, a work left it, its removal waits for a word, or a work that once
// named it cannot be applied whole, and removes nothing before.
func (h *history) stays(live *unstructured.Unstructured, works map[string]*unstructured.Unstructured) bool {
	name := live.GetName()
	if h.foreign[string(live.GetUID())] || h.orphaned[name] || awaitsWord(works[large], name) {
		return true
	}
	return slices.ContainsFunc(h.spans, func(sp *span) bool {
		w := h.works[sp.work]
		return sp.object == name && w != nil && slices.ContainsFunc(w.names, func(other string) bool { return !applied(works[sp.work], other) })
	})
}

// awaitsWord says that the object is in a plan which is larger than a change may be,
// and which nobody has approved.
func awaitsWord(w *unstructured.Unstructured, name string) bool {
	if w == nil {
		return false
	}
	id, _, _ := unstructured.NestedString(w.Object, "status", "prunePlan", "id")
	list, _, _ := unstructured.NestedSlice(w.Object, "status", "prunePlan", "objects")
	return len(list) > free && w.GetAnnotations()[work.AnnotationApprovePrune] != id &&
		slices.ContainsFunc(list, func(o any) bool { m, _ := o.(map[string]any); return m["name"] == name })
}

// stuck says that a work rightly does not apply an object: its executor may not, the
// adoption policy forbids it, or a lower wave is not there.
func (h *history) stuck(state *unstructured.Unstructured, work, name string, live *unstructured.Unstructured) bool {
	w := h.works[work]
	if w.executor == nobody || (w.adoption != "" && live != nil && h.foreign[string(live.GetUID())]) {
		return true
	}
	return w.waves && slices.ContainsFunc(w.names, func(lower string) bool { return waveOf(lower) < waveOf(name) && !applied(state, lower) })
}

// applied says that a work says that it has applied the object.
func applied(w *unstructured.Unstructured, object string) bool {
	if w == nil {
		return false
	}
	list, _, _ := unstructured.NestedSlice(w.Object, "status", "resourceStatus", "manifests")
	return slices.ContainsFunc(list, func(entry any) bool {
		m, _ := entry.(map[string]any)
		of, _, _ := unstructured.NestedString(m, "resourceMeta", "name")
		return of == object && isTrue(m["conditions"], "Applied")
	})
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
