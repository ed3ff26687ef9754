// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Installed are the addons of one cluster by name, each in its version.
type Installed map[string]Version

// Order are the names of a set of addons so that each comes after what it needs,
// otherwise by name. What it needs outside of the set does not count. Removal goes
// the other way round. In a cycle the order is by name.
func Order(set Installed) []string {
	var out []string
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(name string)
	visit = func(name string) {
		v, ok := set[name]
		if !ok || state[name] != 0 {
			return
		}
		state[name] = open
		for _, need := range sortedNeeds(v) {
			visit(need)
		}
		state[name] = done
		out = append(out, name)
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		visit(name)
	}
	return out
}

func sortedNeeds(v Version) []string {
	out := make([]string, 0, len(v.Requires))
	for _, need := range v.Requires {
		out = append(out, need.AddOn)
	}
	slices.Sort(out)
	return out
}

// RemovalOrder is Order from its end: dependents go before what they need.
func RemovalOrder(set Installed) []string {
	out := Order(set)
	slices.Reverse(out)
	return out
}

// Missing are the dependencies of a version that a cluster does not meet: the
// addon is not there, or in another version.
func Missing(v Version, installed Installed) []Range {
	var out []Range
	for _, need := range v.Requires {
		if have, ok := installed[need.AddOn]; !ok || !need.Contains(have.Version) {
			out = append(out, need)
		}
	}
	return out
}

// Break is an addon that a change would leave without what it needs.
type Break struct {
	AddOn Version // the dependent
	Needs Range
	// By is what changes; its version is the new one, none if it is removed.
	By Version
}

// String says it in a sentence.
func (b Break) String() string {
	if b.By.IsZero() {
		return fmt.Sprintf("%s needs %s in %s, which would be removed", b.AddOn, b.Needs.AddOn, b.Needs)
	}
	return fmt.Sprintf("%s needs %s in %s, and %s is not in it", b.AddOn, b.Needs.AddOn, b.Needs, b.By.Version)
}

// Breaks are the dependents on a cluster that changes would break, by name. A
// change to no version is a removal; what is removed with it breaks nothing. A
// dependency that is not met now is not broken by a change.
func Breaks(installed Installed, changes ...Version) []Break {
	after := maps.Clone(installed)
	for _, c := range changes {
		if c.IsZero() {
			delete(after, c.AddOn)
		} else {
			after[c.AddOn] = c
		}
	}
	changed := map[string]Version{}
	for _, c := range changes {
		changed[c.AddOn] = c
	}
	var out []Break
	for name, v := range after {
		for _, need := range v.Requires {
			by, ok := changed[need.AddOn]
			if !ok || !by.IsZero() && need.Contains(by.Version) {
				continue
			}
			// What changes itself has to fit; of what stays, what fits now.
			was, had := installed[need.AddOn]
			if _, isNew := changed[name]; isNew || had && need.Contains(was.Version) {
				out = append(out, Break{v, need, by})
			}
		}
	}
	slices.SortFunc(out, func(a, b Break) int {
		return cmp.Or(strings.Compare(a.AddOn.AddOn, b.AddOn.AddOn), strings.Compare(a.Needs.AddOn, b.Needs.AddOn))
	})
	return out
}

// Exclusion are two addons of which one says that the other must not be there.
type Exclusion struct{ By, Other Version }

// String says it in a sentence.
func (e Exclusion) String() string { return fmt.Sprintf("%s conflicts with %s", e.By, e.Other) }

// Excluded are the declared conflicts between a version and the other addons of a
// cluster, in both directions, by name.
func Excluded(v Version, installed Installed) []Exclusion {
	var out []Exclusion
	for _, name := range slices.Sorted(maps.Keys(installed)) {
		other := installed[name]
		if name == v.AddOn {
			continue
		}
		if excludes(v, other) {
			out = append(out, Exclusion{v, other})
		}
		if excludes(other, v) {
			out = append(out, Exclusion{other, v})
		}
	}
	return out
}

func excludes(v, other Version) bool {
	return slices.ContainsFunc(v.Conflicts, func(r Range) bool { return r.AddOn == other.AddOn && r.Contains(other.Version) })
}
