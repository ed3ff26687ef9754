// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Filter says which objects of one resource somebody may see in lists. The zero
// Filter shows nothing.
type Filter struct {
	whole      bool
	everywhere names
	in         map[string]names // by namespace
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

func (n names) add(more []string) names {
	if len(more) == 0 {
		return names{all: true}
	}
	if n.all {
		return n
	}
	if n.set == nil {
		n.set = make(map[string]struct{}, len(more))
	}
	for _, name := range more {
		if name != "" {
			n.set[name] = struct{}{}
		}
	}
	return n
}

// All reports that nothing is hidden: whoever asks need not be filtered.
func (f Filter) All() bool { return f.whole || f.everywhere.all }

// None reports that nothing can be seen, whatever there is.
func (f Filter) None() bool { return !f.All() && len(f.everywhere.set) == 0 && len(f.in) == 0 }

// Match reports whether the object may be seen; namespace is empty for an object
// without one.
func (f Filter) Match(namespace, name string) bool {
	return f.whole || f.everywhere.has(name) || f.in[namespace].has(name)
}

// Equal reports whether both show the same, whatever there is.
func (f Filter) Equal(g Filter) bool {
	if f.All() || g.All() {
		return f.All() == g.All()
	}
	same := func(a, b names) bool { return a.all == b.all && maps.Equal(a.set, b.set) }
	return same(f.everywhere, g.everywhere) && maps.EqualFunc(f.in, g.in, same)
}

// Visible returns which objects of a resource u may see in lists: all with the
// permission to list it everywhere, otherwise those that u may get one by one.
// A namespace counts as being in itself, as in the paths of the API.
//
// This is Drover's own: Kubernetes refuses the list to who may not list.
func (p *Policy) Visible(u user.Info, resource schema.GroupResource) Filter {
	if u == nil {
		return Filter{}
	}
	if inGroup(u, user.SystemPrivilegedGroup) {
		return Filter{whole: true}
	}
	var f Filter
	if p == nil {
		return f
	}
	namespaces := resource == schema.GroupResource{Resource: "namespaces"}
	for _, s := range subjects(u) {
		for namespace, grants := range p.grants[s] {
			for i := range grants {
				if grants[i].role == nil {
					continue
				}
				for j := range grants[i].role.rules {
					f.add(&grants[i].role.rules[j], namespace, resource, namespaces)
				}
			}
		}
	}
	return f
}

func (f *Filter) add(r *rbacv1.PolicyRule, namespace string, resource schema.GroupResource, namespaces bool) {
	if !covers(r.APIGroups, resource.Group) || !covers(r.Resources, resource.Resource) {
		return
	}
	if namespace == "" && len(r.ResourceNames) == 0 && covers(r.Verbs, "list") {
		f.whole = true
		return
	}
	if !covers(r.Verbs, "get") {
		return
	}
	switch {
	case namespace == "":
		f.everywhere = f.everywhere.add(r.ResourceNames)
	case namespaces:
		if len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, namespace) {
			f.everywhere = f.everywhere.add([]string{namespace})
		}
	default:
		n := f.in[namespace].add(r.ResourceNames)
		if !n.all && len(n.set) == 0 {
			return
		}
		if f.in == nil {
			f.in = map[string]names{}
		}
		f.in[namespace] = n
	}
}
