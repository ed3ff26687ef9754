// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"io"
	"slices"
	"strings"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	"k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Prefixes of references to other schemas.
const (
	RefV2 = "#/definitions/"
	RefV3 = "#/components/schemas/"
)

// ModelName is the name of the kind's schema in OpenAPI documents.
func (k *Kind) ModelName() string { return modelName(k, k.GVK.Kind) }

// ListModelName is the name of the list's schema in OpenAPI documents.
func (k *Kind) ListModelName() string { return modelName(k, k.ListKind) }

func modelName(k *Kind, kind string) string {
	group := k.GVK.Group
	if group == "" {
		return "io.k8s.api.core." + k.GVK.Version + "." + kind
	}
	parts := strings.Split(group, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".") + "." + k.GVK.Version + "." + kind
}

// Fingerprint writes all that the schemas and operations of the kind are made of.
func (k *Kind) Fingerprint(w io.Writer) {
	// a hash takes everything
	_, _ = fmt.Fprintf(w, "%s %s %s %s %t %t %t\n%s\n", k.GVK, k.ListKind, k.Resource, k.Singular, k.Namespaced, k.Status, k.Scale != nil, k.raw)
}

// Schemas returns the schemas of the kind and of its list, with references to
// MetaSchemas, by model name. In version 2 documents kubectl takes a schema for
// closed, so whatever it could not express is left out.
func (k *Kind) Schemas(v2 bool) (map[string]*spec.Schema, error) {
	s, err := k.decodeSchema()
	if err != nil {
		return nil, err
	}
	prefix := RefV3
	structural := s.structural.Unfold()
	if v2 {
		prefix = RefV2
		structural = openapiv2.ToStructuralOpenAPIV2(structural)
	}
	list := new(spec.Schema).Typed("object", "").
		WithDescription(k.ListKind+" is a list of "+k.GVK.Kind+".").
		WithRequired("items").
		SetProperty("apiVersion", typeMetaProperty("apiVersion")).
		SetProperty("kind", typeMetaProperty("kind")).
		SetProperty("metadata", *spec.RefSchema(prefix + modelListMeta)).
		SetProperty("items", *spec.ArrayProperty(spec.RefSchema(prefix + k.ModelName())))
	list.AddExtension("x-kubernetes-group-version-kind", k.gvkExtension(k.ListKind))
	return map[string]*spec.Schema{
		k.ModelName():     k.native(structural, prefix),
		k.ListModelName(): list,
	}, nil
}

func (k *Kind) native(structural *structuralschema.Structural, prefix string) *spec.Schema {
	s := structural.ToKubeOpenAPI()
	s.SetProperty("metadata", *spec.RefSchema(prefix + modelObjectMeta).WithDescription("Standard object's metadata. " +
		"More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"))
	s.SetProperty("apiVersion", typeMetaProperty("apiVersion"))
	s.SetProperty("kind", typeMetaProperty("kind"))
	embed(s, prefix)
	s.AddExtension("x-kubernetes-group-version-kind", k.gvkExtension(k.GVK.Kind))
	return s
}

// embed gives embedded resources their metadata.
func embed(s *spec.Schema, prefix string) {
	if s == nil {
		return
	}
	for name, p := range s.Properties {
		embed(&p, prefix)
		s.Properties[name] = p
	}
	if s.Items != nil {
		embed(s.Items.Schema, prefix)
	}
	if s.AdditionalProperties != nil {
		embed(s.AdditionalProperties.Schema, prefix)
	}
	if open, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); open && prefix == RefV2 {
		return
	}
	if embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); embedded {
		s.SetProperty("apiVersion", typeMetaProperty("apiVersion"))
		s.SetProperty("kind", typeMetaProperty("kind"))
		s.SetProperty("metadata", *spec.RefSchema(prefix + modelObjectMeta))
		for _, name := range []string{"kind", "apiVersion"} {
			if !slices.Contains(s.Required, name) {
				s.Required = append(s.Required, name)
			}
		}
	}
}

func (k *Kind) gvkExtension(kind string) []any {
	return []any{map[string]any{"group": k.GVK.Group, "version": k.GVK.Version, "kind": kind}}
}

func typeMetaProperty(name string) spec.Schema {
	return *spec.StringProperty().WithDescription(metav1.TypeMeta{}.SwaggerDoc()[name])
}

const (
	modelObjectMeta    = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	modelListMeta      = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
	modelStatus        = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
	modelDeleteOptions = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
)

// Names of the schemas among MetaSchemas that operations refer to.
const (
	ModelStatus        = modelStatus
	ModelDeleteOptions = modelDeleteOptions
)

// MetaSchemas returns the schemas of Kubernetes' own metadata types that every
// kind refers to, by model name, with references of the given prefix.
func MetaSchemas(prefix string) map[string]*spec.Schema {
	all := openapi.GetOpenAPIDefinitions(func(name string) spec.Ref {
		return spec.MustCreateRef(prefix + common.EscapeJsonPointer(name))
	})
	out := map[string]*spec.Schema{}
	var add func(name string)
	add = func(name string) {
		def, ok := all[name]
		if !ok || out[name] != nil {
			return
		}
		s := def.Schema
		out[name] = &s
		for _, dep := range def.Dependencies {
			add(dep)
		}
	}
	for _, name := range []string{modelObjectMeta, modelListMeta, modelStatus, modelDeleteOptions} {
		add(name)
	}
	return out
}
