// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// OCI media types of the layers that hold content.
const (
	LayerChart   = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	LayerTarGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
	LayerTar     = "application/vnd.oci.image.layer.v1.tar"
	LayerFlux    = "application/vnd.cncf.flux.content.v1.tar+gzip"
)

// Descriptor is a part of an OCI artifact.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// Layer returns the layer that holds the content, of the manifest of an OCI artifact.
func Layer(manifest []byte) (Descriptor, error) {
	var m struct {
		MediaType string       `json:"mediaType"`
		Layers    []Descriptor `json:"layers"`
		Manifests []Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return Descriptor{}, fmt.Errorf("manifest of the OCI artifact: %w", err)
	}
	if len(m.Manifests) > 0 {
		return Descriptor{}, errors.New("the digest names an index of OCI artifacts: name one artifact of it")
	}
	var types []string
	var found []Descriptor
	for _, l := range m.Layers {
		types = append(types, l.MediaType)
		switch l.MediaType {
		case LayerChart, LayerTarGzip, LayerTar, LayerFlux, MediaType:
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Descriptor{}, fmt.Errorf("the OCI artifact has no layer with files: want one of type %s, %s or %s, it has %s",
			LayerChart, LayerTarGzip, MediaType, strings.Join(types, ", "))
	}
	return Descriptor{}, fmt.Errorf("the OCI artifact has %d layers with files, want one", len(found))
}
