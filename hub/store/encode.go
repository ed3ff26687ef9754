// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	stdjson "encoding/json"
	"fmt"
	"maps"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
)

// encode is the stored form of an object: no resourceVersion, and the same bytes
// for the same content.
func encode(obj metav1.Object) ([]byte, error) {
	rv := obj.GetResourceVersion()
	obj.SetResourceVersion("")
	defer obj.SetResourceVersion(rv)
	return stdjson.Marshal(obj)
}

// decode keeps integers as integers.
func decode(data []byte, into any) error {
	if err := json.UnmarshalCaseSensitivePreserveInts(data, into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// difference is what changed between two encodings of an object, in the form of a
// merge patch: null removes.
type difference struct {
	fields   map[string]any
	identity bool // name, namespace or uid changed
	spec     bool // something outside metadata, status and the type changed
}

func diff(before, after []byte) (difference, error) {
	var a, b map[string]any
	if err := decode(before, &a); err != nil {
		return difference{}, err
	}
	if err := decode(after, &b); err != nil {
		return difference{}, err
	}
	d := difference{fields: diffMaps(a, b)}
	for field := range d.fields {
		switch field {
		case "metadata", "status", "kind", "apiVersion":
		default:
			d.spec = true
		}
	}
	if metadata, ok := d.fields["metadata"].(map[string]any); ok {
		for _, field := range []string{"name", "namespace", "uid"} {
			if _, ok := metadata[field]; ok {
				d.identity = true
			}
		}
	}
	return d, nil
}

func diffMaps(a, b map[string]any) map[string]any {
	var d map[string]any
	put := func(k string, v any) {
		if d == nil {
			d = map[string]any{}
		}
		d[k] = v
	}
	for k, v := range b {
		old, ok := a[k]
		if !ok {
			put(k, v)
			continue
		}
		am, aok := old.(map[string]any)
		bm, bok := v.(map[string]any)
		if aok && bok {
			if sub := diffMaps(am, bm); sub != nil {
				put(k, sub)
			}
			continue
		}
		if !reflect.DeepEqual(old, v) {
			put(k, v)
		}
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			put(k, nil)
		}
	}
	return d
}

func (d *difference) empty() bool { return len(d.fields) == 0 }

// set changes a field of the metadata as well.
func (d *difference) set(field string, value any) {
	metadata, ok := d.fields["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		d.fields = maps.Clone(d.fields)
		if d.fields == nil {
			d.fields = map[string]any{}
		}
		d.fields["metadata"] = metadata
	}
	metadata[field] = value
}

// patch applies the difference to stored bytes, which may hold fields the
// encodings compared do not have.
func (d *difference) patch(data []byte) ([]byte, error) {
	var object map[string]any
	if err := decode(data, &object); err != nil {
		return nil, err
	}
	return stdjson.Marshal(merge(object, d.fields))
}

func merge(into, fields map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for k, v := range fields {
		switch v := v.(type) {
		case nil:
			delete(into, k)
		case map[string]any:
			sub, _ := into[k].(map[string]any)
			into[k] = merge(sub, v)
		default:
			into[k] = v
		}
	}
	return into
}

// size is about what an entry holds in memory, in bytes.
func (e *Entry) size() int { return len(e.Data) + 256 }

func expired(t, now time.Time, ttl time.Duration) bool { return now.Sub(t) > ttl }
