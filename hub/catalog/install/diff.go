// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// Bounds of a comparison.
const (
	maxFields = 20  // of one object
	maxText   = 256 // of one value
)

const secretText = "***" // as the content of versions has it

// given are the objects of a work, by what names them.
func given(ctx context.Context, bundles Bundles, w *work.ManifestWork) (map[identity]map[string]any, error) {
	out := map[identity]map[string]any{}
	add := func(raw []byte) error {
		var obj map[string]any
		if err := kjson.Unmarshal(raw, &obj); err != nil {
			return fmt.Errorf("read a manifest of work %s: %w", w.Name, err)
		}
		u := unstructured.Unstructured{Object: obj}
		gvk := u.GroupVersionKind()
		out[identity{gvk.Group, gvk.Kind, u.GetNamespace(), u.GetName()}] = obj
		return nil
	}
	for i := range w.Spec.Workload.Manifests {
		if err := add(w.Spec.Workload.Manifests[i].Raw); err != nil {
			return nil, err
		}
	}
	digest := w.Annotations[work.AnnotationBundle]
	if digest == "" {
		return out, nil
	}
	data, err := bundles.Get(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("read bundle of work %s: %w", w.Name, err)
	}
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := add(line); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// compare says what becomes of objects; those that stay as they are are left out.
func compare(before, after map[identity]map[string]any) []wire.ObjectDiff {
	var out []wire.ObjectDiff
	names := map[identity]bool{}
	for id := range before {
		names[id] = true
	}
	for id := range after {
		names[id] = true
	}
	for id := range names {
		d := wire.ObjectDiff{Group: id.Group, Kind: id.Kind, Namespace: id.Namespace, Name: id.Name}
		old, had := before[id]
		now, has := after[id]
		switch {
		case !had:
			d.Action = wire.ActionCreate
		case !has:
			d.Action = wire.ActionDelete
		default:
			f := &fieldDiff{secret: id.Group == "" && id.Kind == "Secret"}
			f.walk(nil, old, now)
			if len(f.fields) == 0 {
				continue
			}
			d.Action, d.Total, d.Fields = wire.ActionChange, len(f.fields), f.fields[:min(len(f.fields), maxFields)]
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b wire.ObjectDiff) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

type fieldDiff struct {
	secret bool
	fields []wire.FieldDrift
}

// walk compares two values. Lists of the same length are compared by position.
func (f *fieldDiff) walk(at []string, old, now any) {
	if reflect.DeepEqual(old, now) {
		return
	}
	o, isMap := old.(map[string]any)
	n, wasMap := now.(map[string]any)
	if isMap && wasMap {
		keys := map[string]bool{}
		for k := range o {
			keys[k] = true
		}
		for k := range n {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			f.walk(append(slices.Clone(at), k), o[k], n[k])
		}
		return
	}
	a, isList := old.([]any)
	b, wasList := now.([]any)
	if isList && wasList && len(a) == len(b) {
		for i := range a {
			f.walk(append(slices.Clone(at[:len(at)-1]), fmt.Sprintf("%s[%d]", at[len(at)-1], i)), a[i], b[i])
		}
		return
	}
	f.fields = append(f.fields, wire.FieldDrift{Path: pathText(at), Live: f.text(at, old), Desired: f.text(at, now)})
}

// pathText joins keys; the positions in lists are part of them already.
func pathText(at []string) string {
	var b bytes.Buffer
	for i, k := range at {
		text := k
		if key, position, list := cutPosition(k); list {
			text = config.FormatPath([]string{key}) + position
		} else {
			text = config.FormatPath([]string{k})
		}
		if i > 0 && text[0] != '[' {
			b.WriteByte('.')
		}
		b.WriteString(text)
	}
	return b.String()
}

// cutPosition parts "ports[0][1]", which walk makes.
func cutPosition(k string) (key, position string, ok bool) {
	end := len(k)
	for end > 0 && k[end-1] == ']' {
		open := bytes.LastIndexByte([]byte(k[:end]), '[')
		if open <= 0 || !digits(k[open+1:end-1]) {
			break
		}
		end = open
	}
	return k[:end], k[end:], end < len(k)
}

func digits(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}

func (f *fieldDiff) text(at []string, v any) string {
	if v == nil {
		return ""
	}
	if f.secret && len(at) > 0 && (at[0] == "data" || at[0] == "stringData") {
		return secretText
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(data) > maxText {
		data = append(data[:maxText], "…"...)
	}
	return string(data)
}

// masked is an object as people may see it.
func masked(obj map[string]any) map[string]any {
	if obj["kind"] != "Secret" || obj["apiVersion"] != "v1" {
		return obj
	}
	out := maps.Clone(obj)
	for _, field := range []string{"data", "stringData"} {
		if values, ok := obj[field].(map[string]any); ok {
			hidden := map[string]any{}
			for k := range values {
				hidden[k] = secretText
			}
			out[field] = hidden
		}
	}
	if meta, ok := out["metadata"].(map[string]any); ok {
		if a, ok := meta["annotations"].(map[string]any); ok && a["kubectl.kubernetes.io/last-applied-configuration"] != nil {
			meta, a = maps.Clone(meta), maps.Clone(a)
			a["kubectl.kubernetes.io/last-applied-configuration"] = secretText
			meta["annotations"], out["metadata"] = a, meta
		}
	}
	return out
}
