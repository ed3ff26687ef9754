// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
)

func revisionText(revision uint64) string {
	if revision == 0 {
		return ""
	}
	return strconv.FormatUint(revision, 10)
}

// get answers with one object, as the stream's leader has it.
func (c *call) get() error {
	if err := c.negotiate(formTable, formPartial); err != nil {
		return err
	}
	entry, err := c.store.Get(c.r.Context(), c.key(c.info.Name))
	if err != nil {
		return err
	}
	return c.writeEntry(http.StatusOK, entry)
}

// writeEntry answers with one stored object in the accepted form.
func (c *call) writeEntry(code int, e store.Entry) error {
	c.audit.stored = e
	r, err := c.renderer()
	if err != nil {
		return err
	}
	data, err := r.single(e, true)
	if err != nil {
		return err
	}
	return c.writeData(code, append(data, '\n'))
}

// list answers with all objects that match and that the caller may see, from a
// consistent snapshot.
func (c *call) list() error {
	if err := c.negotiate(formTable, formPartialList); err != nil {
		return err
	}
	sel, err := c.selection()
	if err != nil {
		return err
	}
	page, err := c.store.List(c.r.Context(), c.storeSelection(sel, c.view))
	if err != nil {
		return err
	}
	lm := metav1.ListMeta{ResourceVersion: revisionText(page.Revision), Continue: page.Continue}
	if page.Continue != "" && page.Remaining > 0 && sel.all && c.view.all {
		lm.RemainingItemCount = &page.Remaining
	}
	return c.writeList(lm, page.Entries)
}

func (c *call) storeSelection(sel *selection, v view) store.Selection {
	out := store.Selection{
		Resource: c.res.StoreResource(), Labels: sel.labels, Match: v.restrict(sel.match),
		Limit: int(sel.Limit), Continue: sel.Continue, MinRevision: minRevision(sel),
		Exact: sel.ResourceVersionMatch == metav1.ResourceVersionMatchExact,
	}
	if c.res.Namespaced {
		out.Namespace = c.info.Namespace
	}
	return out
}

// minRevision turns Kubernetes' "any state will do", revision 0, into the
// store's, whose 0 means the newest.
func minRevision(sel *selection) uint64 {
	if sel.ResourceVersion == "0" {
		return store.Any
	}
	return sel.revision
}

// writeList streams a list in the accepted form.
func (c *call) writeList(lm metav1.ListMeta, entries []store.Entry) error {
	r, err := c.renderer()
	if err != nil {
		return err
	}
	var head []byte
	one := r.object
	switch c.accept.as {
	case formTable:
		head, one = r.tableHead(lm, true), r.row
	case formPartialList:
		head = listHead("meta.k8s.io/"+c.accept.version, formPartialList, lm)
	default:
		head = listHead(c.res.GVK.GroupVersion().String(), c.res.ListKind, lm)
	}
	out := c.answer(http.StatusOK)
	if _, err := out.Write(head); err != nil {
		return err
	}
	for i, e := range entries {
		if i > 0 {
			if _, err := out.Write([]byte{','}); err != nil {
				return err
			}
		}
		data, err := one(e)
		if err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	if _, err := out.Write([]byte("]}\n")); err != nil {
		return err
	}
	return out.close()
}

// listHead is everything of a list before its items.
func listHead(apiVersion, kind string, lm metav1.ListMeta) []byte {
	data := mustJSON(struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   metav1.ListMeta `json:"metadata"`
	}{apiVersion, kind, lm})
	return append(data[:len(data)-2], `,"items":[`...)
}
