// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package addon_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/schemas"
)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var obj map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func convert(t testing.TB, obj map[string]any, version string) map[string]any {
	t.Helper()
	out, err := addon.Convert(runtime.DeepCopyJSON(obj), version)
	if err != nil {
		t.Fatal(err)
	}
	// as the store would give it back
	data, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return object(t, string(data))
}

// TestConvert: what a field of one version is in the other.
func TestConvert(t *testing.T) {
	t.Parallel()
	const (
		recipe = `"kind":"ClusterManagementAddOn","apiVersion":"addon.open-cluster-management.io/`
		dish   = `"kind":"ManagedClusterAddOn","apiVersion":"addon.open-cluster-management.io/`
	)
	tests := []struct{ name, alpha, beta string }{
		{
			"defaults",
			`{` + recipe + `v1alpha1","metadata":{"name":"a"},"spec":{"supportedConfigs":[{"group":"g","resource":"r","defaultConfig":{"namespace":"n","name":"x"}}]}}`,
			`{` + recipe + `v1beta1","metadata":{"name":"a"},"spec":{"defaultConfigs":[{"group":"g","resource":"r","namespace":"n","name":"x"}]}}`,
		},
		{
			"no default",
			`{` + recipe + `v1alpha1","metadata":{"name":"a"},"spec":{"supportedConfigs":[{"group":"g","resource":"r"}]}}`,
			`{` + recipe + `v1beta1","metadata":{"name":"a","annotations":{"addon.open-cluster-management.io/v1alpha1-fields":"{\"without\":[{\"at\":0,\"config\":{\"group\":\"g\",\"resource\":\"r\"}}]}"}},"spec":{"defaultConfigs":[]}}`,
		},
		{
			"references",
			`{` + recipe + `v1alpha1","metadata":{"name":"a"},"status":{"defaultconfigReferences":[{"group":"g","resource":"r"}]}}`,
			`{` + recipe + `v1beta1","metadata":{"name":"a"},"status":{"defaultConfigReferences":[{"group":"g","resource":"r"}]}}`,
		},
		{
			"install namespace",
			`{` + dish + `v1alpha1","metadata":{"name":"a"},"spec":{"installNamespace":"ns"}}`,
			`{` + dish + `v1beta1","metadata":{"name":"a","annotations":{"addon.open-cluster-management.io/v1alpha1-install-namespace":"ns"}},"spec":{}}`,
		},
		{
			"registrations",
			`{` + dish + `v1alpha1","metadata":{"name":"a"},"status":{"kubeClientDriver":"csr","registrations":[{"signerName":"kubernetes.io/kube-apiserver-client","subject":{"user":"u"}},{"signerName":"a.io/b","subject":{"organizationUnit":["o"]}}]}}`,
			`{` + dish + `v1beta1","metadata":{"name":"a"},"status":{"registrations":[{"type":"kubeClient","kubeClient":{"driver":"csr","subject":{"user":"u"}}},{"type":"customSigner","customSigner":{"signerName":"a.io/b","subject":{"organizationUnits":["o"]}}}]}}`,
		},
		{
			"names beside desired configurations",
			`{` + dish + `v1alpha1","metadata":{"name":"a"},"status":{"configReferences":[{"group":"g","resource":"r","name":"x","desiredConfig":{"name":"x","specHash":"h"}}]}}`,
			`{` + dish + `v1beta1","metadata":{"name":"a"},"status":{"configReferences":[{"group":"g","resource":"r","desiredConfig":{"name":"x","specHash":"h"}}]}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			alpha, beta := object(t, tt.alpha), object(t, tt.beta)
			if diff := cmp.Diff(beta, convert(t, alpha, addon.Version)); diff != "" {
				t.Errorf("to v1beta1 (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(alpha, convert(t, beta, addon.VersionAlpha)); diff != "" {
				t.Errorf("to v1alpha1 (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConvertChanged: what is kept for the way back does not undo what somebody
// did meanwhile in the other version.
func TestConvertChanged(t *testing.T) {
	t.Parallel()
	alpha := object(t, `{"kind":"ClusterManagementAddOn","apiVersion":"addon.open-cluster-management.io/v1alpha1","metadata":{"name":"a"},"spec":{"supportedConfigs":[{"resource":"plain"},{"resource":"r","defaultConfig":{"name":"x"}}]}}`)
	beta := convert(t, alpha, addon.Version)
	beta["spec"].(map[string]any)["defaultConfigs"] = []any{map[string]any{"resource": "plain", "name": "now"}}
	got := convert(t, beta, addon.VersionAlpha)
	want := object(t, `{"supportedConfigs":[{"resource":"plain","defaultConfig":{"name":"now"}}]}`)
	if diff := cmp.Diff(want, got["spec"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Open Cluster Management's mark is not shown, and not written back
	beta = object(t, `{"kind":"ClusterManagementAddOn","apiVersion":"addon.open-cluster-management.io/v1beta1","metadata":{"name":"a"},"spec":{"defaultConfigs":[{"resource":"r","name":"__reserved_no_default__"}]}}`)
	if diff := cmp.Diff(object(t, `{"supportedConfigs":[{"resource":"r"}]}`), convert(t, beta, addon.VersionAlpha)["spec"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// an annotation that nobody can read does no harm
	odd := object(t, `{"kind":"ManagedClusterAddOn","apiVersion":"addon.open-cluster-management.io/v1beta1","metadata":{"name":"a","annotations":{"addon.open-cluster-management.io/v1alpha1-fields":"{"}},"spec":{}}`)
	if diff := cmp.Diff(odd, convert(t, convert(t, odd, addon.VersionAlpha), addon.Version)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRoundTrip: there and back again nothing is lost, for any object of either
// version, and the object in between is of its version's schema.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	defs := definitions(t)
	for seed := range uint64(300) {
		roundTrip(t, defs, seed, seed)
		if t.Failed() {
			return
		}
	}
}

func FuzzConvert(f *testing.F) {
	defs := definitions(f)
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { roundTrip(t, defs, a, b) })
}

func roundTrip(t *testing.T, defs []*apiextensionsv1.CustomResourceDefinition, a, b uint64) {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(a, b))}
	for _, crd := range defs {
		resource := crd.Name
		for i, v := range crd.Spec.Versions {
			other := crd.Spec.Versions[1-i]
			obj := g.value(v.Schema.OpenAPIV3Schema).(map[string]any)
			obj["apiVersion"], obj["kind"] = addon.Group+"/"+v.Name, crd.Spec.Names.Kind
			obj["metadata"] = map[string]any{"name": "a"}
			if g.Uint32()%4 == 0 {
				obj["metadata"].(map[string]any)["annotations"] = map[string]any{"mine": "stays"}
			}
			there := convert(t, obj, other.Name)
			if bad := strangers("", there, other.Schema.OpenAPIV3Schema); bad != "" {
				t.Errorf("seed %d %d: %s is not in %s of %s:\n%v", a, b, bad, other.Name, resource, there)
			}
			if diff := cmp.Diff(obj, convert(t, there, v.Name)); diff != "" {
				t.Errorf("seed %d %d: %s of %s changed on the way (-before +after):\n%s", a, b, v.Name, resource, diff)
			}
		}
	}
}

// definitions of the kinds that differ between the versions.
func definitions(t testing.TB) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, doc := range docs {
		for _, name := range []string{addon.ResourceClusterManagementAddOns, addon.ResourceManagedClusterAddOns} {
			if !strings.Contains(string(doc), "name: "+name+"\n") {
				continue
			}
			crd := &apiextensionsv1.CustomResourceDefinition{}
			if err := yaml.UnmarshalStrict(doc, crd); err != nil {
				t.Fatal(err)
			}
			out = append(out, crd)
		}
	}
	if len(out) != 2 {
		t.Fatalf("%d documents, want 2", len(out))
	}
	return out
}

// generator makes values of a schema.
type generator struct{ *rand.Rand }

func (g *generator) value(s *apiextensionsv1.JSONSchemaProps) any {
	switch s.Type {
	case "object":
		out := map[string]any{}
		for _, name := range names(s) {
			p := s.Properties[name]
			if slices.Contains(s.Required, name) || g.Uint32()%2 == 0 {
				out[name] = g.value(&p)
			}
		}
		return out
	case "array":
		out := []any{}
		for range g.Uint32() % 4 {
			out = append(out, g.value(s.Items.Schema))
		}
		return unique(out, s.XListMapKeys)
	case "integer":
		return int64(g.Uint32() % 100)
	case "boolean":
		return g.Uint32()%2 == 0
	}
	if s.XIntOrString {
		return int64(g.Uint32() % 3)
	}
	if len(s.Enum) > 0 {
		return strings.Trim(string(s.Enum[g.IntN(len(s.Enum))].Raw), `"`)
	}
	return []string{"a", "b", "c", "kubernetes.io/kube-apiserver-client"}[g.Uint32()%4]
}

func names(s *apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for name := range s.Properties {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// unique keeps the first of those with the same keys, as a list map demands.
func unique(list []any, keys []string) []any {
	out := []any{}
	var seen [][]any
	for _, e := range list {
		var id []any
		for _, k := range keys {
			id = append(id, e.(map[string]any)[k])
		}
		if len(keys) > 0 && slices.ContainsFunc(seen, func(s []any) bool { return slices.Equal(s, id) }) {
			continue
		}
		seen, out = append(seen, id), append(out, e)
	}
	return out
}

// strangers names a field that the schema has not.
func strangers(path string, v any, s *apiextensionsv1.JSONSchemaProps) string {
	switch v := v.(type) {
	case map[string]any:
		if path == ".metadata" || s.AdditionalProperties != nil {
			return ""
		}
		for name, child := range v {
			p, ok := s.Properties[name]
			if !ok {
				return path + "." + name
			}
			if bad := strangers(path+"."+name, child, &p); bad != "" {
				return bad
			}
		}
	case []any:
		for _, e := range v {
			if bad := strangers(path+"[]", e, s.Items.Schema); bad != "" {
				return bad
			}
		}
	}
	return ""
}
