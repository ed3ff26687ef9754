// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/store"
)

// Finalizers by which a deletion asks for an order, as Kubernetes names them.
const (
	Foreground = metav1.FinalizerDeleteDependents
	Orphan     = metav1.FinalizerOrphanDependents
)

// object is a stored object, decoded.
type object map[string]any

func decode(e store.Entry) (object, error) {
	var obj object
	if err := kjson.UnmarshalCaseSensitivePreserveInts(e.Data, &obj); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	if obj.meta() == nil {
		return nil, fmt.Errorf("decode %s: %w", e.Key, errNoMetadata)
	}
	return obj, nil
}

var errNoMetadata = errors.New("no metadata")

func (o object) meta() map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

func (o object) text(field string) string {
	s, _ := o.meta()[field].(string)
	return s
}

func (o object) deleting() bool { return o.text("deletionTimestamp") != "" }

func (o object) finalizers() []any {
	list, _ := o.meta()["finalizers"].([]any)
	return list
}

func (o object) has(finalizer string) bool { return slices.Contains(o.finalizers(), any(finalizer)) }

// drop takes a finalizer away.
func (o object) drop(finalizer string) {
	left := slices.DeleteFunc(slices.Clone(o.finalizers()), func(f any) bool { return f == finalizer })
	if len(left) == 0 {
		delete(o.meta(), "finalizers")
		return
	}
	o.meta()["finalizers"] = left
}

func (o object) owners() []ref {
	list, _ := o.meta()["ownerReferences"].([]any)
	var out []ref
	for _, entry := range list {
		m, ok := entry.(map[string]any)
		if !ok {
			continue
		}
		text := func(field string) string { s, _ := m[field].(string); return s }
		gv, err := schema.ParseGroupVersion(text("apiVersion"))
		if err != nil {
			gv.Group = text("apiVersion") // of no kind there is
		}
		blocks, _ := m["blockOwnerDeletion"].(bool)
		out = append(out, ref{group: gv.Group, kind: text("kind"), name: text("name"), uid: text("uid"), blocks: blocks})
	}
	return out
}

// disown takes the references to some owners away.
func (o object) disown(uids map[string]bool) {
	list, _ := o.meta()["ownerReferences"].([]any)
	left := slices.DeleteFunc(slices.Clone(list), func(entry any) bool {
		m, _ := entry.(map[string]any)
		uid, _ := m["uid"].(string)
		return uids[uid]
	})
	if len(left) == 0 {
		delete(o.meta(), "ownerReferences")
		return
	}
	o.meta()["ownerReferences"] = left
}

// unblock lets owners go before this object does.
func (o object) unblock() {
	list, _ := o.meta()["ownerReferences"].([]any)
	for _, entry := range list {
		if m, ok := entry.(map[string]any); ok {
			m["blockOwnerDeletion"] = false
		}
	}
}

// mark begins a deletion that finalizers hold up.
func (o object) mark() {
	o.meta()["deletionTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	o.meta()["deletionGracePeriodSeconds"] = int64(0)
	generation, _ := o.meta()["generation"].(int64)
	o.meta()["generation"] = generation + 1
}

func (o object) encode() ([]byte, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	return data, nil
}

// ownersOf reads the owners of an entry; most have none, which costs little.
func ownersOf(e *store.Entry) []ref {
	if !bytes.Contains(e.Data, []byte(`"ownerReferences"`)) {
		return nil
	}
	obj, err := decode(*e)
	if err != nil {
		return nil
	}
	return obj.owners()
}

// relevant reports whether a change of an object may mean something here.
func relevant(ev store.Event) bool {
	if ev.Previous == nil {
		return true
	}
	if ordered(&ev.Entry) || !slices.Equal(ownersOf(&ev.Entry), ownersOf(ev.Previous)) {
		return true
	}
	return false
}

// ordered reports whether an object is being deleted in an order that this
// package carries out.
func ordered(e *store.Entry) bool {
	h := &e.Header
	return !h.DeletionTimestamp.IsZero() && (slices.Contains(h.Finalizers, Foreground) || slices.Contains(h.Finalizers, Orphan))
}
