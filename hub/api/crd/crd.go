// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crd checks CustomResourceDefinitions as a Kubernetes API server does,
// with Kubernetes' own library where it stands alone. Kubernetes' validation as a
// whole would link its client for webhooks, tracing exporters and gRPC.
//
// It differs in this: conversion by webhook is refused, schemas are bounded in
// depth, size and number of rules, and the cost of a rule is estimated for one
// call, not for all elements of the lists around it. What rules may cost when
// they run is bounded by Kubernetes' budget for each object.
package crd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"
)

// Finalizer keeps a definition until all objects of its kind are gone.
const Finalizer = apiextensionsv1.CustomResourceCleanupFinalizer

// Default fills in what a definition may leave out.
func Default(d *apiextensionsv1.CustomResourceDefinition) {
	names := &d.Spec.Names
	if names.Singular == "" {
		names.Singular = strings.ToLower(names.Kind)
	}
	if names.ListKind == "" && names.Kind != "" {
		names.ListKind = names.Kind + "List"
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{}
	}
	if d.Spec.Conversion.Strategy == "" {
		d.Spec.Conversion.Strategy = apiextensionsv1.NoneConverter
	}
}

// StorageVersion returns the name of the version that objects are stored in.
func StorageVersion(d *apiextensionsv1.CustomResourceDefinition) string {
	for _, v := range d.Spec.Versions {
		if v.Storage {
			return v.Name
		}
	}
	return ""
}

// Validate checks a definition with its defaults.
func Validate(ctx context.Context, d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	spec, path := &d.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if want := spec.Names.Plural + "." + spec.Group; d.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), d.Name, fmt.Sprintf("must be spec.names.plural+\".\"+spec.group: %q", want)))
	}
	errs = append(errs, validateGroup(d)...)
	switch spec.Scope {
	case apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped:
	case "":
		errs = append(errs, field.Required(path.Child("scope"), "Cluster or Namespaced"))
	default:
		errs = append(errs, field.NotSupported(path.Child("scope"), spec.Scope, []apiextensionsv1.ResourceScope{apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped}))
	}
	if spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(path.Child("preserveUnknownFields"), true, "must be false; use x-kubernetes-preserve-unknown-fields in the schema"))
	}
	if c := spec.Conversion; c != nil && c.Strategy != apiextensionsv1.NoneConverter {
		errs = append(errs, field.NotSupported(path.Child("conversion", "strategy"), c.Strategy, []apiextensionsv1.ConversionStrategyType{apiextensionsv1.NoneConverter}))
	}
	errs = append(errs, validateNames(&spec.Names, path.Child("names"))...)
	errs = append(errs, validateVersions(ctx, spec.Versions, path.Child("versions"))...)
	for i, name := range d.Status.StoredVersions {
		if !slices.ContainsFunc(spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == name }) {
			errs = append(errs, field.Invalid(field.NewPath("status", "storedVersions").Index(i), name, "must appear in spec.versions: objects may be stored in it"))
		}
	}
	return errs
}

// ValidateUpdate checks what may not change. It does not include Validate.
func ValidateUpdate(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	fixed := func(p *field.Path, now, before string) {
		if now != before {
			errs = append(errs, field.Invalid(p, now, "field is immutable"))
		}
	}
	fixed(path.Child("group"), d.Spec.Group, old.Spec.Group)
	fixed(path.Child("names", "plural"), d.Spec.Names.Plural, old.Spec.Names.Plural)
	if apihelpers.IsCRDConditionTrue(old, apiextensionsv1.Established) {
		fixed(path.Child("scope"), string(d.Spec.Scope), string(old.Spec.Scope))
		fixed(path.Child("names", "kind"), d.Spec.Names.Kind, old.Spec.Names.Kind)
	}
	return errs
}

func validateGroup(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	group, path := d.Spec.Group, field.NewPath("spec", "group")
	if group == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if problems := validation.IsDNS1123Subdomain(group); len(problems) > 0 {
		return field.ErrorList{field.Invalid(path, group, strings.Join(problems, ","))}
	}
	if !strings.Contains(group, ".") {
		return field.ErrorList{field.Invalid(path, group, "should be a domain with at least one dot")}
	}
	if !apihelpers.IsProtectedCommunityGroup(group) {
		return nil
	}
	at := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation)
	switch state, reason := apihelpers.GetAPIApprovalState(d.Annotations); state {
	case apihelpers.APIApprovalInvalid:
		return field.ErrorList{field.Invalid(at, d.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation], reason)}
	case apihelpers.APIApprovalMissing:
		return field.ErrorList{field.Required(at, reason)}
	}
	return nil
}

func validateNames(names *apiextensionsv1.CustomResourceDefinitionNames, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	label := func(p *field.Path, name string, mixed bool) {
		text := name
		if mixed {
			text = strings.ToLower(name)
		}
		if name == "" {
			errs = append(errs, field.Required(p, ""))
		} else if problems := validation.IsDNS1035Label(text); len(problems) > 0 {
			errs = append(errs, field.Invalid(p, name, strings.Join(problems, ",")))
		}
	}
	label(path.Child("plural"), names.Plural, false)
	label(path.Child("singular"), names.Singular, false)
	label(path.Child("kind"), names.Kind, true)
	label(path.Child("listKind"), names.ListKind, true)
	for i, n := range names.ShortNames {
		label(path.Child("shortNames").Index(i), n, false)
	}
	for i, n := range names.Categories {
		label(path.Child("categories").Index(i), n, false)
	}
	if names.Kind != "" && names.Kind == names.ListKind {
		errs = append(errs, field.Invalid(path.Child("listKind"), names.ListKind, "kind and listKind may not be the same"))
	}
	return errs
}

// maxVersions bounds the versions of one definition.
const maxVersions = 32

func validateVersions(ctx context.Context, versions []apiextensionsv1.CustomResourceDefinitionVersion, path *field.Path) field.ErrorList {
	if len(versions) > maxVersions {
		return field.ErrorList{field.TooMany(path, len(versions), maxVersions)}
	}
	var errs field.ErrorList
	stored := 0
	for i := range versions {
		v, at := &versions[i], path.Index(i)
		if v.Storage {
			stored++
		}
		if problems := validation.IsDNS1035Label(v.Name); len(problems) > 0 {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, strings.Join(problems, ",")))
		}
		if slices.ContainsFunc(versions[:i], func(o apiextensionsv1.CustomResourceDefinitionVersion) bool { return o.Name == v.Name }) {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		if v.DeprecationWarning != nil && !v.Deprecated {
			errs = append(errs, field.Invalid(at.Child("deprecationWarning"), *v.DeprecationWarning, "can only be set for deprecated versions"))
		}
		errs = append(errs, validateScale(v.Subresources, at.Child("subresources", "scale"))...)
		for j := range v.AdditionalPrinterColumns {
			errs = append(errs, validateColumn(&v.AdditionalPrinterColumns[j], at.Child("additionalPrinterColumns").Index(j))...)
		}
		errs = append(errs, validateSchema(ctx, v, at)...)
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(path, stored, "must have exactly one version marked as storage version"))
	}
	return errs
}

func validateScale(s *apiextensionsv1.CustomResourceSubresources, path *field.Path) field.ErrorList {
	if s == nil || s.Scale == nil {
		return nil
	}
	var errs field.ErrorList
	below := func(name, p string, prefixes ...string) {
		if p == "" {
			errs = append(errs, field.Required(path.Child(name), ""))
		} else if !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(p, prefix) && len(p) > len(prefix) }) {
			errs = append(errs, field.Invalid(path.Child(name), p, "should be a json path under "+strings.Join(prefixes, " or ")))
		}
	}
	below("specReplicasPath", s.Scale.SpecReplicasPath, ".spec.")
	below("statusReplicasPath", s.Scale.StatusReplicasPath, ".status.")
	if p := s.Scale.LabelSelectorPath; p != nil && *p != "" {
		below("labelSelectorPath", *p, ".spec.", ".status.")
	}
	return errs
}

func validateColumn(c *apiextensionsv1.CustomResourceColumnDefinition, path *field.Path) field.ErrorList {
	types := []string{"integer", "number", "string", "boolean", "date"}
	formats := []string{"int32", "int64", "float", "double", "byte", "date", "date-time", "password"}
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	if !slices.Contains(types, c.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), c.Type, types))
	}
	if c.Format != "" && !slices.Contains(formats, c.Format) {
		errs = append(errs, field.NotSupported(path.Child("format"), c.Format, formats))
	}
	switch {
	case c.JSONPath == "":
		errs = append(errs, field.Required(path.Child("jsonPath"), ""))
	case c.JSONPath[0] != '.':
		errs = append(errs, field.Invalid(path.Child("jsonPath"), c.JSONPath, "must be a simple json path starting with ."))
	default:
		if err := jsonpath.New("column").Parse("{" + c.JSONPath + "}"); err != nil {
			errs = append(errs, field.Invalid(path.Child("jsonPath"), c.JSONPath, err.Error()))
		}
	}
	return errs
}
