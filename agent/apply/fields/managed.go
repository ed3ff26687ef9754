// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fields knows the fields of objects one by one: which of them a field
// manager owns, which are to be left alone, and which differ. It contacts
// nothing.
package fields

import (
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Touch says who owns the fields of an object, in short.
type Touch struct {
	Own     string // hash of the fields that our last apply still owns; empty for none
	Version string // of the resource
	Manager string // that wrote last, beside us and writers of status
}

// TouchOf looks at the owners of an object's fields, of which manager is ours. A
// field that somebody else changes leaves the set that our apply owns, and nothing
// else does that: fields that were never ours, status and defaults do not touch it.
func TouchOf(live *unstructured.Unstructured, manager string) Touch {
	own := fnv.New128a()
	t := Touch{Version: live.GetResourceVersion()}
	var newest time.Time
	found := false
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource == "status" {
			continue
		}
		var raw []byte
		if entry.FieldsV1 != nil {
			raw = entry.FieldsV1.GetRawBytes()
		}
		var at time.Time
		if entry.Time != nil {
			at = entry.Time.Time
		}
		if entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			found = true
			_, _ = own.Write(raw)
			continue
		}
		if t.Manager == "" || at.After(newest) {
			t.Manager, newest = entry.Manager, at
		}
	}
	if found {
		t.Own = hex.EncodeToString(own.Sum(nil))
	}
	return t
}

// fieldSet is one manager's entry of managedFields, decoded: field names as
// "f:name", elements of lists as "k:{...}" or "v:...".
type fieldSet map[string]any

// ownFields are the fields that manager has applied; nil for none.
func ownFields(entries []metav1.ManagedFieldsEntry, manager string) fieldSet {
	raw := ownEntry(entries, manager)
	if raw == nil {
		return nil
	}
	var set fieldSet
	if json.Unmarshal(raw, &set) != nil {
		return nil
	}
	return set
}

// Applied says that manager has applied fields of the object with these entries
// of managedFields.
func Applied(entries []metav1.ManagedFieldsEntry, manager string) bool {
	return ownEntry(entries, manager) != nil
}

func ownEntry(entries []metav1.ManagedFieldsEntry, manager string) []byte {
	for _, f := range entries {
		if f.Manager == manager && f.Operation == metav1.ManagedFieldsOperationApply && f.Subresource == "" && f.FieldsV1 != nil {
			return f.FieldsV1.GetRawBytes()
		}
	}
	return nil
}

// owns says that the set has the field at path of body, or anything below it.
func (s fieldSet) owns(body any, path []any) bool {
	node := map[string]any(s)
	for _, step := range path {
		var next any
		switch step := step.(type) {
		case string:
			m, _ := body.(map[string]any)
			next, body = node["f:"+step], m[step]
		case int:
			l, _ := body.([]any)
			if step >= len(l) {
				return false
			}
			body = l[step]
			next = elementOf(node, body)
			if next == nil && !hasElements(node) {
				return true // an atomic list is owned as a whole
			}
		}
		inner, ok := next.(map[string]any)
		if !ok {
			return false
		}
		node = inner
	}
	return true
}

// elementOf finds the entry of a list's element: its keys have the element's values.
func elementOf(node map[string]any, element any) any {
	for name, inner := range node {
		if text, ok := strings.CutPrefix(name, "k:"); ok {
			var keys map[string]any
			m, isMap := element.(map[string]any)
			if json.Unmarshal([]byte(text), &keys) != nil || !isMap {
				continue
			}
			same := true
			for key, want := range keys {
				same = same && sameScalar(m[key], want)
			}
			if same {
				return inner
			}
		}
		if text, ok := strings.CutPrefix(name, "v:"); ok {
			var want any
			if json.Unmarshal([]byte(text), &want) == nil && sameScalar(element, want) {
				return inner
			}
		}
	}
	return nil
}

func hasElements(node map[string]any) bool {
	for name := range node {
		if strings.HasPrefix(name, "k:") || strings.HasPrefix(name, "v:") {
			return true
		}
	}
	return false
}

// sameScalar compares a decoded value with one that encoding/json decoded.
// A key that the manifest leaves to its default, as the protocol of a port, matches.
func sameScalar(v, decoded any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case int64:
		f, ok := decoded.(float64)
		return ok && f == float64(v)
	}
	return reflect.DeepEqual(v, decoded)
}
