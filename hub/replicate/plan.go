// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// Phase is how far one cluster is with the newest template.
type Phase int

// The phases. Waiting: its work is missing or holds an older template.
const (
	Waiting Phase = iota
	Running
	Succeeded
	Failed
)

// Member is one chosen cluster.
type Member struct {
	Cluster string
	Phase   Phase
	// Since is when the newest template was written, for Succeeded when it was
	// seen to be well.
	Since time.Time
	// Offline clusters take no slot and hold nobody up.
	Offline bool
}

// Group is a decision group of a placement.
type Group struct {
	Name    string
	Members []Member
}

// Next says which waiting clusters get the newest template now, in order, and
// when to ask again although nothing changes; zero: never. Breached is set when
// so many clusters failed that no more get it.
//
// It follows Open Cluster Management's rollout strategies, except that failures
// are counted over all clusters, that a failed cluster frees its slot, and that
// the next group waits for every cluster of the one before it.
func Next(groups []Group, strategy *cluster.RolloutStrategy, now time.Time) (next []string, again time.Time, breached bool) {
	p := &planner{now: now}
	switch strategy.Type {
	case cluster.RolloutProgressive:
		s := strategy.Progressive
		if s == nil {
			s = &cluster.RolloutProgressiveConfig{}
		}
		p.config = s.RolloutConfig
		p.progressive(groups, s)
	case cluster.RolloutProgressivePerGroup:
		s := strategy.ProgressivePerGroup
		if s == nil {
			s = &cluster.RolloutPerGroupConfig{}
		}
		p.config = s.RolloutConfig
		mandatory, others := divide(groups, s.MandatoryDecisionGroups)
		if p.perGroup(mandatory, func(int) int { return 0 }) {
			p.perGroup(others, p.maxFailures)
		}
	default:
		for _, g := range groups {
			p.fill(g.Members, math.MaxInt)
		}
	}
	return p.next, p.again, p.breached
}

type planner struct {
	now      time.Time
	config   cluster.RolloutConfig
	next     []string
	again    time.Time
	breached bool
}

func (p *planner) progressive(groups []Group, s *cluster.RolloutProgressiveConfig) {
	mandatory, others := divide(groups, s.MandatoryDecisionGroups)
	if !p.perGroup(mandatory, func(int) int { return 0 }) {
		return
	}
	var rest []Member
	total := 0
	for _, g := range others {
		rest = append(rest, g.Members...)
	}
	for _, g := range groups {
		total += len(g.Members)
	}
	slots := len(rest)
	if s.MaxConcurrency != nil {
		slots = size(*s.MaxConcurrency, len(rest), len(rest))
	}
	failures, busy := 0, 0
	for _, m := range rest {
		switch p.phase(m) {
		case Failed:
			failures++
		case Running:
			busy++
		}
	}
	if p.breached = failures > p.maxFailures(total); p.breached {
		return
	}
	p.fill(rest, slots-busy)
}

// perGroup starts the groups one after the other and reports whether all of them
// are through.
func (p *planner) perGroup(groups []Group, maxFailures func(int) int) bool {
	for _, g := range groups {
		failures, open := 0, false
		for _, m := range g.Members {
			switch phase := p.phase(m); {
			case phase == Failed:
				failures++
			case !m.Offline && phase != Succeeded:
				open = true
			}
		}
		if failures > maxFailures(len(g.Members)) {
			p.breached = true
			return false
		}
		if open {
			p.fill(g.Members, math.MaxInt)
			return false
		}
	}
	return true
}

// fill starts at most n of the waiting members.
func (p *planner) fill(list []Member, n int) {
	unlimited := n == math.MaxInt
	for _, m := range list {
		if n <= 0 {
			return
		}
		// One that cannot be reached has it waiting when nobody else has to wait.
		if m.Phase != Waiting || m.Offline && !unlimited {
			continue
		}
		p.next = append(p.next, m.Cluster)
		n--
	}
}

// phase is how a member counts: a success counts once it has lasted, and one that
// takes too long has failed.
func (p *planner) phase(m Member) Phase {
	switch {
	case m.Phase == Succeeded:
		if end := m.Since.Add(p.config.MinSuccessTime.Duration); p.now.Before(end) {
			p.recheck(end)
			return Running
		}
	case m.Phase == Running && m.Offline:
		return Succeeded // of those that can be reached
	case m.Phase == Running:
		deadline, err := time.ParseDuration(p.config.ProgressDeadline)
		if err != nil {
			return Running // none
		}
		end := m.Since.Add(deadline)
		if !p.now.Before(end) {
			return Failed
		}
		p.recheck(end)
	}
	return m.Phase
}

func (p *planner) recheck(t time.Time) {
	if p.again.IsZero() || t.Before(p.again) {
		p.again = t
	}
}

func (p *planner) maxFailures(total int) int { return size(p.config.MaxFailures, total, 0) }

// size reads a number or a share of total, which rounds up. Otherwise is for
// what is out of range.
func size(v intstr.IntOrString, total, otherwise int) int {
	n := v.IntValue()
	if v.Type == intstr.String {
		share, err := strconv.ParseFloat(strings.TrimSuffix(v.StrVal, "%"), 64)
		if err != nil {
			return otherwise
		}
		n = int(math.Ceil(share / 100 * float64(total)))
	}
	if n <= 0 || n > total {
		return otherwise
	}
	return n
}

// divide takes the mandatory groups out, in the order in which they are named.
func divide(groups []Group, names []cluster.MandatoryDecisionGroup) (mandatory, others []Group) {
	var taken []int
	for _, name := range names {
		for i, g := range groups {
			match := name.GroupName != "" && g.Name == name.GroupName || name.GroupName == "" && int(name.GroupIndex) == i
			if match && !slices.Contains(taken, i) {
				taken = append(taken, i)
				mandatory = append(mandatory, g)
			}
		}
	}
	for i, g := range groups {
		if !slices.Contains(taken, i) {
			others = append(others, g)
		}
	}
	return mandatory, others
}
