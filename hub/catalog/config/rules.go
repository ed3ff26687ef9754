// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Bounds of one schema, and of what is said about it.
const (
	maxSchema = 512 << 10
	maxDepth  = 64
	maxRules  = 200
	maxErrors = 20
	// maxCost bounds the estimated cost of one rule, as in Kubernetes.
	maxCost = 10000000
)

// walk checks what a structural schema cannot express, and whether a schema
// contradicts itself.
type walk struct {
	rules int
	errs  field.ErrorList
}

func (w *walk) fail(err *field.Error) {
	if len(w.errs) < maxErrors {
		w.errs = append(w.errs, err)
	}
}

func (w *walk) root(s *apiextensionsv1.JSONSchemaProps, path *field.Path) {
	if s.Type != "object" {
		w.fail(field.NotSupported(path.Child("type"), s.Type, []string{"object"}))
	}
	if s.Nullable {
		w.fail(field.Forbidden(path.Child("nullable"), "values are never null"))
	}
	w.node(s, path)
}

func (w *walk) node(s *apiextensionsv1.JSONSchemaProps, path *field.Path) {
	w.unsupported(s, path)
	w.contradictions(s, path)
	w.rules += len(s.XValidations)
	if w.rules > maxRules && w.rules-len(s.XValidations) <= maxRules {
		w.fail(field.TooMany(path.Child("x-kubernetes-validations"), w.rules, maxRules))
	}
	for _, name := range sortedKeys(s.Properties) {
		p := s.Properties[name]
		w.node(&p, path.Child("properties").Key(name))
	}
	if s.Items != nil && s.Items.Schema != nil {
		w.node(s.Items.Schema, path.Child("items"))
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		w.node(s.AdditionalProperties.Schema, path.Child("additionalProperties"))
	}
	if s.Not != nil {
		w.node(s.Not, path.Child("not"))
	}
	for _, g := range []struct {
		name string
		list []apiextensionsv1.JSONSchemaProps
	}{{"allOf", s.AllOf}, {"anyOf", s.AnyOf}, {"oneOf", s.OneOf}} {
		for i := range g.list {
			w.node(&g.list[i], path.Child(g.name).Index(i))
		}
	}
}

// unsupported refuses what a schema of Kubernetes cannot have.
func (w *walk) unsupported(s *apiextensionsv1.JSONSchemaProps, path *field.Path) {
	for _, u := range []struct {
		name string
		set  bool
	}{
		{"id", s.ID != ""},
		{"$schema", s.Schema != ""},
		{"$ref", s.Ref != nil},
		{"additionalItems", s.AdditionalItems != nil},
		{"patternProperties", len(s.PatternProperties) > 0},
		{"definitions", len(s.Definitions) > 0},
		{"dependencies", s.Dependencies != nil},
		{"uniqueItems", s.UniqueItems},
		{"x-kubernetes-embedded-resource", s.XEmbeddedResource},
	} {
		if u.set {
			w.fail(field.Forbidden(path.Child(u.name), "is not supported in schemas of Kubernetes, of which this is one"))
		}
	}
	if s.Items != nil && len(s.Items.JSONSchemas) > 0 {
		w.fail(field.Forbidden(path.Child("items"), "must be a schema, not a list of them"))
	}
	if a := s.AdditionalProperties; a != nil && len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
		w.fail(field.Forbidden(path.Child("additionalProperties"), "excludes properties: unknown fields are refused anyway"))
	}
	if s.Pattern != "" {
		if _, err := regexp.Compile(s.Pattern); err != nil {
			w.fail(field.Invalid(path.Child("pattern"), s.Pattern, err.Error()))
		}
	}
}

// contradictions finds bounds that no value is in.
func (w *walk) contradictions(s *apiextensionsv1.JSONSchemaProps, path *field.Path) {
	if s.Minimum != nil && s.Maximum != nil && (*s.Minimum > *s.Maximum || *s.Minimum == *s.Maximum && (s.ExclusiveMinimum || s.ExclusiveMaximum)) {
		w.fail(field.Invalid(path.Child("minimum"), *s.Minimum, fmt.Sprintf("no number is within it and the maximum %v", *s.Maximum)))
	}
	for _, b := range []struct {
		low, high string
		min, max  *int64
	}{
		{"minLength", "maxLength", s.MinLength, s.MaxLength},
		{"minItems", "maxItems", s.MinItems, s.MaxItems},
		{"minProperties", "maxProperties", s.MinProperties, s.MaxProperties},
	} {
		if b.min != nil && b.max != nil && *b.min > *b.max {
			w.fail(field.Invalid(path.Child(b.low), *b.min, fmt.Sprintf("is more than %s, which is %d", b.high, *b.max)))
		}
	}
	open := s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields || s.AdditionalProperties != nil
	for i, name := range s.Required {
		if _, ok := s.Properties[name]; !ok && s.Type == "object" && !open {
			w.fail(field.Invalid(path.Child("required").Index(i), name, "is not among the properties, so no values can have it"))
		}
	}
	for i, e := range s.Enum {
		if got := typeOf(e.Raw); s.Type != "" && got != "" && got != s.Type && (got != "integer" || s.Type != "number") && (got != "null" || !s.Nullable) {
			w.fail(field.Invalid(path.Child("enum").Index(i), string(e.Raw), "is not of the type "+s.Type))
		}
	}
}

// typeOf is the type of a JSON value, empty for one that is none.
func typeOf(raw []byte) string {
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "":
		return ""
	case text[0] == '"':
		return "string"
	case text[0] == '{':
		return "object"
	case text[0] == '[':
		return "array"
	case text == "true" || text == "false":
		return "boolean"
	case text == "null":
		return "null"
	case strings.ContainsAny(text, ".eE"):
		return "number"
	}
	return "integer"
}

// checkRules compiles all rules of a schema.
func checkRules(ctx context.Context, s *structuralschema.Structural, path *field.Path, n int) field.ErrorList {
	if n == 0 {
		return nil
	}
	r := rules{ctx: ctx, env: environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())}
	r.node(s, path)
	return r.errs
}

type rules struct {
	ctx  context.Context
	env  *environment.EnvSet
	errs field.ErrorList
}

func (r *rules) node(s *structuralschema.Structural, path *field.Path) {
	if s == nil || r.ctx.Err() != nil || len(r.errs) >= maxErrors {
		return
	}
	r.compile(s, path)
	for _, name := range sortedKeys(s.Properties) {
		p := s.Properties[name]
		r.node(&p, path.Child("properties").Key(name))
	}
	r.node(s.Items, path.Child("items"))
	if s.AdditionalProperties != nil {
		r.node(s.AdditionalProperties.Structural, path.Child("additionalProperties"))
	}
}

func (r *rules) compile(s *structuralschema.Structural, path *field.Path) {
	if len(s.XValidations) == 0 {
		return
	}
	at := path.Child("x-kubernetes-validations")
	results, err := cel.Compile(s, model.SchemaDeclType(s, false), celconfig.PerCallLimit, r.env, cel.NewExpressionsEnvLoader())
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
		if result.UsesOldSelf {
			r.errs = append(r.errs, field.Invalid(at.Index(i).Child("rule"), rule.Rule, "values have no former state: oldSelf cannot be used"))
		}
		if result.MaxCost > maxCost {
			r.errs = append(r.errs, field.Forbidden(at.Index(i).Child("rule"),
				fmt.Sprintf("estimated rule cost exceeds the budget by a factor of %.1f: bound the lists, maps and strings it looks at with maxItems, maxProperties and maxLength", float64(result.MaxCost)/maxCost)))
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
