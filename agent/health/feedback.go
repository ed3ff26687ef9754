// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/util/jsonpath"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// maxRaw is the size up to which a list or an object is reported.
	maxRaw = 1024
	// maxPath and the two below bound what one path may cost: each wildcard
	// multiplies the work by the size of the object.
	maxPath      = 1024
	maxDescents  = 2
	maxWildcards = 8
)

// wellKnown is what WellKnownStatus means. StatefulSet is Drover's addition.
func wellKnown(gvk schema.GroupVersionKind) []work.JSONPath {
	switch gvk {
	case schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
		schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"}:
		return []work.JSONPath{
			{Name: "ReadyReplicas", Path: ".status.readyReplicas"},
			{Name: "Replicas", Path: ".status.replicas"},
			{Name: "AvailableReplicas", Path: ".status.availableReplicas"},
		}
	case schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}:
		return []work.JSONPath{
			{Name: "NumberReady", Path: ".status.numberReady"},
			{Name: "DesiredNumberScheduled", Path: ".status.desiredNumberScheduled"},
			{Name: "NumberAvailable", Path: ".status.numberAvailable"},
		}
	case schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}:
		return []work.JSONPath{
			{Name: "JobComplete", Path: `.status.conditions[?(@.type=="Complete")].status`},
			{Name: "JobSucceeded", Path: ".status.succeeded"},
		}
	case schema.GroupVersionKind{Version: "v1", Kind: "Pod"}:
		return []work.JSONPath{
			{Name: "PodReady", Path: `.status.conditions[?(@.type=="Ready")].status`},
			{Name: "PodPhase", Path: ".status.phase"},
		}
	}
	return nil
}

// Feedback evaluates feedback rules. What can be read is returned whatever else
// fails; the error is of all that failed. A path that leads nowhere is no error
// and no value.
func Feedback(live *unstructured.Unstructured, rules []work.FeedbackRule) ([]wire.Feedback, error) {
	var values []wire.Feedback
	var errs []error
	gvk := live.GroupVersionKind()
	for _, rule := range rules {
		paths := rule.JSONPaths
		switch rule.Type {
		case work.FeedbackWellKnown:
			if paths = wellKnown(gvk); paths == nil {
				errs = append(errs, fmt.Errorf("cannot find the wellknown statuses for resource with gvk %s", gvk))
			}
		case work.FeedbackJSONPaths:
		default:
			errs = append(errs, fmt.Errorf("feedback rule type %q is not supported: use WellKnownStatus or JSONPaths", rule.Type))
			continue
		}
		for _, p := range paths {
			if p.Version != "" && p.Version != gvk.Version {
				errs = append(errs, fmt.Errorf("version set in the path %s is not matched for the related resource", p.Name))
				continue
			}
			value, err := feedbackValue(live, p)
			if err != nil {
				errs = append(errs, err)
			} else if value != nil {
				values = append(values, *value)
			}
		}
	}
	return values, utilerrors.NewAggregate(errs)
}

func feedbackValue(live *unstructured.Unstructured, p work.JSONPath) (*wire.Feedback, error) {
	found, err := find(live.Object, p.Name, p.Path)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	var value any = found
	if len(found) == 1 {
		value = found[0]
	}
	feedback := wire.Feedback{Name: p.Name}
	switch v := value.(type) {
	case nil:
		return nil, nil
	case int64:
		feedback.Type, feedback.Integer = "Integer", &v
	case string:
		feedback.Type, feedback.String = "String", &v
	case bool:
		feedback.Type, feedback.Boolean = "Boolean", &v
	default:
		raw, err := json.Marshal(value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("failed to parse the resource to json string for name %s: %w", p.Name, err)
		case len(raw) > maxRaw:
			return nil, fmt.Errorf("the length of returned json raw string for name %s is larger than the maximum length %d", p.Name, maxRaw)
		}
		text := string(raw)
		feedback.Type, feedback.JSONRaw = "JsonRaw", &text
	}
	return &feedback, nil
}

// find evaluates a path on body. Its cost is bounded, and it never panics.
func find(body map[string]any, name, path string) (found []any, err error) {
	defer func() {
		if p := recover(); p != nil {
			found, err = nil, fmt.Errorf("failed to find value for %s with error: %v", name, p)
		}
	}()
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("failed to parse json path of %s with error: %w", name, err)
	}
	j := jsonpath.New(name).AllowMissingKeys(true)
	if err := j.Parse("{" + path + "}"); err != nil {
		return nil, fmt.Errorf("failed to parse json path %s of %s with error: %w", path, name, err)
	}
	results, err := j.FindResults(body)
	if err != nil {
		return nil, fmt.Errorf("failed to find value for %s with error: %w", name, err)
	}
	if len(results) == 0 {
		return nil, nil
	}
	// As in Open Cluster Management, only the first part of the template counts.
	for _, r := range results[0] {
		if !r.CanInterface() {
			continue
		}
		found = append(found, r.Interface())
	}
	return found, nil
}

func checkPath(path string) error {
	descents := strings.Count(path, "..")
	wildcards := strings.Count(path, "*") + strings.Count(path, ":")
	switch {
	case len(path) > maxPath:
		return fmt.Errorf("path is longer than %d bytes", maxPath)
	case descents > maxDescents:
		return fmt.Errorf(`path has more than %d ".."`, maxDescents)
	case descents+wildcards > maxWildcards:
		return fmt.Errorf("path has more than %d wildcards", maxWildcards)
	case strings.TrimSpace(path) == "":
		return errors.New("path is empty")
	}
	return nil
}
