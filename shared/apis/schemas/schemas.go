// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package schemas holds one document a kind, in the shape of a
// CustomResourceDefinition of apiextensions.k8s.io/v1. The hub's API serves
// every document it finds here: adding a file adds a kind. The Go structs of
// the neighbouring packages are kept equal to the stored versions by a test.
//
// Four things differ from a CustomResourceDefinition. A document of group ""
// describes a kind of the core group. A column's jsonPath may be a whole
// template ("{.a}/{.b}"), and its format "first-N" cuts the cell to N bytes.
// The annotation AnnotationVirtual marks a kind that is never stored, and
// AnnotationRefusedMetadata names a field of metadata that is refused.
package schemas

import (
	"embed"
	"fmt"
)

// AnnotationVirtual with the value "true" marks a kind that a provider answers
// for: read only, never stored, and served only when it has a provider.
const AnnotationVirtual = "fleet.drover.io/virtual"

// AnnotationRefusedMetadata, "field: message", refuses objects that have a value
// in a field of metadata which Kubernetes' ObjectMeta no longer knows.
const AnnotationRefusedMetadata = "fleet.drover.io/refused-metadata"

//go:embed *.yaml
var files embed.FS

// Documents returns all documents, ordered by file name.
func Documents() ([][]byte, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	docs := make([][]byte, 0, len(entries))
	for _, e := range entries {
		doc, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read schema %s: %w", e.Name(), err)
		}
		docs = append(docs, doc)
	}
	return docs, nil
}
