// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// updateTries is how often Update starts over because somebody else was faster.
const updateTries = 10

// Objects is typed access to the objects of one resource. P is a pointer to
// the kind's struct, which embeds metav1.ObjectMeta as metadata and
// metav1.TypeMeta inline.
//
// Objects returned are the caller's own; resourceVersion is their revision.
type Objects[T any, P interface {
	*T
	metav1.Object
}] struct {
	store    *Store
	resource string
}

// Of gives typed access to a resource, named "plural.group".
func Of[T any, P interface {
	*T
	metav1.Object
}](s *Store, resource string) Objects[T, P] {
	return Objects[T, P]{store: s, resource: resource}
}

func (o Objects[T, P]) key(ns, name string) Key {
	return Key{Resource: o.resource, Namespace: ns, Name: name}
}

// Get reads from the stream's leader; ErrNotFound.
func (o Objects[T, P]) Get(ctx context.Context, ns, name string) (P, error) {
	e, err := o.store.Get(ctx, o.key(ns, name))
	if err != nil {
		return nil, err
	}
	return o.Decode(e)
}

// Cached reads from the cache, without waiting; ErrNotFound.
func (o Objects[T, P]) Cached(ns, name string) (P, error) {
	e, ok := o.store.Cached(o.key(ns, name))
	if !ok {
		return nil, wrap("get", o.key(ns, name), ErrNotFound)
	}
	return o.Decode(e)
}

// List decodes a page and returns the list's revision with it. sel.Resource is
// set by it. For lists with a Limit use Store.List and Decode.
func (o Objects[T, P]) List(ctx context.Context, sel Selection) ([]P, uint64, error) {
	sel.Resource = o.resource
	page, err := o.store.List(ctx, sel)
	if err != nil {
		return nil, 0, err
	}
	list := make([]P, 0, len(page.Entries))
	for _, e := range page.Entries {
		obj, err := o.Decode(e)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, obj)
	}
	return list, page.Revision, nil
}

// Decode makes the object of an entry.
func (o Objects[T, P]) Decode(e Entry) (P, error) {
	obj := P(new(T))
	if err := decode(e.Data, obj); err != nil {
		return nil, wrap("decode", e.Key, err)
	}
	obj.SetResourceVersion(strconv.FormatUint(e.Revision, 10))
	return obj, nil
}

// Create stores obj with a new uid, creationTimestamp and generation 1, and
// returns what was stored; obj is not changed. ErrExists.
func (o Objects[T, P]) Create(ctx context.Context, obj P) (P, error) {
	key := o.key(obj.GetNamespace(), obj.GetName())
	data, err := encode(obj)
	if err != nil {
		return nil, wrap("create", key, err)
	}
	stored := P(new(T))
	if err := decode(data, stored); err != nil {
		return nil, wrap("create", key, err)
	}
	stored.SetUID(types.UID(uuid.NewString()))
	stored.SetCreationTimestamp(metav1.Time{Time: time.Now().UTC().Truncate(time.Second)})
	stored.SetGeneration(1)
	stored.SetResourceVersion("")
	stored.SetDeletionTimestamp(nil)
	if data, err = encode(stored); err != nil {
		return nil, wrap("create", key, err)
	}
	revision, err := o.store.Create(ctx, key, data)
	if err != nil {
		return nil, err
	}
	stored.SetResourceVersion(strconv.FormatUint(revision, 10))
	return stored, nil
}

// Update reads the object, lets change modify it, and stores it; it starts over
// when somebody else was faster, so change may run more than once. It raises
// generation when anything outside metadata and status changed, and writes
// nothing when nothing changed. Fields that P does not know stay as they are.
//
// When change takes the last finalizer off an object that is being deleted, the
// object is removed. An error of change is returned as it is.
func (o Objects[T, P]) Update(ctx context.Context, ns, name string, change func(P) error) (P, error) {
	return o.update(ctx, o.key(ns, name), change, false)
}

// UpdateStatus is Update for the status and the metadata: it never raises
// generation, and refuses (ErrInvalid) a change of anything else.
func (o Objects[T, P]) UpdateStatus(ctx context.Context, ns, name string, change func(P) error) (P, error) {
	return o.update(ctx, o.key(ns, name), change, true)
}

// update begins with what the cache holds, which most often is the newest: a
// write that the stream takes proves it, since it names the revision it changes.
// Anything else that comes of the cache is only believed when the leader has the
// same revision.
func (o Objects[T, P]) update(ctx context.Context, key Key, change func(P) error, status bool) (P, error) {
	cached, guess := o.store.Cached(key)
	var guessed P
	var guessErr error
	if guess {
		var sent bool
		guessed, sent, guessErr = o.try(ctx, cached, change, status)
		if sent && !errors.Is(guessErr, ErrConflict) {
			return guessed, guessErr
		}
		guess = !sent
	}
	for try := 1; ; try++ {
		e, err := o.store.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if guess && e.Revision == cached.Revision {
			return guessed, guessErr
		}
		obj, _, err := o.try(ctx, e, change, status)
		if err == nil || !errors.Is(err, ErrConflict) || try == updateTries {
			return obj, err
		}
	}
}

// try changes one state of the object; sent says that the stream was asked, and
// err is its answer.
func (o Objects[T, P]) try(ctx context.Context, e Entry, change func(P) error, status bool) (obj P, sent bool, err error) {
	if obj, err = o.Decode(e); err != nil {
		return nil, false, err
	}
	before, err := encode(obj)
	if err != nil {
		return nil, false, wrap("update", e.Key, err)
	}
	if err := change(obj); err != nil {
		return nil, false, err
	}
	after, err := encode(obj)
	if err != nil {
		return nil, false, wrap("update", e.Key, err)
	}
	if bytes.Equal(before, after) {
		obj.SetResourceVersion(strconv.FormatUint(e.Revision, 10))
		return obj, false, nil
	}
	return o.replace(ctx, e, before, after, obj, status)
}

// replace stores obj over the entry it was decoded from; before is the encoding
// it had then, after the one it has now.
func (o Objects[T, P]) replace(ctx context.Context, e Entry, before, after []byte, obj P, status bool) (_ P, sent bool, err error) {
	d, err := diff(before, after)
	if err != nil {
		return nil, false, wrap("update", e.Key, err)
	}
	if d.empty() {
		obj.SetResourceVersion(strconv.FormatUint(e.Revision, 10))
		return obj, false, nil
	}
	if d.identity {
		return nil, false, wrap("update", e.Key, fmt.Errorf("%w: name, namespace and uid cannot be changed", ErrInvalid))
	}
	if d.spec {
		if status {
			return nil, false, wrap("update status of", e.Key, fmt.Errorf("%w: fields outside status were changed", ErrInvalid))
		}
		d.set("generation", e.Header.Generation+1)
		obj.SetGeneration(e.Header.Generation + 1)
	}
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 {
		revision, err := o.store.Delete(ctx, e.Key, e.Revision)
		if err != nil {
			return nil, true, err
		}
		obj.SetResourceVersion(strconv.FormatUint(revision, 10))
		return obj, true, nil
	}
	data, err := d.patch(e.Data)
	if err != nil {
		return nil, false, wrap("update", e.Key, err)
	}
	revision, err := o.store.Update(ctx, e.Key, data, e.Revision)
	if err != nil {
		return nil, true, err
	}
	obj.SetResourceVersion(strconv.FormatUint(revision, 10))
	return obj, true, nil
}

// Delete removes the object or, when it has finalizers, marks it as being
// deleted (which raises generation) and leaves the rest to who removes the last
// of them. ErrNotFound.
func (o Objects[T, P]) Delete(ctx context.Context, ns, name string) error {
	key := o.key(ns, name)
	for try := 1; ; try++ {
		e, err := o.store.Get(ctx, key)
		if err != nil {
			return err
		}
		err = o.delete(ctx, e)
		if !errors.Is(err, ErrConflict) || try == updateTries {
			return err
		}
	}
}

func (o Objects[T, P]) delete(ctx context.Context, e Entry) error {
	if len(e.Header.Finalizers) == 0 {
		_, err := o.store.Delete(ctx, e.Key, e.Revision)
		return err
	}
	if !e.Header.DeletionTimestamp.IsZero() {
		return nil
	}
	var d difference
	d.set("deletionTimestamp", time.Now().UTC().Format(time.RFC3339))
	d.set("deletionGracePeriodSeconds", int64(0))
	d.set("generation", e.Header.Generation+1)
	data, err := d.patch(e.Data)
	if err != nil {
		return wrap("delete", e.Key, err)
	}
	_, err = o.store.Update(ctx, e.Key, data, e.Revision)
	return err
}

// TypedEvent is an Event with its objects decoded. Object is nil for Bookmark,
// Previous for Added and Bookmark.
type TypedEvent[P any] struct {
	Type     EventType
	Revision uint64
	Object   P
	Previous P
	Initial  bool
}

// TypedWatcher is a Watcher that decodes.
type TypedWatcher[T any, P interface {
	*T
	metav1.Object
}] struct {
	watcher *Watcher
	objects Objects[T, P]
}

// Watch follows the resource; sel.Resource is set by it. Errors as Store.Watch.
func (o Objects[T, P]) Watch(ctx context.Context, sel WatchSelection) (*TypedWatcher[T, P], error) {
	sel.Resource = o.resource
	w, err := o.store.Watch(ctx, sel)
	if err != nil {
		return nil, err
	}
	return &TypedWatcher[T, P]{w, o}, nil
}

// Next is Watcher.Next, decoded.
func (w *TypedWatcher[T, P]) Next(ctx context.Context) (TypedEvent[P], error) {
	event, err := w.watcher.Next(ctx)
	if err != nil {
		return TypedEvent[P]{}, err
	}
	typed := TypedEvent[P]{Type: event.Type, Revision: event.Entry.Revision, Initial: event.Initial}
	if event.Type == Bookmark {
		return typed, nil
	}
	if typed.Object, err = w.objects.Decode(event.Entry); err != nil {
		return TypedEvent[P]{}, err
	}
	if event.Previous != nil {
		if typed.Previous, err = w.objects.Decode(*event.Previous); err != nil {
			return TypedEvent[P]{}, err
		}
	}
	return typed, nil
}

// Stop ends the watch; Next then returns ErrStopped.
func (w *TypedWatcher[T, P]) Stop() { w.watcher.Stop() }
