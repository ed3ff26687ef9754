// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/store"
)

var gvkScale = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// serveScale answers for the subresource scale, another view on an object.
func (c *call) serveScale() error {
	if err := c.negotiate(); err != nil {
		return err
	}
	var entry store.Entry
	var err error
	switch c.info.Verb {
	case "get":
		entry, err = c.store.Get(c.r.Context(), c.key(c.info.Name))
	case "update", "patch":
		if err = c.recordable(); err == nil {
			entry, err = c.writeScale()
		}
	default:
		return c.methodNotSupported()
	}
	if err != nil {
		return err
	}
	obj, err := c.res.decodeStored(entry.Data, entry.Revision)
	if err != nil {
		return err
	}
	c.audit.stored = entry
	return c.writeJSON(http.StatusOK, c.res.scaleOf(obj))
}

func scalePath(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// scaleOf reads the numbers of an object; those that are missing are 0.
func (r *resource) scaleOf(obj map[string]any) *autoscalingv1.Scale {
	number := func(path string) int32 {
		n, _ := fieldAt(obj, scalePath(path)).(int64)
		return int32(max(math.MinInt32, min(n, math.MaxInt32)))
	}
	s := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: gvkScale.GroupVersion().String(), Kind: gvkScale.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: metaString(obj, "name"), Namespace: metaString(obj, "namespace"),
			UID: types.UID(metaString(obj, "uid")), ResourceVersion: metaString(obj, "resourceVersion"),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: number(r.Scale.SpecReplicasPath)},
		Status: autoscalingv1.ScaleStatus{Replicas: number(r.Scale.StatusReplicasPath)},
	}
	// only ever what was stored: a time that cannot be read stays away
	_ = s.CreationTimestamp.UnmarshalQueryParameter(metaString(obj, "creationTimestamp"))
	if p := r.Scale.LabelSelectorPath; p != nil && *p != "" {
		s.Status.Selector, _ = fieldAt(obj, scalePath(*p)).(string)
	}
	return s
}

func fieldAt(obj map[string]any, path []string) any {
	var v any = obj
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// writeScale changes the wanted number of an object.
func (c *call) writeScale() (store.Entry, error) {
	var opts metav1.UpdateOptions
	if err := c.query(&opts); err != nil {
		return store.Entry{}, err
	}
	if err := invalidOptions("UpdateOptions", metavalidation.ValidateUpdateOptions(&opts)); err != nil {
		return store.Entry{}, err
	}
	form := types.PatchType("")
	if c.info.Verb == "patch" {
		form = types.PatchType(c.bodyType())
		if form != types.MergePatchType && form != types.JSONPatchType {
			return store.Entry{}, unsupportedMedia(string(form), string(types.JSONPatchType), string(types.MergePatchType))
		}
	}
	body, err := c.readBody()
	if err != nil {
		return store.Entry{}, err
	}
	return c.update(change{
		writeOptions: c.writeOptions(opts.DryRun, opts.FieldManager, opts.FieldValidation),
		apply: func(live map[string]any) (map[string]any, error) {
			s, err := c.scaled(form, body, live)
			if err != nil {
				return nil, err
			}
			if s.UID != "" {
				meta(live)["uid"] = string(s.UID)
			}
			if s.ResourceVersion != "" {
				meta(live)["resourceVersion"] = s.ResourceVersion
			}
			setPath(live, scalePath(c.res.Scale.SpecReplicasPath), int64(s.Spec.Replicas))
			return live, nil
		},
	})
}

// scaled is the Scale that the client wants of an object.
func (c *call) scaled(form types.PatchType, body []byte, live map[string]any) (*autoscalingv1.Scale, error) {
	data := body
	if form != "" {
		before, err := json.Marshal(c.res.scaleOf(live))
		if err != nil {
			return nil, fmt.Errorf("encode scale: %w", err)
		}
		if form == types.JSONPatchType {
			if data, err = jsonPatch(before, body); err != nil {
				return nil, err
			}
		} else {
			patch, _, err := decodePatch(body)
			if err != nil {
				return nil, err
			}
			var merged map[string]any
			if err := kjson.UnmarshalCaseSensitivePreserveInts(before, &merged); err != nil {
				return nil, fmt.Errorf("decode scale: %w", err)
			}
			applyMergePatch(merged, runtime.DeepCopyJSON(patch))
			if data, err = json.Marshal(merged); err != nil {
				return nil, fmt.Errorf("encode scale: %w", err)
			}
		}
	}
	s := &autoscalingv1.Scale{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, s); err != nil {
		return nil, badRequest("the body is not a Scale: %v", err)
	}
	if gvk := s.GroupVersionKind(); gvk != gvkScale {
		return nil, badRequest("the body holds a %s, want %s", gvk, gvkScale)
	}
	if s.Name != "" && s.Name != c.info.Name {
		return nil, badRequest("the name of the object (%s) does not match the name on the URL (%s)", s.Name, c.info.Name)
	}
	if s.Spec.Replicas < 0 {
		return nil, c.invalid(c.info.Name, field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), s.Spec.Replicas, "must be greater than or equal to 0")})
	}
	return s, nil
}
