// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

const (
	maxValue  = 256 // bytes of a value in a diff
	maxFields = 200 // of one object in a diff
	masked    = "***"
)

// Show renders a version with its default values, with the values of Secrets masked.
func (p *Publisher) Show(ctx context.Context, v *fleet.AddOnVersion) (fleet.VersionContent, error) {
	out := fleet.VersionContent{Name: v.Name, Manifests: []json.RawMessage{}}
	objects, err := p.objects(ctx, v)
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	for _, o := range objects {
		data, err := json.Marshal(o.Object)
		if err != nil {
			return out, fmt.Errorf("encode %s: %w", source.Name(o), err)
		}
		out.Manifests = append(out.Manifests, data)
	}
	return out, nil
}

// objects are what a version renders to, Secrets masked.
func (p *Publisher) objects(ctx context.Context, v *fleet.AddOnVersion) ([]*unstructured.Unstructured, error) {
	content, err := p.Content(ctx, &v.Spec)
	if err != nil {
		return nil, err
	}
	values, missing, err := defaultValues(ctx, &v.Spec)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("it needs values to be rendered: %s", strings.Join(missing, ", "))
	}
	r, err := p.cfg.Renderer.Render(ctx, Rendering(v, content, values))
	if err != nil {
		return nil, err
	}
	all := slices.Concat(r.Objects, r.PostInstall, r.PreDelete)
	for _, o := range all {
		mask(o)
	}
	return all, nil
}

// mask hides the values of a Secret, and leaves its keys.
func mask(o *unstructured.Unstructured) {
	if o.GetKind() != "Secret" || o.GroupVersionKind().Group != "" {
		return
	}
	for _, f := range []string{"data", "stringData"} {
		m, _ := o.Object[f].(map[string]any)
		for k := range m {
			m[k] = masked
		}
	}
}

// Diff says what changes from one version to another.
func (p *Publisher) Diff(ctx context.Context, from, to *fleet.AddOnVersion) (fleet.VersionDiff, error) {
	out := fleet.VersionDiff{From: from.Name, To: to.Name, Objects: []wire.ObjectDiff{}}
	before, err := p.objects(ctx, from)
	if err != nil {
		return out, fmt.Errorf("render %s: %w", from.Name, err)
	}
	after, err := p.objects(ctx, to)
	if err != nil {
		return out, fmt.Errorf("render %s: %w", to.Name, err)
	}
	old := map[string]*unstructured.Unstructured{}
	for _, o := range before {
		old[source.Key(o)] = o
	}
	for _, o := range after {
		key := source.Key(o)
		b := old[key]
		delete(old, key)
		d := describe(o)
		if b == nil {
			d.Action = wire.ActionCreate
		} else {
			fields(&d, b.Object, o.Object)
			if d.Total == 0 {
				continue
			}
			d.Action = wire.ActionChange
		}
		out.Objects = append(out.Objects, d)
	}
	for _, o := range before {
		if old[source.Key(o)] != nil {
			d := describe(o)
			d.Action = wire.ActionDelete
			out.Objects = append(out.Objects, d)
		}
	}
	a, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&from.Spec)
	if err != nil {
		return out, err
	}
	b, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&to.Spec)
	if err != nil {
		return out, err
	}
	for _, spec := range []map[string]any{a, b} {
		delete(spec, "manifests") // they are what Objects compares
		delete(spec, "version")
	}
	var d wire.ObjectDiff
	fields(&d, a, b)
	out.Spec = d.Fields
	return out, nil
}

func describe(o *unstructured.Unstructured) wire.ObjectDiff {
	gvk := o.GroupVersionKind()
	return wire.ObjectDiff{Group: gvk.Group, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// fields compares two values; Desired is how it will be.
func fields(d *wire.ObjectDiff, before, after any) {
	walk(d, "", before, after)
}

func walk(d *wire.ObjectDiff, path string, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	x, isMap := before.(map[string]any)
	y, both := after.(map[string]any)
	if isMap && both {
		keys := map[string]bool{}
		for k := range x {
			keys[k] = true
		}
		for k := range y {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			name := k
			if strings.ContainsAny(k, "./") {
				name = "[" + strconv.Quote(k) + "]"
			} else if path != "" {
				name = "." + k
			}
			walk(d, path+name, x[k], y[k])
		}
		return
	}
	l, isList := before.([]any)
	m, both := after.([]any)
	if isList && both && len(l) == len(m) {
		for i := range l {
			walk(d, fmt.Sprintf("%s[%d]", path, i), l[i], m[i])
		}
		return
	}
	if d.Total++; d.Total > maxFields {
		return
	}
	d.Fields = append(d.Fields, wire.FieldDrift{Path: path, Live: short(before), Desired: short(after)})
}

func short(v any) string {
	if v == nil {
		return ""
	}
	data, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	if len(data) > maxValue {
		return strings.ToValidUTF8(string(data[:maxValue]), "") + "..."
	}
	return string(data)
}
