// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/api/kind"
	"github.com/drover-io/drover/hub/api/rawjson"
	"github.com/drover-io/drover/hub/store"
)

// Forms of an answer about objects.
const (
	formTable       = "Table"
	formPartial     = "PartialObjectMetadata"
	formPartialList = "PartialObjectMetadataList"
)

// renderer turns stored objects into the form that the client accepts. It is
// not safe for concurrent use.
type renderer struct {
	c       *call
	printer *kind.Printer // of tables
	include metav1.IncludeObjectPolicy
	buf     []byte
}

func (c *call) renderer() (*renderer, error) {
	r := &renderer{c: c}
	if c.accept.as != formTable {
		return r, nil
	}
	var err error
	if r.include, err = c.includeObject(); err != nil {
		return nil, err
	}
	r.printer = c.res.NewPrinter()
	return r, nil
}

// object renders one object as it stands in lists and watches, except in
// tables. The bytes are valid until the next call.
func (r *renderer) object(e store.Entry) ([]byte, error) {
	if r.c.res.Converts() {
		obj, err := r.c.res.decodeStored(e.Data, 0)
		if err != nil {
			return nil, err
		}
		if e.Data, err = json.Marshal(obj); err != nil {
			return nil, fmt.Errorf("encode object: %w", err)
		}
	}
	o, err := rawjson.Parse(e.Data)
	if err != nil {
		return nil, fmt.Errorf("stored object %s/%s %s: %w", e.Key.Resource, e.Key.Namespace, e.Key.Name, err)
	}
	r.buf = r.buf[:0]
	switch r.c.accept.as {
	case formPartial, formPartialList:
		r.buf = o.AppendPartial(r.buf, r.c.accept.version, e.Revision)
	default:
		gvk := r.c.res.GVK
		r.buf = o.Append(r.buf, gvk.GroupVersion().String(), gvk.Kind, e.Revision)
	}
	return r.buf, nil
}

// row is one row of a table. metav1.TableRow would encode an object that is
// left out as null.
type row struct {
	Cells  []any           `json:"cells"`
	Object json.RawMessage `json:"object,omitempty"`
}

func (r *renderer) row(e store.Entry) ([]byte, error) {
	obj, err := r.c.res.decodeStored(e.Data, e.Revision)
	if err != nil {
		return nil, err
	}
	out := row{Cells: r.printer.Cells(e.Key.Name, obj)}
	if r.c.res.Converts() {
		if e.Data, err = json.Marshal(obj); err != nil {
			return nil, fmt.Errorf("encode object: %w", err)
		}
	}
	if r.include != metav1.IncludeNone {
		o, err := rawjson.Parse(e.Data)
		if err != nil {
			return nil, fmt.Errorf("stored object %s/%s %s: %w", e.Key.Resource, e.Key.Namespace, e.Key.Name, err)
		}
		gvk := r.c.res.GVK
		if r.include == metav1.IncludeObject {
			out.Object = o.Append(nil, gvk.GroupVersion().String(), gvk.Kind, e.Revision)
		} else {
			out.Object = o.AppendPartial(nil, r.c.accept.version, e.Revision)
		}
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode row: %w", err)
	}
	return data, nil
}

// tableHead is everything of a table before its rows.
func (r *renderer) tableHead(lm metav1.ListMeta, columns bool) []byte {
	head := struct {
		Kind       string                         `json:"kind"`
		APIVersion string                         `json:"apiVersion"`
		Metadata   metav1.ListMeta                `json:"metadata"`
		Columns    []metav1.TableColumnDefinition `json:"columnDefinitions"`
	}{Kind: "Table", APIVersion: "meta.k8s.io/" + r.c.accept.version, Metadata: lm, Columns: []metav1.TableColumnDefinition{}}
	if columns {
		head.Columns = r.printer.Definitions()
	}
	data := mustJSON(head)
	return append(data[:len(data)-2], `,"rows":[`...)
}

// single renders one object alone, in any form.
func (r *renderer) single(e store.Entry, columns bool) ([]byte, error) {
	if r.c.accept.as != formTable {
		return r.object(e)
	}
	line, err := r.row(e)
	if err != nil {
		return nil, err
	}
	r.buf = append(r.buf[:0], r.tableHead(metav1.ListMeta{ResourceVersion: revisionText(e.Revision)}, columns)...)
	return append(append(r.buf, line...), "]}"...), nil
}
