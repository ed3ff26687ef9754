// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/catalog/render"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

type shelf map[string][]byte

func (s shelf) Bundle(_ context.Context, digest string) ([]byte, error) {
	if data, ok := s[digest]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (s shelf) Size(ctx context.Context, digest string) (int64, error) {
	data, err := s.Bundle(ctx, digest)
	return int64(len(data)), err
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(30 * time.Second) {
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
	running(t, s.Run)
	return s
}

func running(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// TestInUse: content stays while a version or a revision of one names it, and the
// layer of an artifact stays with its manifest.
func TestInUse(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	create := func(resource, name, data string) {
		t.Helper()
		if _, err := s.Create(t.Context(), store.Key{Resource: resource, Name: name}, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	create(fleet.ResourceAddOnVersions, "a-1.0.0", `{"metadata":{"name":"a-1.0.0"},"spec":{"addOn":"a","version":"1.0.0","image":"`+digestOf("1")+`"}}`)
	create(fleet.ResourceAddOnVersions, "b-1.0.0", `{"metadata":{"name":"b-1.0.0"},"spec":{"addOn":"b","version":"1.0.0","image":"example.org/b@`+digestOf("2")+`"}}`)
	create("configrevisions."+fleet.Group, "r", `{"metadata":{"name":"r"},"spec":{"resource":"addonversions","content":{"spec":{"image":"`+digestOf("4")+`"}}}}`)
	p := New(Config{Store: s, Bundles: shelf{digestOf("2"): []byte(`{"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + digestOf("3") + `"}]}`)}})
	used := map[string]bool{"others": true}
	if err := p.InUse(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	want := []string{"others", digestOf("1"), digestOf("2"), digestOf("3"), digestOf("4")}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(used))); diff != "" {
		t.Error(diff)
	}
}

// TestClusters: the clusters that run a version are counted.
func TestClusters(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	versions := store.Of[fleet.AddOnVersion](s, fleet.ResourceAddOnVersions)
	for _, name := range []string{"a-1.0.0", "a-2.0.0"} {
		if _, err := versions.Create(t.Context(), &fleet.AddOnVersion{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: fleet.AddOnVersionSpec{AddOn: "a", Version: name[2:]}}); err != nil {
			t.Fatal(err)
		}
	}
	p := New(Config{Store: s, Renderer: render.New(render.Limits{})})
	running(t, p.Run)
	installed := store.Of[addon.ManagedClusterAddOn](s, addon.ResourceManagedClusterAddOns)
	for cluster, version := range map[string]string{"c1": "a-1.0.0", "c2": "a-2.0.0", "c3": "a-2.0.0"} {
		a := &addon.ManagedClusterAddOn{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: "a"}}
		kind := addon.ConfigGroupResource{Group: fleet.Group, Resource: "addonversions"}
		a.Status.ConfigReferences = []addon.ConfigReference{{ConfigGroupResource: kind, LastAppliedConfig: &addon.ConfigSpecHash{ConfigReferent: addon.ConfigReferent{Name: version}}}}
		if _, err := installed.Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int32{"a-1.0.0": 1, "a-2.0.0": 2}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := map[string]int32{}
		for name := range want {
			v, err := versions.Get(t.Context(), "", name)
			if err != nil {
				t.Fatal(err)
			}
			got[name] = v.Status.Clusters
		}
		if maps.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("counted %v, want %v", got, want)
		}
	}
	if err := p.AdmitDelete(t.Context(), "a-2.0.0"); err == nil || !strings.Contains(err.Error(), "in use by ManagedClusterAddOn c2/a, ManagedClusterAddOn c3/a") {
		t.Errorf("delete: %v", err)
	}
}
