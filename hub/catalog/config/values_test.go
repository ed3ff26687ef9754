// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := kjson.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func layer(t *testing.T, name, values string, sources ...fleet.ValuesSource) config.Layer {
	t.Helper()
	return config.Layer{Name: name, From: "AddOnConfig edge/" + name, Values: object(t, values), Sources: sources}
}

func compile(t *testing.T, text string) *config.Schema {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, errs := config.Compile(t.Context(), data, field.NewPath("spec", "configSchema"))
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return s
}

const loggingSchema = `
type: object
required: [domain]
properties:
  domain: {type: string, minLength: 3}
  replicas: {type: integer, minimum: 1, maximum: 9, default: 2}
  debug: {type: boolean}
  image:
    type: object
    default: {}
    properties:
      tag: {type: string, default: stable}
      pullPolicy: {type: string, enum: [Always, IfNotPresent]}
  outputs:
    type: array
    maxItems: 8
    items:
      type: object
      required: [url]
      properties:
        url: {type: string, maxLength: 256}
        buffer: {type: integer, default: 64}
  labels: {type: object, additionalProperties: {type: string}}
x-kubernetes-validations:
- rule: "!has(self.debug) || !self.debug || self.replicas == 1"
  message: debug needs replicas to be 1
`

func TestEvaluate(t *testing.T) {
	t.Parallel()
	s := compile(t, loggingSchema)
	got, err := config.Evaluate(t.Context(), config.Evaluation{
		Schema: s,
		Layers: []config.Layer{
			layer(t, "version", "{domain: example.com, image: {tag: v1, pullPolicy: Always}, labels: {a: x, b: w}}"),
			layer(t, "addon", "{outputs: [{url: a}, {url: b}], labels: {a: null}}"),
			layer(t, "placement", "{outputs: [{url: c}]}", fleet.ValuesSource{Kind: "ClusterClaim", Name: "size", Path: "replicas"}, fleet.ValuesSource{Kind: "ClusterClaim", Name: "none", Optional: true}),
			layer(t, "installed", "{image: {pullPolicy: null}, labels: {c: z, d.e: f}}", fleet.ValuesSource{Kind: "ClusterClaim", Name: "all"}),
		},
		Cluster: catalog.Facts{Name: "c1", Claims: map[string]string{"size": "5", "all": "{debug: false, domain: claimed.example}"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := object(t, `
domain: claimed.example
replicas: 5
debug: false
image: {tag: v1}
outputs: [{url: c, buffer: 64}]
labels: {b: w, c: z, d.e: f}
`)
	if diff := cmp.Diff(want, got.Values); diff != "" {
		t.Error(diff)
	}
	var origin []string
	for _, o := range got.Origin {
		origin = append(origin, fmt.Sprintf("%s=%s %s %s", o.Path, o.Value, o.Layer, o.From))
	}
	wantOrigin := []string{
		"debug=false installed AddOnConfig edge/installed, ClusterClaim all",
		`domain="claimed.example" installed AddOnConfig edge/installed, ClusterClaim all`,
		`image.tag="v1" version AddOnConfig edge/version`,
		`labels.b="w" version AddOnConfig edge/version`,
		`labels.c="z" installed AddOnConfig edge/installed`,
		`labels["d.e"]="f" installed AddOnConfig edge/installed`,
		`outputs=[{"buffer":64,"url":"c"}] placement AddOnConfig edge/placement`,
		"replicas=5 placement AddOnConfig edge/placement, ClusterClaim size",
	}
	if diff := cmp.Diff(wantOrigin, origin); diff != "" {
		t.Error(diff)
	}
}

func TestEvaluateDefaults(t *testing.T) {
	t.Parallel()
	got, err := config.Evaluate(t.Context(), config.Evaluation{Schema: compile(t, loggingSchema), Layers: []config.Layer{layer(t, "addon", "{domain: example.com}")}})
	if err != nil {
		t.Fatal(err)
	}
	var origin []string
	for _, o := range got.Origin {
		origin = append(origin, fmt.Sprintf("%s=%s %s %s", o.Path, o.Value, o.Layer, o.From))
	}
	want := []string{`domain="example.com" addon AddOnConfig edge/addon`, `image.tag="stable" version configSchema`, "replicas=2 version configSchema"}
	if diff := cmp.Diff(want, origin); diff != "" {
		t.Error(diff)
	}
}

func TestEvaluateErrors(t *testing.T) {
	t.Parallel()
	s := compile(t, loggingSchema)
	for _, c := range []struct {
		name, values string
		sources      []fleet.ValuesSource
		want         string
	}{
		{"unknown field", "{domain: abc, replics: 3}", nil, `values.replics: Forbidden: the schema of this version has no such field; did you mean replicas? (from AddOnConfig edge/addon)`},
		{"unknown in object", "{domain: abc, image: {tga: v1}}", nil, `values.image.tga: Forbidden: the schema of this version has no such field; did you mean image.tag?`},
		{"unknown in list", "{domain: abc, outputs: [{url: x, bufer: 1}]}", nil, "did you mean outputs[0].buffer?"},
		{"nothing near", "{domain: abc, zzzzzz: 3}", nil, "has no such field (from"},
		{"type", "{domain: abc, replicas: three}", nil, `values.replicas: Invalid value: "string": replicas in body must be of type integer: "string" (from AddOnConfig edge/addon)`},
		{"bound", "{domain: abc, replicas: 10}", nil, "less than or equal to 9 (from AddOnConfig edge/addon)"},
		{"enum", "{domain: abc, image: {pullPolicy: Sometimes}}", nil, "supported values: \"Always\", \"IfNotPresent\" (from AddOnConfig edge/addon)"},
		{"required", "{replicas: 3}", nil, "values.domain: Required value"},
		{"rule", "{domain: abc, debug: true}", nil, "debug needs replicas to be 1"},
		{"in list", "{domain: abc, outputs: [{}]}", nil, "values.outputs[0].url: Required value: (from AddOnConfig edge/addon)"},
		{"no claim", "{domain: abc}", []fleet.ValuesSource{{Kind: "ClusterClaim", Name: "size", Path: "replicas"}}, "AddOnConfig edge/addon: spec.valuesFrom[0]: cluster c1 has no claim size; set optional: true"},
		{"claim of a wrong type", "{domain: abc}", []fleet.ValuesSource{{Kind: "ClusterClaim", Name: "text", Path: "replicas"}}, "must be of type integer"},
		{"claim is no object", "{domain: abc}", []fleet.ValuesSource{{Kind: "ClusterClaim", Name: "text"}}, "claim text of cluster c1 is not an object: give the path of one value"},
		{"Secret", "{domain: abc}", []fleet.ValuesSource{{Kind: "Secret", Name: "password"}}, "the hub keeps no ConfigMaps and Secrets"},
		{"bad path", "{domain: abc}", []fleet.ValuesSource{{Kind: "ClusterClaim", Name: "text", Path: "a[0]"}}, "at character 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Evaluate(t.Context(), config.Evaluation{
				Schema: s, Layers: []config.Layer{layer(t, "addon", c.values, c.sources...)},
				Cluster: catalog.Facts{Name: "c1", Claims: map[string]string{"text": "words"}},
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}

func TestCheckLayer(t *testing.T) {
	t.Parallel()
	s := compile(t, loggingSchema)
	missing, errs := s.CheckLayer(t.Context(), object(t, "{replicas: 3}"), true)
	if len(errs) > 0 || !cmp.Equal(missing, []string{"values.domain"}) {
		t.Errorf("%v, %v", missing, errs)
	}
	if _, errs := s.CheckLayer(t.Context(), object(t, "{replicas: 30}"), true); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
	for all, want := range map[bool]int{true: 1, false: 0} {
		if _, errs := s.CheckLayer(t.Context(), object(t, "{domain: abc, debug: true}"), all); len(errs) != want {
			t.Errorf("rules: %v", errs)
		}
	}
	var none *config.Schema
	if missing, errs := none.CheckLayer(t.Context(), object(t, "{any: 1}"), true); missing != nil || errs != nil {
		t.Errorf("%v, %v", missing, errs)
	}
}

func TestConfigLayer(t *testing.T) {
	t.Parallel()
	at := func(text string) versions.Version {
		v, err := versions.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	c := &fleet.AddOnConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "edge"},
		Spec:       fleet.AddOnConfigSpec{AddOn: "logging", Version: "^1.2", Values: &runtime.RawExtension{Raw: []byte(`{"a":1}`)}},
	}
	l, err := config.ConfigLayer(fleet.LayerAddOn, c, "logging", at("1.4.0"))
	if err != nil || l.From != "AddOnConfig edge/a" || !reflect.DeepEqual(l.Values, map[string]any{"a": int64(1)}) {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := config.ConfigLayer(fleet.LayerAddOn, c, "logging", at("2.0.0")); err == nil || !strings.Contains(err.Error(), "is for ^1.2 of logging, not for 2.0.0") {
		t.Error(err)
	}
	if _, err := config.ConfigLayer(fleet.LayerAddOn, c, "metrics", at("1.4.0")); err == nil || !strings.Contains(err.Error(), "is for the addon logging, not for metrics") {
		t.Error(err)
	}
	v, err := config.VersionLayer("logging-1.0.0", &fleet.AddOnVersionSpec{Values: &runtime.RawExtension{Raw: []byte(`[1]`)}})
	if err == nil || !strings.Contains(err.Error(), "AddOnVersion logging-1.0.0: spec.values: want an object") {
		t.Errorf("%v, %v", v, err)
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, schema, want string }{
		{"no JSON", "{", "unexpected end"},
		{"not an object", `{"type":"string"}`, `spec.configSchema.type: Unsupported value: "string"`},
		{"no type", `{"properties":{}}`, "spec.configSchema.type"},
		{"misspelt", `{"type":"object","requird":["a"]}`, `unknown field "requird"`},
		{"bounds", `{"type":"object","properties":{"a":{"type":"integer","minimum":5,"maximum":3}}}`, "spec.configSchema.properties[a].minimum: Invalid value: 5: no number is within it and the maximum 3"},
		{"lengths", `{"type":"object","properties":{"a":{"type":"string","minLength":5,"maxLength":3}}}`, "is more than maxLength, which is 3"},
		{"required without property", `{"type":"object","properties":{"a":{"type":"string"}},"required":["b"]}`, "spec.configSchema.required[0]: Invalid value: \"b\": is not among the properties"},
		{"enum of another type", `{"type":"object","properties":{"a":{"type":"integer","enum":["x"]}}}`, "is not of the type integer"},
		{"default that does not fit", `{"type":"object","properties":{"a":{"type":"integer","maximum":3,"default":4}}}`, "spec.configSchema.properties[a].default"},
		{"reference", `{"type":"object","properties":{"a":{"$ref":"#/definitions/b"}}}`, "$ref: Forbidden"},
		{"pattern", `{"type":"object","properties":{"a":{"type":"string","pattern":"("}}}`, "pattern: Invalid value"},
		{"rule", `{"type":"object","properties":{"a":{"type":"string"}},"x-kubernetes-validations":[{"rule":"self.b == 1"}]}`, "undefined field 'b'"},
		{"oldSelf", `{"type":"object","properties":{"a":{"type":"string"}},"x-kubernetes-validations":[{"rule":"self == oldSelf"}]}`, "oldSelf cannot be used"},
		{"expensive rule", `{"type":"object","properties":{"a":{"type":"array","items":{"type":"string"}}},"x-kubernetes-validations":[{"rule":"self.a.all(x, self.a.all(y, self.a.all(z, x.contains(y) || y.contains(z))))"}]}`, "estimated rule cost"},
		{"deep", strings.Repeat(`{"type":"object","properties":{"a":`, 200) + `{"type":"string"}` + strings.Repeat("}}", 200), "levels deep"},
		{"large", `{"type":"object","description":"` + strings.Repeat("x", 600<<10) + `"}`, "a schema may have"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, errs := config.Compile(t.Context(), []byte(c.schema), field.NewPath("spec", "configSchema"))
			if err := errs.ToAggregate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%.600v\nwant %s", err, c.want)
			}
		})
	}
	if s, errs := config.Compile(t.Context(), nil, nil); s != nil || errs != nil {
		t.Errorf("no schema: %v, %v", s, errs)
	}
}

// FuzzMerge: merging keeps the inputs as they are, says where each value is from,
// and gives the same however often it is done.
func FuzzMerge(f *testing.F) {
	f.Add(`{"a":{"b":1}}`, `{"a":{"b":null,"c":{}}}`, `{"a":[1,{"x":null}]}`)
	f.Add(`{"a.b":1,"":{"c":2}}`, `{"a.b":{"c":1}}`, `{"":null}`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var layers []config.Layer
		for i, text := range []string{a, b, c} {
			var values map[string]any
			if kjson.Unmarshal([]byte(text), &values) != nil {
				return
			}
			layers = append(layers, config.Layer{Name: fmt.Sprint(i), From: fmt.Sprint(i), Values: values})
		}
		before, _ := json.Marshal(layers)
		got, err := config.Merge(config.Evaluation{Layers: layers})
		if err != nil {
			t.Fatal(err)
		}
		again, _ := config.Merge(config.Evaluation{Layers: append(layers, config.Layer{Values: got.Values})})
		if !reflect.DeepEqual(got.Values, again.Values) {
			t.Errorf("merging the outcome over itself changes it: %v, %v", got.Values, again.Values)
		}
		if after, _ := json.Marshal(layers); string(after) != string(before) {
			t.Errorf("the input changed from %s to %s", before, after)
		}
		// The outcome can be put together from the origins.
		built := map[string]any{}
		for _, o := range got.Origin {
			keys, err := config.ParsePath(o.Path)
			if err != nil {
				if strings.ContainsRune(o.Path, '\uFFFD') || len(o.Path) > 64 {
					return // keys that are no text, or too many of them
				}
				t.Fatalf("path of an origin: %v", err)
			}
			at := built
			for _, k := range keys[:len(keys)-1] {
				next, ok := at[k].(map[string]any)
				if !ok {
					next = map[string]any{}
					at[k] = next
				}
				at = next
			}
			var value any
			if err := kjson.Unmarshal(o.Value, &value); err != nil {
				t.Fatal(err)
			}
			at[keys[len(keys)-1]] = value
		}
		x, _ := json.Marshal(built)
		y, _ := json.Marshal(got.Values)
		if string(x) != string(y) {
			t.Errorf("origins make %s of %s", x, y)
		}
	})
}

// FuzzSchema: whatever a schema and values are, they are taken or refused, and
// what was taken once is taken again.
func FuzzSchema(f *testing.F) {
	data, _ := yaml.YAMLToJSON([]byte(loggingSchema))
	f.Add(data, []byte(`{"domain":"abc","outputs":[{"url":"x"}]}`))
	f.Add([]byte(`{"type":"object","properties":{"a":{"type":"number","default":1.5}}}`), []byte(`{"a":null}`))
	f.Fuzz(func(t *testing.T, schema, values []byte) {
		s, errs := config.Compile(context.Background(), schema, field.NewPath("s"))
		var v map[string]any
		if len(errs) > 0 || kjson.Unmarshal(values, &v) != nil {
			return
		}
		first, errs := s.Complete(context.Background(), v)
		if len(errs) > 0 {
			return
		}
		second, errs := s.Complete(context.Background(), first)
		if len(errs) > 0 || !reflect.DeepEqual(first, second) {
			t.Errorf("completed values are not complete: %v\n%v\n%v", errs, first, second)
		}
	})
}

// BenchmarkEvaluate: four layers over a schema with rules, as for one cluster.
func BenchmarkEvaluate(b *testing.B) {
	data, err := yaml.YAMLToJSON([]byte(loggingSchema))
	if err != nil {
		b.Fatal(err)
	}
	s, errs := config.Compile(b.Context(), data, field.NewPath("s"))
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	e := config.Evaluation{Schema: s, Layers: []config.Layer{
		{Name: "version", Values: map[string]any{"domain": "example.com", "image": map[string]any{"tag": "v1"}}},
		{Name: "addon", Values: map[string]any{"labels": map[string]any{"a": "b"}}},
		{Name: "placement", Values: map[string]any{"outputs": []any{map[string]any{"url": "x"}}}},
		{Name: "installed", Values: map[string]any{"replicas": int64(3)}},
	}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := config.Evaluate(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}
