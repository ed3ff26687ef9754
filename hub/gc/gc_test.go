// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestBackground(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// before the start, as after a hub was down
	w.put(thing("n", "lost"), owner{kind: "Thing", name: "never", uid: "x"})
	w.put(wide("top"))
	w.put(thing("n", "child"), of(wide("top")))
	w.put(thing("n", "grandchild"), of(thing("n", "child")))
	w.put(thing("n", "other"))
	w.put(thing("n", "both"), of(wide("top")), of(thing("n", "other")))
	w.collect()
	w.untilGone(thing("n", "lost"))
	for _, key := range []store.Key{thing("n", "child"), thing("n", "grandchild"), thing("n", "both")} {
		if w.get(key) == nil {
			t.Fatalf("%s went while its owner is there", key)
		}
	}
	w.end(wide("top"))
	w.untilGone(thing("n", "child"), thing("n", "grandchild"))
	w.until("the owner that is gone is forgotten", func() bool { return len(w.get(thing("n", "both")).owners()) == 1 })
	w.end(thing("n", "other"))
	w.untilGone(thing("n", "both"))
}

// TestOwners: which references keep an object, as in Kubernetes.
func TestOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.collect()
	w.put(wide("w"))
	w.put(thing("n", "t"))
	w.put(thing("m", "t2"))
	tests := []struct {
		name  string
		key   store.Key
		owner owner
		stays bool
	}{
		{"owner without namespace", thing("n", "a"), of(wide("w")), true},
		{"owner in the same namespace", thing("n", "b"), of(thing("n", "t")), true},
		{"owner in another namespace", thing("n", "c"), of(thing("m", "t2")), false},
		{"owner of that name with another uid", thing("n", "d"), owner{kind: "Thing", name: "t", uid: "former"}, false},
		{"owner that was never there", thing("n", "e"), owner{kind: "Wide", name: "w0", uid: "u"}, false},
		{"owner of an unknown kind", thing("n", "f"), owner{kind: "Nothing", name: "w", uid: "u"}, true},
		{"owner with a namespace of an object without", wide("g"), of(thing("n", "t")), true},
		{"owner without namespace of an object without", wide("h"), of(wide("w")), true},
		{"owner that is gone, of an object without", wide("i"), owner{kind: "Wide", name: "w", uid: "u"}, false},
	}
	for _, tt := range tests {
		w.put(tt.key, tt.owner)
	}
	for _, tt := range tests {
		if !tt.stays {
			w.untilGone(tt.key)
		}
	}
	w.settle()
	for _, tt := range tests {
		if (w.get(tt.key) != nil) != tt.stays {
			t.Errorf("%s: stays %t, want %t", tt.name, !tt.stays, tt.stays)
		}
	}
}

func TestForeground(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(wide("top"))
	held := func(m map[string]any) { m["finalizers"] = []any{"a.test/held"} }
	w.write(thing("n", "child"), held, blocking(wide("top")))
	w.put(thing("n", "free"), of(wide("top")))
	w.put(thing("n", "grandchild"), blocking(thing("n", "child")))
	w.collect()
	w.settle()
	w.end(wide("top"), Foreground)
	w.untilGone(thing("n", "free"), thing("n", "grandchild"))
	w.until("the child is being deleted", func() bool { return w.get(thing("n", "child")).deleting() })
	w.settle()
	if obj := w.get(wide("top")); obj == nil || !obj.has(Foreground) {
		t.Fatalf("the owner went before a dependent that blocks it: %v", obj)
	}
	w.until("the finalizer is off", func() bool {
		key := thing("n", "child")
		e, err := w.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		obj := w.get(key)
		obj.drop("a.test/held")
		if len(obj.finalizers()) > 0 {
			return false // its own dependents first
		}
		_, err = w.store.Delete(t.Context(), key, e.Revision)
		return err == nil
	})
	w.untilGone(wide("top"))
}

func TestOrphan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(wide("top"))
	w.put(thing("n", "child"), blocking(wide("top")))
	w.put(thing("n", "both"), of(wide("top")), of(wide("other")))
	w.put(wide("other"))
	w.collect()
	w.settle()
	w.end(wide("top"), Orphan, "a.test/held")
	w.until("the finalizer is off", func() bool { return !w.get(wide("top")).has(Orphan) })
	if obj := w.get(wide("top")); !obj.has("a.test/held") {
		t.Errorf("another finalizer went too: %v", obj)
	}
	w.settle()
	if obj := w.get(thing("n", "child")); obj == nil || len(obj.owners()) != 0 {
		t.Errorf("the dependent: %v", obj)
	}
	if obj := w.get(thing("n", "both")); obj == nil || len(obj.owners()) != 1 {
		t.Errorf("the dependent of two: %v", obj)
	}
}

// TestCircle: two that own each other, and block each other, go all the same.
func TestCircle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(thing("n", "a"), blocking(thing("n", "b")))
	w.put(thing("n", "b"), blocking(thing("n", "a")))
	w.collect()
	w.settle()
	if w.get(thing("n", "a")) == nil || w.get(thing("n", "b")) == nil {
		t.Fatal("they keep each other, as in Kubernetes")
	}
	w.end(thing("n", "a"), Foreground)
	w.untilGone(thing("n", "a"), thing("n", "b"))
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(namespace("n"))
	held := func(m map[string]any) { m["finalizers"] = []any{"a.test/held"} }
	for i := range 20 {
		w.put(thing("n", fmt.Sprintf("t%d", i)))
	}
	w.write(thing("n", "held"), held)
	w.put(thing("m", "safe"))
	w.put(wide("safe"))
	w.collect()
	w.until("default is there", func() bool { return w.get(namespace(DefaultNamespace)) != nil })
	w.end(namespace("n"), fleet.FinalizerNamespace)
	w.until("the namespace says what it waits for", func() bool {
		data, err := json.Marshal(w.get(namespace("n"))["status"])
		return err == nil && strings.Contains(string(data), "things.test.drover.io has 1")
	})
	e, err := w.store.Get(t.Context(), thing("n", "held"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Delete(t.Context(), e.Key, e.Revision); err != nil {
		t.Fatal(err)
	}
	w.untilGone(namespace("n"))
	if w.get(thing("m", "safe")) == nil || w.get(wide("safe")) == nil {
		t.Error("something outside the namespace went with it")
	}
	// every cluster has a namespace, and keeps it
	c := store.Key{Resource: cluster.Resource, Name: "c1"}
	w.put(c)
	w.until("the namespace of a cluster is there", func() bool { return w.get(namespace("c1")) != nil })
	w.end(c)
	w.settle()
	if w.get(namespace("c1")) == nil {
		t.Error("the namespace went with the cluster")
	}
}
