// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// document is a CustomResourceDefinition whose schemas are not decoded: as Go
// structs they are some ten times as large as their text.
type document struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Group    string                                        `json:"group"`
		Names    apiextensionsv1.CustomResourceDefinitionNames `json:"names"`
		Scope    apiextensionsv1.ResourceScope                 `json:"scope"`
		Versions []documentVersion                             `json:"versions"`

		Conversion            json.RawMessage `json:"conversion,omitempty"`
		PreserveUnknownFields bool            `json:"preserveUnknownFields,omitempty"`
	} `json:"spec"`
	Status json.RawMessage `json:"status,omitempty"`
}

type documentVersion struct {
	Name               string `json:"name"`
	Served             bool   `json:"served"`
	Storage            bool   `json:"storage"`
	Deprecated         bool   `json:"deprecated,omitempty"`
	DeprecationWarning string `json:"deprecationWarning,omitempty"`
	Schema             struct {
		OpenAPIV3Schema json.RawMessage `json:"openAPIV3Schema"`
	} `json:"schema"`
	Subresources             *apiextensionsv1.CustomResourceSubresources      `json:"subresources,omitempty"`
	AdditionalPrinterColumns []apiextensionsv1.CustomResourceColumnDefinition `json:"additionalPrinterColumns,omitempty"`
	SelectableFields         []apiextensionsv1.SelectableField                `json:"selectableFields,omitempty"`
}

// decodeDocument reads YAML or JSON and checks what a kind cannot do without.
func decodeDocument(doc []byte) (*document, error) {
	var d document
	if bytes.HasPrefix(doc, []byte("{")) {
		// not everything in JSON is allowed in YAML
		problems, err := kjson.UnmarshalStrict(doc, &d)
		if err := errors.Join(append(problems, err)...); err != nil {
			return nil, fmt.Errorf("parse kind: %w", err)
		}
	} else if err := yaml.UnmarshalStrict(doc, &d); err != nil {
		return nil, fmt.Errorf("parse kind: %w", err)
	}
	name, spec := d.Name, &d.Spec
	want := spec.Names.Plural
	if spec.Group != "" {
		want += "." + spec.Group
	}
	if spec.Names.Plural == "" || name != want {
		return nil, fmt.Errorf("parse kind %q: metadata.name must be %q", name, want)
	}
	if spec.Names.Kind == "" || spec.Names.ListKind == "" || spec.Names.Singular == "" {
		return nil, fmt.Errorf("parse kind %s: spec.names needs kind, listKind and singular", name)
	}
	if spec.Scope != apiextensionsv1.ClusterScoped && spec.Scope != apiextensionsv1.NamespaceScoped {
		return nil, fmt.Errorf("parse kind %s: spec.scope must be Cluster or Namespaced", name)
	}
	stored := 0
	for i, v := range spec.Versions {
		if v.Storage {
			stored++
		}
		if len(v.Schema.OpenAPIV3Schema) == 0 {
			return nil, fmt.Errorf("parse kind %s: spec.versions[%d].schema is missing", name, i)
		}
		if slices.ContainsFunc(spec.Versions[:i], func(o documentVersion) bool { return o.Name == v.Name }) {
			return nil, fmt.Errorf("parse kind %s: spec.versions[%d].name: %s is there twice", name, i, v.Name)
		}
	}
	if stored != 1 {
		return nil, fmt.Errorf("parse kind %s: one of spec.versions must be the storage version, and only one", name)
	}
	return &d, nil
}
