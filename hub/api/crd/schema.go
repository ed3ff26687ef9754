// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	apivalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Bounds of one schema. The largest that are in wide use have a few thousand
// nodes and are some thirty deep.
const (
	maxDepth = 96
	maxNodes = 20000
	maxRules = 500
	// maxRule bounds in bytes the text of one rule.
	maxRule = 16 << 10
	// maxCost bounds the estimated cost of one rule, as in Kubernetes.
	maxCost = 10000000
	// maxSelectable is how many selectable fields a version may have, as in Kubernetes.
	maxSelectable = 8
)

func validateSchema(ctx context.Context, v *apiextensionsv1.CustomResourceDefinitionVersion, version *field.Path) field.ErrorList {
	path := version.Child("schema", "openAPIV3Schema")
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	w := walk{}
	w.node(v.Schema.OpenAPIV3Schema, path, 0)
	for _, name := range []string{"metadata", "kind", "apiVersion"} {
		if p, ok := v.Schema.OpenAPIV3Schema.Properties[name]; ok && len(w.errs) == 0 {
			w.withoutDefaults(&p, path.Child("properties").Key(name), "in top-level "+name)
		}
	}
	if len(w.errs) > 0 {
		return w.errs
	}
	if v.Schema.OpenAPIV3Schema.Nullable {
		return field.ErrorList{field.Forbidden(path.Child("nullable"), "nullable cannot be true at the root")}
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, props, nil); err != nil {
		return field.ErrorList{field.Invalid(path, "", err.Error())}
	}
	s, err := structuralschema.NewStructural(props)
	if err != nil {
		return field.ErrorList{field.Invalid(path, "", err.Error())}
	}
	s = s.DeepCopy() // NewStructural shares the defaults of its input
	if errs := structuralschema.ValidateStructural(path, s); len(errs) > 0 {
		return errs
	}
	errs, err := defaulting.ValidateDefaults(ctx, path, s, true, true)
	if err != nil {
		return field.ErrorList{field.Invalid(path, "", err.Error())}
	}
	if len(errs) > 0 {
		return errs
	}
	if _, _, err := apivalidation.NewSchemaValidator(props); err != nil {
		return field.ErrorList{field.Invalid(path, "", "error building validator: "+err.Error())}
	}
	if w.rules > 0 {
		r := rules{ctx: ctx, env: environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())}
		r.node(s, path, true)
		errs = append(errs, r.errs...)
	}
	return append(errs, validateSelectable(v.SelectableFields, s, version.Child("selectableFields"))...)
}

// walk checks what a structural schema cannot express, and the size.
type walk struct {
	nodes, rules int
	errs         field.ErrorList
}

func (w *walk) fail(err *field.Error) {
	if len(w.errs) < 100 {
		w.errs = append(w.errs, err)
	}
}

func (w *walk) node(s *apiextensionsv1.JSONSchemaProps, path *field.Path, depth int) {
	if w.nodes++; w.nodes > maxNodes {
		if w.nodes == maxNodes+1 {
			w.fail(field.TooMany(path, w.nodes, maxNodes))
		}
		return
	}
	if depth > maxDepth {
		w.fail(field.Invalid(path, depth, fmt.Sprintf("a schema may be %d levels deep", maxDepth)))
		return
	}
	w.unsupported(s, path)
	w.lists(s, path)
	for i, r := range s.XValidations {
		w.rule(&r, path.Child("x-kubernetes-validations").Index(i))
	}
	for name, p := range s.Properties {
		w.node(&p, path.Child("properties").Key(name), depth+1)
	}
	if s.Items != nil && s.Items.Schema != nil {
		w.node(s.Items.Schema, path.Child("items"), depth+1)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		w.node(s.AdditionalProperties.Schema, path.Child("additionalProperties"), depth+1)
	}
	if s.Not != nil {
		w.node(s.Not, path.Child("not"), depth+1)
	}
	for name, group := range map[string][]apiextensionsv1.JSONSchemaProps{"allOf": s.AllOf, "anyOf": s.AnyOf, "oneOf": s.OneOf} {
		for i := range group {
			w.node(&group[i], path.Child(name).Index(i), depth+1)
		}
	}
}

// withoutDefaults refuses defaults of what every object has.
func (w *walk) withoutDefaults(s *apiextensionsv1.JSONSchemaProps, path *field.Path, where string) {
	if s.Default != nil {
		w.fail(field.Forbidden(path.Child("default"), "must not be set "+where))
	}
	for name, p := range s.Properties {
		w.withoutDefaults(&p, path.Child("properties").Key(name), where)
	}
}

// unsupported refuses what Kubernetes does not take.
func (w *walk) unsupported(s *apiextensionsv1.JSONSchemaProps, path *field.Path) {
	for _, u := range []struct {
		name string
		set  bool
	}{
		{"id", s.ID != ""},
		{"$ref", s.Ref != nil},
		{"additionalItems", s.AdditionalItems != nil},
		{"patternProperties", len(s.PatternProperties) > 0},
		{"definitions", len(s.Definitions) > 0},
		{"dependencies", s.Dependencies != nil},
	} {
		if u.set {
			w.fail(field.Forbidden(path.Child(u.name), u.name+" is not supported"))
		}
	}
	if s.UniqueItems {
		w.fail(field.Forbidden(path.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"))
	}
	if types := []string{"", "array", "boolean", "integer", "number", "object", "string"}; !slices.Contains(types, s.Type) {
		w.fail(field.NotSupported(path.Child("type"), s.Type, types[1:]))
	}
	if s.Items != nil && len(s.Items.JSONSchemas) > 0 {
		w.fail(field.Forbidden(path.Child("items"), "items must be a schema object and not an array"))
	}
	if a := s.AdditionalProperties; a != nil && len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
		w.fail(field.Forbidden(path.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
	}
	if s.XPreserveUnknownFields != nil && !*s.XPreserveUnknownFields {
		w.fail(field.Invalid(path.Child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"))
	}
	if s.Pattern != "" {
		if _, err := regexp.Compile(s.Pattern); err != nil {
			w.fail(field.Invalid(path.Child("pattern"), s.Pattern, err.Error()))
		}
	}
}

// lists checks how lists and maps are merged.
func (w *walk) lists(s *apiextensionsv1.JSONSchemaProps, path *field.Path) {
	if t := s.XMapType; t != nil {
		if !slices.Contains([]string{"atomic", "granular"}, *t) {
			w.fail(field.NotSupported(path.Child("x-kubernetes-map-type"), *t, []string{"atomic", "granular"}))
		}
		if s.Type != "object" {
			w.fail(field.Invalid(path.Child("type"), s.Type, "must be object if x-kubernetes-map-type is specified"))
		}
	}
	kind := ""
	if s.XListType != nil {
		if kind = *s.XListType; !slices.Contains([]string{"atomic", "set", "map"}, kind) {
			w.fail(field.NotSupported(path.Child("x-kubernetes-list-type"), kind, []string{"atomic", "set", "map"}))
		}
		if s.Type != "array" {
			w.fail(field.Invalid(path.Child("type"), s.Type, "must be array if x-kubernetes-list-type is specified"))
		}
	}
	keys := path.Child("x-kubernetes-list-map-keys")
	if len(s.XListMapKeys) > 0 && kind != "map" {
		w.fail(field.Invalid(path.Child("x-kubernetes-list-type"), kind, "must be map if x-kubernetes-list-map-keys is non-empty"))
	}
	var items *apiextensionsv1.JSONSchemaProps
	if s.Items != nil {
		items = s.Items.Schema
	}
	switch {
	case kind == "set" && items != nil:
		if items.Type == "object" && (items.XMapType == nil || *items.XMapType != "atomic") {
			w.fail(field.Invalid(path.Child("items", "x-kubernetes-map-type"), items.XMapType, "must be atomic as item of a list with x-kubernetes-list-type=set"))
		}
		if items.Type == "array" && items.XListType != nil && *items.XListType != "atomic" {
			w.fail(field.Invalid(path.Child("items", "x-kubernetes-list-type"), *items.XListType, "must be atomic as item of a list with x-kubernetes-list-type=set"))
		}
	case kind == "map" && len(s.XListMapKeys) == 0:
		w.fail(field.Required(keys, "must not be empty if x-kubernetes-list-type is map"))
	case kind == "map" && (items == nil || items.Type != "object"):
		w.fail(field.Required(path.Child("items"), "must be an object if x-kubernetes-list-type is map"))
	case kind == "map":
		w.mapKeys(s.XListMapKeys, items, keys, path.Child("items"))
	}
}

func (w *walk) mapKeys(names []string, items *apiextensionsv1.JSONSchemaProps, keys, path *field.Path) {
	if items.Nullable {
		w.fail(field.Forbidden(path.Child("nullable"), "cannot be nullable when x-kubernetes-list-type is map"))
	}
	for i, name := range names {
		p, ok := items.Properties[name]
		switch {
		case !ok:
			w.fail(field.Invalid(keys, names, "entries must all be names of item properties"))
		case p.Type == "array" || p.Type == "object":
			w.fail(field.Invalid(path.Child("properties").Key(name).Child("type"), p.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		case slices.Contains(names[:i], name):
			w.fail(field.Invalid(keys, names, "must not contain duplicate entries"))
		case p.Default == nil && !slices.Contains(items.Required, name):
			w.fail(field.Required(path.Child("properties").Key(name).Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
	}
}

func (w *walk) rule(r *apiextensionsv1.ValidationRule, path *field.Path) {
	if w.rules++; w.rules == maxRules+1 {
		w.fail(field.TooMany(path, w.rules, maxRules))
	}
	message := strings.TrimSpace(r.Message)
	switch {
	case strings.TrimSpace(r.Rule) == "":
		w.fail(field.Required(path.Child("rule"), "rule is not specified"))
	case len(r.Rule) > maxRule || len(r.MessageExpression) > maxRule:
		w.fail(field.TooLong(path.Child("rule"), "", maxRule))
	case r.Message != "" && message == "":
		w.fail(field.Invalid(path.Child("message"), r.Message, "must be non-empty if specified"))
	case strings.ContainsAny(message, "\r\n"):
		w.fail(field.Invalid(path.Child("message"), r.Message, "must not contain line breaks"))
	case strings.ContainsAny(strings.TrimSpace(r.Rule), "\r\n") && message == "":
		w.fail(field.Required(path.Child("message"), "message must be specified if rule contains line breaks"))
	}
	reasons := []apiextensionsv1.FieldValueErrorReason{
		apiextensionsv1.FieldValueRequired, apiextensionsv1.FieldValueInvalid, apiextensionsv1.FieldValueForbidden, apiextensionsv1.FieldValueDuplicate,
	}
	if r.Reason != nil && !slices.Contains(reasons, *r.Reason) {
		w.fail(field.NotSupported(path.Child("reason"), *r.Reason, reasons))
	}
}

// rules compiles all rules of a schema.
type rules struct {
	ctx  context.Context
	env  *environment.EnvSet
	errs field.ErrorList
}

func (r *rules) node(s *structuralschema.Structural, path *field.Path, root bool) {
	if s == nil || r.ctx.Err() != nil || len(r.errs) > 100 {
		return
	}
	r.compile(s, path, root || s.XEmbeddedResource)
	for name, p := range s.Properties {
		r.node(&p, path.Child("properties").Key(name), false)
	}
	r.node(s.Items, path.Child("items"), false)
	if s.AdditionalProperties != nil {
		r.node(s.AdditionalProperties.Structural, path.Child("additionalProperties"), false)
	}
}

func (r *rules) compile(s *structuralschema.Structural, path *field.Path, resource bool) {
	if len(s.XValidations) == 0 {
		return
	}
	at := path.Child("x-kubernetes-validations")
	results, err := cel.Compile(s, model.SchemaDeclType(s, resource), celconfig.PerCallLimit, r.env, cel.NewExpressionsEnvLoader())
	if err != nil {
		r.errs = append(r.errs, field.Invalid(at, "", err.Error()))
		return
	}
	for i, result := range results {
		rule := s.XValidations[i]
		if result.Error != nil {
			r.errs = append(r.errs, field.Invalid(at.Index(i).Child("rule"), rule.Rule, result.Error.Detail))
		}
		if result.MessageExpressionError != nil {
			r.errs = append(r.errs, field.Invalid(at.Index(i).Child("messageExpression"), rule.MessageExpression, result.MessageExpressionError.Detail))
		}
		if result.MaxCost > maxCost {
			r.errs = append(r.errs, field.Forbidden(at.Index(i).Child("rule"),
				fmt.Sprintf("estimated rule cost exceeds the budget by a factor of %.1f: bound the lists, maps and strings it looks at with maxItems, maxProperties and maxLength", float64(result.MaxCost)/maxCost)))
		}
	}
}

func validateSelectable(fields []apiextensionsv1.SelectableField, s *structuralschema.Structural, path *field.Path) field.ErrorList {
	if len(fields) > maxSelectable {
		return field.ErrorList{field.TooMany(path, len(fields), maxSelectable)}
	}
	var errs field.ErrorList
	for i, f := range fields {
		at := path.Index(i).Child("jsonPath")
		p, found, err := cel.ValidFieldPath(f.JSONPath, s, cel.WithFieldPathAllowArrayNotation(false))
		switch {
		case f.JSONPath == "":
			errs = append(errs, field.Required(at, ""))
		case err != nil:
			errs = append(errs, field.Invalid(at, f.JSONPath, "is an invalid path: "+err.Error()))
		case p.Root().String() == "metadata":
			errs = append(errs, field.Invalid(at, f.JSONPath, "must not point to fields in metadata"))
		case found == nil || !slices.Contains([]string{"string", "boolean", "integer"}, found.Type):
			errs = append(errs, field.Invalid(at, f.JSONPath, "must point to a field of type string, boolean or integer"))
		case slices.Contains(fields[:i], f):
			errs = append(errs, field.Duplicate(at, f.JSONPath))
		}
	}
	return errs
}
