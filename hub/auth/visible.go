// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Filter says which objects of one resource somebody may see in lists. The zero
// Filter shows nothing. It never changes: it shows what the policy it was made
// from shows.
type Filter struct {
	everywhere names
	in         map[string]names // by namespace
	// sets are the sets of clusters that somebody may look into, by name, and
	// place is how objects of the resource belong to a cluster.
	sets  []*members
	place place
}

// names are some names, or all of them.
type names struct {
	all bool
	set map[string]struct{}
}

func (n names) has(name string) bool {
	_, ok := n.set[name]
	return n.all || ok
}

func (n names) none() bool { return !n.all && len(n.set) == 0 }

func (n names) add(more []string) names {
	if len(more) == 0 {
		return names{all: true}
	}
	if n.all {
		return n
	}
	for _, name := range more {
		if name == "" {
			continue
		}
		if n.set == nil {
			n.set = make(map[string]struct{}, len(more))
		}
		n.set[name] = struct{}{}
	}
	return n
}

// All reports that nothing is hidden: whoever asks need not be filtered.
func (f Filter) All() bool { return f.everywhere.all }

// AllIn reports that nothing is hidden in a namespace.
func (f Filter) AllIn(namespace string) bool {
	return f.everywhere.all || f.in[namespace].all ||
		f.place == placeNamespace && slices.ContainsFunc(f.sets, func(m *members) bool { return m.clusters.Contains(namespace) })
}

// None reports that nothing can be seen, whatever objects there are.
func (f Filter) None() bool { return f.everywhere.none() && len(f.in) == 0 && len(f.sets) == 0 }

// NoneIn reports that nothing can be seen in a namespace, or of objects without
// one when it is empty, whatever there is.
func (f Filter) NoneIn(namespace string) bool {
	return f.everywhere.none() && f.in[namespace].none() && !f.AllIn(namespace) && (f.place == placeNamespace || len(f.sets) == 0)
}

// Match reports whether the object may be seen; namespace is empty for an object
// without one.
func (f Filter) Match(namespace, name string, lbls map[string]string) bool {
	if f.everywhere.has(name) || f.in[namespace].has(name) {
		return true
	}
	for _, m := range f.sets {
		switch f.place {
		case placeSelf:
			// its labels as they are in this state of it, so that a watch sees it come and go
			if m.selector.Matches(labels.Set(lbls)) {
				return true
			}
		case placeName:
			if m.clusters.Contains(name) {
				return true
			}
		default:
			if m.clusters.Contains(namespace) {
				return true
			}
		}
	}
	return false
}

// Equal reports whether both show the same, whatever there is.
func (f Filter) Equal(g Filter) bool {
	if f.All() || g.All() {
		return f.All() == g.All()
	}
	same := func(a, b names) bool { return a.all == b.all && maps.Equal(a.set, b.set) }
	return same(f.everywhere, g.everywhere) && maps.EqualFunc(f.in, g.in, same) && f.place == g.place &&
		slices.EqualFunc(f.sets, g.sets, func(a, b *members) bool {
			if f.place == placeSelf {
				return a.name == b.name && a.selector.String() == b.selector.String()
			}
			return a.name == b.name && a.version == b.version
		})
}

// Visible returns which objects of a resource u may see with a verb that reads
// many, list or watch: those that u may read so everywhere, in their namespace or
// by their name, and those that u may get one by one.
//
// So an object is shown exactly when a request with that verb, or get, for its
// namespace and name is allowed. A namespace counts as being in itself when it is
// got, as in the paths of the API.
//
// This is Drover's own: Kubernetes refuses the list to who may not list all of it.
func (p *Policy) Visible(u user.Info, verb string, resource schema.GroupResource) Filter {
	if u == nil {
		return Filter{}
	}
	if inGroup(u, user.SystemPrivilegedGroup) {
		return Filter{everywhere: names{all: true}}
	}
	f := Filter{place: placeOf(resource)}
	if p == nil {
		return f
	}
	for _, s := range subjects(u) {
		for namespace, grants := range p.grants[s] {
			for i := range grants {
				if grants[i].role == nil {
					continue
				}
				for j := range grants[i].role.rules {
					f.add(&grants[i].role.rules[j], namespace, verb, resource)
				}
			}
		}
	}
	if !f.All() {
		p.addSets(&f, u, verb, resource)
	}
	return f
}

func (f *Filter) add(r *rbacv1.PolicyRule, namespace, verb string, resource schema.GroupResource) {
	if !covers(r.APIGroups, resource.Group) || !covers(r.Resources, resource.Resource) {
		return
	}
	many, get := covers(r.Verbs, verb), covers(r.Verbs, "get")
	if namespace == "" && resource == clusterSets() && (covers(r.Verbs, VerbView) || covers(r.Verbs, VerbOperate)) {
		get = true // who may look into a set may look at it
	}
	switch {
	case !many && !get:
	case namespace == "":
		f.everywhere = f.everywhere.add(r.ResourceNames)
	case resource == schema.GroupResource{Resource: "namespaces"}:
		if get && (len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, namespace)) {
			f.everywhere = f.everywhere.add([]string{namespace})
		}
	default:
		n := f.in[namespace].add(r.ResourceNames)
		if n.none() {
			return
		}
		if f.in == nil {
			f.in = map[string]names{}
		}
		f.in[namespace] = n
	}
}

// addSets adds the sets of clusters whose members' objects u may read.
func (p *Policy) addSets(f *Filter, u user.Info, verb string, resource schema.GroupResource) {
	if resource == clusterSets() {
		return
	}
	var verbs []string
	for _, v := range setVerbs() {
		if slices.ContainsFunc(p.inSets[v], func(r rbacv1.PolicyRule) bool {
			return covers(r.APIGroups, resource.Group) && covers(r.Resources, resource.Resource) && (covers(r.Verbs, verb) || covers(r.Verbs, "get"))
		}) {
			verbs = append(verbs, v)
		}
	}
	for _, m := range p.members.all() {
		if slices.ContainsFunc(verbs, func(v string) bool { return p.may(u, v, "", clusterSets(), m.name) }) {
			f.sets = append(f.sets, m)
		}
	}
}
