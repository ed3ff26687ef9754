// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// checkSpec checks what needs no content.
func checkSpec(ctx context.Context, v *fleet.AddOnVersion) field.ErrorList {
	spec, path := &v.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if _, err := versions.Parse(spec.Version); err != nil {
		return field.ErrorList{field.Invalid(path.Child("version"), spec.Version, err.Error())}
	}
	if problems := validation.IsDNS1123Subdomain(spec.AddOn); len(problems) > 0 {
		errs = append(errs, field.Invalid(path.Child("addOn"), spec.AddOn, problems[0]))
	}
	if want := Name(spec.AddOn, spec.Version); v.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), v.Name, fmt.Sprintf("must be ADDON-VERSION: %q", want)))
	}
	if spec.Default && spec.Active != nil && !*spec.Active {
		errs = append(errs, field.Invalid(path.Child("default"), true, "an inactive version cannot be the default: set active to true first"))
	}
	if spec.Image == "" && len(spec.Manifests) == 0 {
		errs = append(errs, field.Required(path.Child("image"), "the content is missing: set image or manifests"))
	}
	for _, list := range []struct {
		name   string
		ranges []fleet.AddOnRange
	}{{"dependencies", spec.Dependencies}, {"conflicts", spec.Conflicts}} {
		for i, r := range list.ranges {
			at := path.Child(list.name).Index(i)
			if r.AddOn == spec.AddOn {
				errs = append(errs, field.Invalid(at.Child("addOn"), r.AddOn, "this is the addon itself"))
			}
			errs = append(errs, checkRange(r.VersionRange, at.Child("versionRange"))...)
		}
	}
	if u := spec.Upgrade; u != nil {
		errs = append(errs, checkRange(u.From, path.Child("upgrade", "from"))...)
	}
	if err := depend.CheckRequirements(spec.Requirements); err != nil {
		errs = append(errs, field.Invalid(path.Child("requirements"), "", err.Error()))
	}
	errs = append(errs, checkHealth(spec.Health, path.Child("health"))...)
	if len(errs) == 0 {
		_, _, err := defaultValues(ctx, spec)
		var list interface{ Errors() []error }
		var one *field.Error
		switch {
		case errors.As(err, &list):
			for _, e := range list.Errors() {
				if errors.As(e, &one) {
					errs = append(errs, one)
				}
			}
		case errors.As(err, &one):
			errs = append(errs, one)
		}
	}
	return errs
}

func checkRange(text string, path *field.Path) field.ErrorList {
	if _, err := versions.ParseRange(text); err != nil {
		return field.ErrorList{field.Invalid(path, text, err.Error())}
	}
	return nil
}

// checkHealth compiles the rules as an agent will.
func checkHealth(rules []fleet.HealthRule, path *field.Path) field.ErrorList {
	if len(rules) == 0 {
		return nil
	}
	env, err := cel.NewEnv(
		cel.Variable("object", cel.DynType),
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(ext.StringsVersion(2)), ext.Sets(),
		library.URLs(), library.Regex(), library.Lists(), library.Quantity(), library.IP(), library.CIDR(), library.Format(), library.SemverLib(),
		cel.Function("hasConditions", cel.Overload("has_conditions", []*cel.Type{cel.DynType}, cel.BoolType)),
	)
	if err != nil {
		return field.ErrorList{field.InternalError(path, err)}
	}
	var errs field.ErrorList
	for i, rule := range rules {
		if rule.Expression == "" {
			continue
		}
		at := path.Index(i).Child("expression")
		ast, issues := env.Compile(rule.Expression)
		if issues.Err() != nil {
			errs = append(errs, field.Invalid(at, rule.Expression, issues.Err().Error()))
			continue
		}
		if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
			errs = append(errs, field.Invalid(at, rule.Expression, fmt.Sprintf("it gives %s: want true or false", t)))
		}
	}
	return errs
}

// inspect says what is in a rendering: kinds and container images.
func inspect(r *catalog.Rendered) fleet.AddOnVersionStatus {
	kinds, images := map[string]bool{}, map[string]bool{}
	n := 0
	for _, group := range [][]*unstructured.Unstructured{r.Objects, r.PostInstall, r.PreDelete} {
		for _, o := range group {
			n++
			kinds[o.GetAPIVersion()+"/"+o.GetKind()] = true
			collectImages(o.Object, images)
		}
	}
	return fleet.AddOnVersionStatus{Objects: int32(n), Kinds: sorted(kinds), Images: sorted(images)}
}

// maxListed bounds kinds and images, as the schema does.
const maxListed = 1024

func sorted(set map[string]bool) []string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out[:min(len(out), maxListed)]
}

// collectImages finds the images of all containers, wherever a pod template is.
func collectImages(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if k == "containers" || k == "initContainers" || k == "ephemeralContainers" {
				list, _ := x.([]any)
				for _, c := range list {
					m, _ := c.(map[string]any)
					if image, ok := m["image"].(string); ok && image != "" {
						into[image] = true
					}
				}
			}
			collectImages(x, into)
		}
	case []any:
		for _, x := range v {
			collectImages(x, into)
		}
	}
}

// decodeValues are the version's own values.
func decodeValues(spec *fleet.AddOnVersionSpec) (map[string]any, error) {
	values := map[string]any{}
	if spec.Values == nil || len(spec.Values.Raw) == 0 {
		return values, nil
	}
	if err := json.Unmarshal(spec.Values.Raw, &values); err != nil {
		return nil, field.Invalid(field.NewPath("spec", "values"), "", err.Error())
	}
	return normal(values).(map[string]any), nil
}

// normal makes whole numbers of floats that are.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = normal(x)
		}
	case []any:
		for i, x := range v {
			v[i] = normal(x)
		}
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	}
	return v
}
