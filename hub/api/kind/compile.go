// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	apivalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/managedfields"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// compiled is what is made of a schema, the expensive part of a kind.
type compiled struct {
	schema *structuralschema.Structural
	object apivalidation.SchemaValidator
	status apivalidation.SchemaValidator // nil without the subresource
	cel    *cel.Validator                // nil without rules

	fields       *managedfields.FieldManager
	statusFields *managedfields.FieldManager
}

func newCompiled(k *Kind) (*compiled, error) {
	src, err := k.decodeSchema()
	if err != nil {
		return nil, err
	}
	if errs := structuralschema.ValidateStructural(nil, src.structural); len(errs) > 0 {
		return nil, fmt.Errorf("structural schema: %w", errs.ToAggregate())
	}
	props, structural := src.props, src.structural
	if err := defaulting.PruneDefaults(structural); err != nil {
		return nil, fmt.Errorf("prune defaults: %w", err)
	}
	c := &compiled{schema: structural, cel: cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	if c.object, _, err = apivalidation.NewSchemaValidator(props); err != nil {
		return nil, fmt.Errorf("schema validator: %w", err)
	}
	if status, ok := props.Properties["status"]; ok && k.Status {
		if c.status, _, err = apivalidation.NewSchemaValidator(&status); err != nil {
			return nil, fmt.Errorf("status validator: %w", err)
		}
	}
	if err := c.newFieldManagers(k); err != nil {
		return nil, err
	}
	return c, nil
}
