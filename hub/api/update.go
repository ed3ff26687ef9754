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
	"k8s.io/apimachinery/pkg/util/validation/field"

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
		// Kubernetes lets its own kinds be replaced without a revision, and so did
		// the cluster registry.
		_, core := coreTypes[c.res.StoreResource()]
		if (core || createdByUpdate[c.res.StoreResource()]) && metaString(obj, "resourceVersion") == "" {
			carry(obj, live, "resourceVersion")
		}
		return obj, nil
	}})
	if errors.Is(err, store.ErrNotFound) && !status && createdByUpdate[c.res.StoreResource()] {
		return c.createByUpdate(body, w)
	}
	if err != nil {
		return err
	}
	return c.writeEntry(http.StatusOK, entry)
}

// createByUpdate makes an object that a PUT did not find. Who names a state of it
// has seen another one.
func (c *call) createByUpdate(obj map[string]any, w writeOptions) error {
	if metaString(obj, "uid") != "" || metaString(obj, "resourceVersion") != "" {
		return apierrors.NewConflict(c.groupResource(), c.info.Name,
			errors.New("the object does not exist, and the one sent has a uid or resourceVersion: send it without them to create it"))
	}
	if err := c.allowed("create", c.info.Name); err != nil {
		return err
	}
	return c.createObject(obj, w, func(obj map[string]any) (map[string]any, error) {
		return c.res.Track(c.res.blank(), obj, w.manager, false)
	})
}

// update reads, changes and stores an object, again when somebody else was
// faster and the change does not name a revision.
//
// It begins with what the cache holds, which most often is the newest. Only a
// write the store has judged counts then: it names the revision it changes, so
// nobody was in between. Anything else may come of an old state, and is believed
// only of the leader's.
func (c *call) update(ch change) (store.Entry, error) {
	key := c.key(c.info.Name)
	cached, guess := c.store.Cached(key)
	var guessed outcome
	if guess {
		guessed = c.tryUpdate(cached, ch)
		if guessed.sent && !errors.Is(guessed.err, store.ErrConflict) {
			return guessed.entry, guessed.err
		}
	}
	for try := 1; ; try++ {
		entry, err := c.store.Get(c.r.Context(), key)
		if err != nil {
			return store.Entry{}, err
		}
		if guess && !guessed.sent && entry.Revision == cached.Revision {
			return guessed.entry, guessed.err
		}
		result := c.tryUpdate(entry, ch)
		if !errors.Is(result.err, store.ErrConflict) || try == writeTries {
			return result.entry, result.err
		}
	}
}

// outcome of one try of an update.
type outcome struct {
	entry store.Entry
	err   error
	sent  bool // the store was asked, and err is its answer
}

func (c *call) tryUpdate(entry store.Entry, ch change) outcome {
	obj, err := c.changed(entry, ch)
	if err != nil || obj == nil {
		return outcome{entry: entry, err: err}
	}
	data, err := c.res.encode(obj)
	next := store.Entry{Key: entry.Key, Data: data, Revision: entry.Revision}
	if err != nil || ch.dryRun {
		return outcome{entry: next, err: err}
	}
	if deleting(obj) && len(finalizers(obj)) == 0 {
		// the last finalizer is gone, and the object with it
		next.Revision, err = c.store.Delete(c.r.Context(), entry.Key, entry.Revision)
	} else {
		next.Revision, err = c.store.Update(c.r.Context(), entry.Key, data, entry.Revision)
	}
	return outcome{entry: next, err: err, sent: true}
}

// changed is the new object, complete and valid; nil when nothing changes.
func (c *call) changed(entry store.Entry, ch change) (map[string]any, error) {
	old, err := c.res.decodeStored(entry.Data, entry.Revision)
	if err != nil {
		return nil, err
	}
	// Controllers store Go structs: bring them into the form clients write, so
	// that nobody is blamed for their nulls.
	if _, err := c.res.Coerce(old); err != nil {
		return nil, fmt.Errorf("stored object %s: %w", entry.Key.Name, err)
	}
	obj, err := ch.apply(runtime.DeepCopyJSON(old))
	if err != nil {
		return nil, err
	}
	if err := c.checkIdentity(obj, old); err != nil {
		return nil, err
	}
	obj = c.separate(obj, old, ch.status)
	if err := c.res.Default(obj); err != nil {
		return nil, err
	}
	operation := Update
	if ch.status {
		operation = UpdateStatus
	}
	if err := c.admit(&Admission{Operation: operation, Object: obj, Old: old, DryRun: ch.dryRun}); err != nil {
		return nil, err
	}
	if ch.status && c.res.hook != nil {
		obj = c.separate(obj, old, true)
	}
	if c.res.specChanged(obj, old) {
		meta(obj)["generation"] = generation(old) + 1
	}
	errs, err := c.res.ValidateUpdate(c.r.Context(), obj, old, ch.status)
	if err != nil {
		return nil, err
	}
	if !ch.status {
		errs = append(errs, c.res.validateContent(obj)...)
	}
	if err := c.invalid(entry.Key.Name, errs); err != nil {
		return nil, err
	}
	// Only of a valid object can be said who owns what.
	if !ch.owned {
		if obj, err = c.res.Track(old, obj, ch.manager, ch.status); err != nil {
			return nil, err
		}
	}
	// A write that changes nothing must not wake controllers.
	if unchanged(obj, old) {
		return nil, nil
	}
	return obj, nil
}

// checkIdentity refuses a change to another object or another state of it than
// the client has seen.
func (c *call) checkIdentity(obj, old map[string]any) error {
	name := c.info.Name
	if _, ok := obj["metadata"].(map[string]any); !ok {
		return badRequest("metadata: expected an object")
	}
	if uid := metaString(obj, "uid"); uid != "" && uid != metaString(old, "uid") {
		if c.info.Verb == "patch" {
			// a patch states no precondition: it would change the field
			return apierrors.NewInvalid(c.res.GVK.GroupKind(), name,
				field.ErrorList{field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable")})
		}
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
