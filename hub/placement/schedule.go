// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// Reasons of PlacementSatisfied and PlacementMisconfigured.
const (
	ReasonNoBindings       = "NoManagedClusterSetBindings"
	ReasonNoIntersection   = "NoIntersection"
	ReasonSetsEmpty        = "AllManagedClusterSetsEmpty"
	ReasonNoClusterMatched = "NoManagedClusterMatched"
	ReasonScheduled        = "AllDecisionsScheduled"
	ReasonNotScheduled     = "NotAllDecisionsScheduled"
	ReasonMisconfigured    = "Misconfigured"
	ReasonConfigured       = "Succeedconfigured"
)

// Input is everything that decides about one Placement. Schedule changes none of it.
type Input struct {
	Placement *cluster.Placement
	// Bound are the members of the sets that exist and are bound to the namespace
	// of the Placement, by the name of the set.
	Bound map[string][]*Cluster
	// Previous are the clusters that the Placement has chosen now.
	Previous map[string]bool
	// Decided counts how many Placements have chosen a cluster, this one included.
	Decided map[string]int
	// Scores that addons provide.
	Scores map[ScoreKey]*Scores
}

// Output is what was decided.
type Output struct {
	// Keep is set when nothing could be decided: the decisions and groups stay as
	// they are, and only the conditions are told.
	Keep   bool
	Groups []Group
	// Selected is the number of clusters in all groups.
	Selected   int
	Conditions []metav1.Condition
	// Again is when the answer changes although nothing else does; zero: never.
	Again time.Time
}

// Group is a decision group. There is always one, which may be empty.
type Group struct {
	Name      string
	Decisions []cluster.ClusterDecision
}

// candidate is a cluster that may be chosen.
type candidate struct {
	*Cluster
	score int64
}

// misconfigured is a mistake of the Placement's author, found by one part.
type misconfigured struct {
	part string
	err  error
}

func (m *misconfigured) Error() string { return m.part + ":" + m.err.Error() }

// Schedule decides about one Placement.
func (s *Scheduler) Schedule(in *Input, now time.Time) *Output {
	spec := &in.Placement.Spec
	eligible := eligibleSets(spec, in.Bound)
	available := availableClusters(eligible, in.Bound)
	chosen, again, bad := s.choose(in, available, now)
	var groups []Group
	if bad == nil {
		groups, bad = divide(spec, chosen)
	}
	out := &Output{Groups: groups, Again: again, Selected: len(chosen)}
	conditions := []metav1.Condition{satisfied(spec, len(in.Bound), eligible, len(available), len(chosen), bad), configured(bad)}
	if bad != nil {
		out = &Output{Keep: true}
	}
	out.Conditions = conditions
	return out
}

// eligibleSets are the names of the bound sets that the Placement is about.
func eligibleSets(spec *cluster.PlacementSpec, bound map[string][]*Cluster) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(bound)) {
		if len(spec.ClusterSets) == 0 || slices.Contains(spec.ClusterSets, name) {
			out = append(out, name)
		}
	}
	return out
}

// availableClusters are the members of the sets, each once, by name.
func availableClusters(sets []string, bound map[string][]*Cluster) []candidate {
	var out []candidate
	for _, name := range sets {
		for _, c := range bound[name] {
			if !c.Deleting {
				out = append(out, candidate{Cluster: c})
			}
		}
	}
	byName := func(a, b candidate) int { return strings.Compare(a.Name, b.Name) }
	if len(sets) > 1 || !slices.IsSortedFunc(out, byName) {
		slices.SortFunc(out, byName)
	}
	return slices.CompactFunc(out, func(a, b candidate) bool { return a.Name == b.Name })
}

// choose filters, scores and takes clusters, the best first.
func (s *Scheduler) choose(in *Input, list []candidate, now time.Time) (chosen []candidate, again time.Time, bad *misconfigured) {
	spec := &in.Placement.Spec
	predicates, err := s.predicates(spec)
	if err != nil {
		return nil, again, &misconfigured{"Predicate", err}
	}
	if err := checkTolerations(spec.Tolerations); err != nil {
		return nil, again, &misconfigured{"TaintToleration", err}
	}
	weights, err := weights(&spec.PrioritizerPolicy)
	if err != nil {
		return nil, again, &misconfigured{"Prioritizer", err}
	}
	feasible := make([]candidate, 0, len(list))
	for _, c := range list {
		if len(predicates) > 0 && !slices.ContainsFunc(predicates, func(p predicate) bool { return p.matches(c.Cluster, in) }) {
			continue
		}
		ok, until := tolerated(c.Taints, spec.Tolerations, in.Previous[c.Name], now)
		if !ok {
			continue
		}
		again = earlier(again, until)
		feasible = append(feasible, c)
	}
	for c, weight := range weights {
		again = earlier(again, addScores(c, weight, feasible, in, now))
	}
	slices.SortFunc(feasible, byScore)
	number := len(feasible)
	if n := spec.NumberOfClusters; n != nil && int(*n) < number {
		number = int(*n)
	}
	if len(spec.SpreadPolicy.SpreadConstraints) > 0 {
		return spread(spec.SpreadPolicy.SpreadConstraints, feasible, number), again, nil
	}
	return feasible[:number], again, nil
}

// byScore orders the best first, and by name among equals.
func byScore(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(a.Name, b.Name))
}

func satisfied(spec *cluster.PlacementSpec, bindings int, eligible []string, available, chosen int, bad *misconfigured) metav1.Condition {
	c := metav1.Condition{Type: cluster.ConditionPlacementSatisfied, Status: metav1.ConditionFalse}
	missing := 0
	if n := spec.NumberOfClusters; n != nil {
		missing = int(*n) - chosen
	}
	switch {
	case bindings == 0:
		c.Reason, c.Message = ReasonNoBindings, "No valid ManagedClusterSetBindings found in placement namespace"
	case len(eligible) == 0:
		c.Reason = ReasonNoIntersection
		c.Message = fmt.Sprintf("None of ManagedClusterSets [%s] is bound to placement namespace", strings.Join(spec.ClusterSets, ","))
	case available == 0:
		c.Reason = ReasonSetsEmpty
		c.Message = fmt.Sprintf("All ManagedClusterSets [%s] have no member ManagedCluster", strings.Join(eligible, ","))
	case bad != nil:
		c.Reason, c.Message = ReasonNotScheduled, fmt.Sprintf("%s; the decisions made before are kept", bad)
	case chosen == 0:
		c.Reason, c.Message = ReasonNoClusterMatched, "No ManagedCluster matches any of the cluster predicate"
	case missing <= 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, ReasonScheduled, "All cluster decisions scheduled"
	default:
		c.Reason, c.Message = ReasonNotScheduled, fmt.Sprintf("%d cluster decisions unscheduled", missing)
	}
	return c
}

func configured(bad *misconfigured) metav1.Condition {
	c := metav1.Condition{
		Type: cluster.ConditionPlacementMisconfigured, Status: metav1.ConditionFalse,
		Reason: ReasonConfigured, Message: "Placement configurations check pass",
	}
	if bad != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, ReasonMisconfigured, bad.Error()
	}
	return c
}

// setConditions takes conditions over, and keeps the times of those that hold on.
func setConditions(list *[]metav1.Condition, conditions []metav1.Condition, generation int64) {
	for _, c := range conditions {
		c.ObservedGeneration = generation
		meta.SetStatusCondition(list, c)
	}
}
