// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Check says why a version cannot be published into a catalog, which may have an
// older state of it: what it needs is not there, excludes itself, or comes to
// depend on it.
func (c *Catalog) Check(v Version) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "dependencies")
	for i, need := range v.Requires {
		if err := c.checkNeed(v, need, path.Index(i)); err != nil {
			errs = append(errs, err)
		}
	}
	for i, not := range v.Conflicts {
		if not.AddOn == v.AddOn {
			errs = append(errs, field.Invalid(field.NewPath("spec", "conflicts").Index(i).Child("addOn"), not.AddOn,
				"an addon is on a cluster once, so its versions need not exclude each other"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if cycle := c.Cycle(v); cycle != nil {
		return field.ErrorList{field.Invalid(path, names(cycle[1:2])[0],
			"a cycle: "+strings.Join(names(cycle), " needs ")+"; leave one of these dependencies out, or narrow its range")}
	}
	// Each range is met by something; together they may not be.
	v.Active = true
	if _, err := c.With(v).Resolve([]Want{{AddOn: v.AddOn, Version: v.Version}}, nil); err != nil {
		return field.ErrorList{field.Invalid(path, v.String(), "cannot be met together: "+err.Error())}
	}
	return nil
}

func (c *Catalog) checkNeed(v Version, need Range, path *field.Path) *field.Error {
	if need.AddOn == v.AddOn {
		return field.Invalid(path.Child("addOn"), need.AddOn, "an addon cannot need itself")
	}
	of := c.Versions(need.AddOn)
	if len(of) == 0 {
		return field.Invalid(path.Child("addOn"), need.AddOn, "the catalog has no version of this addon: publish one first")
	}
	var excluded, inactive []string
	for _, o := range of {
		switch {
		case !need.Contains(o.Version):
		case slices.ContainsFunc(v.Conflicts, func(r Range) bool { return r.AddOn == o.AddOn && r.Contains(o.Version) }):
			excluded = append(excluded, o.Version.String())
		case !o.Active:
			inactive = append(inactive, o.Version.String())
		default:
			return nil
		}
	}
	at := path.Child("versionRange")
	switch {
	case len(excluded) > 0:
		return field.Invalid(at, need.String(), "spec.conflicts excludes all versions of "+need.AddOn+" that it takes: "+some(excluded))
	case len(inactive) > 0:
		return field.Invalid(at, need.String(), "only inactive versions of "+need.AddOn+" are in it: "+some(inactive))
	}
	var known []string
	for _, o := range of {
		known = append(known, o.Version.String())
	}
	return field.Invalid(at, need.String(), "no version of "+need.AddOn+" is in it; the catalog has "+some(known))
}

// some names a few of a list and says how many more there are.
func some(list []string) string {
	if len(list) <= 5 {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:4], ", "), len(list)-4)
}

func names(list []Version) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}
