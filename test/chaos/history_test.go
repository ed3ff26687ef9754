// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/drover-io/drover/shared/wire"
)

// history is what one seed did and saw. Its methods find what must never be:
//
//   - an object deleted by the agent that a work has wanted since before it was
//     made, or that somebody else made, or for whose removal nobody said the word
//     that it needs;
//   - an object of somebody else's written to though the policy forbids it;
//   - content that goes back, that no work ever named, that its executor may not
//     write, or whose lower waves are not there yet;
//   - a write that changes nothing;
//   - a status that goes back, or names two digests for one generation.
type history struct {
	mu         sync.Mutex
	began      time.Time
	lines      []string
	violations []string

	works   map[string]*wanted
	spans   []*span
	written map[string]step // what was put, by the value of data.value
	counter int

	objects  map[string]*seen  // by UID
	newest   map[string]int    // "object/work": newest counter seen
	foreign  map[string]bool   // UIDs that somebody else made
	killed   map[string]bool   // UIDs that somebody else deleted
	orphaned map[string]bool   // objects that a work may have left by its option Orphan
	spoken   map[string]bool   // UIDs whose removal has a word, or needs none
	live     map[string]string // UID by name, of what is there

	met map[string]int // what happened, by kind: a plan that meets nothing shows nothing

	digests  map[string]string // "UID of work/generation"
	observed map[string]int64  // by UID of work
}

// wanted is a work that the hub has acknowledged.
type wanted struct {
	step
	value string
}

// span is the time in which a work wanted an object: from the acknowledgement
// to the moment before it was told otherwise.
type span struct {
	work, object string
	from, to     time.Time
}

type seen struct {
	made time.Time
	last *unstructured.Unstructured
}

func newHistory() *history {
	return &history{
		began: time.Now(), works: map[string]*wanted{}, written: map[string]step{"foreign": {}},
		objects: map[string]*seen{}, newest: map[string]int{}, foreign: map[string]bool{}, killed: map[string]bool{},
		orphaned: map[string]bool{}, spoken: map[string]bool{}, live: map[string]string{}, met: map[string]int{},
		digests: map[string]string{}, observed: map[string]int64{},
	}
}

func (h *history) note(format string, args ...any) {
	h.lines = append(h.lines, fmt.Sprintf("%7.3f ", time.Since(h.began).Seconds())+fmt.Sprintf(format, args...))
}

func (h *history) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.note("VIOLATION %s", text)
	h.violations = append(h.violations, text)
}

// putting is called before a work is written; it ends what the work does not
// want any more and returns the value to write.
func (h *history) putting(s step) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counter++
	value := fmt.Sprintf("%s/%d", s.work, h.counter)
	h.written[value] = s
	h.end(s.work, s.names)
	// Content with the option Orphan leaves what it no longer names, as it leaves
	// all when it is deleted: the option is of the content, not of the object.
	for _, sp := range h.spans {
		if s.orphan && sp.work == s.work && !slices.Contains(s.names, sp.object) {
			h.orphaned[sp.object] = true
		}
	}
	h.note("%s value=%s", s, value)
	h.met["works put"]++
	return value
}

// end closes the spans of a work but for the objects in keep.
func (h *history) end(work string, keep []string) {
	for _, sp := range h.spans {
		if sp.work == work && sp.to.IsZero() && !slices.Contains(keep, sp.object) {
			sp.to = time.Now()
		}
	}
}

// put is called when the hub has acknowledged.
func (h *history) put(s step, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.works[s.work] = &wanted{step: s, value: value}
	for _, name := range s.names {
		open := slices.ContainsFunc(h.spans, func(sp *span) bool { return sp.work == s.work && sp.object == name && sp.to.IsZero() })
		if !open {
			h.spans = append(h.spans, &span{work: s.work, object: name, from: time.Now()})
		}
	}
	h.note("acknowledged %s", value)
}

func (h *history) removing(work string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note("remove %s", work)
	h.end(work, nil)
	if w := h.works[work]; w != nil && w.orphan {
		for _, name := range wants[work] {
			h.orphaned[name] = true
		}
	}
	delete(h.works, work)
}

// byOther notes what somebody else did to an object: made it or deleted it.
func (h *history) byOther(uids map[string]bool, uid, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	uids[uid] = true
	h.met["objects of others or ended by them"]++
	h.note("somebody else %s %s", what, uid)
}

// object takes an event of the managed cluster.
func (h *history) object(ev watch.Event, u *unstructured.Unstructured) {
	h.mu.Lock()
	defer h.mu.Unlock()
	uid, name := string(u.GetUID()), u.GetName()
	value := valueOf(u)
	h.note("cluster: %s %s %s value=%s rv=%s", ev.Type, name, uid, value, u.GetResourceVersion())
	x := h.objects[uid]
	if ev.Type == watch.Deleted {
		h.deleted(name, uid, x)
		return
	}
	if _, known := h.written[value]; !known {
		h.violate("%s has the value %q that nobody wrote", name, value)
	}
	var before *unstructured.Unstructured
	if x == nil {
		x = &seen{made: time.Now()}
		h.objects[uid] = x
	} else if before = x.last; u.GetDeletionTimestamp() == nil && sameObject(before, u) {
		h.violate("%s was written without a change, to revision %s", name, u.GetResourceVersion())
	}
	x.last = u
	h.live[name] = uid
	work, n, ok := parseValue(value)
	if !ok || !ours(u) {
		return
	}
	if before == nil || !ours(before) || valueOf(before) != value {
		h.wrote(name, before, value)
	}
	key := name + "/" + work
	if n < h.newest[key] {
		h.violate("%s went back to %s, work %s was at %d", name, value, work, h.newest[key])
	}
	h.newest[key] = max(n, h.newest[key])
}

// ours says that the agent has written to the object.
func ours(u *unstructured.Unstructured) bool {
	return slices.ContainsFunc(u.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "drover" })
}

// wrote judges a write of the agent, to what was there before or to nothing.
func (h *history) wrote(name string, before *unstructured.Unstructured, value string) {
	content := h.written[value]
	work, n, _ := parseValue(value)
	if content.executor == nobody {
		h.violate("%s got the value %s, which its executor may not write", name, value)
	}
	taken := before != nil && !ours(before)
	h.met["objects written"]++
	if taken {
		h.met["objects taken over"]++
	}
	switch {
	case taken && content.adoption == wire.AdoptNever:
		h.violate("%s was taken over with %s by the policy Never", name, value)
	case taken && content.adoption == wire.AdoptIfNoDiff && valueOf(before) != value:
		h.violate("%s was taken over with %s by the policy IfNoDiff, it was %s", name, value, valueOf(before))
	}
	if content.waves {
		h.met["objects written in waves"]++
	}
	for _, lower := range content.names {
		if content.waves && waveOf(lower) < waveOf(name) && h.newest[lower+"/"+work] < n {
			h.violate("%s got %s before %s, which is of a lower wave", name, value, lower)
		}
	}
}

func (h *history) deleted(name, uid string, x *seen) {
	if h.live[name] == uid {
		defer delete(h.live, name)
	}
	if h.killed[uid] {
		return
	}
	h.met["objects deleted"]++
	if slices.Contains(wants[large], name) && h.works[large] != nil && !h.spoken[uid] {
		h.removedByChange(name)
	}
	if h.foreign[uid] {
		h.violate("%s (%s) was made by somebody else and deleted by the agent", name, uid)
	}
	for _, sp := range h.spans {
		if sp.object == name && sp.to.IsZero() && x != nil && sp.from.Before(x.made) {
			h.violate("%s (%s) was deleted though work %s has wanted it since before it was made", name, uid, sp.work)
		}
	}
}

// removedByChange judges the first of the removals of one change for which nobody
// said a word.
func (h *history) removedByChange(name string) {
	extra := 0
	for _, other := range wants[large] {
		if uid := h.live[other]; uid != "" && !slices.Contains(few(), other) {
			h.spoken[uid] = true
			extra++
		}
	}
	if extra > free {
		h.violate("%s was deleted with %d others, and nobody said the word", name, extra-1)
	}
}

// plan is the ID of the plan that removes what the small content of the large work
// does not name, and the UIDs of that.
func (h *history) plan(ns string) (id string, uids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, name := range wants[large] {
		if uid := h.live[name]; uid != "" && !slices.Contains(few(), name) {
			lines, uids = append(lines, "/ConfigMap/"+ns+"/"+name+"/"+uid), append(uids, uid)
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(lines, "\n")))), uids
}

// approving is called before the word is said.
func (h *history) approving(id string, uids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, uid := range uids {
		h.spoken[uid] = true
	}
	h.note("approve %s", id)
	h.met["removals approved"]++
}

// sameObject says that two versions differ in nothing that a writer sets.
func sameObject(a, b *unstructured.Unstructured) bool {
	return valueOf(a) == valueOf(b) && maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations()) &&
		(a.GetDeletionTimestamp() == nil) == (b.GetDeletionTimestamp() == nil) && owners(a) == owners(b)
}

func owners(u *unstructured.Unstructured) string {
	var all []string
	for _, m := range u.GetManagedFields() {
		all = append(all, m.Manager+"/"+string(m.Operation)+"/"+m.FieldsV1.GetRawString())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func valueOf(u *unstructured.Unstructured) string {
	v, _, _ := unstructured.NestedString(u.Object, "data", "value")
	return v
}

func parseValue(value string) (work string, n int, ok bool) {
	work, number, ok := strings.Cut(value, "/")
	if !ok {
		return "", 0, false
	}
	_, err := fmt.Sscan(number, &n)
	return work, n, err == nil
}

// status takes a state of a work as the hub shows it.
func (h *history) status(w *unstructured.Unstructured) {
	h.mu.Lock()
	defer h.mu.Unlock()
	observed := int64(0)
	conditions, _, _ := unstructured.NestedSlice(w.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		g, _ := m["observedGeneration"].(int64)
		if g > w.GetGeneration() {
			h.violate("work %s: condition %v speaks of generation %d, the work has %d", w.GetName(), m["type"], g, w.GetGeneration())
		}
		if m["type"] == "Applied" {
			observed = g
		}
	}
	uid := string(w.GetUID())
	if observed < h.observed[uid] {
		h.violate("work %s: status went back from generation %d to %d", w.GetName(), h.observed[uid], observed)
	}
	h.observed[uid] = max(observed, h.observed[uid])
	digest, _, _ := unstructured.NestedString(w.Object, "status", "appliedDigest")
	key := fmt.Sprintf("%s/%d", uid, observed)
	if before := h.digests[key]; digest != "" && before != "" && before != digest {
		h.violate("work %s: two digests for generation %d: %s, %s", w.GetName(), observed, before, digest)
	}
	if digest != "" {
		h.digests[key] = digest
	}
}
