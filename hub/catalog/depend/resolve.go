// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drover-io/drover/hub/catalog/versions"
)

// Want asks for an addon: in that version, or, if there is none, in any of Range.
type Want struct {
	AddOn   string
	Version versions.Version
	Range   versions.Range
}

// Step installs an addon or brings it to another version.
type Step struct {
	AddOn string
	From  versions.Version // none: it is not there yet
	To    Version
	// By is the addon that needs it, empty for what was asked for.
	By string
}

// maxTries bounds the choices that Resolve looks at.
const maxTries = 100_000

// Resolve says what has to be installed or upgraded on a cluster, and in which
// order, so that the wanted addons can be there with all that they need: nothing
// if they are already. It chooses for each addon what is installed, else its
// default version, else the newest that fits; only active versions are newly
// installed. Of what is installed only what the wanted addons need may change, by
// the rules for upgrades, and nothing that stays may be broken by it. The error says
// what stands in the way.
func (c *Catalog) Resolve(want []Want, installed Installed) ([]Step, error) {
	r := &resolver{c: c, installed: installed, chosen: Installed{}, by: map[string]string{}, wanted: map[string]Want{}}
	var open []string
	for _, w := range want {
		if _, twice := r.wanted[w.AddOn]; twice {
			return nil, fmt.Errorf("%s is wanted twice", w.AddOn)
		}
		r.wanted[w.AddOn] = w
		open = append(open, w.AddOn)
	}
	r.reach(open)
	if !r.choose(open) {
		if r.tries >= maxTries {
			return nil, fmt.Errorf("more than %d choices of versions tried without finding one that fits: name more versions", maxTries)
		}
		return nil, errors.New(r.why)
	}
	var steps []Step
	for _, name := range Order(r.chosen) {
		if to, from := r.chosen[name], installed[name]; to.Version.Compare(from.Version) != 0 {
			steps = append(steps, Step{AddOn: name, From: from.Version, To: to, By: r.by[name]})
		}
	}
	return steps, nil
}

// resolver tries versions one addon after the other and goes back when one does
// not fit.
type resolver struct {
	c         *Catalog
	installed Installed
	wanted    map[string]Want
	// movable are the addons that the wanted ones could come to need in any of
	// their versions: all others stay what they are.
	movable map[string]bool
	chosen  Installed
	by      map[string]string

	tries int
	// why is the reason of the failure that was reached after the most choices.
	why   string
	depth int
}

func (r *resolver) reach(open []string) {
	r.movable = map[string]bool{}
	for _, name := range open {
		r.movable[name] = true
	}
	for len(open) > 0 {
		name := open[0]
		open = open[1:]
		add := func(needs []Range) {
			for _, need := range needs {
				if !r.movable[need.AddOn] {
					r.movable[need.AddOn] = true
					open = append(open, need.AddOn)
				}
			}
		}
		add(r.installed[name].Requires)
		of := r.c.Versions(name)
		for i := range of {
			add(of[i].Requires)
		}
	}
}

// choose decides on the addons of a list, and on all that these need.
func (r *resolver) choose(open []string) bool {
	for len(open) > 0 {
		if _, ok := r.chosen[open[0]]; !ok {
			break
		}
		open = open[1:]
	}
	if len(open) == 0 {
		return r.complete()
	}
	name := open[0]
	var refused []string
	for _, v := range r.candidates(name) {
		if r.tries++; r.tries > maxTries {
			return false
		}
		if problem := r.unfit(v); problem != "" {
			refused = append(refused, problem)
			continue
		}
		r.chosen[name] = v
		next := slices.Clone(open[1:])
		for _, need := range v.Requires {
			if _, ok := r.chosen[need.AddOn]; !ok {
				next = append(next, need.AddOn)
			}
			if _, ok := r.by[need.AddOn]; !ok && r.wanted[need.AddOn].AddOn == "" {
				r.by[need.AddOn] = name
			}
		}
		if r.choose(next) {
			return true
		}
		delete(r.chosen, name)
		for _, need := range v.Requires {
			if r.by[need.AddOn] == name {
				delete(r.by, need.AddOn)
			}
		}
	}
	r.fail(name, refused)
	return false
}

// fail remembers why no version of an addon will do.
func (r *resolver) fail(name string, refused []string) {
	if r.why != "" && len(r.chosen) <= r.depth || len(refused) == 0 && len(r.candidates(name)) > 0 {
		return
	}
	r.depth = len(r.chosen)
	who := name
	if by := r.by[name]; by != "" {
		who = fmt.Sprintf("%s, which %s needs,", name, r.chosen[by])
	}
	if len(refused) == 0 {
		r.why = fmt.Sprintf("%s has no version that can be installed", who)
		if w, ok := r.wanted[name]; ok && !w.Version.IsZero() {
			r.why = fmt.Sprintf("%s has no version %s", who, w.Version)
		}
		return
	}
	if n := len(refused); n > 3 {
		refused = append(refused[:3:3], fmt.Sprintf("and %d more versions do not fit", n-3))
	}
	r.why = fmt.Sprintf("no version of %s fits: %s", who, strings.Join(refused, "; "))
}

// candidates are the versions of an addon in the order in which they are liked.
func (r *resolver) candidates(name string) []Version {
	var out []Version
	add := func(v Version) {
		if !v.IsZero() && !slices.ContainsFunc(out, func(o Version) bool { return o.Version.Compare(v.Version) == 0 }) {
			out = append(out, v)
		}
	}
	w := r.wanted[name]
	if !w.Version.IsZero() {
		if have, ok := r.installed[name]; ok && have.Version.Compare(w.Version) == 0 {
			return []Version{have}
		}
		v, _ := r.c.Find(name, w.Version)
		add(v)
		return out
	}
	add(r.installed[name])
	standard, _ := r.c.Default(name)
	add(standard)
	for _, v := range r.c.Versions(name) {
		if v.Active {
			add(v)
		}
	}
	return out
}

// unfit says why a version does not go with what is chosen, and with what stays.
func (r *resolver) unfit(v Version) string {
	have, there := r.installed[v.AddOn]
	changes := !there || have.Version.Compare(v.Version) != 0
	if w := r.wanted[v.AddOn]; w.Version.IsZero() && !w.Range.Contains(v.Version) {
		return fmt.Sprintf("%s is not in %s", v.Version, w.Range)
	}
	if changes && !v.Active {
		return fmt.Sprintf("%s is inactive", v.Version)
	}
	for _, name := range slices.Sorted(maps.Keys(r.chosen)) {
		if problem := against(v, r.chosen[name]); problem != "" {
			return problem
		}
	}
	if !changes {
		return ""
	}
	if there {
		if err := versions.CheckChange(have.Version, have.Upgrade, v.Version, v.Upgrade); err != nil {
			return err.Error()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.installed)) {
		if r.movable[name] {
			continue // it may become another one yet
		}
		if problem := r.disturbs(v, r.installed[name]); problem != "" {
			return problem
		}
	}
	return ""
}

// against says why two versions cannot be on one cluster.
func against(v, o Version) string {
	for _, need := range o.Requires {
		if need.AddOn == v.AddOn && !need.Contains(v.Version) {
			return fmt.Sprintf("%s is not in %s, which %s needs", v.Version, need, o)
		}
	}
	for _, need := range v.Requires {
		if need.AddOn == o.AddOn && !need.Contains(o.Version) {
			return fmt.Sprintf("%s needs %s in %s, not %s", v.Version, o.AddOn, need, o.Version)
		}
	}
	if excludes(v, o) {
		return Exclusion{v, o}.String()
	}
	if excludes(o, v) {
		return Exclusion{o, v}.String()
	}
	return ""
}

// disturbs says why a version that is new to the cluster cannot come beside one
// that stays. A dependency that is not met now is none of it.
func (r *resolver) disturbs(v, stays Version) string {
	if excludes(v, stays) {
		return Exclusion{v, stays}.String()
	}
	if excludes(stays, v) {
		return Exclusion{stays, v}.String()
	}
	have, there := r.installed[v.AddOn]
	for _, need := range stays.Requires {
		if need.AddOn == v.AddOn && !need.Contains(v.Version) && there && need.Contains(have.Version) {
			return fmt.Sprintf("%s is not in %s, which %s needs", v.Version, need, stays)
		}
	}
	return ""
}

// complete checks what could not be checked before all was chosen.
func (r *resolver) complete() bool {
	for _, name := range slices.Sorted(maps.Keys(r.installed)) {
		stays := r.installed[name]
		if _, ok := r.chosen[name]; ok || !r.movable[name] {
			continue
		}
		for _, other := range slices.Sorted(maps.Keys(r.chosen)) {
			v := r.chosen[other]
			if have, there := r.installed[other]; there && have.Version.Compare(v.Version) == 0 {
				continue
			}
			if problem := r.disturbs(v, stays); problem != "" {
				r.depth, r.why = len(r.chosen), fmt.Sprintf("no version of %s fits: %s", other, problem)
				return false
			}
		}
	}
	if cycle := cycleOf(r.chosen); cycle != "" {
		r.depth, r.why = len(r.chosen), "they need each other in a cycle: "+cycle
		return false
	}
	return true
}

// cycleOf is a cycle among addons, written out; empty if there is none.
func cycleOf(set Installed) string {
	done := map[string]bool{}
	var path []string
	var visit func(name string) string
	visit = func(name string) string {
		v, ok := set[name]
		if !ok || done[name] {
			return ""
		}
		if i := slices.Index(path, name); i >= 0 {
			var out []string
			for _, n := range append(slices.Clone(path[i:]), name) {
				out = append(out, set[n].String())
			}
			return strings.Join(out, " needs ")
		}
		path = append(path, name)
		for _, need := range sortedNeeds(v) {
			if cycle := visit(need); cycle != "" {
				return cycle
			}
		}
		path = path[:len(path)-1]
		done[name] = true
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if cycle := visit(name); cycle != "" {
			return cycle
		}
	}
	return ""
}
