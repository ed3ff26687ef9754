// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"reflect"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Track records in obj's managedFields what manager changed compared to live,
// for every write that is not an apply. A create passes an object with only
// kind and apiVersion as live.
func (k *Kind) Track(live, obj map[string]any, manager string, status bool) (map[string]any, error) {
	fm, err := k.fieldManager(status)
	if err != nil {
		return nil, err
	}
	return content(fm.UpdateNoErrors(wrap(live), wrap(obj), manager))
}

// Apply merges a server-side apply patch into live. Conflicts with other
// managers are an apierrors.IsConflict error that names them, unless force is set.
func (k *Kind) Apply(live, patch map[string]any, manager string, force, status bool) (map[string]any, error) {
	fm, err := k.fieldManager(status)
	if err != nil {
		return nil, err
	}
	obj, err := fm.Apply(wrap(live), wrap(patch), manager, force)
	if err != nil {
		return nil, err
	}
	return content(obj)
}

func (k *Kind) fieldManager(status bool) (*managedfields.FieldManager, error) {
	c, err := k.compile()
	if err != nil {
		return nil, err
	}
	if status {
		return c.statusFields, nil
	}
	return c.fields, nil
}

func (c *compiled) newFieldManagers(k *Kind) error {
	conv, err := k.family.types()
	if err != nil {
		return err
	}
	version := fieldpath.APIVersion(k.GVK.GroupVersion().String())
	reset := func(paths ...string) map[fieldpath.APIVersion]fieldpath.Filter {
		set := fieldpath.NewSet()
		for _, p := range paths {
			set.Insert(fieldpath.MakePathOrDie(p))
		}
		return fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{version: set})
	}
	d := versions{k, c}
	var outside []string
	for name := range c.schema.Properties {
		if name != "status" && name != "apiVersion" && name != "kind" {
			outside = append(outside, name)
		}
	}
	main := map[fieldpath.APIVersion]fieldpath.Filter(nil)
	if k.Status {
		main = reset("status")
	}
	if c.fields, err = managedfields.NewDefaultCRDFieldManager(conv, d, d, d, k.GVK, k.GVK.GroupVersion(), "", main); err != nil {
		return fmt.Errorf("field manager: %w", err)
	}
	if !k.Status {
		return nil
	}
	if c.statusFields, err = managedfields.NewDefaultCRDFieldManager(conv, d, d, d, k.GVK, k.GVK.GroupVersion(), "status", reset(outside...)); err != nil {
		return fmt.Errorf("field manager of status: %w", err)
	}
	return nil
}

// versions is converter, defaulter and creator for a field manager.
type versions struct {
	kind *Kind
	c    *compiled
}

func (v versions) Default(in runtime.Object) {
	if u, ok := in.(*unstructured.Unstructured); ok {
		defaulting.Default(u.Object, v.c.schema)
	}
}

func (versions) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

func (v versions) Convert(in, out, _ any) error {
	from, ok := in.(*unstructured.Unstructured)
	to, ok2 := out.(*unstructured.Unstructured)
	if !ok || !ok2 {
		return fmt.Errorf("cannot convert %T to %T", in, out)
	}
	to.Object = from.Object
	return nil
}

// ConvertToVersion refuses versions that are not there any more in the way that
// makes a field manager forget what was done in them.
func (v versions) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("cannot convert a %T", in)
	}
	gvk, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{u.GroupVersionKind()})
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("kind", reflect.TypeFor[unstructured.Unstructured](), target)
	}
	for _, k := range v.kind.family.versions {
		if k.GVK == gvk {
			obj, err := v.kind.family.convert(u.Object, k)
			if err != nil {
				return nil, err
			}
			return wrap(obj), nil
		}
	}
	return nil, runtime.NewNotRegisteredErrForKind("kind", gvk)
}

func (versions) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func wrap(obj map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: obj}
}

func content(obj runtime.Object) (map[string]any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("field manager returned %T", obj)
	}
	return u.Object, nil
}
