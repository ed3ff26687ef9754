// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/shared/apis/work"
)

// Error says what is wrong with one manifest, found on this side and not by the
// API server.
type Error struct {
	Reason  string // one of wire's Apply constants, or empty
	Message string // for the author of the work
}

func (e *Error) Error() string { return e.Message }

// Kind is how a cluster serves a kind.
type Kind struct {
	Resource   string
	Namespaced bool
}

// Manifest is one entry of workload.manifests, or one line of the bundle.
type Manifest struct {
	Ordinal int // place among all manifests of the content, from zero
	GVK     schema.GroupVersionKind
	// ID has the namespace that the manifest says. Whoever knows that the kind has
	// none clears it, and Content.Object leaves it out then.
	ID      Identity
	Wave    int
	Problem string // why it is unusable; empty when it is usable

	// A CRD defines kinds, an APIService serves a group version.
	Defines map[schema.GroupVersionKind]Kind
	Serves  schema.GroupVersion

	raw    []byte // nil for one of the bundle, which is at offset
	offset int64
	size   int
}

func parseManifest(ordinal int, raw []byte) Manifest {
	m := Manifest{Ordinal: ordinal}
	var body map[string]any
	if err := kjson.Unmarshal(raw, &body); err != nil {
		m.Problem = fmt.Sprintf("not a JSON object: %v", err)
		return m
	}
	u := &unstructured.Unstructured{Object: body}
	field := func(path ...string) string {
		value, _, err := unstructured.NestedString(body, path...)
		if err != nil && m.Problem == "" {
			m.Problem = fmt.Sprintf("wrong type of field: %v", err)
		}
		return value
	}
	apiVersion, kind := field("apiVersion"), field("kind")
	name, namespace, generated := field("metadata", "name"), field("metadata", "namespace"), field("metadata", "generateName")
	wave := ""
	if _, found, _ := unstructured.NestedFieldNoCopy(body, "metadata", "annotations"); found {
		wave = field("metadata", "annotations", work.AnnotationWave)
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	m.GVK = gv.WithKind(kind)
	m.ID = Identity{Group: gv.Group, Kind: kind, Namespace: namespace, Name: name}
	switch {
	case m.Problem != "":
	case apiVersion == "":
		m.Problem = "apiVersion is missing"
	case err != nil || gv.Version == "":
		m.Problem = fmt.Sprintf("apiVersion %q: want GROUP/VERSION or VERSION", apiVersion)
	case kind == "":
		m.Problem = "kind is missing"
	case u.IsList():
		m.Problem = fmt.Sprintf("%s is a list: put its items into the work one by one", kind)
	case generated != "":
		m.Problem = "metadata.generateName is not supported: set metadata.name"
	case name == "":
		m.Problem = "metadata.name is missing"
	}
	if wave != "" {
		if m.Wave, err = strconv.Atoi(wave); err != nil && m.Problem == "" {
			m.Problem = fmt.Sprintf("annotation %s %q: want a whole number", work.AnnotationWave, wave)
		}
	}
	if m.Problem == "" {
		m.Problem = foldStringData(u)
		m.provide(u)
	}
	return m
}

// provide notes what the cluster serves once the manifest is applied.
func (m *Manifest) provide(u *unstructured.Unstructured) {
	switch {
	case m.ID.Group == groupExtensions && m.ID.Kind == kindCRD:
		m.Defines = kindsOf(u)
	case m.ID.Group == groupAggregation && m.ID.Kind == kindAPIService:
		group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
		version, _, _ := unstructured.NestedString(u.Object, "spec", "version")
		m.Serves = schema.GroupVersion{Group: group, Version: version}
	}
}

func kindsOf(crd *unstructured.Unstructured) map[schema.GroupVersionKind]Kind {
	var body struct {
		Spec struct {
			Group    string                        `json:"group"`
			Scope    string                        `json:"scope"`
			Names    struct{ Kind, Plural string } `json:"names"`
			Versions []struct{ Name string }       `json:"versions"`
		} `json:"spec"`
	}
	kinds := make(map[schema.GroupVersionKind]Kind)
	raw, err := json.Marshal(map[string]any{"spec": crd.Object["spec"]})
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return kinds
	}
	for _, v := range body.Spec.Versions {
		gvk := schema.GroupVersionKind{Group: body.Spec.Group, Version: v.Name, Kind: body.Spec.Names.Kind}
		kinds[gvk] = Kind{Resource: body.Spec.Names.Plural, Namespaced: body.Spec.Scope == "Namespaced"}
	}
	return kinds
}

// dropServerFields removes what the server sets and what would make an apply
// depend on a foreign cluster's state.
func dropServerFields(u *unstructured.Unstructured) {
	metadata, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return
	}
	maps.DeleteFunc(metadata, func(name string, _ any) bool { return fields.OfServer(name) })
}

// Mark gives an object that says nothing but its name, as many a Namespace, a field
// of its own. Server-side apply leaves no trace of a manager that owns no field,
// and the trace is what tells an object that we made.
func Mark(u *unstructured.Unstructured) {
	for key, value := range u.Object {
		if key != "apiVersion" && key != "kind" && key != "metadata" && key != "status" && !blank(value) {
			return
		}
	}
	metadata, _ := u.Object["metadata"].(map[string]any)
	for key, value := range metadata {
		if key != "name" && key != "namespace" && !blank(value) {
			return
		}
	}
	u.SetAnnotations(map[string]string{work.AnnotationMadeBy: "drover"})
}

func blank(value any) bool {
	inner, isMap := value.(map[string]any)
	return value == nil || (isMap && len(inner) == 0)
}

// foldStringData writes stringData of a Secret as the data that the API server
// makes of it. Server-side apply knows no owner of what came as stringData, so
// nobody's change to it would be seen. It returns what is wrong.
func foldStringData(u *unstructured.Unstructured) string {
	if u.GetKind() != "Secret" || u.GetAPIVersion() != "v1" {
		return ""
	}
	plain, found, err := unstructured.NestedStringMap(u.Object, "stringData")
	if err != nil {
		return fmt.Sprintf("wrong type of field: %v", err)
	}
	if !found {
		return ""
	}
	data, _, err := unstructured.NestedMap(u.Object, "data")
	if err != nil {
		return fmt.Sprintf("wrong type of field: %v", err)
	}
	if data == nil {
		data = make(map[string]any, len(plain))
	}
	for k, v := range plain {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	delete(u.Object, "stringData")
	u.Object["data"] = data
	return ""
}
