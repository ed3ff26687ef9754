// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// Hash is the content of an object in short, as Open Cluster Management makes it:
// lower-hex SHA-256 of the JSON, keys sorted, of the object without apiVersion,
// kind, metadata and status. Of an AddOnVersion only what decides its content
// counts, as fleet.AddOnVersionSpec.Content says.
func Hash(obj map[string]any) (string, error) {
	content, err := Content(obj)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("hash object: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Content is what Hash hashes: the fields of an object that are its content. The
// result shares memory with obj.
func Content(obj map[string]any) (map[string]any, error) {
	if obj["kind"] == fleet.KindAddOnVersion && obj["apiVersion"] == fleet.Group+"/"+fleet.Version {
		var v fleet.AddOnVersion
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &v); err != nil {
			return nil, fmt.Errorf("read AddOnVersion: %w", err)
		}
		spec, err := VersionContent(&v.Spec)
		if err != nil {
			return nil, err
		}
		return map[string]any{"spec": spec}, nil
	}
	content := make(map[string]any, len(obj))
	for key, value := range obj {
		switch key {
		case "apiVersion", "kind", "metadata", "status":
		default:
			content[key] = value
		}
	}
	return content, nil
}

// HashOf is Hash of an object that is not unstructured.
func HashOf(obj any) (string, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return "", fmt.Errorf("hash object: %w", err)
	}
	var fields map[string]any
	if err := kjson.Unmarshal(data, &fields); err != nil {
		return "", fmt.Errorf("hash object: %w", err)
	}
	return Hash(fields)
}

// VersionHash is Hash of an AddOnVersion with that spec.
func VersionHash(spec *fleet.AddOnVersionSpec) (string, error) {
	content, err := VersionContent(spec)
	if err != nil {
		return "", err
	}
	return Hash(map[string]any{"spec": content})
}

// VersionContent is fleet.AddOnVersionSpec.Content as JSON values.
func VersionContent(spec *fleet.AddOnVersionSpec) (map[string]any, error) {
	data, err := json.Marshal(spec.Content())
	if err != nil {
		return nil, fmt.Errorf("encode content of AddOnVersion: %w", err)
	}
	var content map[string]any
	if err := kjson.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("encode content of AddOnVersion: %w", err)
	}
	return content, nil
}
