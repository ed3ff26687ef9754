// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Kinds of a fleet.ValuesSource.
const (
	SourceConfigMap    = "ConfigMap"
	SourceSecret       = "Secret"
	SourceClusterClaim = "ClusterClaim"
)

// Layer are the values of one object of configuration.
type Layer struct {
	Name   string // one of the fleet.Layer constants
	From   string // the object, such as AddOnConfig edge/logging
	Values map[string]any
	// Sources are merged below Values, the later over the earlier.
	Sources []fleet.ValuesSource
}

// VersionLayer are the values that an AddOnVersion brings with it.
func VersionLayer(name string, spec *fleet.AddOnVersionSpec) (Layer, error) {
	from := fleet.KindAddOnVersion + " " + name
	values, err := decodeValues(spec.Values)
	if err != nil {
		return Layer{}, fmt.Errorf("%s: spec.values: %w", from, err)
	}
	return Layer{Name: fleet.LayerVersion, From: from, Values: values}, nil
}

// ConfigLayer are the values of an AddOnConfig in a layer, for that version of an
// addon; an error if it is not meant for that.
func ConfigLayer(layer string, c *fleet.AddOnConfig, addOn string, version versions.Version) (Layer, error) {
	from := fmt.Sprintf("%s %s/%s", fleet.KindAddOnConfig, c.Namespace, c.Name)
	if c.Spec.AddOn != "" && c.Spec.AddOn != addOn {
		return Layer{}, fmt.Errorf("%s is for the addon %s, not for %s: see spec.addOn", from, c.Spec.AddOn, addOn)
	}
	r, err := versions.ParseRange(c.Spec.Version)
	if err != nil {
		return Layer{}, fmt.Errorf("%s: spec.version: %w", from, err)
	}
	if !r.Contains(version) {
		return Layer{}, fmt.Errorf("%s is for %s of %s, not for %s: see spec.version", from, r, addOn, version)
	}
	values, err := decodeValues(c.Spec.Values)
	if err != nil {
		return Layer{}, fmt.Errorf("%s: spec.values: %w", from, err)
	}
	return Layer{Name: layer, From: from, Values: values, Sources: c.Spec.ValuesFrom}, nil
}

func decodeValues(raw *runtime.RawExtension) (map[string]any, error) {
	if raw == nil || len(raw.Raw) == 0 {
		return nil, nil
	}
	var values map[string]any
	if err := kjson.Unmarshal(raw.Raw, &values); err != nil {
		return nil, errors.New("want an object")
	}
	return values, nil
}

// CheckSource says why values cannot come from a source on this hub.
func CheckSource(s *fleet.ValuesSource, path *field.Path) *field.Error {
	switch s.Kind {
	case SourceConfigMap, SourceSecret:
		return field.NotSupported(path.Child("kind"), s.Kind, []string{SourceClusterClaim +
			" (the hub keeps no ConfigMaps and Secrets: write the values into an AddOnConfig)"})
	case SourceClusterClaim:
	default:
		return field.NotSupported(path.Child("kind"), s.Kind, []string{SourceClusterClaim})
	}
	if s.Key != "" {
		return field.Invalid(path.Child("key"), s.Key, "a ClusterClaim has one value: leave the key out")
	}
	if _, err := ParsePath(s.Path); err != nil {
		return field.Invalid(path.Child("path"), s.Path, err.Error())
	}
	return nil
}

// Evaluation asks for the values of one addon on one cluster.
type Evaluation struct {
	Layers  []Layer // from the lowest
	Schema  *Schema // nil: any values
	Cluster catalog.Facts
}

// Values are merged values, and where each came from, by path.
type Values struct {
	Values map[string]any
	Origin []fleet.LayeredValue
}

// Evaluate merges layers, fills in the defaults of the schema, and checks the
// outcome: objects are merged, lists and single values replaced, and null removes
// what the layers below say. An error names the value and the object it is from.
func Evaluate(ctx context.Context, e Evaluation) (*Values, error) {
	values, err := Merge(e)
	if err != nil || e.Schema == nil {
		return values, err
	}
	before := values.Values
	if values.Values, err = values.complete(ctx, e.Schema); err != nil {
		return nil, err
	}
	o := origins{}
	for _, v := range values.Origin {
		o[v.Path] = v
	}
	o.record(values.Values, before, nil, fleet.LayerVersion, "configSchema")
	values.Origin = o.sorted()
	return values, nil
}

func (v *Values) complete(ctx context.Context, s *Schema) (map[string]any, error) {
	complete, errs := s.Complete(ctx, v.Values)
	if len(errs) == 0 {
		return complete, nil
	}
	for _, err := range errs {
		if from := v.from(err.Field); from != "" {
			err.Detail = strings.TrimSpace(err.Detail + " (from " + from + ")")
		}
	}
	return nil, errs.ToAggregate()
}

// from is the object that says what is at a path, or the most that is below it.
func (v *Values) from(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "values"), ".")
	for _, o := range v.Origin {
		if o.Path == path || strings.HasPrefix(path, o.Path+".") || strings.HasPrefix(path, o.Path+"[") {
			return o.From
		}
	}
	return ""
}

// Merge is Evaluate without defaults and without the check.
func Merge(e Evaluation) (*Values, error) {
	values, o := map[string]any{}, origins{}
	for _, layer := range e.Layers {
		for i := range layer.Sources {
			s := &layer.Sources[i]
			more, err := e.read(s)
			if err != nil {
				return nil, fmt.Errorf("%s: spec.valuesFrom[%d]: %w", layer.From, i, err)
			}
			o.merge(values, more, nil, layer.Name, layer.From+", ClusterClaim "+s.Name)
		}
		o.merge(values, layer.Values, nil, layer.Name, layer.From)
	}
	return &Values{Values: values, Origin: o.sorted()}, nil
}

// read makes values of a source.
func (e *Evaluation) read(s *fleet.ValuesSource) (map[string]any, error) {
	if err := CheckSource(s, nil); err != nil {
		return nil, err
	}
	text, ok := e.Cluster.Claims[s.Name]
	if !ok {
		if s.Optional {
			return nil, nil
		}
		return nil, fmt.Errorf("cluster %s has no claim %s; set optional: true if it may be missing", e.Cluster.Name, s.Name)
	}
	keys, err := ParsePath(s.Path)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		data, err := yaml.YAMLToJSON([]byte(text))
		var values map[string]any
		if err = cmp.Or(err, kjson.Unmarshal(data, &values)); err != nil {
			return nil, fmt.Errorf("claim %s of cluster %s is not an object: give the path of one value", s.Name, e.Cluster.Name)
		}
		return values, nil
	}
	values := map[string]any{}
	return values, put(values, keys, e.Schema.typed(keys, text))
}

// origins says where each value is from, by path.
type origins map[string]fleet.LayeredValue

// merge puts over into values, in place but without sharing memory with over.
func (o origins) merge(values, over map[string]any, at []string, layer, from string) {
	for _, k := range slices.Sorted(maps.Keys(over)) {
		path := append(slices.Clone(at), k)
		sub, isMap := over[k].(map[string]any)
		base, wasMap := values[k].(map[string]any)
		if wasMap && !isMap {
			o.forget(path)
		}
		delete(o, FormatPath(path)) // a single value, or an empty object
		if over[k] == nil {
			delete(values, k)
			continue
		}
		if !isMap {
			values[k] = runtime.DeepCopyJSONValue(over[k])
			o.set(path, values[k], layer, from)
			continue
		}
		if !wasMap {
			base = map[string]any{}
			values[k] = base
		}
		o.merge(base, sub, path, layer, from)
		if len(base) == 0 {
			o.set(path, base, layer, from)
		}
	}
}

// record adds what values have and before has not.
func (o origins) record(values, before map[string]any, at []string, layer, from string) {
	for k, v := range values {
		path := append(slices.Clone(at), k)
		sub, isMap := v.(map[string]any)
		old, had := before[k]
		oldMap, _ := old.(map[string]any)
		switch {
		case isMap && len(sub) > 0:
			delete(o, FormatPath(path))
			o.record(sub, oldMap, path, layer, from)
		case !had:
			o.set(path, v, layer, from)
		default:
			if was, ok := o[FormatPath(path)]; ok { // defaults inside of a list
				o.set(path, v, was.Layer, was.From)
			}
		}
	}
}

func (o origins) set(path []string, value any, layer, from string) {
	data, err := json.Marshal(value)
	if err != nil {
		data = []byte("null") // JSON values always encode
	}
	o[FormatPath(path)] = fleet.LayeredValue{Path: FormatPath(path), Value: data, Layer: layer, From: from}
}

// forget removes all below a path.
func (o origins) forget(path []string) {
	text := FormatPath(path)
	maps.DeleteFunc(o, func(p string, _ fleet.LayeredValue) bool {
		return strings.HasPrefix(p, text+".") || strings.HasPrefix(p, text+"[")
	})
}

func (o origins) sorted() []fleet.LayeredValue {
	return slices.SortedFunc(maps.Values(o), func(a, b fleet.LayeredValue) int { return cmp.Compare(a.Path, b.Path) })
}
