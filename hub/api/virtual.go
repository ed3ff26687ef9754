// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/store"
)

// serveVirtual answers for a kind that is not stored.
func (c *call) serveVirtual() error {
	switch c.info.Verb {
	case "get":
		if err := c.negotiate(formTable, formPartial); err != nil {
			return err
		}
		obj, err := c.res.provider.Get(c.r.Context(), c.info.Namespace, c.info.Name)
		if err != nil {
			return err
		}
		entry, err := c.virtualEntry(obj)
		if err != nil {
			return err
		}
		return c.writeEntry(http.StatusOK, entry)
	case "list":
		if err := c.negotiate(formTable, formPartialList); err != nil {
			return err
		}
		sel, err := c.selection()
		if err != nil {
			return err
		}
		objects, err := c.res.provider.List(c.r.Context(), c.info.Namespace)
		if err != nil {
			return err
		}
		entries := make([]store.Entry, 0, len(objects))
		for _, obj := range objects {
			if !sel.matchObject(obj) || !c.view.all && !c.view.filter.Match(metaString(obj, "namespace"), metaString(obj, "name"), labelsOf(obj)) {
				continue
			}
			e, err := c.virtualEntry(obj)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return c.writeList(metav1.ListMeta{}, entries)
	}
	return c.methodNotSupported()
}

// virtualEntry gives a provider's object the form of a stored one.
func (c *call) virtualEntry(obj map[string]any) (store.Entry, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return store.Entry{}, fmt.Errorf("encode %s: %w", c.res.StoreResource(), err)
	}
	return store.Entry{
		Key:  store.Key{Resource: c.res.StoreResource(), Namespace: metaString(obj, "namespace"), Name: metaString(obj, "name")},
		Data: data,
	}, nil
}

// Fields turns a Go struct with JSON tags into the form that a Provider returns.
func Fields(v any) (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	var obj map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &obj); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	return obj, nil
}
