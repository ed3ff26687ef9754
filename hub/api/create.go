// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/store"
)

// create stores the object in the body.
func (c *call) create() error {
	if err := c.negotiate(formTable, formPartial); err != nil {
		return err
	}
	var opts metav1.CreateOptions
	if err := c.query(&opts); err != nil {
		return err
	}
	if err := invalidOptions("CreateOptions", metavalidation.ValidateCreateOptions(&opts)); err != nil {
		return err
	}
	w := c.writeOptions(opts.DryRun, opts.FieldManager, opts.FieldValidation)
	obj, err := c.readObject(w.validation)
	if err != nil {
		return err
	}
	if err := c.checkPlace(obj); err != nil {
		return err
	}
	track := func(obj map[string]any) (map[string]any, error) {
		return c.res.Track(c.res.blank(), obj, w.manager, false)
	}
	return c.createObject(obj, w, track)
}

// blank is an object with nothing but its type, what a new one is compared with.
func (r *resource) blank() map[string]any {
	return map[string]any{"apiVersion": r.GVK.GroupVersion().String(), "kind": r.GVK.Kind, "metadata": map[string]any{}}
}

// createObject does the rest of a create, for POST and for an apply that found
// nothing. track records ownership, after hooks; nil when that is done already.
func (c *call) createObject(obj map[string]any, w writeOptions, track func(map[string]any) (map[string]any, error)) error {
	if c.res.terminating {
		return statusError(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "create not allowed while custom resource definition is terminating")
	}
	if metaString(obj, "resourceVersion") != "" {
		return badRequest("resourceVersion should not be set on objects to be created")
	}
	prefix := metaString(obj, "generateName")
	generate := metaString(obj, "name") == "" && prefix != ""
	// A generated name can be taken; then another one is tried.
	for try := 1; ; try++ {
		attempt := obj
		if generate {
			attempt = runtime.DeepCopyJSON(obj)
			meta(attempt)["name"] = generateName(prefix)
		}
		c.audit.name = metaString(attempt, "name")
		entry, reveals, err := c.tryCreate(attempt, w, track)
		if generate && errors.Is(err, store.ErrExists) {
			if try < 8 {
				continue
			}
			return apierrors.NewGenerateNameConflict(c.groupResource(), metaString(attempt, "name"), 1)
		}
		if errors.Is(err, store.ErrExists) {
			return apierrors.NewAlreadyExists(c.groupResource(), metaString(attempt, "name"))
		}
		if err != nil {
			return err
		}
		if len(reveals) > 0 {
			if entry.Data, err = reveal(c.res, entry, reveals); err != nil {
				return err
			}
		}
		return c.writeEntry(http.StatusCreated, entry)
	}
}

// generateName cuts the prefix so that the name stays a DNS label.
func generateName(prefix string) string {
	const random, longest = 5, 63
	if len(prefix) > longest-random {
		prefix = prefix[:longest-random]
	}
	return prefix + utilrand.String(random)
}

// revealed is a value that only the answer to a create holds.
type revealed struct {
	path  []string
	value any
}

func (c *call) tryCreate(obj map[string]any, w writeOptions, track func(map[string]any) (map[string]any, error)) (store.Entry, []revealed, error) {
	if err := c.checkNamespace(metaString(obj, "name")); err != nil {
		return store.Entry{}, nil, err
	}
	c.nameNamespace(obj)
	m := meta(obj)
	for _, name := range []string{"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"} {
		delete(m, name)
	}
	m["uid"] = uuid.NewString()
	m["creationTimestamp"] = timestamp()
	m["generation"] = int64(1)
	if c.res.Status {
		delete(obj, "status")
	}
	if err := c.res.Default(obj); err != nil {
		return store.Entry{}, nil, err
	}
	var reveals []revealed
	err := c.admit(&Admission{
		Operation: Create, Object: obj, DryRun: w.dryRun,
		Reveal: func(path []string, value any) { reveals = append(reveals, revealed{path, value}) },
	})
	if err != nil {
		return store.Entry{}, nil, err
	}
	errs, err := c.res.Validate(c.r.Context(), obj)
	if err != nil {
		return store.Entry{}, nil, err
	}
	name := metaString(obj, "name")
	if err := c.invalid(name, append(errs, c.res.validateContent(obj)...)); err != nil {
		return store.Entry{}, nil, err
	}
	// Only of a valid object can be said who owns what.
	if track != nil {
		if obj, err = track(obj); err != nil {
			return store.Entry{}, nil, err
		}
	}
	data, err := c.res.encode(obj)
	if err != nil {
		return store.Entry{}, nil, err
	}
	entry := store.Entry{Key: c.key(name), Data: data}
	if w.dryRun {
		if _, err := c.store.Get(c.r.Context(), entry.Key); err == nil {
			return store.Entry{}, nil, store.ErrExists
		} else if !errors.Is(err, store.ErrNotFound) {
			return store.Entry{}, nil, err
		}
		return entry, nil, nil
	}
	entry.Revision, err = c.store.Create(c.r.Context(), entry.Key, data)
	return entry, reveals, err
}

// reveal adds values to an encoded object.
func reveal(r *resource, e store.Entry, reveals []revealed) ([]byte, error) {
	obj, err := r.decodeStored(e.Data, 0)
	if err != nil {
		return nil, err
	}
	for _, v := range reveals {
		setPath(obj, v.path, v.value)
	}
	return r.encode(obj)
}

// admit asks the kind's hook.
func (c *call) admit(r *Admission) error {
	if c.res.hook == nil {
		return nil
	}
	name := c.info.Name
	if r.Object != nil {
		name = metaString(r.Object, "name")
		errs, err := c.res.CheckTypes(r.Object)
		if err != nil {
			return err
		}
		if err := c.invalid(name, errs); err != nil {
			return err
		}
	}
	r.User, r.Warn = c.user(), c.warn
	err := c.res.admit(c.r.Context(), r)
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	var one *field.Error
	var many utilerrors.Aggregate
	switch {
	case errors.As(err, &status):
		return err
	case errors.As(err, &one):
		return c.invalid(name, field.ErrorList{one})
	case errors.As(err, &many):
		var errs field.ErrorList
		for _, e := range many.Errors() {
			if !errors.As(e, &one) {
				return fmt.Errorf("hook of %s: %w", c.res.StoreResource(), err)
			}
			errs = append(errs, one)
		}
		return c.invalid(name, errs)
	}
	return fmt.Errorf("hook of %s: %w", c.res.StoreResource(), err)
}
