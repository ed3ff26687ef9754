// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Owned are the objects that an addon, or something else, brings to a cluster.
type Owned struct {
	// Owner is its name as people know it, such as addon cert-manager.
	Owner   string
	Objects []*unstructured.Unstructured
}

// Clash is something on a cluster that two want to own.
type Clash struct {
	A, B string // the owners
	What string
}

// String says it in a sentence.
func (c Clash) String() string { return fmt.Sprintf("%s belongs to both %s and %s", c.What, c.A, c.B) }

// Owners know who brings which objects to a cluster. It must not be changed while
// it is used.
type Owners struct {
	objects map[identity]string
	kinds   map[string]claim // of CustomResourceDefinitions, by group and kind, and by their other names
}

type identity struct{ group, kind, namespace, name string }

type claim struct {
	owner, definition string
	versions          []string
}

// NewOwners takes in what is there; of two that bring the same, the first owns it.
func NewOwners(all ...Owned) *Owners {
	o := &Owners{objects: map[identity]string{}, kinds: map[string]claim{}}
	for _, owned := range all {
		o.Add(owned)
	}
	return o
}

// Add takes in more.
func (o *Owners) Add(owned Owned) {
	for _, obj := range owned.Objects {
		id, ok := identify(obj)
		if !ok {
			continue
		}
		if _, taken := o.objects[id]; !taken {
			o.objects[id] = owned.Owner
		}
		c, keys := definition(obj, owned.Owner)
		for _, k := range keys {
			if _, taken := o.kinds[k]; !taken {
				o.kinds[k] = c
			}
		}
	}
}

// Clashes are the objects that belong to somebody else already, in the order of the
// objects: the same object, whatever the version of its API, or a kind that two
// CustomResourceDefinitions define. Namespaces are shared.
func (o *Owners) Clashes(owned Owned) []Clash {
	var out []Clash
	for _, obj := range owned.Objects {
		id, ok := identify(obj)
		if !ok {
			continue
		}
		c, keys := definition(obj, owned.Owner)
		if owner, taken := o.objects[id]; taken && owner != owned.Owner {
			what := id.String()
			if other, isKind := o.kinds[first(keys)]; isKind && len(c.versions) > 0 {
				what += fmt.Sprintf(" (versions %s and %s)", strings.Join(other.versions, ", "), strings.Join(c.versions, ", "))
			}
			out = append(out, Clash{owner, owned.Owner, what})
			continue
		}
		for _, k := range keys {
			if other, taken := o.kinds[k]; taken && other.owner != owned.Owner {
				out = append(out, Clash{other.owner, owned.Owner, fmt.Sprintf("the kind %s (CustomResourceDefinitions %s and %s)", k, other.definition, c.definition)})
				break
			}
		}
	}
	return out
}

func first(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return keys[0]
}

func (id identity) String() string {
	name := id.name
	if id.namespace != "" {
		name = id.namespace + "/" + name
	}
	return id.kind + " " + name
}

func identify(obj *unstructured.Unstructured) (identity, bool) {
	gvk := obj.GroupVersionKind()
	id := identity{gvk.Group, gvk.Kind, obj.GetNamespace(), obj.GetName()}
	return id, id.name != "" && (gvk.Group != "" || gvk.Kind != "Namespace")
}

// definition is what a CustomResourceDefinition claims: its kind first, then its
// plural name, both with the group.
func definition(obj *unstructured.Unstructured, owner string) (claim, []string) {
	gvk := obj.GroupVersionKind()
	if gvk.Group != "apiextensions.k8s.io" || gvk.Kind != "CustomResourceDefinition" {
		return claim{}, nil
	}
	group, _, _ := unstructured.NestedString(obj.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(obj.Object, "spec", "names", "kind")
	plural, _, _ := unstructured.NestedString(obj.Object, "spec", "names", "plural")
	c := claim{owner: owner, definition: obj.GetName()}
	list, _, _ := unstructured.NestedSlice(obj.Object, "spec", "versions")
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			name, _ := m["name"].(string)
			c.versions = append(c.versions, cmp.Or(name, "?"))
		}
	}
	keys := []string{kind + "." + group, plural + "." + group}
	return c, slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, ".") })
}
