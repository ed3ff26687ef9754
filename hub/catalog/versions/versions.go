// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package versions reads and compares semantic versions and ranges of them, as
// the catalog's objects name them, and says what may be upgraded to what.
//
// A range is one or more comparisons, all of which must hold, divided by blanks or
// commas (">=1.2.0 <2.0.0"); "||" divides alternatives. Besides = != > < >= <=
// there are "^1.4" (1.4.0 and later, below 2.0.0), "~1.4.2" (1.4.2 and later, below
// 1.5.0), "1.x" and "1.2 - 1.4". The empty range is any version.
//
// Prereleases such as 2.0.0-rc.1 are in a range only if one of the comparisons of
// the same alternative names a prerelease (">=2.0.0-0"), or if the range is empty.
package versions

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// maxLength bounds the text of a version and of a range.
const maxLength = 256

// Version is a semantic version. The zero Version is none.
type Version struct{ v *semver.Version }

// Parse reads a complete semantic version, with or without a leading "v".
func Parse(text string) (Version, error) {
	if len(text) > maxLength {
		return Version{}, fmt.Errorf("version %.32q...: longer than %d characters", text, maxLength)
	}
	v, err := semver.StrictNewVersion(strings.TrimPrefix(text, "v"))
	if err != nil {
		return Version{}, fmt.Errorf("version %q: not a semantic version such as 1.4.0 or 2.0.0-rc.1", text)
	}
	return Version{v}, nil
}

// ParseKubernetes reads what a cluster says it is, such as v1.30.1-gke.100 or
// v1.31.0+k3s1. What vendors add does not count: a build of 1.30.1 is 1.30.1.
func ParseKubernetes(text string) (Version, error) {
	core, _, _ := strings.Cut(text, "+")
	core, _, _ = strings.Cut(core, "-")
	v, err := Parse(core)
	if err != nil {
		return Version{}, fmt.Errorf("version of Kubernetes %q: not a version such as v1.30.1", text)
	}
	return v, nil
}

// IsZero reports that there is no version.
func (v Version) IsZero() bool { return v.v == nil }

// String is the version without a leading "v".
func (v Version) String() string {
	if v.v == nil {
		return ""
	}
	return v.v.String()
}

// Prerelease reports whether it comes before a release, such as 2.0.0-rc.1.
func (v Version) Prerelease() bool { return v.v != nil && v.v.Prerelease() != "" }

// Compare orders versions by precedence, those that differ only in what follows
// a "+" by that text, and no version before all others.
func (v Version) Compare(o Version) int {
	switch {
	case v.v == nil && o.v == nil:
		return 0
	case v.v == nil:
		return -1
	case o.v == nil:
		return 1
	}
	return cmp.Or(v.v.Compare(o.v), strings.Compare(v.v.Metadata(), o.v.Metadata()))
}

// Sort orders versions from the oldest to the newest.
func Sort(list []Version) { slices.SortFunc(list, Version.Compare) }

// ObjectName is what the AddOnVersion of that addon and version is called:
// cert-manager-1.14.2, with "+" as "." and in lower case.
func ObjectName(addOn string, v Version) string {
	return addOn + "-" + strings.ToLower(strings.ReplaceAll(v.String(), "+", "."))
}

// Best is the newest version of a list in a range. For the empty range a
// prerelease counts only when there is no release.
func Best(r Range, list []Version) (Version, bool) {
	var best Version
	for _, v := range list {
		if !r.Contains(v) {
			continue
		}
		if best.IsZero() || better(r, v, best) {
			best = v
		}
	}
	return best, !best.IsZero()
}

func better(r Range, v, than Version) bool {
	if r.Any() && v.Prerelease() != than.Prerelease() {
		return !v.Prerelease()
	}
	return v.Compare(than) > 0
}

// In are those of a list that are in all of the ranges, from the oldest to the newest.
func In(list []Version, ranges ...Range) []Version {
	var out []Version
	for _, v := range list {
		if !slices.ContainsFunc(ranges, func(r Range) bool { return !r.Contains(v) }) {
			out = append(out, v)
		}
	}
	Sort(out)
	return out
}

// CheckChange says why one version must not replace another, by the rules of both:
// what a version may be upgraded from is its own word, whether it may be replaced
// by an older one is the word of the version that goes.
func CheckChange(from Version, fromRules *fleet.Upgrade, to Version, toRules *fleet.Upgrade) error {
	switch order := to.Compare(from); {
	case from.IsZero() || order == 0:
		return nil
	case order < 0:
		if fromRules == nil || !fromRules.Downgrade {
			return fmt.Errorf("%s cannot be replaced by the older %s: spec.upgrade.downgrade of %s does not allow it", from, to, from)
		}
		return nil
	case toRules == nil || toRules.From == "":
		return nil
	}
	r, err := ParseRange(toRules.From)
	if err != nil {
		return fmt.Errorf("spec.upgrade.from of %s: %w", to, err)
	}
	if !r.Contains(from) {
		return fmt.Errorf("%s cannot be upgraded to %s: spec.upgrade.from of %s takes only %s; go to a version in that range first", from, to, to, r)
	}
	return nil
}
