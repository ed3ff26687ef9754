// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/work"
)

// identity names an object of a cluster whatever its version.
type identity struct{ Group, Kind, Namespace, Name string }

// String is "Kind namespace/name", as messages name objects.
func (id identity) String() string {
	if id.Namespace == "" {
		return id.Kind + " " + id.Name
	}
	return id.Kind + " " + id.Namespace + "/" + id.Name
}

// manifest is one entry of workload.manifests, or one line of the bundle.
type manifest struct {
	ordinal int
	gvk     schema.GroupVersionKind
	id      identity
	wave    int
	problem string // why it is unusable

	raw    []byte // nil for one of the bundle, which is at offset
	offset int64
	size   int

	// A CRD defines kinds, an APIService serves a group version.
	defines map[schema.GroupVersionKind]kind
	serves  schema.GroupVersion
}

func (m *manifest) class() int { return classOf(m.id.Group, m.id.Kind) }

// An unknown policy must not be taken for permission to delete.
func checkDeleteOption(option work.DeleteOption) error {
	switch option.PropagationPolicy {
	case "", work.Foreground, work.Orphan, work.SelectivelyOrphan:
		return nil
	}
	return fmt.Errorf("spec.deleteOption.propagationPolicy %q is not supported: use Foreground, Orphan or SelectivelyOrphan",
		option.PropagationPolicy)
}

func parseManifest(ordinal int, raw []byte) manifest {
	m := manifest{ordinal: ordinal}
	var body map[string]any
	if err := kjson.Unmarshal(raw, &body); err != nil {
		m.problem = fmt.Sprintf("not a JSON object: %v", err)
		return m
	}
	u := &unstructured.Unstructured{Object: body}
	field := func(path ...string) string {
		value, _, err := unstructured.NestedString(body, path...)
		if err != nil && m.problem == "" {
			m.problem = fmt.Sprintf("wrong type of field: %v", err)
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
	m.gvk = gv.WithKind(kind)
	m.id = identity{Group: gv.Group, Kind: kind, Namespace: namespace, Name: name}
	switch {
	case m.problem != "":
	case apiVersion == "":
		m.problem = "apiVersion is missing"
	case err != nil || gv.Version == "":
		m.problem = fmt.Sprintf("apiVersion %q: want GROUP/VERSION or VERSION", apiVersion)
	case kind == "":
		m.problem = "kind is missing"
	case u.IsList():
		m.problem = fmt.Sprintf("%s is a list: put its items into the work one by one", kind)
	case generated != "":
		m.problem = "metadata.generateName is not supported: set metadata.name"
	case name == "":
		m.problem = "metadata.name is missing"
	}
	if wave != "" {
		if m.wave, err = strconv.Atoi(wave); err != nil && m.problem == "" {
			m.problem = fmt.Sprintf("annotation %s %q: want a whole number", work.AnnotationWave, wave)
		}
	}
	if m.problem == "" {
		m.problem = foldStringData(u)
		m.provide(u)
	}
	return m
}

// provide notes what the cluster serves once the manifest is applied.
func (m *manifest) provide(u *unstructured.Unstructured) {
	switch {
	case m.id.Group == groupExtensions && m.id.Kind == kindCRD:
		m.defines = kindsOf(u)
	case m.id.Group == groupAggregation && m.id.Kind == kindAPIService:
		group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
		version, _, _ := unstructured.NestedString(u.Object, "spec", "version")
		m.serves = schema.GroupVersion{Group: group, Version: version}
	}
}

func kindsOf(crd *unstructured.Unstructured) map[schema.GroupVersionKind]kind {
	var body struct {
		Spec struct {
			Group    string                        `json:"group"`
			Scope    string                        `json:"scope"`
			Names    struct{ Kind, Plural string } `json:"names"`
			Versions []struct{ Name string }       `json:"versions"`
		} `json:"spec"`
	}
	kinds := make(map[schema.GroupVersionKind]kind)
	raw, err := json.Marshal(map[string]any{"spec": crd.Object["spec"]})
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return kinds
	}
	for _, v := range body.Spec.Versions {
		gvk := schema.GroupVersionKind{Group: body.Spec.Group, Version: v.Name, Kind: body.Spec.Names.Kind}
		kinds[gvk] = kind{resource: body.Spec.Names.Plural, namespaced: body.Spec.Scope == "Namespaced"}
	}
	return kinds
}

// identitiesIn names the objects of a content document, and its bundle, without
// decoding them whole. A manifest of the wrong shape leaves the others usable.
func identitiesIn(data []byte) (ids []identity, bundle string) {
	var s spec
	_ = json.Unmarshal(data, &s)
	for _, raw := range s.Workload.Manifests {
		if id, ok := identityIn(raw); ok {
			ids = append(ids, id)
		}
	}
	if s.Bundle != nil {
		bundle = s.Bundle.Digest
	}
	return ids, bundle
}

func identityIn(raw []byte) (identity, bool) {
	var m struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(raw, &m)
	gv, err := schema.ParseGroupVersion(m.APIVersion)
	id := identity{Group: gv.Group, Kind: m.Kind, Namespace: m.Metadata.Namespace, Name: m.Metadata.Name}
	return id, err == nil && id.Kind != "" && id.Name != ""
}

// dropServerFields removes what the server sets and what would make an apply
// depend on a foreign cluster's state.
func dropServerFields(u *unstructured.Unstructured) {
	metadata, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return
	}
	for _, name := range []string{"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"} {
		delete(metadata, name)
	}
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

// orphaned says whether the delete option keeps an object on the cluster. Rules
// match exactly, without wildcards, as in Open Cluster Management.
func orphaned(option work.DeleteOption, o object) bool {
	switch option.PropagationPolicy {
	case work.Orphan:
		return true
	case work.SelectivelyOrphan:
		if option.SelectivelyOrphans == nil {
			return false
		}
		return slices.Contains(option.SelectivelyOrphans.OrphaningRules, work.ResourceIdentifier{
			Group: o.Group, Resource: o.Resource, Namespace: o.Namespace, Name: o.Name,
		})
	}
	return false
}
