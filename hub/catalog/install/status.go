// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/work"
)

// healthMode says that the health of an addon comes from its works, not from a lease
// that its agent renews.
const healthMode = "Customized"

// conditions are the types that this package keeps; those of others stay.
func conditions() []string {
	return []string{
		addon.ConditionAvailable, addon.ConditionProgressing, addon.ConditionDegraded, addon.ConditionManifestApplied,
		addon.ConditionConfigured, addon.ConditionRegistrationApplied, addon.ConditionHookCompleted,
	}
}

// teller makes the status of a dish.
type teller struct {
	s          *state
	d          *dish
	t          *target
	deploy     *workState
	next       *addon.ManagedClusterAddOnStatus
	generation int64
	now        time.Time
}

func (s *state) teller(d *dish) *teller {
	return &teller{
		s: s, d: d, t: d.target, deploy: s.works[workKey(d.cluster, deployName(d.addon))],
		next: copyStatus(&d.obj.Status), generation: d.obj.Generation, now: time.Now(),
	}
}

// statusOf is the status as it should be; passed: the gate let the dish through now.
// It never speaks of what should be as if it were: what is comes from the work's
// conditions, which speak of the applied content.
func (s *state) statusOf(d *dish, passed bool) *addon.ManagedClusterAddOnStatus {
	x := s.teller(d)
	if passed {
		x.admit()
	}
	x.observe()
	x.configured()
	x.progressing()
	x.health()
	return x.next
}

func (x *teller) set(t string, status metav1.ConditionStatus, reason, message string) {
	const longest = 4096
	if len(message) > longest {
		message = message[:longest]
	}
	meta.SetStatusCondition(&x.next.Conditions, metav1.Condition{
		Type: t, Status: status, Reason: reason, Message: message, ObservedGeneration: x.generation,
	})
}

// admit records that the dish moves to its target.
func (x *teller) admit() {
	t := x.t
	old := x.next.ConfigReferences
	var refs []addon.ConfigReference
	for _, r := range t.refs {
		r.LastAppliedConfig = appliedOf(old, &r, t.refs)
		refs = append(refs, r)
	}
	x.next.ConfigReferences = refs
	c := &addon.Content{AddOnVersion: t.object, Version: t.version, Revision: t.revision, Digest: t.digest, Objects: int32(t.objects)} //nolint:gosec // bounded by the renderer
	c.Since = &metav1.Time{Time: x.now.UTC().Truncate(time.Second)}
	if was := x.next.Content; was != nil {
		c.LastApplied, c.LastKnownGood, c.Restarts = was.LastApplied, was.LastKnownGood, was.Restarts
	}
	x.next.Content = c
	x.next.Namespace = t.namespace
}

// appliedOf is what was applied last of the configuration that a reference replaces.
func appliedOf(old []addon.ConfigReference, r *addon.ConfigReference, now []addon.ConfigReference) *addon.ConfigSpecHash {
	for _, o := range old {
		if o.ConfigGroupResource == r.ConfigGroupResource && o.DesiredConfig != nil && o.DesiredConfig.ConfigReferent == r.DesiredConfig.ConfigReferent {
			return o.LastAppliedConfig
		}
	}
	for _, o := range old {
		if o.ConfigGroupResource == r.ConfigGroupResource && o.DesiredConfig != nil && !slices.ContainsFunc(now, func(n addon.ConfigReference) bool {
			return n.ConfigGroupResource == o.ConfigGroupResource && n.DesiredConfig.ConfigReferent == o.DesiredConfig.ConfigReferent
		}) {
			return o.LastAppliedConfig
		}
	}
	return nil
}

// observe takes from the work what is applied and what was good.
func (x *teller) observe() {
	n, w := x.next, x.deploy
	n.SupportedConfigs = x.t.supported
	n.HealthCheck.Mode = healthMode
	n.RelatedObjects = []addon.ObjectReference{{Group: addon.Group, Resource: "clustermanagementaddons", Name: x.d.addon}}
	if r := x.s.recipes[x.d.addon]; r != nil {
		n.AddOnMeta = r.obj.Spec.AddOnMeta
	}
	c := n.Content
	if c == nil || w == nil {
		return
	}
	c.Restarts = w.restarts
	if x.t.digest == c.Digest {
		c.AddOnVersion, c.Version, c.Revision = x.t.object, x.t.version, x.t.revision
		for i := range n.ConfigReferences {
			if i < len(x.t.refs) {
				n.ConfigReferences[i].LastObservedGeneration = x.t.refs[i].LastObservedGeneration
			}
		}
	}
	if w.content != c.Digest || !w.intact || w.deleting || !w.is(work.ConditionApplied, metav1.ConditionTrue) || !w.is(work.ConditionAvailable, metav1.ConditionTrue) {
		return
	}
	if desired := hashesOf(n.ConfigReferences); maps.Equal(desired, w.hashes) {
		for i := range n.ConfigReferences {
			n.ConfigReferences[i].LastAppliedConfig = n.ConfigReferences[i].DesiredConfig
		}
	}
	now := &addon.AppliedContent{Version: c.Version, Revision: c.Revision, Digest: c.Digest}
	c.LastApplied = now
	if w.is(work.ConditionHealthy, metav1.ConditionTrue) {
		c.LastKnownGood = now
	}
}

func hashesOf(refs []addon.ConfigReference) map[string]string {
	t := target{refs: refs}
	return t.hashes()
}

func (x *teller) configured() {
	reason, message := addon.ReasonConfigured, "Configurations configured"
	status := metav1.ConditionTrue
	if p := x.d.note; p != nil && p.Condition == addon.ConditionConfigured {
		status, reason, message = metav1.ConditionFalse, p.Reason, p.Message
	}
	x.set(addon.ConditionConfigured, status, reason, message)
	if x.t.registers {
		x.set(addon.ConditionRegistrationApplied, metav1.ConditionFalse, "SetPermissionFailed", "this hub gives agents of addons no access to its API")
	} else {
		x.set(addon.ConditionRegistrationApplied, metav1.ConditionTrue, addon.ReasonNilRegistration, "The addon needs no access to the hub")
	}
}

func (x *teller) progressing() {
	d, w := x.d, x.deploy
	set := func(status metav1.ConditionStatus, reason, message string) {
		x.set(addon.ConditionProgressing, status, reason, message)
	}
	what := "the addon"
	if c := x.next.Content; c != nil && c.Version != "" {
		what = fmt.Sprintf("version %s, revision %d,", c.Version, c.Revision)
	}
	switch {
	case d.note != nil && d.note.Condition == addon.ConditionProgressing:
		set(metav1.ConditionFalse, d.note.Reason, d.note.Message)
	case d.note != nil && d.note.Reason == addon.ReasonConfigurationUnsupported:
		set(metav1.ConditionFalse, addon.ReasonConfigurationUnsupported, d.note.Message)
	case d.note != nil:
		set(metav1.ConditionFalse, addon.ReasonFailed, d.note.Message)
	case d.phase == Waiting:
		if c := x.s.clusters[d.cluster]; c != nil && c.reach == away {
			set(metav1.ConditionFalse, addon.ReasonWaitingForCluster, "the cluster cannot be reached; it changes when it is back")
			return
		}
		set(metav1.ConditionFalse, addon.ReasonWaitingForTurn, "as many clusters as may are on the way")
	case d.phase == Running:
		message := what + " is on its way"
		if w != nil && w.content == d.target.digest {
			if c := w.find(work.ConditionHealthy); c != nil && c.Status != metav1.ConditionTrue {
				message += ": " + c.Message
			} else if c != nil {
				message = what + " is there, its hooks run"
			}
		}
		set(metav1.ConditionTrue, addon.ReasonProgressing, message)
	case d.phase == Settled:
		post := x.s.works[workKey(d.cluster, postInstallName(d.addon))]
		_, failure := post.hookState()
		switch applied, healthy := w.find(work.ConditionApplied), w.find(work.ConditionHealthy); {
		case applied != nil && applied.Status == metav1.ConditionFalse:
			set(metav1.ConditionFalse, addon.ReasonFailed, what+" could not be applied: "+applied.Message)
		case healthy != nil && healthy.Reason == work.ReasonUnhealthy:
			set(metav1.ConditionFalse, addon.ReasonFailed, what+" is not healthy: "+firstOf(w.failing, healthy.Message))
		case failure != "" && d.target.hook != "":
			set(metav1.ConditionFalse, addon.ReasonFailed, "a hook failed: "+failure)
		default:
			set(metav1.ConditionFalse, addon.ReasonCompleted, what+" runs")
		}
	}
}

// health is what the work's conditions say of the applied content.
func (x *teller) health() {
	w := x.deploy
	var applied, healthy *metav1.Condition
	if w != nil {
		applied = meta.FindStatusCondition(w.conditions, work.ConditionApplied)
		healthy = meta.FindStatusCondition(w.conditions, work.ConditionHealthy)
	}
	switch {
	case applied == nil:
		meta.RemoveStatusCondition(&x.next.Conditions, addon.ConditionManifestApplied)
	case applied.Status == metav1.ConditionTrue:
		x.set(addon.ConditionManifestApplied, metav1.ConditionTrue, addon.ReasonManifestApplied, "manifests of addon are applied successfully")
	default:
		x.set(addon.ConditionManifestApplied, metav1.ConditionFalse, addon.ReasonManifestApplyFailed, applied.Message)
	}
	x.hooks()
	switch {
	case healthy == nil:
		meta.RemoveStatusCondition(&x.next.Conditions, addon.ConditionDegraded)
	case healthy.Reason == work.ReasonUnhealthy:
		x.set(addon.ConditionDegraded, metav1.ConditionTrue, addon.ReasonUnhealthy, firstOf(w.failing, healthy.Message))
	case healthy.Status == metav1.ConditionTrue:
		x.set(addon.ConditionDegraded, metav1.ConditionFalse, addon.ReasonHealthy, "")
	default:
		x.set(addon.ConditionDegraded, metav1.ConditionFalse, addon.ReasonProgressing, healthy.Message)
	}
	set := func(status metav1.ConditionStatus, reason, message string) {
		x.set(addon.ConditionAvailable, status, reason, message)
	}
	c := x.s.clusters[x.d.cluster]
	switch {
	case c == nil:
		set(metav1.ConditionUnknown, addon.ReasonWorkNotFound, fmt.Sprintf("there is no cluster %s", x.d.cluster))
	case c.reach == away:
		set(metav1.ConditionUnknown, firstOf(c.available.Reason, "ManagedClusterUnknown"), c.available.Message)
	case w == nil:
		set(metav1.ConditionUnknown, addon.ReasonWorkNotFound, "The addon does not have manifestWork")
	case applied == nil || healthy == nil:
		set(metav1.ConditionUnknown, addon.ReasonWorkNotApplied, "The agent has not reported on the addon yet")
	case applied.Status == metav1.ConditionFalse:
		set(metav1.ConditionFalse, addon.ReasonWorkApplyFailed, applied.Message)
	case healthy.Status == metav1.ConditionUnknown:
		set(metav1.ConditionUnknown, addon.ReasonNoProbeResult, healthy.Message)
	case healthy.Status == metav1.ConditionTrue:
		set(metav1.ConditionTrue, addon.ReasonProbeAvailable, "all objects of the addon are as desired and ready")
	default:
		set(metav1.ConditionFalse, addon.ReasonProbeUnavailable, firstOf(w.failing, healthy.Message))
	}
}

func (x *teller) hooks() {
	post := x.s.works[workKey(x.d.cluster, postInstallName(x.d.addon))]
	done, failure := post.hookState()
	switch {
	case x.t.hook == "":
		meta.RemoveStatusCondition(&x.next.Conditions, addon.ConditionHookCompleted)
	case post == nil || post.hook != x.t.hook || !done && failure == "":
		x.set(addon.ConditionHookCompleted, metav1.ConditionFalse, addon.ReasonHookRunning, "the hooks run when the objects are healthy")
	case failure != "":
		x.set(addon.ConditionHookCompleted, metav1.ConditionFalse, addon.ReasonHookFailed, failure)
	default:
		x.set(addon.ConditionHookCompleted, metav1.ConditionTrue, addon.ReasonHookCompleted, "")
	}
}

// removalStatus is the status while the addon is being removed.
func (s *state) removalStatus(d *dish, st step) *addon.ManagedClusterAddOnStatus {
	x := s.teller(d)
	if x.t != nil && !x.t.foreign {
		x.health()
	}
	if st.hook != "" {
		x.set(addon.ConditionHookCompleted, metav1.ConditionFalse, addon.ReasonHookFailed, st.hook)
	}
	if st.message != "" {
		x.set(addon.ConditionProgressing, metav1.ConditionTrue, firstOf(st.reason, addon.ReasonDeleting), st.message)
	}
	return x.next
}

func copyStatus(st *addon.ManagedClusterAddOnStatus) *addon.ManagedClusterAddOnStatus {
	next := *st
	next.Conditions = slices.Clone(st.Conditions)
	next.ConfigReferences = slices.Clone(st.ConfigReferences)
	if st.Content != nil {
		c := *st.Content
		next.Content = &c
	}
	return &next
}

func sameStatus(a, b *addon.ManagedClusterAddOnStatus) bool { return equality.Semantic.DeepEqual(a, b) }

// mergeStatus writes what this package keeps over a status.
func mergeStatus(into, next *addon.ManagedClusterAddOnStatus) {
	others := slices.DeleteFunc(slices.Clone(into.Conditions), func(c metav1.Condition) bool { return slices.Contains(conditions(), c.Type) })
	registrations := into.Registrations
	*into = *copyStatus(next)
	into.Registrations = registrations
	into.Conditions = slices.DeleteFunc(into.Conditions, func(c metav1.Condition) bool { return !slices.Contains(conditions(), c.Type) })
	into.Conditions = append(into.Conditions, others...)
}
