// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              widgetSpec   `json:"spec"`
	Status            widgetStatus `json:"status,omitempty"`
}

type widgetSpec struct {
	Size  int64             `json:"size,omitempty"`
	Extra map[string]string `json:"extra,omitempty"`
}

type widgetStatus struct {
	Count int64 `json:"count,omitempty"`
}

func newWidget(name string) *widget {
	return &widget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "example.io/v1", Kind: "Widget"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
	}
}

func openWidgets(t *testing.T) (*Store, Objects[widget, *widget]) {
	s, _ := newBroker(t).open(Options{})
	return s, Of[widget](s, "widgets.example.io")
}

func TestObjects(t *testing.T) {
	t.Parallel()
	s, widgets := openWidgets(t)
	ctx := timeout(t)
	in := newWidget("a")
	in.ResourceVersion, in.Generation, in.UID = "77", 9, "mine"
	in.Spec.Size = 1<<60 + 1
	made, err := widgets.Create(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if in.UID != "mine" || in.Generation != 9 {
		t.Error("Create changed its argument")
	}
	if made.UID == "mine" || made.UID == "" || made.Generation != 1 || made.CreationTimestamp.IsZero() ||
		made.Kind != "Widget" || time.Since(made.CreationTimestamp.Time) > time.Hour {
		t.Errorf("created %+v", made)
	}
	if _, err := widgets.Create(ctx, in); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}

	for _, tt := range []struct {
		name       string
		update     func(context.Context, string, string, func(*widget) error) (*widget, error)
		change     func(*widget)
		writes     bool
		generation int64
		err        error
	}{
		{"nothing", widgets.Update, func(*widget) {}, false, 1, nil},
		{"own resourceVersion", widgets.Update, func(w *widget) { w.ResourceVersion = "1" }, false, 1, nil},
		{"status", widgets.UpdateStatus, func(w *widget) { w.Status.Count = 3 }, true, 1, nil},
		{"same status", widgets.UpdateStatus, func(w *widget) { w.Status.Count = 3 }, false, 1, nil},
		{"status by Update", widgets.Update, func(w *widget) { w.Status.Count = 4 }, true, 1, nil},
		{"label", widgets.Update, func(w *widget) { w.Labels = map[string]string{"a": "b"} }, true, 1, nil},
		{"spec", widgets.Update, func(w *widget) { w.Spec.Extra = map[string]string{"x": "y"} }, true, 2, nil},
		{"spec, remove", widgets.Update, func(w *widget) { w.Spec.Extra = nil }, true, 3, nil},
		{"big integer by one", widgets.Update, func(w *widget) { w.Spec.Size++ }, true, 4, nil},
		{"spec by UpdateStatus", widgets.UpdateStatus, func(w *widget) { w.Spec.Size = 1 }, false, 4, ErrInvalid},
		{"rename", widgets.Update, func(w *widget) { w.Name = "b" }, false, 4, ErrInvalid},
	} {
		before, err := widgets.Get(ctx, "ns", "a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := tt.update(ctx, "ns", "a", func(w *widget) error { tt.change(w); return nil })
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.err)
		}
		after, err := widgets.Get(ctx, "ns", "a")
		if err != nil {
			t.Fatal(err)
		}
		if wrote := after.ResourceVersion != before.ResourceVersion; wrote != tt.writes {
			t.Errorf("%s: wrote = %v, want %v", tt.name, wrote, tt.writes)
		}
		if after.Generation != tt.generation {
			t.Errorf("%s: generation = %d, want %d", tt.name, after.Generation, tt.generation)
		}
		if tt.err == nil && (got.ResourceVersion != after.ResourceVersion || got.Generation != after.Generation) {
			t.Errorf("%s: returned revision %s generation %d, stored %s and %d",
				tt.name, got.ResourceVersion, got.Generation, after.ResourceVersion, after.Generation)
		}
		if after.UID != made.UID || after.Kind != "Widget" || after.Spec.Size == 0 {
			t.Errorf("%s: stored %+v", tt.name, after)
		}
	}
	fail := errors.New("mine")
	if _, err := widgets.Update(ctx, "ns", "a", func(*widget) error { return fail }); err != fail {
		t.Errorf("error of the change = %v", err)
	}
	list, rev, err := widgets.List(ctx, Selection{})
	if err != nil || len(list) != 1 || rev < 1 || list[0].Spec.Size != 1<<60+2 {
		t.Errorf("list = %v at %d, %v", list, rev, err)
	}
	if rv, _ := strconv.ParseUint(list[0].ResourceVersion, 10, 64); rv == 0 || rv > rev {
		t.Errorf("resourceVersion %q in a list at %d", list[0].ResourceVersion, rev)
	}
	e, _ := s.Get(ctx, Key{"widgets.example.io", "ns", "a"})
	var raw struct {
		Metadata map[string]any `json:"metadata"`
	}
	if err := decode(e.Data, &raw); err != nil || raw.Metadata["resourceVersion"] != nil {
		t.Errorf("stored metadata %v, %v", raw.Metadata, err)
	}
}

// TestObjectsUnknownFields: what the Go type does not know stays.
func TestObjectsUnknownFields(t *testing.T) {
	t.Parallel()
	s, widgets := openWidgets(t)
	ctx := timeout(t)
	stored := []byte(`{"spec":{"unknown":9007199254740993,"size":1,"extra":{"a":"b"}},"metadata":{"name":"a","namespace":"ns"},"other":[1]}`)
	if _, err := s.Create(ctx, Key{"widgets.example.io", "ns", "a"}, stored); err != nil {
		t.Fatal(err)
	}
	if _, err := widgets.Update(ctx, "ns", "a", func(w *widget) error { w.Spec.Size = 2; return nil }); err != nil {
		t.Fatal(err)
	}
	e, err := s.Get(ctx, Key{"widgets.example.io", "ns", "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"metadata":{"generation":1,"name":"a","namespace":"ns"},"other":[1],"spec":{"extra":{"a":"b"},"size":2,"unknown":9007199254740993}}`
	if string(e.Data) != want {
		t.Errorf("stored %s, want %s", e.Data, want)
	}
}

func TestObjectsDelete(t *testing.T) {
	t.Parallel()
	s, widgets := openWidgets(t)
	ctx := timeout(t)
	w := newWidget("a")
	w.Finalizers = []string{"example.io/x"}
	made, err := widgets.Create(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	from, _ := strconv.ParseUint(made.ResourceVersion, 10, 64)
	seen(t, s, from)
	watch, err := widgets.Watch(ctx, WatchSelection{From: from})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for range 2 {
		if err := widgets.Delete(ctx, "ns", "a"); err != nil {
			t.Fatal(err)
		}
	}
	event, err := watch.Next(ctx)
	if err != nil || event.Type != Modified || event.Object.DeletionTimestamp == nil || event.Object.Generation != 2 {
		t.Fatalf("event = %+v, %v, want the mark of deletion", event, err)
	}
	if _, err := widgets.Update(ctx, "ns", "a", func(w *widget) error { w.Finalizers = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if event, err = watch.Next(ctx); err != nil || event.Type != Deleted || event.Object.Name != "a" || event.Previous == nil {
		t.Fatalf("event = %+v, %v, want the deletion", event, err)
	}
	if _, err := widgets.Cached("ns", "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("cached: %v", err)
	}
	if err := widgets.Delete(ctx, "ns", "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	if _, err := widgets.Update(ctx, "ns", "a", func(*widget) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("update: %v", err)
	}
}

func TestObjectsConcurrent(t *testing.T) {
	t.Parallel()
	_, widgets := openWidgets(t)
	if _, err := widgets.Create(timeout(t), newWidget("a")); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				for {
					_, err := widgets.UpdateStatus(timeout(t), "ns", "a", func(w *widget) error { w.Status.Count++; return nil })
					if errors.Is(err, ErrConflict) {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	group.Wait()
	w, err := widgets.Get(timeout(t), "ns", "a")
	if err != nil || w.Status.Count != 40 {
		t.Errorf("count = %d, %v, want 40", w.Status.Count, err)
	}
}
