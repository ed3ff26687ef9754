// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Conversion turns an object into another version of its kind, without changing
// obj. What the version cannot say it keeps in annotations, so that the way back
// loses nothing. Only fields of the types that the schema allows are given to it.
type Conversion func(obj map[string]any, version string) (map[string]any, error)

// family is a kind in all its versions.
type family struct {
	versions   []*Kind // the storage version first
	storage    *Kind
	conversion Conversion // nil: only apiVersion differs
	types      func() (managedfields.TypeConverter, error)
}

// Versions returns the kind in all its versions, the one that is stored first.
func (k *Kind) Versions() []*Kind { return k.family.versions }

// Storage returns the version in which objects are stored.
func (k *Kind) Storage() *Kind { return k.family.storage }

// Converts reports whether stored objects have to be converted to be seen in
// this version.
func (k *Kind) Converts() bool { return k.family.conversion != nil && k != k.family.storage }

// FromStored brings an object as the store holds it into this version. It may
// change obj.
func (k *Kind) FromStored(obj map[string]any) (map[string]any, error) {
	if !k.Converts() {
		obj["apiVersion"], obj["kind"] = k.GVK.GroupVersion().String(), k.GVK.Kind
		return obj, nil
	}
	s := k.family.storage
	obj["apiVersion"], obj["kind"] = s.GVK.GroupVersion().String(), s.GVK.Kind
	// Nothing but stored objects comes here, which controllers may have written:
	// a conversion need not cope with their nulls.
	if _, err := s.Coerce(obj); err != nil {
		return nil, fmt.Errorf("stored object: %w", err)
	}
	return k.family.convert(obj, k)
}

// ToStored turns an object of this version into what the store holds. It leaves
// obj alone.
func (k *Kind) ToStored(obj map[string]any) (map[string]any, error) {
	if k == k.family.storage {
		return obj, nil
	}
	return k.family.convert(obj, k.family.storage)
}

func (f *family) convert(obj map[string]any, to *Kind) (map[string]any, error) {
	version := to.GVK.GroupVersion().String()
	if obj["apiVersion"] == version {
		return obj, nil
	}
	if f.conversion == nil {
		out := make(map[string]any, len(obj))
		for k, v := range obj {
			out[k] = v
		}
		out["apiVersion"] = version
		return out, nil
	}
	out, err := f.conversion(runtime.DeepCopyJSON(obj), to.GVK.Version)
	if err != nil {
		return nil, fmt.Errorf("convert to %s: %w", version, err)
	}
	out["apiVersion"] = version
	return out, nil
}

// newTypeConverter knows all versions, since the managers of one object may have
// used any of them.
func (f *family) newTypeConverter() (managedfields.TypeConverter, error) {
	models := MetaSchemas(RefV3)
	for _, k := range f.versions {
		s, err := k.decodeSchema()
		if err != nil {
			return nil, err
		}
		models[k.ModelName()] = k.native(s.structural.Unfold().StripValueValidations().StripNullable(), RefV3)
	}
	conv, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		return nil, fmt.Errorf("type converter: %w", err)
	}
	return conv, nil
}
