// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/store"
)

// meta returns the metadata of an object, or nil.
func meta(obj map[string]any) map[string]any {
	m, _ := obj["metadata"].(map[string]any)
	return m
}

func ensureMeta(obj map[string]any) (map[string]any, error) {
	switch m := obj["metadata"].(type) {
	case map[string]any:
		return m, nil
	case nil:
		fresh := map[string]any{}
		obj["metadata"] = fresh
		return fresh, nil
	default:
		return nil, badRequest("metadata: expected an object, got %T", m)
	}
}

func metaString(obj map[string]any, field string) string {
	s, _ := meta(obj)[field].(string)
	return s
}

func setRevision(obj map[string]any, revision uint64) {
	if revision == 0 {
		delete(meta(obj), "resourceVersion")
		return
	}
	meta(obj)["resourceVersion"] = strconv.FormatUint(revision, 10)
}

// carry gives obj the field of old's metadata, or takes it away.
func carry(obj, old map[string]any, field string) {
	if v, ok := meta(old)[field]; ok {
		meta(obj)[field] = runtime.DeepCopyJSONValue(v)
	} else {
		delete(meta(obj), field)
	}
}

// finalizers of an object.
func finalizers(obj map[string]any) []any {
	list, _ := meta(obj)["finalizers"].([]any)
	return list
}

func deleting(obj map[string]any) bool { return metaString(obj, "deletionTimestamp") != "" }

func generation(obj map[string]any) int64 {
	switch g := meta(obj)["generation"].(type) {
	case int64:
		return g
	case float64:
		return int64(g)
	}
	return 0
}

func timestamp() string { return time.Now().UTC().Format(time.RFC3339) }

// specChanged reports whether anything but metadata, and status where it is a
// subresource, differs.
func (r *resource) specChanged(obj, old map[string]any) bool {
	ignored := func(key string) bool { return key == "metadata" || key == "status" && r.Status }
	for key, v := range obj {
		if !ignored(key) && !equality.Semantic.DeepEqual(v, old[key]) {
			return true
		}
	}
	for key := range old {
		if _, ok := obj[key]; !ok && !ignored(key) {
			return true
		}
	}
	return false
}

// unchanged reports whether obj equals old but for the times at which its
// managers last did nothing.
func unchanged(obj, old map[string]any) bool {
	if len(obj) != len(old) {
		return false
	}
	for key, v := range obj {
		if key != "metadata" && !equality.Semantic.DeepEqual(v, old[key]) {
			return false
		}
	}
	m, mOld := meta(obj), meta(old)
	if len(m) != len(mOld) {
		return false
	}
	for key, v := range m {
		if key != "managedFields" && !equality.Semantic.DeepEqual(v, mOld[key]) {
			return false
		}
	}
	return equality.Semantic.DeepEqual(withoutTimes(m["managedFields"]), withoutTimes(mOld["managedFields"]))
}

func withoutTimes(managed any) []any {
	list, _ := managed.([]any)
	out := make([]any, len(list))
	for i, e := range list {
		entry, ok := e.(map[string]any)
		if !ok {
			out[i] = e
			continue
		}
		rest := make(map[string]any, len(entry))
		for k, v := range entry {
			if k != "time" {
				rest[k] = v
			}
		}
		out[i] = rest
	}
	return out
}

// encode turns an object into what the store keeps: without its revision, in the
// version that is stored.
func (r *resource) encode(obj map[string]any) ([]byte, error) {
	obj, err := r.ToStored(obj)
	if err != nil {
		return nil, err
	}
	m := make(map[string]any, len(meta(obj)))
	for k, v := range meta(obj) {
		if k != "resourceVersion" && k != "selfLink" {
			m[k] = v
		}
	}
	stored := make(map[string]any, len(obj))
	for k, v := range obj {
		stored[k] = v
	}
	stored["metadata"] = m
	data, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	if len(data) > store.MaxObject {
		return nil, store.ErrTooLarge
	}
	return data, nil
}

func (c *call) key(name string) store.Key {
	k := store.Key{Resource: c.res.StoreResource(), Name: name}
	if c.res.Namespaced {
		k.Namespace = c.info.Namespace
	}
	return k
}

// setPath puts a value into nested objects, making them where they are missing.
func setPath(obj map[string]any, path []string, value any) {
	for i, name := range path {
		if i == len(path)-1 {
			obj[name] = value
			return
		}
		next, ok := obj[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			obj[name] = next
		}
		obj = next
	}
}

// gitVersion is a version that kubectl can compare with its own: it speaks of
// the level of the Kubernetes API, with this build behind it.
func gitVersion(build string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '-'
	}, strings.TrimPrefix(build, "v"))
	clean = strings.Trim(clean, ".-")
	if clean == "" {
		clean = "dev"
	}
	return kubernetesLevel + "-drover-" + clean
}
