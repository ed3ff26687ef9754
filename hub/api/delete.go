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
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/hub/store"
)

// deleteOptions reads the options of a deletion from the body, or else from
// the query.
func (c *call) deleteOptions() (*metav1.DeleteOptions, error) {
	opts := &metav1.DeleteOptions{}
	if c.r.ContentLength != 0 {
		// Clients send the options under the group of the object or of meta.k8s.io.
		if err := c.readDeleteOptions(opts); err != nil {
			return nil, err
		}
	} else if err := c.query(opts); err != nil {
		return nil, err
	}
	// kubectl passes dryRun in both places
	if len(opts.DryRun) == 0 {
		opts.DryRun = c.r.URL.Query()["dryRun"]
	}
	c.audit.dryRun = len(opts.DryRun) > 0
	return opts, invalidOptions("DeleteOptions", metavalidation.ValidateDeleteOptions(opts))
}

func (c *call) readDeleteOptions(opts *metav1.DeleteOptions) error {
	gvk := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	data, err := c.readBody()
	if err != nil || len(data) == 0 {
		return err
	}
	switch media := c.bodyType(); media {
	case mediaProtobuf:
		obj, err := c.protobuf().decode(data)
		if err != nil {
			return err
		}
		typed, ok := obj.(*metav1.DeleteOptions)
		if !ok {
			return badRequest("the body holds a %T, want DeleteOptions", obj)
		}
		*opts = *typed
		return nil
	case mediaJSON, mediaYAML:
		obj, _, err := decode(data, media == mediaYAML)
		if err != nil {
			return err
		}
		if kind, _ := obj["kind"].(string); kind != "" && kind != gvk.Kind {
			return badRequest("the body holds a %s, want DeleteOptions", kind)
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, opts); err != nil {
			return badRequest("the body is not DeleteOptions: %v", err)
		}
		return nil
	default:
		return unsupportedMedia(media, mediaJSON, mediaYAML, mediaProtobuf)
	}
}

// delete is DELETE of one object.
func (c *call) delete() error {
	if err := c.negotiate(formTable, formPartial); err != nil {
		return err
	}
	opts, err := c.deleteOptions()
	if err != nil {
		return err
	}
	entry, gone, err := c.remove(c.key(c.info.Name), opts)
	if err != nil {
		return err
	}
	if !gone {
		return c.writeEntry(http.StatusOK, entry)
	}
	c.audit.stored = entry
	return c.writeJSON(http.StatusOK, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{
			Name: entry.Key.Name, Group: c.res.GVK.Group, Kind: c.res.Resource, UID: types.UID(entry.Header.UID),
		},
	})
}

// remove deletes an object, or marks it when finalizers hold it; again when
// somebody else was faster.
func (c *call) remove(key store.Key, opts *metav1.DeleteOptions) (entry store.Entry, gone bool, err error) {
	for try := 1; ; try++ {
		entry, err = c.store.Get(c.r.Context(), key)
		if err != nil {
			return entry, false, err
		}
		entry, gone, err = c.tryRemove(entry, opts)
		if !errors.Is(err, store.ErrConflict) || try == writeTries {
			return entry, gone, err
		}
	}
}

func (c *call) tryRemove(entry store.Entry, opts *metav1.DeleteOptions) (store.Entry, bool, error) {
	old, err := c.res.decodeStored(entry.Data, entry.Revision)
	if err != nil {
		return entry, false, err
	}
	entry.Header.UID = metaString(old, "uid")
	if p := opts.Preconditions; p != nil {
		if p.UID != nil && string(*p.UID) != entry.Header.UID {
			return entry, false, apierrors.NewConflict(c.groupResource(), entry.Key.Name,
				fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, entry.Header.UID))
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != revisionText(entry.Revision) {
			return entry, false, apierrors.NewConflict(c.groupResource(), entry.Key.Name,
				fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, entry.Revision))
		}
	}
	dryRun := len(opts.DryRun) > 0
	if err := c.admit(&Admission{Operation: Delete, Old: old, DryRun: dryRun}); err != nil {
		return entry, false, err
	}
	reordered, err := c.order(old, opts)
	if err != nil {
		return entry, false, err
	}
	if len(finalizers(old)) == 0 {
		if dryRun {
			return entry, true, nil
		}
		_, err := c.store.Delete(c.r.Context(), entry.Key, entry.Revision)
		return entry, true, err
	}
	switch {
	case !deleting(old):
		meta(old)["deletionTimestamp"] = timestamp()
		meta(old)["deletionGracePeriodSeconds"] = int64(0)
		meta(old)["generation"] = generation(old) + 1
	case !reordered:
		return entry, false, nil
	}
	data, err := c.res.encode(old)
	if err != nil {
		return entry, false, err
	}
	entry.Data = data
	if !dryRun {
		entry.Revision, err = c.store.Update(c.r.Context(), entry.Key, data, entry.Revision)
	}
	return entry, false, err
}

// deleteCollection is DELETE of all objects that match and that the caller could
// list. It stops at the first that cannot be deleted.
func (c *call) deleteCollection() error {
	if err := c.negotiate(); err != nil {
		return err
	}
	opts, err := c.deleteOptions()
	if err != nil {
		return err
	}
	sel, err := c.selection()
	if err != nil {
		return err
	}
	// Nobody deletes what they cannot see.
	seen, err := c.look("list")
	if err != nil {
		return err
	}
	query := c.storeSelection(sel, seen)
	for {
		page, err := c.store.List(c.r.Context(), query)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			switch _, _, err := c.remove(e.Key, opts); {
			case err == nil:
				c.audit.removed = append(c.audit.removed, e.Key.Name)
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		if page.Continue == "" || query.Limit > 0 && sel.Limit > 0 {
			break
		}
		query.Continue = page.Continue
	}
	return c.writeJSON(http.StatusOK, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Group: c.res.GVK.Group, Kind: c.res.Resource},
	})
}
