// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/api/crd"
	"github.com/drover-io/drover/hub/api/kind"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	// definitionRetry is the time between two attempts of something about
	// definitions that others have to let happen.
	definitionRetry = time.Second
	// removeAtOnce is how many objects of a kind that is going are deleted before
	// other definitions get their turn.
	removeAtOnce = 500
)

// definition is what a user has defined, without its schemas.
type definition struct {
	*apiextensionsv1.CustomResourceDefinition
	entry     store.Entry
	resources []*resource // nil when the definition cannot be read
}

// definitions follows the CustomResourceDefinitions of the store.
type definitions struct {
	api *API
	all map[string]*definition
}

// Load makes the kinds that users have defined known. Call it before the API
// serves; Run does the rest.
func (a *API) Load(ctx context.Context) error {
	if !a.definable() {
		return nil
	}
	page, err := a.store.List(ctx, store.Selection{Resource: resourceDefinitions, MinRevision: store.Any})
	if err != nil {
		return fmt.Errorf("load definitions: %w", err)
	}
	d := &definitions{api: a, all: map[string]*definition{}}
	for _, e := range page.Entries {
		d.put(e)
	}
	d.publish()
	return nil
}

// Run follows the definitions of users until ctx ends: it serves what is new,
// keeps their status, and removes the objects of those being deleted. It returns
// when ctx ends. Every replica of a hub runs it.
func (a *API) Run(ctx context.Context) error {
	for a.definable() {
		err := a.followDefinitions(ctx)
		if ctx.Err() != nil {
			break
		}
		a.log.Warn("following definitions of kinds failed, will try again", zap.Error(err))
		daemon.Sleep(ctx, definitionRetry)
	}
	<-ctx.Done()
	return ctx.Err()
}

// definable reports whether CustomResourceDefinitions are served at all.
func (a *API) definable() bool {
	return slices.ContainsFunc(a.own, func(r *resource) bool { return r.StoreResource() == resourceDefinitions })
}

func (a *API) followDefinitions(ctx context.Context) error {
	w, err := a.store.Watch(ctx, store.WatchSelection{Resource: resourceDefinitions})
	if err != nil {
		return err
	}
	defer w.Stop()
	d := &definitions{api: a, all: map[string]*definition{}}
	pending := false
	for {
		next, cancel := ctx, context.CancelFunc(func() {})
		if pending {
			next, cancel = context.WithTimeout(ctx, definitionRetry)
		}
		ev, err := w.Next(next)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		case err == nil && ev.Type == store.Deleted:
			delete(d.all, ev.Entry.Key.Name)
		case err == nil && ev.Type != store.Bookmark:
			d.put(ev.Entry)
		}
		if err == nil && ev.Initial && ev.Type != store.Bookmark {
			continue // until all are known
		}
		d.publish()
		pending = d.settle(ctx)
	}
}

// put takes in what the store has. A definition that only changed its status
// keeps its kinds.
func (d *definitions) put(e store.Entry) {
	name := e.Key.Name
	next := &definition{CustomResourceDefinition: &apiextensionsv1.CustomResourceDefinition{}, entry: e}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(e.Data, next.CustomResourceDefinition); err != nil {
		d.api.log.Error("a definition in the store cannot be read", zap.String("name", name), zap.Error(err))
		delete(d.all, name)
		return
	}
	for i := range next.Spec.Versions {
		next.Spec.Versions[i].Schema = nil
	}
	if old := d.all[name]; old != nil && old.UID == next.UID && old.Generation == next.Generation {
		next.resources = old.resources
	} else if next.resources = d.api.resourcesOf(name); next.resources == nil || !sameDefinition(next, next.resources) {
		next.resources = d.parse(next)
	}
	if next.DeletionTimestamp != nil {
		next.resources = terminating(next.resources)
	}
	d.all[name] = next
}

// resourcesOf returns the kinds that are served of a definition.
func (a *API) resourcesOf(name string) []*resource {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.users[name]
}

// sameDefinition reports whether the resources were made of the definition.
func sameDefinition(d *definition, rs []*resource) bool {
	return rs[0].definition == definitionID{string(d.UID), d.Generation}
}

// definitionID says of which definition, in which state, a resource was made.
type definitionID struct {
	uid        string
	generation int64
}

func (d *definitions) parse(def *definition) []*resource {
	versions, err := kind.Parse(def.entry.Data, nil)
	if err != nil {
		d.api.log.Error("a definition in the store is not valid, its kind is not served", zap.String("name", def.Name), zap.Error(err))
		return nil
	}
	var out []*resource
	for _, k := range versions {
		if k.Served {
			r := newResource(k)
			r.definition = definitionID{string(def.UID), def.Generation}
			out = append(out, r)
		}
	}
	return out
}

// terminating returns resources of which nothing new is made. Watches go on.
func terminating(rs []*resource) []*resource {
	out := make([]*resource, len(rs))
	for i, r := range rs {
		c := *r
		c.terminating = true
		out[i] = &c
	}
	return out
}

// ordered returns the definitions, those that were first first.
func (d *definitions) ordered() []*definition {
	out := make([]*definition, 0, len(d.all))
	for _, def := range d.all {
		out = append(out, def)
	}
	slices.SortFunc(out, func(a, b *definition) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// publish serves the kinds whose names are not another's.
func (d *definitions) publish() {
	users := map[string][]*resource{}
	taken := newTakenNames(d.api.own)
	for _, def := range d.ordered() {
		if name, _ := taken.conflict(def.Spec.Group, def.Name, &def.Spec.Names); name != "" {
			continue
		}
		taken.take(def.Spec.Group, def.Name, &def.Spec.Names)
		if len(def.resources) > 0 {
			users[def.Name] = def.resources
		}
	}
	d.api.mu.Lock()
	defer d.api.mu.Unlock()
	if !sameUsers(d.api.users, users) {
		d.api.users = users
		d.api.swap()
	}
}

func sameUsers(a, b map[string][]*resource) bool {
	if len(a) != len(b) {
		return false
	}
	for name, rs := range a {
		if !slices.EqualFunc(rs, b[name], func(x, y *resource) bool { return x.gone == y.gone && x.terminating == y.terminating }) {
			return false
		}
	}
	return true
}

// settle brings the status of all definitions up to date, and deletions forward.
// It reports whether there is more to do that no event will tell.
func (d *definitions) settle(ctx context.Context) (pending bool) {
	taken := newTakenNames(d.api.own)
	for _, def := range d.ordered() {
		name, reason := taken.conflict(def.Spec.Group, def.Name, &def.Spec.Names)
		if name == "" {
			taken.take(def.Spec.Group, def.Name, &def.Spec.Names)
		}
		var err error
		if def.DeletionTimestamp != nil && slices.Contains(def.Finalizers, crd.Finalizer) {
			var more bool
			more, err = d.api.finish(ctx, def)
			pending = pending || more
		} else if def.DeletionTimestamp == nil {
			err = d.api.establish(ctx, def, name, reason)
		}
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			d.api.log.Warn("keeping a definition failed, will try again", zap.String("name", def.Name), zap.Error(err))
			pending = true
		}
	}
	return pending
}

// establish writes what is true of a definition that is served, or not because of
// a conflicting name.
func (a *API) establish(ctx context.Context, def *definition, conflict, reason string) error {
	status := def.Status.DeepCopy()
	d := &apiextensionsv1.CustomResourceDefinition{Status: *status}
	set := func(t apiextensionsv1.CustomResourceDefinitionConditionType, ok bool, reason, message string) {
		value := apiextensionsv1.ConditionFalse
		if ok {
			value = apiextensionsv1.ConditionTrue
		}
		if c := apihelpers.FindCRDCondition(d, t); c != nil && c.Status == value && c.Reason == reason && c.Message == message {
			return
		}
		apihelpers.SetCRDCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
			Type: t, Status: value, Reason: reason, Message: message, LastTransitionTime: metav1.Now(),
		})
	}
	switch {
	case conflict != "":
		set(apiextensionsv1.NamesAccepted, false, reason, fmt.Sprintf("%q is already in use", conflict))
		set(apiextensionsv1.Established, false, "NotAccepted", "not all names are accepted")
	case def.resources == nil && len(def.Spec.Versions) > 0 && slices.ContainsFunc(def.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Served }):
		set(apiextensionsv1.Established, false, "Invalid", "the hub's log says what is wrong with the definition")
	default:
		d.Status.AcceptedNames = def.Spec.Names
		set(apiextensionsv1.NamesAccepted, true, "NoConflicts", "no conflicts found")
		set(apiextensionsv1.Established, true, "InitialNamesAccepted", "the initial names have been accepted")
	}
	return a.writeDefinition(ctx, def, &d.Status, def.Finalizers)
}

// finish deletes the objects of a definition that is being deleted, and lets it go
// when there are none left.
func (a *API) finish(ctx context.Context, def *definition) (pending bool, err error) {
	left, err := a.removeObjects(ctx, def.Name)
	if err != nil {
		return true, err
	}
	d := &apiextensionsv1.CustomResourceDefinition{Status: *def.Status.DeepCopy()}
	c := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "InstanceDeletionInProgress", Message: "CustomResource deletion is in progress",
	}
	finalizers := def.Finalizers
	if left == 0 {
		c.Status, c.Reason, c.Message = apiextensionsv1.ConditionFalse, "InstanceDeletionCompleted", "removed all instances"
		finalizers = slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == crd.Finalizer })
	}
	if old := apihelpers.FindCRDCondition(d, c.Type); old == nil || old.Status != c.Status || old.Reason != c.Reason {
		apihelpers.SetCRDCondition(d, c)
	}
	return left > 0, a.writeDefinition(ctx, def, &d.Status, finalizers)
}

// writeDefinition stores a new status and the finalizers that are left; without
// any, a definition that is being deleted is gone.
func (a *API) writeDefinition(ctx context.Context, def *definition, status *apiextensionsv1.CustomResourceDefinitionStatus, finalizers []string) error {
	if def.DeletionTimestamp != nil && len(finalizers) == 0 {
		_, err := a.store.Delete(ctx, def.entry.Key, def.entry.Revision)
		return err
	}
	before, err := json.Marshal(def.Status)
	if err != nil {
		return err
	}
	after, err := json.Marshal(status)
	if err != nil {
		return err
	}
	if string(before) == string(after) && len(finalizers) == len(def.Finalizers) {
		return nil
	}
	var obj, fields map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(def.entry.Data, &obj); err != nil {
		return err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(after, &fields); err != nil {
		return err
	}
	obj["status"] = fields
	meta(obj)["finalizers"] = finalizers
	if len(finalizers) == 0 {
		delete(meta(obj), "finalizers")
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	_, err = a.store.Update(ctx, def.entry.Key, data, def.entry.Revision)
	return err
}

// removeObjects deletes objects of a resource, or marks those that finalizers
// hold, and returns how many are left.
func (a *API) removeObjects(ctx context.Context, resource string) (left int, err error) {
	sel := store.Selection{Resource: resource, Limit: removeAtOnce}
	budget := removeAtOnce
	for {
		page, err := a.store.List(ctx, sel)
		if err != nil {
			return 0, err
		}
		for _, e := range page.Entries {
			if budget == 0 {
				return left + 1, nil
			}
			gone, wrote, err := a.removeObject(ctx, e)
			if err != nil {
				return 0, err
			}
			if wrote {
				budget--
			}
			if !gone {
				left++
			}
		}
		if page.Continue == "" {
			return left, nil
		}
		sel.Continue = page.Continue
	}
}

func (a *API) removeObject(ctx context.Context, e store.Entry) (gone, wrote bool, err error) {
	var obj map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(e.Data, &obj); err != nil {
		return false, false, fmt.Errorf("object %s/%s %s: %w", e.Key.Resource, e.Key.Namespace, e.Key.Name, err)
	}
	switch {
	case len(finalizers(obj)) == 0:
		_, err = a.store.Delete(ctx, e.Key, e.Revision)
		gone = err == nil || errors.Is(err, store.ErrNotFound)
	case deleting(obj):
		return false, false, nil
	default:
		meta(obj)["deletionTimestamp"] = timestamp()
		meta(obj)["deletionGracePeriodSeconds"] = int64(0)
		meta(obj)["generation"] = generation(obj) + 1
		var data []byte
		if data, err = json.Marshal(obj); err == nil {
			_, err = a.store.Update(ctx, e.Key, data, e.Revision)
		}
	}
	// whoever was faster is seen the next time
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return gone, true, err
}
