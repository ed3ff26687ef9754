// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"maps"

	"k8s.io/apiserver/pkg/authentication/user"
)

// Operation is what a write is about to do.
type Operation string

// The operations that hooks see. A server-side apply that creates is a Create,
// any other patch an Update or UpdateStatus.
const (
	Create       Operation = "Create"
	Update       Operation = "Update"
	UpdateStatus Operation = "UpdateStatus"
	Delete       Operation = "Delete"
)

// Hook lets the owner of a kind take part in writes that come through the API.
type Hook interface {
	// Admit is called after defaulting and before validation, so that what it
	// changes is validated too. Values of wrong types have been refused already,
	// so Object can be decoded into the kind's struct; anything else may be missing
	// or out of bounds. It must have no effects outside r: the write can
	// still fail, and Admit is called again when somebody else was faster.
	//
	// An *apierrors.StatusError refuses the write as it is, a *field.Error or the
	// aggregate of a field.ErrorList as 422 Invalid. Any other error is an internal
	// one: its text goes to the log, the client sees 500.
	Admit(ctx context.Context, r *Admission) error
}

// admit calls the hook with the object in the version that is stored, the only
// one that hooks know.
func (r *resource) admit(ctx context.Context, a *Admission) error {
	if !r.Converts() {
		return r.hook.Admit(ctx, a)
	}
	asked := a.Object
	for _, obj := range []*map[string]any{&a.Object, &a.Old} {
		if *obj == nil {
			continue
		}
		stored, err := r.ToStored(*obj)
		if err != nil {
			return err
		}
		*obj = stored
	}
	if err := r.hook.Admit(ctx, a); err != nil || asked == nil {
		return err
	}
	back, err := r.FromStored(a.Object)
	if err != nil {
		return err
	}
	clear(asked)
	maps.Copy(asked, back)
	a.Object = asked
	return nil
}

// Admission is one write on its way into the store.
type Admission struct {
	Operation Operation
	User      user.Info
	// Object is the object about to be stored and may be changed; of an
	// UpdateStatus only changes below status are kept. For Delete it is nil.
	Object map[string]any
	// Old is the stored object and must not be changed; nil for Create.
	Old map[string]any
	// DryRun writes are never stored, and reveal nothing.
	DryRun bool
	// Reveal adds a value to the answer of this create only. It is never stored.
	// Nil for other operations.
	Reveal func(path []string, value any)
	// Warn adds a line that kubectl prints as "Warning: ...".
	Warn func(text string)
}

// Provider serves a virtual kind: read only, not stored, not watchable.
type Provider interface {
	// Get returns one object, or an apierrors.IsNotFound error.
	Get(ctx context.Context, namespace, name string) (map[string]any, error)
	// List returns all objects in the order in which they are to be shown.
	// An empty namespace means all.
	List(ctx context.Context, namespace string) ([]map[string]any, error)
}
