// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metascheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/api/rawjson"
	"github.com/drover-io/drover/hub/store"
)

// query decodes the query parameters into options of meta.k8s.io.
func (c *call) query(into runtime.Object) error {
	if err := metascheme.ParameterCodec.DecodeParameters(c.r.URL.Query(), metav1.SchemeGroupVersion, into); err != nil {
		return badRequest("%v", err)
	}
	return nil
}

// invalidOptions is 422 for options of a request.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// selection is what a list or watch is about.
type selection struct {
	internalversion.ListOptions
	revision uint64 // of resourceVersion
	labels   labels.Selector
	match    func(store.Entry) bool
	name     string // set when the field selector names exactly one object
	all      bool   // nothing is filtered
}

func (c *call) selection() (*selection, error) {
	s := &selection{}
	if err := c.query(&s.ListOptions); err != nil {
		return nil, err
	}
	// "watch" in the path's verb rules, as in Kubernetes
	s.Watch = c.info.Verb == "watch"
	if err := invalidOptions("ListOptions", metavalidation.ValidateListOptions(&s.ListOptions, true)); err != nil {
		return nil, err
	}
	if s.ResourceVersion != "" {
		rv, err := strconv.ParseUint(s.ResourceVersion, 10, 64)
		if err != nil {
			return nil, badRequest("resourceVersion: Invalid value: %q: must be a decimal number", s.ResourceVersion)
		}
		s.revision = rv
	}
	if s.Limit < 0 {
		return nil, badRequest("limit: Invalid value: %d: must not be negative", s.Limit)
	}
	s.labels = s.LabelSelector
	if s.labels == nil {
		s.labels = labels.Everything()
	}
	reqs := []fields.Requirement(nil)
	if s.FieldSelector != nil {
		reqs = s.FieldSelector.Requirements()
	}
	s.all = len(reqs) == 0 && s.labels.Empty()
	for _, r := range reqs {
		if r.Field != "metadata.name" && r.Field != "metadata.namespace" && !slices.Contains(c.res.SelectableFields(), r.Field) {
			return nil, badRequest("field label not supported: %s", r.Field)
		}
	}
	if len(reqs) > 0 {
		s.match = c.res.matcher(reqs)
	}
	if len(reqs) == 1 && reqs[0].Field == "metadata.name" && isEqual(reqs[0]) {
		s.name = reqs[0].Value
	}
	return s, nil
}

func isEqual(r fields.Requirement) bool { return r.Operator == "=" || r.Operator == "==" }

// matcher decodes an object only when a field outside its key is asked for.
func (r *resource) matcher(reqs fields.Requirements) func(store.Entry) bool {
	return func(e store.Entry) bool {
		var obj map[string]any
		for _, req := range reqs {
			var value string
			switch req.Field {
			case "metadata.name":
				value = e.Key.Name
			case "metadata.namespace":
				value = e.Key.Namespace
			default:
				if path := r.FieldPath(req.Field); obj == nil && !r.Converts() && path != nil {
					var ok bool
					if value, ok = rawjson.Field(e.Data, path...); ok {
						break
					}
				}
				if obj == nil {
					var err error
					if obj, err = r.decodeStored(e.Data, e.Revision); err != nil {
						return false
					}
				}
				value = r.FieldValue(obj, req.Field)
			}
			if (value == req.Value) != isEqual(req) {
				return false
			}
		}
		return true
	}
}

// matchObject is matcher for the objects of a provider.
func (s *selection) matchObject(obj map[string]any) bool {
	if !s.labels.Matches(labelsOf(obj)) {
		return false
	}
	return s.match == nil || s.match(store.Entry{Key: store.Key{Namespace: metaString(obj, "namespace"), Name: metaString(obj, "name")}})
}

func labelsOf(obj map[string]any) labels.Set {
	out := labels.Set{}
	if m, ok := meta(obj)["labels"].(map[string]any); ok {
		for k, v := range m {
			if text, ok := v.(string); ok {
				out[k] = text
			}
		}
	}
	return out
}

// writeOptions are the options that create, update and patch share.
type writeOptions struct {
	manager    string
	validation string // Strict, Warn or Ignore
	dryRun     bool
	force      bool
}

func (c *call) writeOptions(dryRun []string, manager, validation string) writeOptions {
	if validation == "" {
		validation = metav1.FieldValidationWarn
	}
	c.audit.dryRun = len(dryRun) > 0
	return writeOptions{manager: c.fieldManager(manager), validation: validation, dryRun: len(dryRun) > 0}
}

// tableOptions of a request; includeObject decides what comes with each row.
func (c *call) includeObject() (metav1.IncludeObjectPolicy, error) {
	switch p := metav1.IncludeObjectPolicy(c.r.URL.Query().Get("includeObject")); p {
	case "":
		return metav1.IncludeMetadata, nil
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return p, nil
	default:
		return "", badRequest("includeObject: Invalid value: %q: must be one of %s", p,
			strings.Join([]string{string(metav1.IncludeNone), string(metav1.IncludeMetadata), string(metav1.IncludeObject)}, ", "))
	}
}
