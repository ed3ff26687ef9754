// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/drover-io/drover/shared/apis/cluster"
)

const (
	modeAdditive = "Additive"
	modeExact    = "Exact"
	maxScore     = 100
)

// coordinate is a ScoreCoordinate that can be a key.
type coordinate struct{ builtIn, resource, score string }

// weights says which scores count how much.
func weights(policy *cluster.PrioritizerPolicy) (map[coordinate]int64, error) {
	out := map[coordinate]int64{}
	switch policy.Mode {
	case "", modeAdditive:
		out[coordinate{builtIn: cluster.PrioritizerSteady}] = 1
		out[coordinate{builtIn: cluster.PrioritizerBalance}] = 1
	case modeExact:
	default:
		return nil, fmt.Errorf("incorrect prioritizer policy mode: %s", policy.Mode)
	}
	for _, c := range policy.Configurations {
		switch s := c.ScoreCoordinate; {
		case s == nil:
			return nil, errors.New("scoreCoordinate field is required")
		case s.Type != cluster.ScoreAddOn:
			out[coordinate{builtIn: s.BuiltIn}] = int64(c.Weight)
		case s.AddOn == nil:
			return nil, errors.New("addOn should not be empty")
		default:
			out[coordinate{resource: s.AddOn.ResourceName, score: s.AddOn.ScoreName}] = int64(c.Weight)
		}
	}
	for c, weight := range out {
		if weight == 0 {
			delete(out, c)
			continue
		}
		switch c.builtIn {
		case "":
			if c.resource == "" {
				return nil, errors.New("incorrect builtin prioritizer: ")
			}
		case cluster.PrioritizerSteady, cluster.PrioritizerBalance, cluster.PrioritizerAllocatableCPU, cluster.PrioritizerAllocatableMemory:
		default:
			return nil, fmt.Errorf("incorrect builtin prioritizer: %s", c.builtIn)
		}
	}
	return out, nil
}

// addScores adds one weighed score of every candidate, and returns when it ends
// to be valid; zero: never.
func addScores(c coordinate, weight int64, list []candidate, in *Input, now time.Time) (until time.Time) {
	switch c.builtIn {
	case cluster.PrioritizerSteady:
		for i := range list {
			if in.Previous[list[i].Name] {
				list[i].score += weight * maxScore
			}
		}
	case cluster.PrioritizerBalance:
		addBalance(weight, list, in)
	case cluster.PrioritizerAllocatableCPU:
		addAllocatable(weight, list, func(c *Cluster) float64 { return c.CPU })
	case cluster.PrioritizerAllocatableMemory:
		addAllocatable(weight, list, func(c *Cluster) float64 { return c.Memory })
	default:
		for i := range list {
			s := in.Scores[ScoreKey{list[i].Name, c.resource}]
			if s == nil || !s.ValidUntil.IsZero() && now.After(s.ValidUntil) {
				continue
			}
			until = earlier(until, s.ValidUntil)
			list[i].score += weight * int64(s.Values[c.score])
		}
	}
	return until
}

// addBalance prefers clusters that other placements have chosen less often.
func addBalance(weight int64, list []candidate, in *Input) {
	elsewhere := func(name string) int {
		n := in.Decided[name]
		if in.Previous[name] {
			n--
		}
		return n
	}
	most := 0
	for name := range in.Decided {
		most = max(most, elsewhere(name))
	}
	for i := range list {
		n := elsewhere(list[i].Name)
		if n <= 0 {
			list[i].score += weight * maxScore
			continue
		}
		list[i].score += weight * 2 * int64(maxScore*(0.5-float64(n)/float64(most)))
	}
}

// addAllocatable prefers clusters that have more. Those that do not say get nothing.
func addAllocatable(weight int64, list []candidate, of func(*Cluster) float64) {
	least, most := math.Inf(1), math.Inf(-1)
	for i := range list {
		if x := of(list[i].Cluster); !math.IsNaN(x) {
			least, most = min(least, x), max(most, x)
		}
	}
	for i := range list {
		x := of(list[i].Cluster)
		switch {
		case math.IsNaN(x):
		case most == least:
			list[i].score += weight * maxScore
		default:
			list[i].score += weight * int64(((x-least)/(most-least)-0.5)*2*maxScore)
		}
	}
}
