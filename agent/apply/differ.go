// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/drover-io/drover/shared/wire"
)

// differ collects the leaves in which two trees differ.
type differ struct {
	hide  bool
	out   []wire.FieldDrift
	total int
}

func (d *differ) value(path string, desired, live any, hasDesired, hasLive bool) {
	a, okA := desired.(map[string]any)
	b, okB := live.(map[string]any)
	if (okA || !hasDesired) && (okB || !hasLive) && (okA || okB) && len(a)+len(b) > 0 {
		d.fields(path, a, b)
		return
	}
	listA, okA := desired.([]any)
	listB, okB := live.([]any)
	if okA && okB {
		d.list(path, listA, listB)
		return
	}
	if hasDesired == hasLive && reflect.DeepEqual(desired, live) {
		return
	}
	d.total++
	if len(d.out) >= maxFieldDrift {
		return
	}
	f := wire.FieldDrift{Path: path}
	if !d.hide {
		f.Desired, f.Live = clip(desired, hasDesired), clip(live, hasLive)
	}
	d.out = append(d.out, f)
}

func (d *differ) fields(path string, desired, live map[string]any) {
	keys := make([]string, 0, len(desired))
	for k := range desired {
		keys = append(keys, k)
	}
	for k := range live {
		if _, both := desired[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		a, hasA := desired[k]
		b, hasB := live[k]
		d.value(join(path, k), a, b, hasA, hasB)
	}
}

// list compares elements of the same name, and where there are no names, of the
// same place.
func (d *differ) list(path string, desired, live []any) {
	namesA, okA := elementNames(desired)
	namesB, okB := elementNames(live)
	if !okA || !okB || len(desired)+len(live) == 0 {
		for i := range max(len(desired), len(live)) {
			var a, b any
			if i < len(desired) {
				a = desired[i]
			}
			if i < len(live) {
				b = live[i]
			}
			d.value(fmt.Sprintf("%s[%d]", path, i), a, b, i < len(desired), i < len(live))
		}
		return
	}
	for i, name := range namesA {
		j := slices.Index(namesB, name)
		var b any
		if j >= 0 {
			b = live[j]
		}
		d.value(fmt.Sprintf("%s[%s]", path, name), desired[i], b, true, j >= 0)
	}
	for j, name := range namesB {
		if !slices.Contains(namesA, name) {
			d.value(fmt.Sprintf("%s[%s]", path, name), nil, live[j], false, true)
		}
	}
}

// elementNames are the names of a list of named objects; false for other lists.
func elementNames(list []any) ([]string, bool) {
	names := make([]string, 0, len(list))
	for _, element := range list {
		fields, ok := element.(map[string]any)
		if !ok {
			return nil, false
		}
		name, ok := fields["name"].(string)
		if !ok || slices.Contains(names, name) {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// join writes keys with dots in them in brackets, as annotations have.
func join(path, key string) string {
	switch {
	case strings.ContainsAny(key, "./"):
		return path + "[" + key + "]"
	case path == "":
		return key
	}
	return path + "." + key
}
