// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// defaultValues are the version's values with the defaults of its schema, which
// they must fit. What the schema requires and nobody has set is missing.
func defaultValues(ctx context.Context, spec *fleet.AddOnVersionSpec) (values map[string]any, missing []string, err error) {
	if values, err = decodeValues(spec); err != nil {
		return nil, nil, err
	}
	if spec.ConfigSchema == nil || len(spec.ConfigSchema.Raw) == 0 {
		return values, nil, nil
	}
	schema, errs := config.Compile(ctx, spec.ConfigSchema.Raw, field.NewPath("spec", "configSchema"))
	if len(errs) > 0 {
		return nil, nil, errs.ToAggregate()
	}
	missing, errs = schema.CheckLayer(ctx, values, true)
	if len(errs) == 0 && len(missing) == 0 {
		values, errs = schema.Complete(ctx, values)
	}
	for _, e := range errs {
		e.Field = "spec." + e.Field // they are this object's
	}
	return values, missing, errs.ToAggregate()
}

// checkDependencies says why a version does not go together with the others there
// are: what it needs is missing, excludes itself, or comes to depend on it.
func (p *Publisher) checkDependencies(ctx context.Context, spec *fleet.AddOnVersionSpec) error {
	v, err := depend.Parse(spec)
	if err != nil {
		return field.Invalid(field.NewPath("spec"), spec.AddOn, err.Error())
	}
	if len(v.Requires) == 0 && len(v.Conflicts) == 0 {
		return nil
	}
	page, err := p.cfg.Store.List(ctx, store.Selection{Resource: fleet.ResourceAddOnVersions})
	if err != nil {
		return fmt.Errorf("list versions: %w", err)
	}
	all := make([]depend.Stored, len(page.Entries))
	for i, e := range page.Entries {
		all[i] = depend.Stored{Name: e.Key.Name, Revision: e.Revision, Data: e.Data}
	}
	return p.parsed.Catalog(all).Check(v).ToAggregate()
}
