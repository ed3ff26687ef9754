// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait of a test; it is only reached when the test fails.
const patience = 30 * time.Second

const group = "test.drover.io"

func kinds() []Kind {
	return []Kind{
		{schema.GroupKind{Group: group, Kind: "Wide"}, "wides." + group, false},
		{schema.GroupKind{Group: group, Kind: "Thing"}, "things." + group, true},
		{schema.GroupKind{Kind: "Namespace"}, ResourceNamespaces, false},
	}
}

// world is a store with a collector.
type world struct {
	t     *testing.T
	store *store.Store
}

func newWorld(t *testing.T) *world {
	t.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), js, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, s}
	w.run(s.Run)
	return w
}

// run runs until the function returned is called, or the test ends.
func (w *world) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// collect starts a collector.
func (w *world) collect() (stop func()) {
	return w.run(New(Config{Store: w.store, Kinds: kinds, Log: zaptest.NewLogger(w.t)}).Run)
}

func wide(name string) store.Key { return store.Key{Resource: "wides." + group, Name: name} }
func thing(ns, name string) store.Key {
	return store.Key{Resource: "things." + group, Namespace: ns, Name: name}
}
func namespace(name string) store.Key { return store.Key{Resource: ResourceNamespaces, Name: name} }

// owner of an object in a test; the uid of an object is its key unless it is told.
type owner struct {
	kind, name, uid string
	blocks          bool
}

func of(key store.Key) owner {
	kind := "Thing"
	if key.Namespace == "" {
		kind = "Wide"
	}
	return owner{kind: kind, name: key.Name, uid: key.String()}
}

func blocking(key store.Key) owner {
	o := of(key)
	o.blocks = true
	return o
}

func (w *world) put(key store.Key, owners ...owner) {
	w.t.Helper()
	w.write(key, nil, owners...)
}

// write makes an object; change edits its metadata.
func (w *world) write(key store.Key, change func(map[string]any), owners ...owner) {
	w.t.Helper()
	meta := map[string]any{"name": key.Name, "namespace": key.Namespace, "uid": key.String(), "generation": 1}
	var refs []any
	for _, o := range owners {
		refs = append(refs, map[string]any{
			"apiVersion": group + "/v1", "kind": o.kind, "name": o.name, "uid": o.uid, "blockOwnerDeletion": o.blocks,
		})
	}
	if refs != nil {
		meta["ownerReferences"] = refs
	}
	if change != nil {
		change(meta)
	}
	data, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Create(w.t.Context(), key, data); err != nil {
		w.t.Fatal(err)
	}
}

// end deletes an object with finalizers, as the API does; without any at once.
func (w *world) end(key store.Key, finalizers ...any) {
	w.t.Helper()
	for {
		e, err := w.store.Get(w.t.Context(), key)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(finalizers) == 0 {
			_, err = w.store.Delete(w.t.Context(), key, e.Revision)
		} else {
			obj, derr := decode(e)
			if derr != nil {
				w.t.Fatal(derr)
			}
			obj.meta()["finalizers"] = finalizers
			obj.mark()
			data, derr := obj.encode()
			if derr != nil {
				w.t.Fatal(derr)
			}
			_, err = w.store.Update(w.t.Context(), key, data, e.Revision)
		}
		if !errors.Is(err, store.ErrConflict) {
			if err != nil {
				w.t.Fatal(err)
			}
			return
		}
	}
}

func (w *world) get(key store.Key) object {
	w.t.Helper()
	e, err := w.store.Get(w.t.Context(), key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	obj, err := decode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	return obj
}

// until waits for something to be so.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) untilGone(keys ...store.Key) {
	w.t.Helper()
	for _, key := range keys {
		w.until(key.String()+" is gone", func() bool { return w.get(key) == nil })
	}
}

// settle waits until the collector has seen all that was written before: a
// sentinel without an owner goes.
func (w *world) settle() {
	w.t.Helper()
	for i := range 2 {
		key := thing("settle", []string{"a", "b"}[i])
		w.put(key, owner{kind: "Thing", name: "nobody", uid: "nobody"})
		w.untilGone(key)
	}
}
