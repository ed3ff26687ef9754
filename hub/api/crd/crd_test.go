// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package crd_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/api/crd"
	"github.com/drover-io/drover/hub/api/kind"
	"github.com/drover-io/drover/shared/apis/schemas"
)

// frame is a definition around a schema.
const frame = `{"metadata":{"name":"as.b.c"},"spec":{"group":"b.c","scope":"Namespaced","names":{"plural":"as","kind":"A"},` +
	`"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},"schema":{"openAPIV3Schema":%s}}]}}`

func decode(t testing.TB, doc string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal([]byte(doc), d); err != nil {
		t.Fatal(err)
	}
	crd.Default(d)
	return d
}

// TestOwnKinds: Drover's own documents would pass, but for what they may and
// others may not.
func TestOwnKinds(t *testing.T) {
	t.Parallel()
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs {
		d := decode(t, string(doc))
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			for _, e := range crd.Validate(t.Context(), d) {
				switch {
				case d.Spec.Group == "" || strings.Contains(e.Field, "api-approved") || strings.Contains(e.Field, "additionalPrinterColumns"):
				case strings.Contains(e.Detail, "estimated rule cost"):
				default:
					t.Error(e)
				}
			}
		})
	}
}

// TestSchema: what is refused of a schema, and where.
func TestSchema(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"type":"object","properties":{"a":`, 200) + `{"type":"string"}` + strings.Repeat(`}}`, 200)
	wide := `{"type":"object","properties":{"spec":{"type":"object","properties":{`
	for i := range 25000 {
		wide += fmt.Sprintf(`"f%d":{"type":"string"},`, i)
	}
	wide += `"z":{"type":"string"}}}}}`
	in := func(s string) string { return `{"type":"object","properties":{"spec":` + s + `}}` }
	tests := []struct{ name, schema, want string }{
		{"fine", in(`{"type":"object","additionalProperties":{"type":"string"}}`), ""},
		{"open", `{"type":"object","x-kubernetes-preserve-unknown-fields":true}`, ""},
		{"int or string", in(`{"x-kubernetes-int-or-string":true}`), ""},
		{"fine rule", in(`{"type":"object","x-kubernetes-validations":[{"rule":"self.a == oldSelf.a"}],"properties":{"a":{"type":"string","maxLength":10}}}`), ""},
		{"too deep", deep, "levels deep"},
		{"too wide", wide, "Too many"},
		{"root", `{"type":"string"}`, "must be object at the root"},
		{"nullable root", `{"type":"object","nullable":true}`, "nullable"},
		{"both", in(`{"type":"object","additionalProperties":{"type":"string"},"properties":{"a":{"type":"string"}}}`), "mutual exclusive"},
		{"unique", in(`{"type":"array","uniqueItems":true,"items":{"type":"string"}}`), "uniqueItems"},
		{"list of lists", in(`{"type":"array","items":[{"type":"string"}]}`), "items"},
		{"no items", in(`{"type":"array"}`), "items: Required"},
		{"set of objects", in(`{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object"}}`), "must be atomic"},
		{"map without keys", in(`{"type":"array","x-kubernetes-list-type":"map","items":{"type":"object"}}`), "x-kubernetes-list-map-keys: Required"},
		{"unknown key", in(`{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object"}}`), "names of item properties"},
		{"optional key", in(`{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"}}}}`), "must have a default or be a required property"},
		{"empty rule", in(`{"type":"object","x-kubernetes-validations":[{"rule":" "}]}`), "rule is not specified"},
		{"rule of another type", in(`{"type":"object","x-kubernetes-validations":[{"rule":"1"}]}`), "must evaluate to a bool"},
		{"expensive", in(`{"type":"array","items":{"type":"array","items":{"type":"string"}},"x-kubernetes-validations":[{"rule":"self.all(a, self.all(b, b.all(c, a.all(d, c.contains(d)))))"}]}`), "exceeds the budget"},
		{"bad message", in(`{"type":"object","x-kubernetes-validations":[{"rule":"true","messageExpression":"1"}]}`), "messageExpression"},
		{"default in metadata", `{"type":"object","properties":{"metadata":{"type":"object","properties":{"name":{"type":"string","default":"x"}}}}}`, "metadata"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			errs := crd.Validate(t.Context(), decode(t, fmt.Sprintf(frame, tt.schema)))
			if tt.want == "" && len(errs) > 0 || !strings.Contains(fmt.Sprint(errs), tt.want) {
				t.Errorf("got %.500v, want %q", errs, tt.want)
			}
		})
	}
}

// FuzzCRD: no definition makes the hub panic or hang, and what is let through can
// be served.
func FuzzCRD(f *testing.F) {
	docs, err := schemas.Documents()
	if err != nil {
		f.Fatal(err)
	}
	for _, doc := range docs {
		data, err := yaml.YAMLToJSON(doc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{
		`{"type":"object","x-kubernetes-validations":[{"rule":"self.metadata.name.matches('a(b|c)*')"}]}`,
		`{"type":"object","properties":{"spec":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}],"default":1}}}`,
		`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}}`,
	} {
		f.Add(fmt.Appendf(nil, frame, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		d := &apiextensionsv1.CustomResourceDefinition{}
		if _, err := kjson.UnmarshalStrict(data, d); err != nil {
			return
		}
		crd.Default(d)
		if errs := crd.Validate(t.Context(), d); len(errs) > 0 {
			return
		}
		doc, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		kinds, err := kind.Parse(doc, nil)
		if err != nil {
			t.Fatalf("valid, but cannot be parsed: %v\n%s", err, doc)
		}
		for _, k := range kinds {
			if err := k.Check(); err != nil {
				t.Fatalf("valid, but cannot be compiled: %v\n%s", err, doc)
			}
			for _, v2 := range []bool{false, true} {
				if _, err := k.Schemas(v2); err != nil {
					t.Fatalf("valid, but without a schema: %v\n%s", err, doc)
				}
			}
			obj := map[string]any{"apiVersion": k.GVK.GroupVersion().String(), "kind": k.GVK.Kind, "metadata": map[string]any{"name": "x", "namespace": "y", "resourceVersion": "1"}, "spec": map[string]any{"a": int64(1)}}
			if _, err := k.Coerce(obj); err != nil {
				continue
			}
			if err := k.Default(obj); err != nil {
				t.Fatal(err)
			}
			if _, err := k.Validate(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			if _, err := k.ValidateUpdate(t.Context(), obj, runtime.DeepCopyJSON(obj), false); err != nil {
				t.Fatal(err)
			}
			k.NewPrinter().Cells("x", obj)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("took %v", took)
		}
	})
}
