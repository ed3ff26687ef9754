// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	apivalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// maxSchema is how large the schema of a version's values may be.
const maxSchema = 512 << 10

// defaultValues are the version's values with the defaults of its schema, which
// they must fit. What the schema requires and nobody has set is missing.
func defaultValues(ctx context.Context, spec *fleet.AddOnVersionSpec) (values map[string]any, missing []string, err error) {
	if values, err = decodeValues(spec); err != nil {
		return nil, nil, err
	}
	if spec.ConfigSchema == nil || len(spec.ConfigSchema.Raw) == 0 {
		return values, nil, nil
	}
	s, internal, errs := compileSchema(ctx, spec.ConfigSchema.Raw, field.NewPath("spec", "configSchema"))
	if len(errs) > 0 {
		return nil, nil, errs.ToAggregate()
	}
	defaulting.Default(values, s)
	validator, _, err := apivalidation.NewSchemaValidator(internal)
	if err != nil {
		return nil, nil, field.Invalid(field.NewPath("spec", "configSchema"), "", err.Error())
	}
	path := field.NewPath("spec", "values")
	errs = apivalidation.ValidateCustomResource(path, values, validator)
	errs = slices.DeleteFunc(errs, func(e *field.Error) bool {
		if e.Type == field.ErrorTypeRequired {
			missing = append(missing, e.Field)
			return true
		}
		return false
	})
	if len(errs) == 0 && len(missing) == 0 {
		if rules := schemacel.NewValidator(s, false, celconfig.PerCallLimit); rules != nil {
			errs, _ = rules.Validate(ctx, path, s, values, nil, celconfig.RuntimeCELCostBudget)
		}
	}
	if len(errs) > 0 {
		return nil, nil, errs.ToAggregate()
	}
	return values, missing, nil
}

// compileSchema checks a schema itself, its defaults and its rules.
func compileSchema(ctx context.Context, raw []byte, path *field.Path) (*structuralschema.Structural, *apiextensions.JSONSchemaProps, field.ErrorList) {
	invalid := func(err error) (*structuralschema.Structural, *apiextensions.JSONSchemaProps, field.ErrorList) {
		return nil, nil, field.ErrorList{field.Invalid(path, "", err.Error())}
	}
	if len(raw) > maxSchema {
		return invalid(fmt.Errorf("more than %d bytes", maxSchema))
	}
	var props apiextensionsv1.JSONSchemaProps
	strict, err := kjson.UnmarshalStrict(raw, &props)
	if err == nil && len(strict) > 0 {
		err = strict[0]
	}
	if err != nil {
		return invalid(err)
	}
	if props.Type != "object" {
		return nil, nil, field.ErrorList{field.Invalid(path.Child("type"), props.Type, "values are an object")}
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&props, internal, nil); err != nil {
		return invalid(err)
	}
	s, err := structuralschema.NewStructural(internal)
	if err != nil {
		return invalid(err)
	}
	if errs := structuralschema.ValidateStructural(path, s); len(errs) > 0 {
		return nil, nil, errs
	}
	if errs := contradictions(&props, path); len(errs) > 0 {
		return nil, nil, errs
	}
	errs, err := defaulting.ValidateDefaults(ctx, path, s, false, true)
	if err != nil {
		return invalid(err)
	}
	return s, internal, append(errs, compileRules(s, path)...)
}

// contradictions are bounds that no value can be within.
func contradictions(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	over := func(name string, low, high *int64) {
		if low != nil && high != nil && *low > *high {
			errs = append(errs, field.Invalid(path, *low, fmt.Sprintf("min%s is more than max%s %d: no value fits", name, name, *high)))
		}
	}
	over("Length", s.MinLength, s.MaxLength)
	over("Items", s.MinItems, s.MaxItems)
	over("Properties", s.MinProperties, s.MaxProperties)
	if s.Minimum != nil && s.Maximum != nil && *s.Minimum > *s.Maximum {
		errs = append(errs, field.Invalid(path, *s.Minimum, fmt.Sprintf("minimum is more than maximum %v: no value fits", *s.Maximum)))
	}
	for _, name := range s.Required {
		if _, known := s.Properties[name]; !known && s.AdditionalProperties == nil && len(s.Properties) > 0 {
			errs = append(errs, field.Invalid(path.Child("required"), name, "no such property"))
		}
	}
	for name := range s.Properties {
		p := s.Properties[name]
		errs = append(errs, contradictions(&p, path.Child("properties").Key(name))...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		errs = append(errs, contradictions(s.Items.Schema, path.Child("items"))...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		errs = append(errs, contradictions(s.AdditionalProperties.Schema, path.Child("additionalProperties"))...)
	}
	return errs
}

func compileRules(s *structuralschema.Structural, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.XValidations) > 0 {
		env := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
		results, err := schemacel.Compile(s, model.SchemaDeclType(s, false), celconfig.PerCallLimit, env, schemacel.NewExpressionsEnvLoader())
		if err != nil {
			return field.ErrorList{field.InternalError(path, err)}
		}
		for i, r := range results {
			if r.Error != nil {
				errs = append(errs, field.Invalid(path.Child("x-kubernetes-validations").Index(i).Child("rule"), s.XValidations[i].Rule, r.Error.Detail))
			}
		}
	}
	for name := range s.Properties {
		p := s.Properties[name]
		errs = append(errs, compileRules(&p, path.Child("properties").Key(name))...)
	}
	if s.Items != nil {
		errs = append(errs, compileRules(s.Items, path.Child("items"))...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		errs = append(errs, compileRules(s.AdditionalProperties.Structural, path.Child("additionalProperties"))...)
	}
	return errs
}
