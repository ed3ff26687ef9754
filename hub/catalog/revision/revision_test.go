// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

type rig struct {
	*History
	t       *testing.T
	configs store.Objects[fleet.AddOnConfig, *fleet.AddOnConfig]
	addons  store.Objects[addon.ManagedClusterAddOn, *addon.ManagedClusterAddOn]
}

func newRig(t *testing.T) *rig {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, err := store.Open(ctx(t), b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	return &rig{
		NewHistory(s), t, store.Of[fleet.AddOnConfig](s, fleet.ResourceAddOnConfigs),
		store.Of[addon.ManagedClusterAddOn](s, addon.ResourceManagedClusterAddOns),
	}
}

func running(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	t.Cleanup(func() { cancel(); <-done })
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) must(_ any, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func edge() addon.Config {
	return addon.Config{ConfigGroupResource: config.ValuesKind(), ConfigReferent: addon.ConfigReferent{Namespace: "edge", Name: "logging"}}
}

// content is an AddOnConfig that says n.
func content(n int) map[string]any {
	return map[string]any{"apiVersion": "fleet.drover.io/v1alpha1", "kind": "AddOnConfig", "spec": map[string]any{"values": map[string]any{"n": int64(n)}}}
}

// write stores the AddOnConfig edge/logging with n in it.
func (r *rig) write(n int) {
	r.t.Helper()
	spec := fleet.AddOnConfigSpec{Values: &runtime.RawExtension{Raw: fmt.Appendf(nil, `{"n":%d}`, n)}}
	_, err := r.configs.Update(ctx(r.t), "edge", "logging", func(c *fleet.AddOnConfig) error { c.Spec = spec; return nil })
	if errors.Is(err, store.ErrNotFound) {
		_, err = r.configs.Create(ctx(r.t), &fleet.AddOnConfig{
			TypeMeta:   metav1.TypeMeta{APIVersion: "fleet.drover.io/v1alpha1", Kind: "AddOnConfig"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "logging"}, Spec: spec,
		})
	}
	r.must(nil, err)
}

func (r *rig) numbers(ref addon.Config) []int64 {
	r.t.Helper()
	list, err := r.List(ctx(r.t), ref)
	r.must(nil, err)
	var out []int64
	for _, rev := range list {
		out = append(out, rev.Spec.Revision)
	}
	return out
}

func TestRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i, want := range []int64{1, 2, 1, 3, 2} {
		n := []int{10, 20, 10, 30, 20}[i]
		rev, err := r.Record(ctx(t), edge(), content(n), "user-"+strconv.Itoa(i))
		r.must(nil, err)
		if rev.Spec.Revision != want {
			t.Errorf("content %d has number %d, want %d", n, rev.Spec.Revision, want)
		}
	}
	if diff := cmp.Diff([]int64{3, 2, 1}, r.numbers(edge())); diff != "" {
		t.Error(diff)
	}
	hash, _ := config.Hash(content(20))
	byHash, err := r.ByHash(ctx(t), edge(), hash)
	r.must(nil, err)
	byNumber, err := r.ByNumber(ctx(t), edge(), 2)
	r.must(nil, err)
	if diff := cmp.Diff(byHash, byNumber); diff != "" || byHash.Spec.By != "user-1" || byHash.CreationTimestamp.IsZero() {
		t.Errorf("%s, %+v", diff, byHash)
	}
	var read fleet.AddOnConfig
	r.must(nil, Read(byHash, &read))
	if got := string(read.Spec.Values.Raw); got != `{"n":20}` {
		t.Errorf("revision 2 says %s", got)
	}
	for _, err := range []error{
		func() error { _, err := r.ByNumber(ctx(t), edge(), 9); return err }(),
		func() error { _, err := r.ByHash(ctx(t), edge(), "00"); return err }(),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	// An object of a name that begins alike has a history of its own.
	other := edge()
	other.Name = "logging-2"
	rev, err := r.Record(ctx(t), other, content(10), "")
	r.must(nil, err)
	if rev.Spec.Revision != 1 || len(r.numbers(edge())) != 3 {
		t.Error("two objects share their history")
	}
}

func TestRecordAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := r.Record(ctx(t), edge(), content(i/2), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff([]int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, r.numbers(edge())); diff != "" {
		t.Error(diff)
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Expect(edge(), content(1), "jane")
	rev, err := r.Record(ctx(t), edge(), content(1), "")
	r.must(nil, err)
	if rev.Spec.By != "jane" {
		t.Errorf("by %q", rev.Spec.By)
	}
	for i := range 2 * maxAuthors {
		r.Expect(edge(), content(i), "joe")
	}
	if len(r.authors.by) > maxAuthors || len(r.authors.order) > maxAuthors {
		t.Error("authors are remembered without a bound")
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write(1) // before it runs
	running(t, NewRecorder(r.History, zaptest.NewLogger(t)).Run)
	r.until("revision 1", func() bool { return len(r.numbers(edge())) == 1 })
	r.write(2)
	r.until("revision 2", func() bool { return len(r.numbers(edge())) == 2 })
	r.write(1)
	r.write(3)
	r.until("revision 3", func() bool { return cmp.Equal(r.numbers(edge()), []int64{3, 2, 1}) })

	// A kind of a user: only what an addon names, and only once the kind is there.
	tuning := addon.Config{
		ConfigGroupResource: addon.ConfigGroupResource{Group: "example.com", Resource: "tunings"},
		ConfigReferent:      addon.ConfigReferent{Namespace: "edge", Name: "fast"},
	}
	secret := addon.Config{ConfigGroupResource: addon.ConfigGroupResource{Group: fleet.Group, Resource: "sessions"}, ConfigReferent: addon.ConfigReferent{Name: "s"}}
	put := func(resource, ns, name, spec string) {
		t.Helper()
		r.must(r.store.Create(ctx(t), store.Key{Resource: resource, Namespace: ns, Name: name}, []byte(`{"apiVersion":"example.com/v1","kind":"X","metadata":{"name":"`+name+`"},"spec":`+spec+`}`)))
	}
	put("tunings.example.com", "edge", "fast", `{"a":1}`)
	put("tunings.example.com", "edge", "unnamed", `{"a":1}`)
	put(fleet.ResourceSessions, "", "s", `{"secret":"x"}`)
	r.must(r.addons.Create(ctx(t), &addon.ManagedClusterAddOn{
		ObjectMeta: metav1.ObjectMeta{Namespace: "c1", Name: "logging"}, Spec: addon.ManagedClusterAddOnSpec{Configs: []addon.Config{tuning, secret}},
	}))
	put("customresourcedefinitions.apiextensions.k8s.io", "", "tunings.example.com", `{}`)
	r.until("the revision of a user's kind", func() bool { return len(r.numbers(tuning)) == 1 })
	data := []byte(`{"apiVersion":"example.com/v1","kind":"X","metadata":{"name":"fast"},"spec":{"a":2}}`)
	e, err := r.store.Get(ctx(t), store.Key{Resource: "tunings.example.com", Namespace: "edge", Name: "fast"})
	r.must(nil, err)
	r.must(r.store.Update(ctx(t), e.Key, data, e.Revision))
	r.until("its second revision", func() bool { return len(r.numbers(tuning)) == 2 })
	unnamed := tuning
	unnamed.Name = "unnamed"
	if got := append(r.numbers(unnamed), r.numbers(secret)...); len(got) != 0 {
		t.Errorf("revisions of what no addon may be configured by: %v", got)
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const all = keep + 6
	for n := range all {
		r.must(r.Record(ctx(t), edge(), content(n), ""))
	}
	r.write(1) // says what revision 2 has
	hash := func(n int) string { h, _ := config.Hash(content(n)); return h }
	spec := func(n int) *addon.ConfigSpecHash {
		return &addon.ConfigSpecHash{ConfigReferent: edge().ConfigReferent, SpecHash: hash(n)}
	}
	version := addon.Config{ConfigGroupResource: config.VersionKind(), ConfigReferent: addon.ConfigReferent{Name: "logging-1.0.0"}}
	for n := range 3 {
		r.must(r.Record(ctx(t), version, content(n), ""))
	}
	created, err := r.addons.Create(ctx(t), &addon.ManagedClusterAddOn{
		ObjectMeta: metav1.ObjectMeta{Namespace: "c1", Name: "logging", Annotations: map[string]string{fleet.AnnotationAddOnRevision: "2"}},
		Spec:       addon.ManagedClusterAddOnSpec{Configs: []addon.Config{version}},
		Status: addon.ManagedClusterAddOnStatus{ConfigReferences: []addon.ConfigReference{
			{ConfigGroupResource: config.ValuesKind(), DesiredConfig: spec(3), LastAppliedConfig: spec(2)},
		}},
	})
	r.must(created, err)
	r.must(nil, r.Collect(ctx(t), time.Now()))
	want := []int64{}
	for n := all; n > all-keep; n-- {
		want = append(want, int64(n))
	}
	// in use: 4 and 3; current: 2
	want = append(want, 4, 3, 2)
	if diff := cmp.Diff(want, r.numbers(edge())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int64{3, 2, 1}, r.numbers(version)); diff != "" {
		t.Errorf("an object that is only about to be stored: %s", diff)
	}
	// What is not there any more keeps what is in use.
	r.must(nil, r.configs.Delete(ctx(t), "edge", "logging"))
	r.must(nil, r.Collect(ctx(t), time.Now().Add(2*young)))
	if diff := cmp.Diff([]int64{4, 3}, r.numbers(edge())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int64{2}, r.numbers(version)); diff != "" {
		t.Error(diff)
	}
	r.must(nil, r.addons.Delete(ctx(t), "c1", "logging"))
	r.must(nil, r.Collect(ctx(t), time.Now().Add(2*young)))
	if got := append(r.numbers(edge()), r.numbers(version)...); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	// Numbers do not come back for another content while one is in use: with
	// nothing left they begin anew.
	rev, err := r.Record(ctx(t), edge(), content(99), "")
	r.must(nil, err)
	if rev.Spec.Revision != 1 {
		t.Errorf("number %d", rev.Spec.Revision)
	}
}
