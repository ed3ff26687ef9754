// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kind turns the document of a kind, shaped like a
// CustomResourceDefinition, into everything the API does with its objects:
// strict decoding, pruning, defaulting, validation, field ownership, table
// cells and OpenAPI schemas. All of it comes from one schema.
//
// Parsing a document is cheap. Its schema is compiled when the kind is first
// used, and kept. A document may list several versions: each is a Kind, and all
// of them are views on the same stored objects.
package kind

import (
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
)

// Kind is one kind in one version. It is safe for concurrent use.
type Kind struct {
	GVK      schema.GroupVersionKind
	ListKind string
	// Resource is the plural name; Singular and ShortNames are for people.
	Resource   string
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	// Status says whether status is a subresource of its own.
	Status bool
	// Scale says where a kind with the subresource scale has its numbers; nil
	// without.
	Scale *apiextensionsv1.CustomResourceSubresourceScale
	// Served is false for a version that objects are only stored in.
	Served bool
	// Deprecation is what to tell those who use this version; empty for nothing.
	Deprecation string
	// Annotations of the document.
	Annotations map[string]string
	// Columns of a table, without the leading name.
	Columns []Column

	family   *family
	raw      json.RawMessage // the schema
	compile  func() (*compiled, error)
	selector []selectable
	refused  map[string]string // fields of metadata, and what to say
}

// source is a schema, decoded.
type source struct {
	props      *apiextensions.JSONSchemaProps
	structural *structuralschema.Structural
}

// Parse reads one document and returns the kind in each of its versions, the one
// that is stored first, without compiling the schemas. Without conversion, nil,
// all versions have the same fields.
func Parse(doc []byte, conversion Conversion) ([]*Kind, error) {
	d, err := decodeDocument(doc)
	if err != nil {
		return nil, err
	}
	f := &family{conversion: conversion}
	f.types = sync.OnceValues(f.newTypeConverter)
	for i := range d.Spec.Versions {
		k, err := newKind(d, &d.Spec.Versions[i], f)
		if err != nil {
			return nil, fmt.Errorf("parse kind %s: %w", d.Name, err)
		}
		if d.Spec.Versions[i].Storage {
			f.storage = k
			f.versions = append([]*Kind{k}, f.versions...)
		} else {
			f.versions = append(f.versions, k)
		}
	}
	return f.versions, nil
}

func newKind(d *document, v *documentVersion, f *family) (*Kind, error) {
	spec := &d.Spec
	k := &Kind{
		GVK:         schema.GroupVersionKind{Group: spec.Group, Version: v.Name, Kind: spec.Names.Kind},
		ListKind:    spec.Names.ListKind,
		Resource:    spec.Names.Plural,
		Singular:    spec.Names.Singular,
		ShortNames:  spec.Names.ShortNames,
		Categories:  spec.Names.Categories,
		Namespaced:  spec.Scope == apiextensionsv1.NamespaceScoped,
		Status:      v.Subresources != nil && v.Subresources.Status != nil,
		Served:      v.Served,
		Annotations: d.Annotations,
		family:      f,
		raw:         v.Schema.OpenAPIV3Schema,
	}
	if v.Subresources != nil {
		k.Scale = v.Subresources.Scale
	}
	if v.Deprecated {
		if k.Deprecation = v.DeprecationWarning; k.Deprecation == "" {
			k.Deprecation = fmt.Sprintf("%s %s is deprecated", k.GVK.GroupVersion(), k.GVK.Kind)
		}
	}
	for _, c := range v.AdditionalPrinterColumns {
		col, err := newColumn(c)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		k.Columns = append(k.Columns, col)
	}
	for _, f := range v.SelectableFields {
		s, err := newSelectable(f.JSONPath)
		if err != nil {
			return nil, fmt.Errorf("selectable field %s: %w", f.JSONPath, err)
		}
		k.selector = append(k.selector, s)
	}
	if err := k.parseRefused(); err != nil {
		return nil, err
	}
	k.compile = sync.OnceValues(func() (*compiled, error) {
		c, err := newCompiled(k)
		if err != nil {
			return nil, fmt.Errorf("compile kind %s: %w", d.Name, err)
		}
		return c, nil
	})
	return k, nil
}

// decodeSchema reads the schema and brings it into the form that everything is
// made from. Nobody keeps that longer than needed: it is far larger than the text.
func (k *Kind) decodeSchema() (*source, error) {
	var v1 apiextensionsv1.JSONSchemaProps
	if problems, err := kjson.UnmarshalStrict(k.raw, &v1); err != nil {
		return nil, err
	} else if len(problems) > 0 {
		return nil, problems[0]
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&v1, props, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		return nil, err
	}
	// NewStructural shares the defaults of its input.
	return &source{props: props, structural: structural.DeepCopy()}, nil
}

// Check compiles the schema and reports what is wrong with it.
func (k *Kind) Check() error {
	_, err := k.compile()
	return err
}

// StoreResource is the name of the resource in the store: "plural.group", or
// "plural" for the core group.
func (k *Kind) StoreResource() string { return k.GroupResource().String() }

// GroupResource names the resource without its version.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource}
}

// GVR names the resource.
func (k *Kind) GVR() schema.GroupVersionResource {
	return k.GVK.GroupVersion().WithResource(k.Resource)
}
