// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/drover-io/drover/shared/apis/work"
)

// status says how far the works are. What was written in this round is counted
// when its event comes back.
func (r *round) status(st *work.ManifestWorkReplicaSetStatus) {
	generation := r.owner.obj.Generation
	st.PlacementSummary = nil
	st.Summary = work.WorkSummary{}
	succeeded, breached, offline := 0, "", 0
	for _, d := range r.refs {
		var sum work.WorkSummary
		for _, g := range d.groups {
			for _, m := range g.Members {
				sum.DesiredTotal++
				if m.Phase == Succeeded {
					succeeded++
				} else if m.Offline {
					offline++
				}
			}
		}
		for _, w := range r.works {
			if w.placement == d.ref.Name && !w.deleting {
				r.count(&sum, w)
			}
		}
		if d.breached {
			breached = d.ref.Name
		}
		st.PlacementSummary = append(st.PlacementSummary, work.PlacementSummary{
			Name: d.ref.Name, Summary: sum,
			AvailableDecisionGroups: fmt.Sprintf("%d (%d / %d clusters applied)", len(d.groups), sum.Updated, sum.DesiredTotal),
		})
		st.Summary.DesiredTotal += sum.DesiredTotal
	}
	for _, w := range r.works {
		if !w.deleting {
			r.count(&st.Summary, w)
		}
	}
	switch {
	case r.missing != "":
		setCondition(st, generation, work.ConditionPlacementVerified, false, work.ReasonPlacementDecisionMissing,
			fmt.Sprintf("there is no Placement %q in this namespace; works that exist stay", r.missing))
	case st.Summary.DesiredTotal == 0:
		setCondition(st, generation, work.ConditionPlacementVerified, false, work.ReasonPlacementDecisionEmpty, "")
	default:
		setCondition(st, generation, work.ConditionPlacementVerified, true, work.ReasonAsExpected, "")
	}
	switch message := fmt.Sprintf("%d of %d clusters have the newest template and are well", succeeded, st.Summary.DesiredTotal); {
	case breached != "":
		setCondition(st, generation, work.ConditionPlacementRolledOut, false, work.ReasonRolloutProgressing,
			message+"; it stands still, too many clusters of placement "+breached+" failed")
	case succeeded < st.Summary.DesiredTotal || r.missing != "":
		if offline > 0 {
			message += fmt.Sprintf("; %d cannot be reached", offline)
		}
		setCondition(st, generation, work.ConditionPlacementRolledOut, false, work.ReasonRolloutProgressing, message)
	default:
		setCondition(st, generation, work.ConditionPlacementRolledOut, true, work.ReasonRolloutComplete, message)
	}
	switch s := &st.Summary; {
	case s.Total == 0:
		setCondition(st, generation, work.ConditionManifestworkApplied, false, work.ReasonPlacementDecisionEmpty, "")
	case s.Available == s.Total && s.Progressing == 0 && s.Degraded == 0:
		setCondition(st, generation, work.ConditionManifestworkApplied, true, work.ReasonAsExpected, "")
	case s.Degraded == 0 && (s.Progressing > 0 || s.Updated < s.Total || s.Applied < s.Total):
		setCondition(st, generation, work.ConditionManifestworkApplied, false, work.ReasonProcessing, "")
	default:
		setCondition(st, generation, work.ConditionManifestworkApplied, false, work.ReasonNotAsExpected, "")
	}
	switch {
	case r.held != nil:
		setCondition(st, generation, ConditionRemovalHeld, true, r.held.reason, r.held.message)
	case meta.FindStatusCondition(st.Conditions, ConditionRemovalHeld) != nil:
		setCondition(st, generation, ConditionRemovalHeld, false, ReasonNothingHeld, "")
	}
}

// count adds a work. Conditions count for the newest template only.
func (r *round) count(sum *work.WorkSummary, w *copied) {
	sum.Total++
	if w.digest != r.owner.template {
		return
	}
	sum.Updated++
	for t, n := range map[string]*int{
		work.ConditionApplied: &sum.Applied, work.ConditionAvailable: &sum.Available,
		work.ConditionProgressing: &sum.Progressing, work.ConditionDegraded: &sum.Degraded,
	} {
		c := meta.FindStatusCondition(w.conditions, t)
		if c != nil && c.Status == "True" && c.ObservedGeneration == w.generation {
			*n++
		}
	}
}
