// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"strings"

	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxManifests is the limit of all manifests of a ManifestWork in bytes.
const maxManifests = 500 << 10

// contentRules are the rules that a schema cannot express, by resource.
var contentRules = map[string]func(spec map[string]any) field.ErrorList{
	"manifestworks.work.open-cluster-management.io": manifestRules,
	"jointokens.fleet.drover.io":                    labelRules,
	"joinrequests.fleet.drover.io":                  labelRules,
}

// validateContent checks the rules of the kind's spec that its schema cannot express.
func (r *resource) validateContent(obj map[string]any) field.ErrorList {
	rule := contentRules[r.StoreResource()]
	spec, ok := obj["spec"].(map[string]any)
	if rule == nil || !ok {
		return nil
	}
	return rule(spec)
}

// manifestRules keeps the manifests of a work small, named and different.
func manifestRules(spec map[string]any) field.ErrorList {
	workload, _ := spec["workload"].(map[string]any)
	manifests, _ := workload["manifests"].([]any)
	path := field.NewPath("spec", "workload", "manifests")
	var errs field.ErrorList
	total := 0
	seen := map[string]int{}
	for i, entry := range manifests {
		manifest, ok := entry.(map[string]any)
		if !ok {
			continue // the schema's to refuse
		}
		if data, err := json.Marshal(manifest); err == nil {
			total += len(data)
		}
		at := path.Index(i)
		name := metaString(manifest, "name")
		switch {
		case metaString(manifest, "generateName") != "":
			errs = append(errs, field.Forbidden(at.Child("metadata", "generateName"), "a manifest needs a fixed name: set metadata.name instead"))
		case name == "":
			errs = append(errs, field.Required(at.Child("metadata", "name"), "a manifest needs a name"))
		default:
			apiVersion, _ := manifest["apiVersion"].(string)
			kind, _ := manifest["kind"].(string)
			group, _, found := strings.Cut(apiVersion, "/")
			if !found {
				group = ""
			}
			id := fmt.Sprintf("%s/%s/%s/%s", group, kind, metaString(manifest, "namespace"), name)
			if first, ok := seen[id]; ok {
				errs = append(errs, field.Duplicate(at, fmt.Sprintf("the same object as %s", path.Index(first))))
			} else {
				seen[id] = i
			}
		}
	}
	if total > maxManifests {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("the size of manifests is %d bytes which exceeds the %d limit", total, maxManifests)))
	}
	return errs
}

// labelRules checks the labels that a ManagedCluster will get.
func labelRules(spec map[string]any) field.ErrorList {
	m, _ := spec["labels"].(map[string]any)
	labels := make(map[string]string, len(m))
	for k, v := range m {
		if s, ok := v.(string); ok {
			labels[k] = s
		}
	}
	return metavalidation.ValidateLabels(labels, field.NewPath("spec", "labels"))
}
