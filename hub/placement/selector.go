// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"slices"

	"github.com/google/cel-go/cel"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// selectByClusterSetOld is what Open Cluster Management called the exclusive
// label first.
const selectByClusterSetOld = "LegacyClusterSetLabel"

// Selector says which clusters belong to a set, by their labels.
func Selector(set *cluster.ManagedClusterSet) (labels.Selector, error) {
	switch s := set.Spec.ClusterSelector; s.SelectorType {
	case "", cluster.SelectorExclusive, selectByClusterSetOld:
		return labels.SelectorFromSet(labels.Set{cluster.LabelSet: set.Name}), nil
	case cluster.SelectorLabels:
		selector, err := metav1.LabelSelectorAsSelector(s.LabelSelector)
		if err != nil {
			return nil, fmt.Errorf("spec.clusterSelector.labelSelector: %w", err)
		}
		return selector, nil
	default:
		return nil, fmt.Errorf("spec.clusterSelector.selectorType: unknown type %q", s.SelectorType)
	}
}

// Members are the clusters of a set, in the order given.
func Members(set *cluster.ManagedClusterSet, clusters []*Cluster) ([]*Cluster, error) {
	selector, err := Selector(set)
	if err != nil {
		return nil, err
	}
	var out []*Cluster
	for _, c := range clusters {
		if selector.Matches(c.Labels) {
			out = append(out, c)
		}
	}
	return out, nil
}

// predicate is a ClusterSelector that is ready to use.
type predicate struct {
	labels, claims labels.Selector
	programs       []cel.Program
}

func newPredicate(l *metav1.LabelSelector, claims *cluster.ClaimSelector) (predicate, error) {
	var p predicate
	var err error
	if p.labels, err = metav1.LabelSelectorAsSelector(l); err != nil {
		return p, fmt.Errorf("labelSelector: %w", err)
	}
	if p.claims, err = metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: claims.MatchExpressions}); err != nil {
		return p, fmt.Errorf("claimSelector: %w", err)
	}
	return p, nil
}

func (s *Scheduler) predicates(spec *cluster.PlacementSpec) ([]predicate, error) {
	var out []predicate
	for i := range spec.Predicates {
		sel := &spec.Predicates[i].RequiredClusterSelector
		p, err := newPredicate(&sel.LabelSelector, &sel.ClaimSelector)
		if err != nil {
			return nil, err
		}
		for _, text := range sel.CelSelector.CelExpressions {
			program, err := s.program(text)
			if err != nil {
				return nil, err
			}
			p.programs = append(p.programs, program)
		}
		out = append(out, p)
	}
	return out, nil
}

func (p *predicate) matches(c *Cluster, in *Input) bool {
	if !p.labels.Matches(c.Labels) || !p.claims.Matches(c.Claims) {
		return false
	}
	return !slices.ContainsFunc(p.programs, func(program cel.Program) bool { return !holds(program, c, in) })
}
