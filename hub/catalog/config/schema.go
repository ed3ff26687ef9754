// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apivalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	kjson "sigs.k8s.io/json"
)

// Schema is what the values of an AddOnVersion must fit: OpenAPI v3 in the form
// that CustomResourceDefinitions have, with rules in CEL. It is safe for
// concurrent use.
type Schema struct {
	structural *structuralschema.Structural
	validator  apivalidation.SchemaValidator
	rules      *cel.Validator // nil without rules
}

// Compile makes a Schema of AddOnVersion.spec.configSchema; raw is JSON. A version
// without a schema has nil, which takes any values. The errors say what is wrong
// with the schema itself, at path.
func Compile(ctx context.Context, raw []byte, path *field.Path) (*Schema, field.ErrorList) {
	if len(raw) == 0 {
		return nil, nil
	}
	invalid := func(err error) field.ErrorList { return field.ErrorList{field.Invalid(path, "", err.Error())} }
	if err := boundedDepth(raw); err != nil {
		return nil, invalid(err)
	}
	var props apiextensionsv1.JSONSchemaProps
	strict, err := kjson.UnmarshalStrict(raw, &props)
	if err = errors.Join(append(strict, err)...); err != nil {
		return nil, invalid(err)
	}
	w := walk{}
	w.root(&props, path)
	if len(w.errs) > 0 {
		return nil, w.errs
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&props, internal, nil); err != nil {
		return nil, invalid(err)
	}
	s, err := structuralschema.NewStructural(internal)
	if err != nil {
		return nil, invalid(err)
	}
	s = s.DeepCopy() // NewStructural shares the defaults of its input
	if errs := structuralschema.ValidateStructural(path, s); len(errs) > 0 {
		return nil, errs
	}
	errs, err := defaulting.ValidateDefaults(ctx, path, s, false, true)
	if err != nil {
		return nil, invalid(err)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if errs := checkRules(ctx, s, path, w.rules); len(errs) > 0 {
		return nil, errs
	}
	out := &Schema{structural: s, rules: cel.NewValidator(s, false, celconfig.PerCallLimit)}
	if out.validator, _, err = apivalidation.NewSchemaValidator(internal); err != nil {
		return nil, invalid(err)
	}
	return out, nil
}

// Complete fills in defaults and checks values; the values given stay as they are.
// Fields that the schema does not know are errors.
func (s *Schema) Complete(ctx context.Context, values map[string]any) (map[string]any, field.ErrorList) {
	return s.complete(ctx, values, true)
}

// CheckLayer checks values that are not the whole: what is required may come from
// elsewhere, and is returned as missing instead. Rules are looked at when nothing
// is missing, and only if the values are all that is known of them: with more to
// come from claims they would judge what nobody gets.
func (s *Schema) CheckLayer(ctx context.Context, values map[string]any, all bool) (missing []string, _ field.ErrorList) {
	_, errs := s.complete(ctx, values, all)
	errs = slices.DeleteFunc(errs, func(err *field.Error) bool {
		if err.Type == field.ErrorTypeRequired {
			missing = append(missing, err.Field)
		}
		return err.Type == field.ErrorTypeRequired
	})
	return missing, errs
}

func (s *Schema) complete(ctx context.Context, values map[string]any, rules bool) (map[string]any, field.ErrorList) {
	path := field.NewPath("values")
	if values == nil {
		values = map[string]any{}
	}
	if s == nil {
		return values, nil
	}
	values = runtime.DeepCopyJSON(values)
	if errs := s.unknown(values, path); len(errs) > 0 {
		return nil, errs
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(values, s.structural)
	defaulting.Default(values, s.structural)
	errs := apivalidation.ValidateCustomResource(path, values, s.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(path, s.structural, values)...)
	if rules && s.rules != nil && !blocking(errs) {
		more, _ := s.rules.Validate(ctx, path, s.structural, values, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return values, nil
}

// blocking reports errors that make rules meaningless: they assume the types and
// sizes that the schema promises.
func blocking(errs field.ErrorList) bool {
	return slices.ContainsFunc(errs, func(err *field.Error) bool {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
		return false
	})
}

// unknown finds fields that the schema does not know, and what was meant perhaps.
func (s *Schema) unknown(values map[string]any, path *field.Path) field.ErrorList {
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	found := pruning.PruneWithOptions(runtime.DeepCopyJSON(values), s.structural, false, options)
	var errs field.ErrorList
	for _, at := range found {
		detail := "the schema of this version has no such field"
		if near := s.near(at); len(near) > 0 {
			detail += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		errs = append(errs, field.Forbidden(path.Child(at), detail))
		if len(errs) == maxErrors {
			break
		}
	}
	return errs
}

// near are the fields beside an unknown one that are written almost like it.
func (s *Schema) near(at string) []string {
	node, rest := s.structural, at
	parent := ""
	for {
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			break
		}
		node = child(node, rest[:end])
		if rest[end] == '[' {
			index := strings.IndexByte(rest[end:], ']')
			if index < 0 || node == nil {
				return nil
			}
			node, end = node.Items, end+index+1
			if !strings.HasPrefix(rest[end:], ".") {
				return nil
			}
		}
		if node == nil {
			return nil
		}
		parent += rest[:end] + "."
		rest = rest[end+1:]
	}
	var out []string
	for name := range node.Properties {
		if closeTo(rest, name) {
			out = append(out, parent+name)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), 3)]
}

func child(s *structuralschema.Structural, name string) *structuralschema.Structural {
	if s == nil {
		return nil
	}
	if p, ok := s.Properties[name]; ok {
		return &p
	}
	if s.AdditionalProperties != nil {
		return s.AdditionalProperties.Structural
	}
	return nil
}

// closeTo reports whether two names differ in a third of their letters at most;
// two that changed places are one.
func closeTo(a, b string) bool {
	if len(a) > 64 || len(b) > 64 {
		return false
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	var older, old []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, old, row = old, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := old[j]
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, row[j]+1, old[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)] <= max(1, max(len(a), len(b))/3)
}

// typed makes of text what the schema wants at a path. Text that is nothing of the
// kind stays text, and the check says so.
func (s *Schema) typed(keys []string, text string) any {
	if s == nil {
		return text
	}
	node := s.structural
	for _, k := range keys {
		node = child(node, k)
	}
	if node == nil {
		return text
	}
	switch node.Type {
	case "integer":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case "number":
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n
		}
	case "boolean":
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	}
	return text
}

// boundedDepth refuses JSON that is large, or so deep that walking it is not safe.
func boundedDepth(raw []byte) error {
	if len(raw) > maxSchema {
		return fmt.Errorf("a schema may have %d bytes, this one has %d", maxSchema, len(raw))
	}
	depth, text, escaped := 0, false, false
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > 2*maxDepth {
				return fmt.Errorf("a schema may be %d levels deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
