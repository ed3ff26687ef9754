// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drover-io/drover/shared/apis/cluster"
)

const sortByScore = "Score"

// divide puts the chosen clusters into decision groups: for each group of the
// strategy those that match and are in none yet, then the rest. A group that is
// too large becomes several of the same name.
func divide(spec *cluster.PlacementSpec, chosen []candidate) ([]Group, *misconfigured) {
	strategy := &spec.DecisionStrategy.GroupStrategy
	size, err := groupSize(strategy.ClustersPerDecisionGroup, len(chosen))
	if err != nil {
		return nil, &misconfigured{"DecisionStrategy", err}
	}
	rest := slices.Clone(chosen)
	if spec.SortBy != sortByScore {
		slices.SortFunc(rest, func(a, b candidate) int { return strings.Compare(a.Name, b.Name) })
	}
	var out []Group
	for i := range strategy.DecisionGroups {
		g := &strategy.DecisionGroups[i]
		p, err := newPredicate(&g.GroupClusterSelector.LabelSelector, &g.GroupClusterSelector.ClaimSelector)
		if err != nil {
			return nil, &misconfigured{"DecisionStrategy", fmt.Errorf("group %s: %w", g.GroupName, err)}
		}
		var in, others []candidate
		for _, c := range rest {
			if p.matches(c.Cluster, nil) {
				in = append(in, c)
			} else {
				others = append(others, c)
			}
		}
		out, rest = appendGroups(out, g.GroupName, in, size, spec.SortBy), others
	}
	out = appendGroups(out, "", rest, size, spec.SortBy)
	if len(out) == 0 {
		out = []Group{{}}
	}
	return out, nil
}

func appendGroups(out []Group, name string, list []candidate, size int, sortBy string) []Group {
	if len(list) == 0 {
		return out
	}
	for part := range slices.Chunk(list, size) {
		g := Group{Name: name, Decisions: make([]cluster.ClusterDecision, len(part))}
		for i, c := range part {
			g.Decisions[i].ClusterName = c.Name
			if sortBy == sortByScore {
				g.Decisions[i].Score = c.score
			}
		}
		out = append(out, g)
	}
	return out
}

// groupSize is the largest size of a group; it is at least 1.
func groupSize(v intstr.IntOrString, total int) (int, error) {
	size := v.IntValue()
	if v.Type == intstr.String {
		number, isShare := strings.CutSuffix(v.StrVal, "%")
		share, err := strconv.ParseFloat(number, 64)
		switch {
		case v.StrVal == "":
			size = 0
		case err != nil || !isShare:
			return 0, fmt.Errorf("%v invalid type: string is not a percentage", v.StrVal)
		default:
			size = int(math.Ceil(share / 100 * float64(total)))
		}
	}
	if size <= 0 || size > total {
		size = total
	}
	return max(size, 1), nil
}
