// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package depend decides, without I/O, what addons need of each other and of their
// cluster: which versions go together, in which order they are installed and
// removed, what a change would break, and what two addons both want to own.
package depend

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Range is an addon in a range of versions.
type Range struct {
	AddOn string
	versions.Range
}

// Version is what matters here of an AddOnVersion.
type Version struct {
	AddOn           string
	Version         versions.Version
	Active, Default bool
	Channel         string
	Requires        []Range
	Conflicts       []Range
	Upgrade         *fleet.Upgrade
}

// String is name@version.
func (v Version) String() string { return v.AddOn + "@" + v.Version.String() }

// IsZero reports that there is no version.
func (v Version) IsZero() bool { return v.Version.IsZero() }

// Parse reads what an AddOnVersion says. Its error names the field.
func Parse(spec *fleet.AddOnVersionSpec) (Version, error) {
	v := Version{
		AddOn: spec.AddOn, Active: spec.Active == nil || *spec.Active, Default: spec.Default,
		Channel: spec.Channel, Upgrade: spec.Upgrade,
	}
	var err error
	if v.Version, err = versions.Parse(spec.Version); err != nil {
		return Version{}, fmt.Errorf("spec.version: %w", err)
	}
	if v.Requires, err = ranges(spec.Dependencies, "spec.dependencies"); err != nil {
		return Version{}, err
	}
	if v.Conflicts, err = ranges(spec.Conflicts, "spec.conflicts"); err != nil {
		return Version{}, err
	}
	return v, nil
}

func ranges(list []fleet.AddOnRange, path string) ([]Range, error) {
	out := make([]Range, 0, len(list))
	for i, r := range list {
		parsed, err := versions.ParseRange(r.VersionRange)
		if err != nil {
			return nil, fmt.Errorf("%s[%d].versionRange: %w", path, i, err)
		}
		out = append(out, Range{r.AddOn, parsed})
	}
	return out, nil
}

// Catalog are all known versions. It must not be changed while it is used.
type Catalog struct {
	byAddOn map[string][]Version // from the newest
}

// NewCatalog makes a catalog of versions in any order.
func NewCatalog(list []Version) *Catalog {
	c := &Catalog{byAddOn: map[string][]Version{}}
	for _, v := range list {
		c.byAddOn[v.AddOn] = append(c.byAddOn[v.AddOn], v)
	}
	for _, of := range c.byAddOn {
		slices.SortFunc(of, func(a, b Version) int { return b.Version.Compare(a.Version) })
	}
	return c
}

// With is the catalog with a version added, or replaced.
func (c *Catalog) With(v Version) *Catalog {
	out := &Catalog{byAddOn: make(map[string][]Version, len(c.byAddOn)+1)}
	for name, of := range c.byAddOn {
		out.byAddOn[name] = of
	}
	of := slices.DeleteFunc(slices.Clone(c.byAddOn[v.AddOn]), func(o Version) bool { return o.Version.Compare(v.Version) == 0 })
	of = append(of, v)
	slices.SortFunc(of, func(a, b Version) int { return b.Version.Compare(a.Version) })
	out.byAddOn[v.AddOn] = of
	return out
}

// Versions are those of an addon, from the newest.
func (c *Catalog) Versions(addOn string) []Version { return c.byAddOn[addOn] }

// Find is one version of an addon.
func (c *Catalog) Find(addOn string, v versions.Version) (Version, bool) {
	of := c.byAddOn[addOn]
	i, ok := slices.BinarySearchFunc(of, v, func(o Version, v versions.Version) int { return v.Compare(o.Version) })
	if !ok {
		return Version{}, false
	}
	return of[i], true
}

// Default is the version that an addon is installed in when nothing names one: the
// default without a channel, else that of the first channel by name.
func (c *Catalog) Default(addOn string) (Version, bool) {
	var best Version
	for _, v := range c.byAddOn[addOn] {
		if v.Default && v.Active && (best.IsZero() || cmp.Less(v.Channel, best.Channel)) {
			best = v
		}
	}
	return best, !best.IsZero()
}

// Cycle is the shortest way on which a version could come to depend on itself, from
// it to it again; nil if there is none. Every version in the range of a dependency
// counts, also those that another choice would avoid: narrow the range to leave
// them out.
func (c *Catalog) Cycle(v Version) []Version {
	type node struct {
		addOn, version string
	}
	key := func(v Version) node { return node{v.AddOn, v.Version.String()} }
	start, before, leads := key(v), map[node]Version{}, c.leadsTo(v)
	queue := []Version{v}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, need := range at.Requires {
			if !leads[need.AddOn] {
				continue
			}
			of := c.byAddOn[need.AddOn]
			if need.AddOn == v.AddOn && need.Contains(v.Version) {
				of = []Version{v} // it may not be in the catalog yet
			}
			for _, next := range of {
				if !need.Contains(next.Version) {
					continue
				}
				k := key(next)
				if k == start {
					return way(v, at, func(v Version) Version { return before[key(v)] })
				}
				if _, seen := before[k]; !seen {
					before[k] = at
					queue = append(queue, next)
				}
			}
		}
	}
	return nil
}

// leadsTo are the addons that could come to need that of v, itself included.
func (c *Catalog) leadsTo(v Version) map[string]bool {
	neededBy := map[string]map[string]bool{}
	note := func(v Version) {
		for _, need := range v.Requires {
			if neededBy[need.AddOn] == nil {
				neededBy[need.AddOn] = map[string]bool{}
			}
			neededBy[need.AddOn][v.AddOn] = true
		}
	}
	for _, of := range c.byAddOn {
		for _, o := range of {
			note(o)
		}
	}
	note(v)
	out := map[string]bool{v.AddOn: true}
	for queue := []string{v.AddOn}; len(queue) > 0; queue = queue[1:] {
		for name := range neededBy[queue[0]] {
			if !out[name] {
				out[name] = true
				queue = append(queue, name)
			}
		}
	}
	return out
}

// way goes back from the last version of a cycle to its first.
func way(first, last Version, before func(Version) Version) []Version {
	out := []Version{first}
	for at := last; at.AddOn != first.AddOn || at.Version.Compare(first.Version) != 0; at = before(at) {
		out = append(out, at)
	}
	out = append(out, first)
	slices.Reverse(out)
	return out
}
