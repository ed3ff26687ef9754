// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/api/crd"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// definitionHook checks what users define.
type definitionHook struct {
	own []*resource // Drover's kinds, which nobody else may define
}

// Admit implements Hook.
func (h definitionHook) Admit(ctx context.Context, a *Admission) error {
	if a.Operation == Delete {
		return nil
	}
	d, unknown, err := decodeDefinition(a.Object)
	if err != nil {
		return field.Invalid(field.NewPath("spec"), "", err.Error())
	}
	for _, u := range unknown {
		a.Warn(u)
	}
	crd.Default(d)
	var old *apiextensionsv1.CustomResourceDefinition
	if a.Old != nil {
		if old, _, err = decodeDefinition(a.Old); err != nil {
			return fmt.Errorf("stored definition: %w", err)
		}
	}
	switch a.Operation {
	case Create:
		d.Status = apiextensionsv1.CustomResourceDefinitionStatus{Conditions: []apiextensionsv1.CustomResourceDefinitionCondition{}}
		if !slices.Contains(d.Finalizers, crd.Finalizer) {
			d.Finalizers = append(d.Finalizers, crd.Finalizer)
		}
	case UpdateStatus:
		// the versions that objects may be stored in are all there is to change
		if errs := crd.Validate(ctx, d); len(errs) > 0 {
			return errs.ToAggregate()
		}
		return nil
	}
	if v := crd.StorageVersion(d); v != "" && !slices.Contains(d.Status.StoredVersions, v) {
		d.Status.StoredVersions = append(d.Status.StoredVersions, v)
	}
	errs := h.reserved(d)
	// A definition that is only being let go of may be as invalid as it was.
	if old == nil || !sameSpec(a.Object, a.Old) {
		errs = append(errs, crd.Validate(ctx, d)...)
	}
	if old != nil {
		errs = append(errs, crd.ValidateUpdate(d, old)...)
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	return encodeDefinition(d, a.Object)
}

// reserved refuses kinds that are Drover's own.
func (h definitionHook) reserved(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	group, names, path := d.Spec.Group, &d.Spec.Names, field.NewPath("spec", "names")
	var errs field.ErrorList
	for _, r := range h.own {
		if r.GVK.Group != group {
			continue
		}
		if group == fleet.Group || strings.HasSuffix(group, ".k8s.io") {
			return field.ErrorList{field.Forbidden(field.NewPath("spec", "group"), fmt.Sprintf("the group %s is the hub's own: use another one", group))}
		}
		if r.Resource == names.Plural {
			return field.ErrorList{field.Forbidden(field.NewPath("metadata", "name"), fmt.Sprintf("%s is built into the hub and cannot be defined", r.StoreResource()))}
		}
		for _, n := range []struct{ at, name string }{{"kind", names.Kind}, {"listKind", names.ListKind}} {
			if n.name == r.GVK.Kind || n.name == r.ListKind {
				errs = append(errs, field.Forbidden(path.Child(n.at), fmt.Sprintf("%s in %s is built into the hub", n.name, group)))
			}
		}
	}
	return errs
}

func sameSpec(a, b map[string]any) bool {
	x, err := json.Marshal(a["spec"])
	y, err2 := json.Marshal(b["spec"])
	return err == nil && err2 == nil && string(x) == string(y)
}

// decodeDefinition also returns what the schemas hold that no schema has.
func decodeDefinition(obj map[string]any) (*apiextensionsv1.CustomResourceDefinition, []string, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, nil, err
	}
	d := &apiextensionsv1.CustomResourceDefinition{}
	problems, err := kjson.UnmarshalStrict(data, d)
	if err != nil {
		return nil, nil, err
	}
	var unknown []string
	for _, p := range problems {
		unknown = append(unknown, p.Error())
	}
	return d, unknown, nil
}

// encodeDefinition puts all of d that hooks may change into obj.
func encodeDefinition(d *apiextensionsv1.CustomResourceDefinition, obj map[string]any) error {
	all, err := Fields(d)
	if err != nil {
		return err
	}
	obj["spec"], obj["status"] = all["spec"], all["status"]
	if f := meta(all)["finalizers"]; f != nil {
		meta(obj)["finalizers"] = f
	}
	return nil
}

// names that one kind takes in its group.
type takenNames struct {
	resources map[schema.GroupResource]string // plural, singular and short names
	kinds     map[schema.GroupKind]string
}

func newTakenNames(own []*resource) takenNames {
	t := takenNames{map[schema.GroupResource]string{}, map[schema.GroupKind]string{}}
	for _, r := range own {
		t.take(r.GVK.Group, r.StoreResource(), &apiextensionsv1.CustomResourceDefinitionNames{
			Plural: r.Resource, Singular: r.Singular, ShortNames: r.ShortNames, Kind: r.GVK.Kind, ListKind: r.ListKind,
		})
	}
	return t
}

// conflict returns the name that another kind has, and what it is, or "".
func (t takenNames) conflict(group, owner string, n *apiextensionsv1.CustomResourceDefinitionNames) (name, reason string) {
	for i, r := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
		if by, ok := t.resources[schema.GroupResource{Group: group, Resource: r}]; ok && by != owner {
			return r, []string{"PluralConflict", "SingularConflict", "ShortNamesConflict"}[min(i, 2)]
		}
	}
	for i, k := range []string{n.Kind, n.ListKind} {
		if by, ok := t.kinds[schema.GroupKind{Group: group, Kind: k}]; ok && by != owner {
			return k, []string{"KindConflict", "ListKindConflict"}[i]
		}
	}
	return "", ""
}

func (t takenNames) take(group, owner string, n *apiextensionsv1.CustomResourceDefinitionNames) {
	for _, r := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
		t.resources[schema.GroupResource{Group: group, Resource: r}] = owner
	}
	for _, k := range []string{n.Kind, n.ListKind} {
		t.kinds[schema.GroupKind{Group: group, Kind: k}] = owner
	}
}
