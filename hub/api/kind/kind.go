// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kind turns the document of a kind, shaped like a
// CustomResourceDefinition, into everything the API does with its objects:
// strict decoding, pruning, defaulting, validation, field ownership, table
// cells and OpenAPI schemas. All of it comes from one schema.
//
// Parsing a document is cheap. Its schema is compiled when the kind is first
// used, and kept.
package kind

import (
	"fmt"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
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
	// Annotations of the document.
	Annotations map[string]string
	// Columns of a table, without the leading name.
	Columns []Column

	version  *apiextensionsv1.CustomResourceDefinitionVersion
	compile  func() (*compiled, error)
	selector []selectable
}

// Parse reads one document and returns its kind, without compiling the schema.
func Parse(doc []byte) (*Kind, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(doc, &crd); err != nil {
		return nil, fmt.Errorf("parse kind: %w", err)
	}
	name, spec := crd.Name, &crd.Spec
	want := spec.Names.Plural
	if spec.Group != "" {
		want += "." + spec.Group
	}
	if spec.Names.Plural == "" || name != want {
		return nil, fmt.Errorf("parse kind %q: metadata.name must be %q", name, want)
	}
	if spec.Names.Kind == "" || spec.Names.ListKind == "" || spec.Names.Singular == "" {
		return nil, fmt.Errorf("parse kind %s: spec.names needs kind, listKind and singular", name)
	}
	if spec.Scope != apiextensionsv1.ClusterScoped && spec.Scope != apiextensionsv1.NamespaceScoped {
		return nil, fmt.Errorf("parse kind %s: spec.scope must be Cluster or Namespaced", name)
	}
	// Several versions of one kind need conversion between them.
	if len(spec.Versions) != 1 || !spec.Versions[0].Served || !spec.Versions[0].Storage {
		return nil, fmt.Errorf("parse kind %s: spec.versions must hold one version, served and stored", name)
	}
	v := &spec.Versions[0]
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, fmt.Errorf("parse kind %s: spec.versions[0].schema is missing", name)
	}
	k := &Kind{
		GVK:         schema.GroupVersionKind{Group: spec.Group, Version: v.Name, Kind: spec.Names.Kind},
		ListKind:    spec.Names.ListKind,
		Resource:    spec.Names.Plural,
		Singular:    spec.Names.Singular,
		ShortNames:  spec.Names.ShortNames,
		Categories:  spec.Names.Categories,
		Namespaced:  spec.Scope == apiextensionsv1.NamespaceScoped,
		Status:      v.Subresources != nil && v.Subresources.Status != nil,
		Annotations: crd.Annotations,
		version:     v,
	}
	for _, c := range v.AdditionalPrinterColumns {
		col, err := newColumn(c)
		if err != nil {
			return nil, fmt.Errorf("parse kind %s: column %s: %w", name, c.Name, err)
		}
		k.Columns = append(k.Columns, col)
	}
	for _, f := range v.SelectableFields {
		s, err := newSelectable(f.JSONPath)
		if err != nil {
			return nil, fmt.Errorf("parse kind %s: selectable field %s: %w", name, f.JSONPath, err)
		}
		k.selector = append(k.selector, s)
	}
	k.compile = sync.OnceValues(func() (*compiled, error) {
		c, err := newCompiled(k)
		if err != nil {
			return nil, fmt.Errorf("compile kind %s: %w", name, err)
		}
		return c, nil
	})
	return k, nil
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
