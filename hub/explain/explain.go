// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package explain says why a work is as it is: the evidence from what was wanted
// to what the cluster runs, in order, each with its age, and what to do where
// something waits for a person.
//
// It is pure: the caller collects the facts.
package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// Facts are what the hub knows of one work.
type Facts struct {
	Work *work.ManifestWork
	// Cluster is nil when no ManagedCluster has the name of the work's namespace.
	Cluster *cluster.ManagedCluster
	// Agent says that an agent joined for the cluster.
	Agent bool
	// Session is nil while the agent is not connected to this hub.
	Session *Session
	Listed  Listed
	// Revisions of the work that undo could go back to.
	Revisions int
}

// Session is the agent's live connection.
type Session struct {
	Since   time.Time
	Address string
}

// Listed is how the work stands in the list of its cluster.
type Listed struct {
	// Generation of the list, and since when it is the present one on this hub.
	Generation uint64
	Changed    time.Time
	// Item is nil when the work is not in the list.
	Item *wire.Item
	// Asked is when the agent asked last, Held the generation it held then, Given
	// the one it was answered with. Zero: not since this hub started.
	Asked       time.Time
	Held, Given uint64
}

// slow is how long a step may take before its line says that it waits.
const slow = 30 * time.Second

type lines struct {
	facts *Facts
	now   time.Time
	out   []fleet.Evidence
}

func (l *lines) add(stage, state string, at time.Time, hint, format string, args ...any) {
	l.out = append(l.out, fleet.Evidence{Stage: stage, State: state, Time: at, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// Explain makes the lines.
func Explain(f *Facts, now time.Time) []fleet.Evidence {
	l := &lines{facts: f, now: now}
	l.intent()
	l.source()
	if l.cluster() {
		l.delivery()
		l.session()
	}
	l.apply()
	l.removal()
	l.objects()
	l.health()
	return l.out
}

// intent is what is wanted, and whose word it is.
func (l *lines) intent() {
	w := l.facts.Work
	by, at := lastChange(w)
	if at.IsZero() {
		at = w.CreationTimestamp.Time
	}
	bundle := ""
	if d := w.Annotations[work.AnnotationBundle]; d != "" {
		bundle = " and bundle " + short(d)
	}
	l.add(fleet.StageIntent, fleet.EvidenceOK, at, "", "generation %d, changed last by %s: %d manifests%s",
		w.Generation, by, len(w.Spec.Workload.Manifests), bundle)
	if t := w.DeletionTimestamp; t != nil {
		hint := ""
		if l.facts.Revisions > 0 {
			hint = fmt.Sprintf("to take the deletion back once it is through: drover undo %s %s", w.Namespace, w.Name)
		}
		l.add(fleet.StageIntent, fleet.EvidenceInfo, t.Time, hint, "deleted: its objects are to be removed, policy %s", or(policy(w), work.Foreground))
	}
	for _, key := range []string{work.AnnotationAdoption, work.AnnotationDrift, work.AnnotationPrune, work.AnnotationTakeFrom} {
		if v := w.Annotations[key]; v != "" {
			l.add(fleet.StageIntent, fleet.EvidenceInfo, time.Time{}, "", "%s is %s", key, v)
		}
	}
}

func policy(w *work.ManifestWork) string {
	if w.Spec.DeleteOption == nil {
		return ""
	}
	return w.Spec.DeleteOption.PropagationPolicy
}

// lastChange is the newest writer of anything but the status.
func lastChange(w *work.ManifestWork) (by string, at time.Time) {
	by = "the hub" // which writes no managed fields
	for _, m := range w.ManagedFields {
		if m.Subresource != "" || m.Time == nil || m.Time.Before(&metav1.Time{Time: at}) {
			continue
		}
		by, at = m.Manager, m.Time.Time
	}
	return by, at
}

// source says what made the work, if no person did.
func (l *lines) source() {
	w := l.facts.Work
	for _, o := range w.OwnerReferences {
		l.add(fleet.StageSource, fleet.EvidenceInfo, time.Time{}, "", "made by %s %s: change it there", o.Kind, o.Name)
	}
	for _, label := range []struct{ key, kind string }{
		{"work.open-cluster-management.io/manifestworkreplicaset", "ManifestWorkReplicaSet"},
		{"open-cluster-management.io/addon-name", "addon"},
		{"cluster.open-cluster-management.io/placement", "Placement"},
	} {
		if v := w.Labels[label.key]; v != "" {
			l.add(fleet.StageSource, fleet.EvidenceInfo, time.Time{}, "", "made for %s %s: change it there", label.kind, v)
		}
	}
}

// cluster says whether anybody can apply the work.
func (l *lines) cluster() bool {
	name := l.facts.Work.Namespace
	c := l.facts.Cluster
	switch {
	case c == nil:
		l.add(fleet.StageCluster, fleet.EvidenceWaiting, time.Time{},
			"drover token create --cluster "+name+", and join an agent of that name", "there is no cluster %s: nobody applies this work", name)
		return false
	case !l.facts.Agent:
		l.add(fleet.StageCluster, fleet.EvidenceWaiting, c.CreationTimestamp.Time,
			"drover token create --cluster "+name+"; drover requests lists those that wait", "no agent has joined for cluster %s", name)
		return false
	case !c.Spec.HubAcceptsClient:
		l.add(fleet.StageCluster, fleet.EvidenceProblem, time.Time{},
			"set spec.hubAcceptsClient of the ManagedCluster to true", "the hub does not accept cluster %s", name)
	default:
		l.add(fleet.StageCluster, fleet.EvidenceOK, c.CreationTimestamp.Time, "", "cluster %s is accepted and has an agent", name)
	}
	return true
}

// delivery says whether the work is in the cluster's list.
func (l *lines) delivery() {
	x := l.facts.Listed
	if x.Item == nil {
		l.add(fleet.StageDelivery, fleet.EvidenceProblem, x.Changed,
			"the hub's log says why: look for \"work cannot be delivered\"", "the work is not in the cluster's list %d", x.Generation)
		return
	}
	l.add(fleet.StageDelivery, fleet.EvidenceOK, x.Changed, "", "in the cluster's list %d with content %s; the agent was told to look", x.Generation, short(x.Item.Digest))
	if x.Item.Complete {
		l.add(fleet.StageDelivery, fleet.EvidenceInfo, time.Time{}, "", "the work has finished: it is not applied again")
	}
}

// session says whether the agent has the list.
func (l *lines) session() {
	x, s := l.facts.Listed, l.facts.Session
	name := l.facts.Work.Namespace
	if s == nil {
		since := time.Time{}
		if c := meta.FindStatusCondition(l.facts.Cluster.Status.Conditions, "ManagedClusterConditionAvailable"); c != nil && c.Status != metav1.ConditionTrue {
			since = c.LastTransitionTime.Time
		}
		l.add(fleet.StageSession, fleet.EvidenceWaiting, since,
			"on that machine: drover-agent status; what runs there keeps running", "the agent of %s is not connected to this hub", name)
		return
	}
	l.add(fleet.StageSession, fleet.EvidenceOK, s.Since, "", "the agent is connected from %s", s.Address)
	switch {
	case x.Asked.IsZero():
		l.add(fleet.StageSession, l.wait(x.Changed), time.Time{}, "", "the agent has not asked for the list since this hub started")
	case x.Given >= x.Generation || x.Held >= x.Generation:
		l.add(fleet.StageSession, fleet.EvidenceOK, x.Asked, "", "the agent asked last holding list %d and was given %d, the present one", x.Held, max(x.Given, x.Held))
	default:
		l.add(fleet.StageSession, l.wait(x.Changed), x.Asked, "", "the agent asked last holding list %d and was given %d; list %d came after that", x.Held, x.Given, x.Generation)
	}
}

// wait is the state of a step that has not happened since.
func (l *lines) wait(since time.Time) string {
	if since.IsZero() || l.now.Sub(since) < slow {
		return fleet.EvidenceWaiting
	}
	return fleet.EvidenceProblem
}

// apply says what the agent made of the content.
func (l *lines) apply() {
	w := l.facts.Work
	c := meta.FindStatusCondition(w.Status.Conditions, work.ConditionApplied)
	if c == nil {
		l.add(fleet.StageApply, fleet.EvidenceWaiting, time.Time{}, "", "the agent has not reported on this work yet")
		return
	}
	current := l.facts.Listed.Item == nil || w.Status.AppliedDigest == l.facts.Listed.Item.Digest
	state := fleet.EvidenceOK
	switch {
	case c.Status != metav1.ConditionTrue:
		state = fleet.EvidenceProblem
	case !current:
		state = fleet.EvidenceWaiting
	}
	text := fmt.Sprintf("content %s of generation %d: %s", short(w.Status.AppliedDigest), c.ObservedGeneration, c.Message)
	if !current {
		text += "; the present content is not applied yet"
	}
	l.add(fleet.StageApply, state, c.LastTransitionTime.Time, "", "%s", text)
}

// removal says what is on its way out, and what waits for a word.
func (l *lines) removal() {
	w := l.facts.Work
	if p := w.Status.PrunePlan; p != nil {
		approve := fmt.Sprintf("drover work approve-prune %s %s; to keep the objects, put them back into the work", w.Namespace, w.Name)
		state := fleet.EvidenceWaiting
		if w.Annotations[work.AnnotationApprovePrune] == p.ID {
			approve, state = "", fleet.EvidenceOK
		}
		since := time.Time{}
		if c := meta.FindStatusCondition(w.Status.Conditions, "PruneBlocked"); c != nil {
			since = c.LastTransitionTime.Time
		}
		l.add(fleet.StageRemoval, state, since, approve, "%d objects would be removed, %s: %s", p.Total, why(p.Reason), listed(p.Objects, int(p.Total)))
	}
	if r := w.Status.Remaining; r != nil {
		l.add(fleet.StageRemoval, fleet.EvidenceWaiting, time.Time{}, "", "%d objects are being removed: %s", r.Total, listed(r.Objects, int(r.Total)))
	}
}

func why(reason string) string {
	if reason == wire.PlanReasonProtected {
		return "among them kinds that are never removed without a word"
	}
	return "more than one change may remove by itself"
}

// maxNamed is how many objects one line names.
const maxNamed = 3

func listed(objects []work.ObjectNote, total int) string {
	var out []string
	for _, o := range objects[:min(len(objects), maxNamed)] {
		text := nameOf(o.Kind, o.Namespace, o.Name)
		if o.Message != "" {
			text += " (" + o.Message + ")"
		}
		out = append(out, text)
	}
	if more := total - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// maxObjects is how many objects get lines of their own.
const maxObjects = 20

// objects are those that need a look.
func (l *lines) objects() {
	shown, skipped := 0, 0
	for i := range l.facts.Work.Status.ResourceStatus.Manifests {
		m := &l.facts.Work.Status.ResourceStatus.Manifests[i]
		if fine(m) {
			continue
		}
		if shown == maxObjects {
			skipped++
			continue
		}
		shown++
		l.object(m)
	}
	if skipped > 0 {
		l.add(fleet.StageObject, fleet.EvidenceInfo, time.Time{}, "", "and %d more objects; status.resourceStatus has them all", skipped)
	}
}

func fine(m *work.ManifestCondition) bool {
	return meta.IsStatusConditionTrue(m.Conditions, work.ConditionApplied) &&
		meta.IsStatusConditionTrue(m.Conditions, work.ConditionHealthy) && m.Drift == nil
}

func (l *lines) object(m *work.ManifestCondition) {
	name := nameOf(m.ResourceMeta.Kind, m.ResourceMeta.Namespace, m.ResourceMeta.Name)
	if c := meta.FindStatusCondition(m.Conditions, work.ConditionApplied); c != nil && c.Status != metav1.ConditionTrue {
		state := fleet.EvidenceProblem
		if c.Reason == wire.ApplyWaiting {
			state = fleet.EvidenceWaiting
		}
		l.add(fleet.StageObject, state, c.LastTransitionTime.Time, hintFor(c.Reason), "%s is not applied: %s", name, or(c.Message, c.Reason))
	} else if c := meta.FindStatusCondition(m.Conditions, work.ConditionHealthy); c != nil && c.Status != metav1.ConditionTrue {
		state := fleet.EvidenceWaiting
		if m.Health == wire.HealthFailed {
			state = fleet.EvidenceProblem
		}
		l.add(fleet.StageObject, state, c.LastTransitionTime.Time, "", "%s is %s: %s", name, or(m.Health, c.Reason), or(m.HealthMessage, c.Message))
	}
	if m.Restarts > 0 {
		l.add(fleet.StageObject, fleet.EvidenceInfo, time.Time{}, "", "%s: its containers restarted %d times", name, m.Restarts)
	}
	for _, e := range m.Warnings {
		at := time.Time{}
		if e.LastSeen != nil {
			at = e.LastSeen.Time
		}
		l.add(fleet.StageObject, fleet.EvidenceInfo, at, "", "%s: %s %s: %s%s", name, e.Object, e.Reason, e.Message, times(e.Count))
	}
	if d := m.Drift; d != nil {
		l.drift(name, d)
	}
}

func times(n int32) string {
	if n > 1 {
		return fmt.Sprintf(" (%d times)", n)
	}
	return ""
}

func hintFor(reason string) string {
	switch reason {
	case wire.ApplyConflict:
		return "set force in the object's serverSideApply, or drop the fields from the manifest"
	case wire.ApplyNotAdopted:
		return "set annotation " + work.AnnotationAdoption + " to Always, or remove the object on the cluster"
	case wire.ApplyOwnedElsewhere:
		return "drop it from one of the works, or name the other in annotation " + work.AnnotationTakeFrom
	case wire.ApplyForbidden:
		return "give the executor's service account the right on the cluster"
	}
	return ""
}

func (l *lines) drift(name string, d *work.Drift) {
	since := time.Time{}
	if d.Since != nil {
		since = d.Since.Time
	}
	by := ""
	if d.Manager != "" {
		by = " by " + d.Manager
	}
	state, hint := fleet.EvidenceInfo, ""
	text := fmt.Sprintf("%s was changed%s and put right", name, by)
	switch d.State {
	case wire.DriftStateMissing:
		state, text = fleet.EvidenceProblem, fmt.Sprintf("%s was deleted%s", name, by)
	case wire.DriftStateFighting:
		state, hint = fleet.EvidenceProblem, "find who changes it, or drop the fields from the manifest"
		text = fmt.Sprintf("%s was changed back%s after each of %d corrections, and is left alone", name, by, d.Corrections)
	case wire.DriftStatePresent:
		state, text = fleet.EvidenceWaiting, fmt.Sprintf("%s differs%s", name, by)
	}
	var fields []string
	for _, f := range d.Fields[:min(len(d.Fields), maxNamed)] {
		fields = append(fields, fmt.Sprintf("%s is %s, want %s", f.Path, or(f.Live, "absent"), or(f.Desired, "absent")))
	}
	if more := int(d.Total) - len(fields); more > 0 && len(fields) > 0 {
		fields = append(fields, fmt.Sprintf("and %d more fields", more))
	}
	if len(fields) > 0 {
		text += ": " + strings.Join(fields, ", ")
	}
	l.add(fleet.StageDrift, state, since, hint, "%s", text)
}

// health sums the conditions of the work up.
func (l *lines) health() {
	w := l.facts.Work
	known := []string{work.ConditionApplied, "PruneBlocked"}
	for _, c := range w.Status.Conditions {
		if slices.Contains(known, c.Type) {
			continue
		}
		state := fleet.EvidenceInfo
		switch {
		case c.Type == work.ConditionHealthy || c.Type == work.ConditionAvailable:
			state = fleet.EvidenceOK
			if c.Status != metav1.ConditionTrue {
				state = fleet.EvidenceWaiting
			}
			if c.Reason == work.ReasonUnhealthy {
				state = fleet.EvidenceProblem
			}
		case c.Type == work.ConditionDegraded && c.Status == metav1.ConditionTrue:
			state = fleet.EvidenceProblem
		}
		l.add(fleet.StageHealth, state, c.LastTransitionTime.Time, "", "%s is %s: %s", c.Type, c.Status, c.Message)
	}
}

func nameOf(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind + " " + name
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// short is enough of a digest to compare by eye.
func short(digest string) string {
	if digest == "" {
		return "none"
	}
	return digest[:min(len(digest), len("sha256:")+12)]
}
