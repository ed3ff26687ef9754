// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"strings"

	"github.com/drover-io/drover/shared/apis/cluster"
)

const (
	topologyClaim = "Claim"
	doNotSchedule = "DoNotSchedule"
)

// domain holds the candidates with the same values of all topologies, the best first.
type domain struct {
	values []string // by constraint; with "\x00" for no value
	list   []candidate
}

const noValue = "\x00"

// spread takes the best clusters one by one such that, for every constraint, the
// number of clusters taken from a value of the topology exceeds the smallest
// number of any value by at most maxSkew. A constraint that must hold keeps out
// whatever would break it, and clusters without a value; one that should hold
// counts more than the score. List is in order of score.
func spread(constraints []cluster.SpreadConstraint, list []candidate, number int) []candidate {
	domains := domainsOf(constraints, list)
	counts := make([]map[string]int, len(constraints))
	for i := range constraints {
		counts[i] = map[string]int{}
		for _, d := range domains {
			if d.values[i] != noValue {
				counts[i][d.values[i]] = 0
			}
		}
	}
	var out []candidate
	for len(out) < number {
		least := make([]int, len(constraints))
		for i := range counts {
			least[i] = smallest(counts[i])
		}
		var best *domain
		violations := 0
		for _, d := range domains {
			if len(d.list) == 0 {
				continue
			}
			n, never := broken(constraints, d, counts, least)
			if never {
				continue
			}
			if best == nil || n < violations || n == violations && byScore(d.list[0], best.list[0]) < 0 {
				best, violations = d, n
			}
		}
		if best == nil {
			break
		}
		out = append(out, best.list[0])
		best.list = best.list[1:]
		for i, v := range best.values {
			if v != noValue {
				counts[i][v]++
			}
		}
	}
	return out
}

// broken counts the constraints that would not hold after one more of a domain;
// never: one of them must.
func broken(constraints []cluster.SpreadConstraint, d *domain, counts []map[string]int, least []int) (n int, never bool) {
	for i, c := range constraints {
		v := d.values[i]
		if v != noValue && counts[i][v]+1-least[i] <= int(max(c.MaxSkew, 1)) {
			continue
		}
		if c.WhenUnsatisfiable == doNotSchedule {
			return 0, true
		}
		n++
	}
	return n, false
}

func domainsOf(constraints []cluster.SpreadConstraint, list []candidate) []*domain {
	byKey := map[string]*domain{}
	var out []*domain
	for _, c := range list {
		values := make([]string, len(constraints))
		for i, s := range constraints {
			v, ok := c.topology(s.TopologyKeyType, s.TopologyKey)
			if !ok {
				v = noValue
			}
			values[i] = v
		}
		key := strings.Join(values, "\x01")
		d := byKey[key]
		if d == nil {
			d = &domain{values: values}
			byKey[key] = d
			out = append(out, d)
		}
		d.list = append(d.list, c)
	}
	return out
}

func smallest(counts map[string]int) int {
	first, least := true, 0
	for _, n := range counts {
		if first || n < least {
			first, least = false, n
		}
	}
	return least
}
