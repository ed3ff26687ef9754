// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/store"
)

// maxJSONPatch is the largest number of operations of one JSON patch.
const maxJSONPatch = 10000

// coreTypes are the Go types of the kinds that take strategic merge patches,
// as kubectl sends them for kinds it knows itself.
var coreTypes = map[string]any{
	"namespaces": corev1.Namespace{}, "events": corev1.Event{},
	"roles.rbac.authorization.k8s.io": rbacv1.Role{}, "rolebindings.rbac.authorization.k8s.io": rbacv1.RoleBinding{},
	"clusterroles.rbac.authorization.k8s.io": rbacv1.ClusterRole{}, "clusterrolebindings.rbac.authorization.k8s.io": rbacv1.ClusterRoleBinding{},
}

// patch is PATCH, in all four forms.
func (c *call) patch(status bool) error {
	if err := c.negotiate(formTable, formPartial); err != nil {
		return err
	}
	var opts metav1.PatchOptions
	if err := c.query(&opts); err != nil {
		return err
	}
	form := types.PatchType(c.bodyType())
	if err := c.checkPatchType(form); err != nil {
		return err
	}
	if err := invalidOptions("PatchOptions", metavalidation.ValidatePatchOptions(&opts, form)); err != nil {
		if form == types.ApplyPatchType && opts.FieldManager == "" {
			return badRequest("fieldManager is required for apply patch")
		}
		return err
	}
	w := c.writeOptions(opts.DryRun, opts.FieldManager, opts.FieldValidation)
	w.force = opts.Force != nil && *opts.Force
	body, err := c.readBody()
	if err != nil {
		return err
	}
	if form == types.ApplyPatchType {
		return c.applyPatch(body, w, status)
	}
	ch := change{writeOptions: w, status: status, apply: func(live map[string]any) (map[string]any, error) {
		return c.patched(form, body, live, w.validation)
	}}
	entry, err := c.update(ch)
	if err != nil {
		return err
	}
	return c.writeEntry(http.StatusOK, entry)
}

func (c *call) checkPatchType(form types.PatchType) error {
	want := []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyPatchType)}
	switch form {
	case types.JSONPatchType, types.MergePatchType, types.ApplyPatchType:
		return nil
	case types.StrategicMergePatchType:
		if _, ok := coreTypes[c.res.StoreResource()]; ok {
			return nil
		}
	}
	return unsupportedMedia(string(form), want...)
}

// patched applies a patch that is not a server-side apply.
func (c *call) patched(form types.PatchType, body []byte, live map[string]any, validation string) (map[string]any, error) {
	c.warnings = nil // of a former try
	if form == types.MergePatchType {
		patch, strict, err := decodePatch(body)
		if err != nil {
			return nil, err
		}
		if err := c.strict(strict, validation); err != nil {
			return nil, err
		}
		applyMergePatch(live, patch)
		if err := c.checkObject(live, nil, validation); err != nil {
			return nil, err
		}
		return live, c.checkPlace(live)
	}
	data, err := json.Marshal(live)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	var strict []string
	switch form {
	case types.JSONPatchType:
		data, err = jsonPatch(data, body)
	case types.StrategicMergePatchType:
		if _, strict, err = decodePatch(body); err == nil {
			data, err = strategicMerge(data, body, coreTypes[c.res.StoreResource()])
			if err != nil && !mergepatch.IsPreconditionFailed(err) {
				err = badRequest("strategic merge patch: %v", err)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := c.strict(strict, validation); err != nil {
		return nil, err
	}
	obj, err := c.decodeObject(data, false, validation)
	if err != nil {
		return nil, err
	}
	return obj, c.checkPlace(obj)
}

// decodePatch reads a patch that must be a JSON object; strict lists its
// duplicate fields.
func decodePatch(body []byte) (patch map[string]any, strict []string, err error) {
	problems, err := kjson.UnmarshalStrict(body, &patch)
	if err != nil {
		return nil, nil, badRequest("error decoding patch: %v", err)
	}
	if patch == nil {
		return nil, nil, badRequest("the patch is empty: want a JSON object")
	}
	for _, p := range problems {
		strict = append(strict, "patch: "+p.Error())
	}
	return patch, strict, nil
}

// applyMergePatch applies a JSON merge patch, RFC 7386, which becomes part of obj. As
// in Kubernetes, nulls are taken out of objects in lists too where a whole value
// is set that was not there, or was no object.
func applyMergePatch(obj, patch map[string]any) {
	for k, v := range patch {
		if v == nil {
			delete(obj, k)
			continue
		}
		now, old := v, obj[k]
		if oldMap, ok := old.(map[string]any); ok {
			if newMap, ok := v.(map[string]any); ok {
				applyMergePatch(oldMap, newMap)
				continue
			}
		} else {
			dropNulls(now)
		}
		obj[k] = now
	}
}

// dropNulls removes the fields that are null, at any depth.
func dropNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e == nil {
				delete(v, k)
			} else {
				dropNulls(e)
			}
		}
	case []any:
		for _, e := range v {
			dropNulls(e)
		}
	}
}

// strategicMerge turns a panic of the library, which odd directives can cause,
// into an error.
func strategicMerge(data, body []byte, as any) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed directive: %v", p)
		}
	}()
	return strategicpatch.StrategicMergePatch(data, body, as)
}

func jsonPatch(data, body []byte) ([]byte, error) {
	patch, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, badRequest("the patch is not a JSON patch: %v", err)
	}
	if len(patch) > maxJSONPatch {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("a JSON patch may hold %d operations, got %d", maxJSONPatch, len(patch)))
	}
	out, err := applyJSONPatch(patch, data)
	if err != nil {
		return nil, statusError(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "the patch cannot be applied: "+err.Error())
	}
	return out, nil
}

// maxPatchWork bounds in bytes what the copy operations of one JSON patch may
// produce: each can double the document.
const maxPatchWork = 64 << 20

// applyJSONPatch stops after every copy to see how large the document has
// become. It turns a panic of the library, which bad pointers into odd documents
// can cause, into an error.
func applyJSONPatch(patch jsonpatch.Patch, data []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed operation: %v", p)
		}
	}()
	work, start := 0, 0
	for i, op := range patch {
		if op.Kind() != "copy" {
			continue
		}
		if data, err = patch[start : i+1].Apply(data); err != nil {
			return nil, err
		}
		start = i + 1
		if work += len(data); len(data) > maxBody || work > maxPatchWork {
			return nil, fmt.Errorf("operation %d: too much is copied", i)
		}
	}
	return patch[start:].Apply(data)
}

// applyPatch is server-side apply.
func (c *call) applyPatch(body []byte, w writeOptions, status bool) error {
	patch, err := c.decodeObject(body, true, w.validation)
	if err != nil {
		return err
	}
	if err := c.checkPlace(patch); err != nil {
		return err
	}
	if _, ok := meta(patch)["managedFields"]; ok {
		return badRequest("metadata.managedFields must be nil")
	}
	errs, err := c.res.CheckTypes(patch)
	if err != nil {
		return err
	}
	if err := c.invalid(c.info.Name, errs); err != nil {
		return err
	}
	entry, err := c.update(change{writeOptions: w, status: status, owned: true, apply: func(live map[string]any) (map[string]any, error) {
		// the field manager drops these, so look at them first
		if err := c.checkIdentity(patch, live); err != nil {
			return nil, err
		}
		return c.applyTo(live, runtime.DeepCopyJSON(patch), w, status)
	}})
	if !errors.Is(err, store.ErrNotFound) || status {
		if err != nil {
			return err
		}
		return c.writeEntry(http.StatusOK, entry)
	}
	// Nothing there: the apply creates it, for who may.
	if err := c.allowed("create", c.info.Name); err != nil {
		return err
	}
	if uid := metaString(patch, "uid"); uid != "" {
		return apierrors.NewConflict(c.groupResource(), c.info.Name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	obj, err := c.applyTo(c.res.blank(), patch, w, false)
	if err != nil {
		return err
	}
	return c.createObject(obj, w, nil)
}

// applyTo merges the patch. What the field manager cannot read is the client's mistake.
func (c *call) applyTo(live, patch map[string]any, w writeOptions, status bool) (map[string]any, error) {
	obj, err := c.res.Apply(live, patch, w.manager, w.force, status)
	var known apierrors.APIStatus
	if err != nil && !errors.As(err, &known) {
		return nil, badRequest("apply: %v", err)
	}
	return obj, err
}
