// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package schemas_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/clusterregistry"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/schemas"
	"github.com/drover-io/drover/shared/apis/work"
)

// TestStructs holds the Go structs and the schemas together: the same fields,
// of the same types, on both sides.
func TestStructs(t *testing.T) {
	t.Parallel()
	structs := map[string]any{
		cluster.Resource:                                 cluster.ManagedCluster{},
		cluster.ResourceSets:                             cluster.ManagedClusterSet{},
		cluster.ResourceSetBindings:                      cluster.ManagedClusterSetBinding{},
		cluster.ResourcePlacements:                       cluster.Placement{},
		cluster.ResourcePlacementDecisions:               cluster.PlacementDecision{},
		cluster.ResourcePlacementScores:                  cluster.AddOnPlacementScore{},
		clusterregistry.Resource:                         clusterregistry.Cluster{},
		addon.ResourceClusterManagementAddOns:            addon.ClusterManagementAddOn{},
		addon.ResourceManagedClusterAddOns:               addon.ManagedClusterAddOn{},
		addon.ResourceDeploymentConfigs:                  addon.AddOnDeploymentConfig{},
		addon.ResourceTemplates:                          addon.AddOnTemplate{},
		work.Resource:                                    work.ManifestWork{},
		work.ResourceReplicaSets:                         work.ManifestWorkReplicaSet{},
		fleet.ResourceAddOnVersions:                      fleet.AddOnVersion{},
		fleet.ResourceAddOnConfigs:                       fleet.AddOnConfig{},
		fleet.ResourceAddOnRollouts:                      fleet.AddOnRollout{},
		fleet.ResourceRolloutPolicies:                    fleet.RolloutPolicy{},
		fleet.ResourceAlertRules:                         fleet.AlertRule{},
		fleet.ResourceJoinTokens:                         fleet.JoinToken{},
		fleet.ResourceJoinRequests:                       fleet.JoinRequest{},
		fleet.ResourceClusterMetrics:                     fleet.ClusterMetrics{},
		fleet.ResourceAccessTokens:                       fleet.AccessToken{},
		fleet.ResourceSessions:                           fleet.Session{},
		fleet.ResourceAgentIdentities:                    fleet.AgentIdentity{},
		fleet.ResourceWorkRevisions:                      fleet.WorkRevision{},
		fleet.ResourceConfigRevisions:                    fleet.ConfigRevision{},
		fleet.ResourceAPILists:                           fleet.APIList{},
		"events":                                         corev1.Event{},
		"roles.rbac.authorization.k8s.io":                rbacv1.Role{},
		"rolebindings.rbac.authorization.k8s.io":         rbacv1.RoleBinding{},
		"clusterroles.rbac.authorization.k8s.io":         rbacv1.ClusterRole{},
		"clusterrolebindings.rbac.authorization.k8s.io":  rbacv1.ClusterRoleBinding{},
		"customresourcedefinitions.apiextensions.k8s.io": nil, // its schemas are schemas again, without an end
		"namespaces":                                     nil, // Kubernetes' has a condition type of its own
	}
	docs := documents(t)
	if len(docs) != len(structs) {
		t.Errorf("%d documents, %d structs: every kind belongs into this test", len(docs), len(structs))
	}
	for name, example := range structs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crd, ok := docs[name]
			if !ok {
				t.Fatal("no document")
			}
			if example == nil {
				return
			}
			// structs are of the version that is stored
			i := slices.IndexFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
			schema := crd.Spec.Versions[i].Schema.OpenAPIV3Schema
			typ := reflect.TypeOf(example)
			if got := crd.Spec.Names.Kind; got != typ.Name() {
				t.Errorf("kind = %s, struct = %s", got, typ.Name())
			}
			for _, problem := range compare("", typ, schema) {
				t.Error(problem)
			}
		})
	}
}

// TestDocuments checks what every document must have.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for name, crd := range documents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, v := range crd.Spec.Versions {
				for _, problem := range undescribed("", v.Schema.OpenAPIV3Schema) {
					t.Errorf("%s: %s", v.Name, problem)
				}
				for _, c := range v.AdditionalPrinterColumns {
					if c.Description == "" && c.Name != "Age" {
						t.Errorf("%s: column %s has no description", v.Name, c.Name)
					}
				}
			}
		})
	}
}

func documents(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, doc := range docs {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(doc, &crd); err != nil {
			t.Fatalf("%.200s: %v", doc, err)
		}
		out[crd.Name] = &crd
	}
	return out
}

// undescribed lists the fields without a description, which explain would show empty.
func undescribed(path string, s *apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for name, p := range s.Properties {
		at := path + "." + name
		if p.Description == "" && at != ".metadata" && at != ".kind" && at != ".apiVersion" {
			out = append(out, at+" has no description")
		}
		out = append(out, undescribed(at, &p)...)
	}
	if s.Items != nil {
		out = append(out, undescribed(path+"[]", s.Items.Schema)...)
	}
	return out
}

// compare walks a Go type and a schema side by side.
func compare(path string, typ reflect.Type, s *apiextensionsv1.JSONSchemaProps) []string {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	bad := func(want string) []string {
		return []string{fmt.Sprintf("%s: schema says %s (format %q), Go %s", path, s.Type, s.Format, typ)}
	}
	expect := func(want string) []string {
		if s.Type != want {
			return bad(want)
		}
		return nil
	}
	switch typ {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[time.Time]():
		if s.Type != "string" || s.Format != "date-time" {
			return bad("string")
		}
		return nil
	case reflect.TypeFor[runtime.RawExtension]():
		if s.Type != "object" || s.XPreserveUnknownFields == nil {
			return bad("object")
		}
		return nil
	case reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[resource.Quantity]():
		if !s.XIntOrString {
			return bad("int-or-string")
		}
		return nil
	case reflect.TypeFor[metav1.Duration]():
		return expect("string")
	case reflect.TypeFor[metav1.ObjectMeta]():
		return expect("object")
	case reflect.TypeFor[[]byte]():
		return expect("string")
	}
	switch typ.Kind() {
	case reflect.String:
		return expect("string")
	case reflect.Bool:
		return expect("boolean")
	case reflect.Float64:
		return expect("number")
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		return expect("integer")
	case reflect.Map:
		if s.AdditionalProperties == nil {
			return bad("map")
		}
		return compare(path+"[*]", typ.Elem(), s.AdditionalProperties.Schema)
	case reflect.Slice:
		if s.Items == nil {
			return bad("array")
		}
		return compare(path+"[]", typ.Elem(), s.Items.Schema)
	case reflect.Struct:
		return compareStruct(path, typ, s)
	}
	return bad("?")
}

func compareStruct(path string, typ reflect.Type, s *apiextensionsv1.JSONSchemaProps) []string {
	if s.Type != "object" {
		return []string{fmt.Sprintf("%s: schema says %s, Go %s", path, s.Type, typ)}
	}
	var out []string
	seen := []string{"apiVersion", "kind"}
	for _, f := range fields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p, ok := s.Properties[name]
		if !ok {
			out = append(out, fmt.Sprintf("%s.%s is not in the schema", path, name))
			continue
		}
		seen = append(seen, name)
		out = append(out, compare(path+"."+name, f.Type, &p)...)
	}
	for name := range s.Properties {
		if !slices.Contains(seen, name) {
			out = append(out, fmt.Sprintf("%s.%s is not in the Go struct", path, name))
		}
	}
	return out
}

// fields lists what encodes into one JSON object, but for kind and apiVersion.
func fields(typ reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[metav1.TypeMeta]():
		case f.Anonymous && name == "":
			out = append(out, fields(f.Type)...)
		default:
			out = append(out, f)
		}
	}
	return out
}
