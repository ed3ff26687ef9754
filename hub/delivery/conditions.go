// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	ConditionPruneBlocked = work.ConditionPruneBlocked
	ConditionDrifted      = work.ConditionDrifted

	reasonDeleting = "WorkDeleting"
)

// tally counts manifests and keeps the first that is not right.
type tally struct {
	total, wrong int
	first        string
	failed       bool
}

func (t *tally) add(ok bool, m *wire.ManifestReport, message string) {
	t.total++
	if ok {
		return
	}
	t.wrong++
	if t.first == "" {
		t.first = nameOf(m.Kind, m.Namespace, m.Name) + ": " + message
	}
}

func nameOf(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return strings.TrimSpace(kind + " " + name)
}

func (t *tally) message(format string) string {
	text := fmt.Sprintf(format, t.wrong, t.total)
	if t.first != "" {
		text += "; " + t.first
	}
	return text
}

// tallies sums a report up.
func tallies(r *wire.Report) (applied, available, healthy, drifted tally) {
	for i := range r.Manifests {
		m := &r.Manifests[i]
		applied.add(m.Applied, m, m.ApplyMessage)
		available.add(m.Available, m, m.AvailableMessage)
		healthy.add(m.Health == wire.HealthCurrent, m, or(m.HealthMessage, healthOf(m)))
		healthy.failed = healthy.failed || m.Health == wire.HealthFailed
		drifted.add(!drifts(m.Drift), m, driftText(m.Drift))
	}
	if c := r.Counts; c != nil {
		applied.total, applied.wrong = c.Total, max(c.Total-c.Applied, 0)
		available.total, available.wrong = c.Total, max(c.Total-c.Available, 0)
		healthy.total, healthy.wrong = c.Total, max(c.Total-c.Health[wire.HealthCurrent], 0)
		healthy.failed = healthy.failed || c.Health[wire.HealthFailed] > 0
		drifted.total, drifted.wrong = c.Total, max(c.Drifted, drifted.wrong)
	}
	return applied, available, healthy, drifted
}

// driftText says in a few words what differs.
func driftText(d *wire.Drift) string {
	if d == nil {
		return ""
	}
	by := ""
	if d.Manager != "" {
		by = " by " + d.Manager
	}
	switch d.State {
	case wire.DriftStateMissing:
		return "was deleted" + by
	case wire.DriftStateFighting:
		return fmt.Sprintf("changed back%s after each of %d corrections, and left alone now", by, d.Corrections)
	}
	var paths []string
	for _, f := range d.Diffs[:min(len(d.Diffs), 3)] {
		paths = append(paths, f.Path)
	}
	if d.Total > len(paths) {
		paths = append(paths, fmt.Sprintf("and %d more", d.Total-len(paths)))
	}
	return strings.Join(paths, ", ") + " changed" + by
}

// setConditions makes the conditions of a work those of a report. The ones that
// this package and OCM define come first, those of other clients stay.
func setConditions(w *work.ManifestWork, r *wire.Report, now time.Time) {
	s := &w.Status
	next := workConditions(r)
	if !w.DeletionTimestamp.IsZero() {
		next = append(next, deletingCondition(r))
	}
	if r.Prune != nil && r.Prune.ID != "" {
		next = append(next, blockedCondition(w, r.Prune))
	}
	if _, _, _, drifted := tallies(r); drifted.wrong > 0 {
		next = append(next, metav1.Condition{
			Type: ConditionDrifted, Status: metav1.ConditionTrue, Reason: "ResourcesChanged",
			Message: drifted.message("%d of %d resources were changed by others"),
		})
	}
	next = append(next, aggregate(r.Manifests)...)
	// What has finished stays finished: a Job that is cleaned up must not run again.
	if c := meta.FindStatusCondition(s.Conditions, work.ConditionComplete); c != nil && c.Status == metav1.ConditionTrue {
		next = slices.DeleteFunc(next, func(n metav1.Condition) bool { return n.Type == work.ConditionComplete })
		next = append(next, *c)
	}
	for i := range next {
		c := &next[i]
		c.ObservedGeneration = r.Generation
		c.Message = clip(c.Message, maxMessage)
		c.LastTransitionTime = transition(s.Conditions, c.Type, c.Status, now)
	}
	for _, c := range s.Conditions {
		ours := slices.Contains(ownConditions(), c.Type) || c.Reason == reasonRulesAggregated
		if !ours && !slices.ContainsFunc(next, func(n metav1.Condition) bool { return n.Type == c.Type }) {
			next = append(next, c)
		}
	}
	s.Conditions = next
}

func deletingCondition(r *wire.Report) metav1.Condition {
	c := metav1.Condition{
		Type: work.ConditionDeleting, Status: metav1.ConditionTrue, Reason: reasonDeleting,
		Message: "the agent removes the objects",
	}
	if n := max(r.RemainingTotal, len(r.Remaining)); n > 0 {
		c.Message = fmt.Sprintf("%d objects remain", n)
		if len(r.Remaining) > 0 {
			o := r.Remaining[0]
			c.Message += "; " + nameOf(o.Kind, o.Namespace, o.Name)
			if o.Message != "" {
				c.Message += ": " + o.Message
			}
		}
	}
	return c
}

func blockedCondition(w *work.ManifestWork, p *wire.PrunePlan) metav1.Condition {
	plan := planOf(p)
	why := "more than one change may remove by itself"
	if plan.Reason == wire.PlanReasonProtected {
		why = "among them kinds that are never removed without a word"
	}
	return metav1.Condition{
		Type: ConditionPruneBlocked, Status: metav1.ConditionTrue, Reason: plan.Reason,
		Message: fmt.Sprintf("%d objects would be removed, %s; nothing was removed. To see and approve: drover work approve-prune %s %s; to keep them, put them back into the work",
			plan.Total, why, w.Namespace, w.Name),
	}
}

func workConditions(r *wire.Report) []metav1.Condition {
	applied, available, healthy, _ := tallies(r)
	a := metav1.Condition{
		Type: work.ConditionApplied, Status: metav1.ConditionTrue,
		Reason: work.ReasonWorkComplete, Message: "Apply manifest work complete",
	}
	switch {
	case r.Error != "":
		a.Status, a.Reason, a.Message = metav1.ConditionFalse, work.ReasonWorkFailed, r.Error
	case applied.wrong > 0:
		a.Status, a.Reason = metav1.ConditionFalse, work.ReasonWorkFailed
		a.Message = applied.message("%d of %d manifests could not be applied")
	}
	v := metav1.Condition{
		Type: work.ConditionAvailable, Status: metav1.ConditionTrue,
		Reason: work.ReasonAvailable, Message: "All resources are available",
	}
	h := metav1.Condition{
		Type: work.ConditionHealthy, Status: metav1.ConditionTrue,
		Reason: work.ReasonHealthy, Message: "All resources are as desired and ready",
	}
	if r.Error != "" && available.total == 0 {
		v.Status, v.Reason, v.Message = metav1.ConditionUnknown, work.ReasonStatusUnknown, r.Error
		h.Status, h.Reason, h.Message = metav1.ConditionUnknown, work.ReasonStatusUnknown, r.Error
		return []metav1.Condition{a, v, h}
	}
	if available.wrong > 0 {
		v.Status, v.Reason = metav1.ConditionFalse, work.ReasonNotAvailable
		v.Message = available.message("%d of %d resources are not available")
	}
	if healthy.wrong > 0 {
		h.Status, h.Reason = metav1.ConditionFalse, work.ReasonProgressing
		if healthy.failed {
			h.Reason = work.ReasonUnhealthy
		}
		h.Message = healthy.message("%d of %d resources are not ready")
	}
	return []metav1.Condition{a, v, h}
}

// aggregate makes conditions of the work of those that rules made of its objects,
// as OCM does: Progressing is True if any is; of all others False wins, then
// Unknown, then True.
func aggregate(manifests []wire.ManifestReport) []metav1.Condition {
	type group struct {
		count map[string]int
		first map[string]string
	}
	groups := map[string]*group{}
	var order []string
	for i := range manifests {
		m := &manifests[i]
		for _, r := range m.Conditions {
			if !validRule(&r) {
				continue
			}
			g := groups[r.Type]
			if g == nil {
				if len(order) == maxConditions {
					continue
				}
				g = &group{map[string]int{}, map[string]string{}}
				groups[r.Type] = g
				order = append(order, r.Type)
			}
			g.count[r.Status]++
			if g.first[r.Status] == "" {
				g.first[r.Status] = nameOf(m.Kind, m.Namespace, m.Name) + ": " + or(r.Message, r.Reason)
			}
		}
	}
	slices.Sort(order)
	var out []metav1.Condition
	for _, typ := range order {
		g := groups[typ]
		precedence := []string{"False", "Unknown", "True"}
		if typ == work.ConditionProgressing {
			precedence = []string{"True", "False", "Unknown"}
		}
		total := g.count["True"] + g.count["False"] + g.count["Unknown"]
		for _, status := range precedence {
			if n := g.count[status]; n > 0 {
				out = append(out, metav1.Condition{
					Type: typ, Status: metav1.ConditionStatus(status), Reason: reasonRulesAggregated,
					Message: fmt.Sprintf("%d of %d objects are %s; %s", n, total, status, g.first[status]),
				})
				break
			}
		}
	}
	return out
}
