// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/store"
)

// writeTries is how often a write that names no revision is tried again when
// somebody else was faster.
const writeTries = 8

// change makes the new object from a copy of the stored one.
type change struct {
	writeOptions
	status bool // of the status subresource
	// apply makes the new object; live is its to change.
	apply func(live map[string]any) (map[string]any, error)
	// owned is set when apply has recorded who owns what.
	owned bool
}

// replace is PUT.
func (c *call) replace(status bool) error {
	if err := c.negotiate(formTable, formPartial); err != nil {
		return err
	}
	var opts metav1.UpdateOptions
	if err := c.query(&opts); err != nil {
		return err
	}
	if err := invalidOptions("UpdateOptions", metavalidation.ValidateUpdateOptions(&opts)); err != nil {
		return err
	}
	w := c.writeOptions(opts.DryRun, opts.FieldManager, opts.FieldValidation)
	body, err := c.readObject(w.validation)
	if err != nil {
		return err
	}
	if err := c.checkPlace(body); err != nil {
		return err
	}
	entry, err := c.update(change{writeOptions: w, status: status, apply: func(live map[string]any) (map[string]any, error) {
		obj := runtime.DeepCopyJSON(body)
		// Kubernetes lets its own kinds be replaced without a revision.
		if _, core := coreTypes[c.res.StoreResource()]; core && metaString(obj, "resourceVersion") == "" {
			carry(obj, live, "resourceVersion")
		}
		return obj, nil
	}})
	if err != nil {
		return err
	}
	return c.writeEntry(http.StatusOK, entry)
}

// update reads, changes and stores an object, again when somebody else was
// faster and the change does not name a revision.
func (c *call) update(ch change) (store.Entry, error) {
	key := c.key(c.info.Name)
	for try := 1; ; try++ {
		entry, err := c.store.Get(c.r.Context(), key)
		if err != nil {
			return store.Entry{}, err
		}
		next, err := c.tryUpdate(entry, ch)
		if !errors.Is(err, store.ErrConflict) || try == writeTries {
			return next, err
		}
	}
}

func (c *call) tryUpdate(entry store.Entry, ch change) (store.Entry, error) {
	old, err := c.res.decodeStored(entry.Data, entry.Revision)
	if err != nil {
		return store.Entry{}, err
	}
	// Controllers store Go structs: bring them into the form clients write, so
	// that nobody is blamed for their nulls.
	if _, err := c.res.Coerce(old); err != nil {
		return store.Entry{}, fmt.Errorf("stored object %s: %w", entry.Key.Name, err)
	}
	obj, err := ch.apply(runtime.DeepCopyJSON(old))
	if err != nil {
		return store.Entry{}, err
	}
	if err := c.checkIdentity(obj, old); err != nil {
		return store.Entry{}, err
	}
	obj = c.separate(obj, old, ch.status)
	if err := c.res.Default(obj); err != nil {
		return store.Entry{}, err
	}
	operation := Update
	if ch.status {
		operation = UpdateStatus
	}
	if err := c.admit(&Admission{Operation: operation, Object: obj, Old: old, DryRun: ch.dryRun}); err != nil {
		return store.Entry{}, err
	}
	if ch.status && c.res.hook != nil {
		obj = c.separate(obj, old, true)
	}
	if c.res.specChanged(obj, old) {
		meta(obj)["generation"] = generation(old) + 1
	}
	errs, err := c.res.ValidateUpdate(c.r.Context(), obj, old, ch.status)
	if err != nil {
		return store.Entry{}, err
	}
	if !ch.status {
		errs = append(errs, c.res.validateContent(obj)...)
	}
	if err := c.invalid(entry.Key.Name, errs); err != nil {
		return store.Entry{}, err
	}
	// Only of a valid object can be said who owns what.
	if !ch.owned {
		if obj, err = c.res.Track(old, obj, ch.manager, ch.status); err != nil {
			return store.Entry{}, err
		}
	}
	// A write that changes nothing must not wake controllers.
	if unchanged(obj, old) {
		return entry, nil
	}
	data, err := encode(obj)
	if err != nil {
		return store.Entry{}, err
	}
	next := store.Entry{Key: entry.Key, Data: data, Revision: entry.Revision}
	switch {
	case ch.dryRun:
	case deleting(obj) && len(finalizers(obj)) == 0:
		// the last finalizer is gone, and the object with it
		next.Revision, err = c.store.Delete(c.r.Context(), entry.Key, entry.Revision)
	default:
		next.Revision, err = c.store.Update(c.r.Context(), entry.Key, data, entry.Revision)
	}
	return next, err
}

// checkIdentity refuses a change to another object or another state of it than
// the client has seen.
func (c *call) checkIdentity(obj, old map[string]any) error {
	name := c.info.Name
	if _, ok := obj["metadata"].(map[string]any); !ok {
		return badRequest("metadata: expected an object")
	}
	if uid := metaString(obj, "uid"); uid != "" && uid != metaString(old, "uid") {
		return apierrors.NewConflict(c.groupResource(), name,
			fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, metaString(old, "uid")))
	}
	if rv := metaString(obj, "resourceVersion"); rv != "" && rv != metaString(old, "resourceVersion") {
		return apierrors.NewConflict(c.groupResource(), name, errModified)
	}
	return nil
}

// separate keeps what a client may not change as it was: with status set
// everything but status, otherwise status and the hub's part of metadata.
func (c *call) separate(obj, old map[string]any, status bool) map[string]any {
	if status {
		out := runtime.DeepCopyJSON(old)
		carry(out, obj, "managedFields")
		if s, ok := obj["status"]; ok {
			out["status"] = s
		} else {
			delete(out, "status")
		}
		return out
	}
	if c.res.Status {
		if s, ok := old["status"]; ok {
			obj["status"] = runtime.DeepCopyJSONValue(s)
		} else {
			delete(obj, "status")
		}
	}
	for _, name := range []string{"uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"} {
		carry(obj, old, name)
	}
	delete(meta(obj), "selfLink")
	return obj
}
