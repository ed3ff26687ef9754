// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fields

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/wire"
)

const (
	maxListed = 20  // fields that differ
	maxValue  = 256 // bytes of one value
)

// Diff returns the first fields in which live differs from desired, at most 20,
// and how many there are. What only the server writes does not count. Values are
// JSON of at most 256 bytes, and left out when hide is set.
func Diff(desired, live *unstructured.Unstructured, hide bool) ([]wire.FieldDrift, int) {
	d := differ{hide: hide}
	d.fields("", trimmed(desired.Object), trimmed(live.Object))
	return d.out, d.total
}

// OfServer says that the server alone writes a field of metadata, so that it is
// no part of what somebody wants.
func OfServer(name string) bool {
	switch name {
	case "managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink":
		return true
	}
	return false
}

func trimmed(object map[string]any) map[string]any {
	out := make(map[string]any, len(object))
	for k, v := range object {
		switch k {
		case "status":
		case "metadata":
			fields, _ := v.(map[string]any)
			kept := make(map[string]any, len(fields))
			for name, value := range fields {
				if !OfServer(name) {
					kept[name] = value
				}
			}
			out[k] = kept
		default:
			out[k] = v
		}
	}
	return out
}

func clip(v any, present bool) string {
	if !present {
		return ""
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return Shorten(string(encoded), maxValue)
}

// Shorten cuts s to limit bytes, at the border of a character, with a mark at
// the end; a limit without room for the mark leaves nothing.
func Shorten(s string, limit int) string {
	const mark = "..."
	switch {
	case len(s) <= limit:
		return s
	case limit <= len(mark):
		return ""
	}
	return strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
}

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
	if len(d.out) >= maxListed {
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
