// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	apivalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	pathcontent "k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// Validate checks a new object: metadata, schema, lists and rules.
func (k *Kind) Validate(ctx context.Context, obj map[string]any) (field.ErrorList, error) {
	c, err := k.compile()
	if err != nil {
		return nil, err
	}
	errs := k.validateType(obj)
	if len(errs) > 0 {
		return errs, nil
	}
	u := &unstructured.Unstructured{Object: obj}
	errs = append(errs, validation.ValidateObjectMetaAccessor(u, k.Namespaced, k.validName(), field.NewPath("metadata"))...)
	errs = append(errs, apivalidation.ValidateCustomResource(nil, obj, c.object)...)
	errs = append(errs, objectmeta.Validate(ctx, nil, obj, c.schema, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.schema, obj)...)
	if c.cel == nil || blocking(errs) {
		return errs, nil
	}
	more, _ := c.cel.Validate(ctx, nil, c.schema, obj, nil, celconfig.RuntimeCELCostBudget)
	return append(errs, more...), nil
}

// validName: names of roles and bindings are any segment of a path, such as
// "drover:viewer"; all others are DNS subdomains.
func (k *Kind) validName() validation.ValidateNameFunc {
	if k.GVK.Group == rbacv1.GroupName {
		return func(name string, _ bool) []string { return pathcontent.IsPathSegmentName(name) }
	}
	return validation.NameIsDNSSubdomain
}

// CheckTypes reports the fields whose values are not even of the schema's type,
// or not in its format, so that the rest can be decoded into the kind's struct.
func (k *Kind) CheckTypes(obj map[string]any) (field.ErrorList, error) {
	c, err := k.compile()
	if err != nil {
		return nil, err
	}
	var errs field.ErrorList
	for _, e := range apivalidation.ValidateCustomResource(nil, obj, c.object) {
		if e.Type == field.ErrorTypeTypeInvalid {
			errs = append(errs, e)
		}
	}
	return errs, nil
}

// ValidateUpdate checks a changed object against the stored one. What was
// invalid before and did not change is let through, so that a tighter schema
// does not lock objects. With status set only status is looked at.
func (k *Kind) ValidateUpdate(ctx context.Context, obj, old map[string]any, status bool) (field.ErrorList, error) {
	c, err := k.compile()
	if err != nil {
		return nil, err
	}
	errs := k.validateType(obj)
	if len(errs) > 0 {
		return errs, nil
	}
	u, uOld := &unstructured.Unstructured{Object: obj}, &unstructured.Unstructured{Object: old}
	errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(u, uOld, field.NewPath("metadata"))...)
	// Kubernetes checks the names of finalizers at creation only.
	added := slices.DeleteFunc(slices.Clone(u.GetFinalizers()), func(f string) bool { return slices.Contains(uOld.GetFinalizers(), f) })
	errs = append(errs, validation.ValidateFinalizers(added, field.NewPath("metadata", "finalizers"))...)
	correlated := common.NewCorrelatedObject(obj, old, &model.Structural{Structural: c.schema})
	switch {
	case !status:
		errs = append(errs, apivalidation.ValidateCustomResourceUpdate(nil, obj, old, c.object, apivalidation.WithRatcheting(correlated))...)
		errs = append(errs, objectmeta.Validate(ctx, nil, obj, c.schema, false)...)
	case c.status != nil && obj["status"] != nil:
		errs = append(errs, apivalidation.ValidateCustomResourceUpdate(field.NewPath("status"), obj["status"], old["status"], c.status,
			apivalidation.WithRatcheting(correlated.Key("status")))...)
	}
	if more := listtype.ValidateListSetsAndMaps(nil, c.schema, obj); len(more) > 0 &&
		len(listtype.ValidateListSetsAndMaps(nil, c.schema, old)) == 0 {
		errs = append(errs, more...)
	}
	if c.cel == nil || blocking(errs) {
		return errs, nil
	}
	more, _ := c.cel.Validate(ctx, nil, c.schema, obj, old, celconfig.RuntimeCELCostBudget, cel.WithRatcheting(correlated))
	return append(errs, more...), nil
}

func (k *Kind) validateType(obj map[string]any) field.ErrorList {
	var errs field.ErrorList
	if got := obj["kind"]; got != k.GVK.Kind {
		errs = append(errs, field.Invalid(field.NewPath("kind"), got, "must be "+k.GVK.Kind))
	}
	if got, want := obj["apiVersion"], k.GVK.GroupVersion().String(); got != want {
		errs = append(errs, field.Invalid(field.NewPath("apiVersion"), got, "must be "+want))
	}
	return errs
}

// blocking reports errors that make rules meaningless: they assume the types
// and sizes that the schema promises.
func blocking(errs field.ErrorList) bool {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}
