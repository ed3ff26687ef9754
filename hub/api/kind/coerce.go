// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"strings"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/shared/apis/schemas"
)

// Coerce does for obj what decoding into a Go struct would do: it removes
// fields the schema does not know, and nulls where none are allowed, and brings
// metadata into its form. It returns the paths of the removed fields, and an
// error when metadata, kind or apiVersion have a wrong type.
func (k *Kind) Coerce(obj map[string]any) (unknown []string, err error) {
	c, err := k.compile()
	if err != nil {
		return nil, err
	}
	apiVersion, kind, err := typeMeta(obj)
	if err != nil {
		return nil, err
	}
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(obj, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	unknown = append(unknown, pruning.PruneWithOptions(obj, c.schema, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, c.schema)
	ferr, paths := objectmeta.CoerceWithOptions(nil, obj, c.schema, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if ferr != nil {
		return nil, ferr
	}
	unknown = append(unknown, paths...)
	// Pruning takes these away when the schema does not list them.
	if apiVersion != "" {
		obj["apiVersion"] = apiVersion
	}
	if kind != "" {
		obj["kind"] = kind
	}
	if found {
		if err := objectmeta.SetObjectMeta(obj, meta); err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
		// encoding a zero time leaves a null behind
		if m, ok := obj["metadata"].(map[string]any); ok && m["creationTimestamp"] == nil {
			delete(m, "creationTimestamp")
		}
	}
	return unknown, nil
}

// Default fills in the schema's defaults.
func (k *Kind) Default(obj map[string]any) error {
	c, err := k.compile()
	if err != nil {
		return err
	}
	defaulting.Default(obj, c.schema)
	return nil
}

// parseRefused reads AnnotationRefusedMetadata.
func (k *Kind) parseRefused() error {
	text := k.Annotations[schemas.AnnotationRefusedMetadata]
	if text == "" {
		return nil
	}
	name, message, ok := strings.Cut(text, ": ")
	if !ok {
		return fmt.Errorf("annotation %s: want \"field: message\"", schemas.AnnotationRefusedMetadata)
	}
	k.refused = map[string]string{name: message}
	return nil
}

// Refused reports the fields of metadata that the kind has a word about, but
// Kubernetes has not any more. It has to be asked before Coerce, which drops them.
func (k *Kind) Refused(obj map[string]any) field.ErrorList {
	var errs field.ErrorList
	m, _ := obj["metadata"].(map[string]any)
	for name, message := range k.refused {
		if v, ok := m[name]; ok && v != nil && v != "" {
			errs = append(errs, field.Invalid(field.NewPath("metadata", name), v, message))
		}
	}
	return errs
}

func typeMeta(obj map[string]any) (apiVersion, kind string, err error) {
	for _, f := range []struct {
		name string
		to   *string
	}{{"apiVersion", &apiVersion}, {"kind", &kind}} {
		switch v := obj[f.name].(type) {
		case nil:
		case string:
			*f.to = v
		default:
			return "", "", fmt.Errorf("%s: expected a string, got %T", f.name, v)
		}
	}
	return apiVersion, kind, nil
}
