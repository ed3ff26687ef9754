// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/wire"
)

// What a cluster serves is asked for once, kept for all clusters that serve the
// same, outlives the session and the hub, and goes when nobody serves it.
func TestFacts(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	running(t, r.fleet.Run)
	r.add("shop-1", "shop-2", "bare")
	apis := []string{"apps/v1", "apps/v1/Deployment", "v1", "v1/Pod"}
	digest := wire.DigestAPIs(apis)
	status := func(digest string) wire.Status {
		return wire.Status{Kubernetes: &wire.KubernetesStatus{
			Version: "v1.36.3", ClusterUID: "uid-1", Healthy: true, Nodes: 2, NodesReady: 2, APIs: digest,
			Architectures: []string{"arm64", "amd64", "arm64"}, Claims: map[string]string{"region": "eu"},
			Capacity: map[string]string{"cpu": "4"}, Allocatable: map[string]string{"cpu": "3"},
		}}
	}
	tell := func(name, service string, body any) wire.Ack {
		t.Helper()
		var ack wire.Ack
		r.ask(name, service, body, &ack)
		return ack
	}
	for _, name := range []string{"shop-1", "shop-2"} {
		r.presence.connect(name, true)
		until(t, name+" is connected", func() bool { mc := r.get(name); return mc.Status.Agent != nil })
	}
	if ack := tell("shop-1", wire.ServiceAPIs, wire.APIs{Digest: digest, APIs: apis}); ack.Error == "" {
		t.Error("a list nobody asked for was taken")
	}
	if ack := tell("shop-1", wire.ServiceStatus, status(digest)); ack.Error != "" || !ack.APIs {
		t.Errorf("first status: %+v", ack)
	}
	for name, bad := range map[string]wire.APIs{
		"digest":     {Digest: digest, APIs: apis[:2]},
		"order":      {Digest: digest, APIs: []string{"v1", "apps/v1"}},
		"empty":      {Digest: digest},
		"characters": {Digest: wire.DigestAPIs([]string{"a b"}), APIs: []string{"a b"}},
	} {
		if ack := tell("shop-1", wire.ServiceAPIs, bad); ack.Error == "" || ack.Retry {
			t.Errorf("%s: %+v", name, ack)
		}
	}
	if ack := tell("shop-1", wire.ServiceAPIs, wire.APIs{Digest: digest, APIs: apis}); ack.Error != "" {
		t.Errorf("the list: %s", ack.Error)
	}
	for _, name := range []string{"shop-1", "shop-2"} {
		until(t, name+" is not asked again", func() bool { return !tell(name, wire.ServiceStatus, status(digest)).APIs })
		want := Facts{
			Name: name, Kubernetes: "v1.36.3", APIs: apis, Nodes: 2, Architectures: []string{"amd64", "arm64"},
			Claims:      map[string]string{"id.k8s.io": "uid-1", "kubeversion.open-cluster-management.io": "v1.36.3", "region": "eu"},
			Allocatable: map[string]string{"cpu": "3"},
		}
		var got Facts
		until(t, "the facts of "+name, func() bool {
			var err error
			if got, err = r.fleet.Facts(name); err != nil {
				t.Fatal(err)
			}
			return got.APIs != nil && got.Nodes > 0
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if got, err := r.fleet.Facts("bare"); err != nil || got.APIs != nil || got.Kubernetes != "" {
		t.Errorf("a cluster that was never here: %+v, %v", got, err)
	}
	if _, err := r.fleet.Facts("none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no cluster: %v", err)
	}

	// An agent of an older protocol, and one without a cluster, is not asked.
	if ack := tell("shop-2", wire.ServiceStatus, status("")); ack.APIs {
		t.Error("asked for a list that the status does not name")
	}
	// Another hub, or this one after a restart.
	again := New(r.fleet.cfg)
	if got, err := again.Facts("shop-1"); err != nil || cmp.Diff(apis, got.APIs) != "" {
		t.Errorf("after a restart: %+v, %v", got, err)
	}

	later := time.Now().Add(2 * sweepAge)
	if err := r.fleet.sweepOnce(timeout(t), later); err != nil {
		t.Fatal(err)
	}
	if !r.fleet.known(digest) {
		t.Error("a list in use was removed")
	}
	other := wire.DigestAPIs([]string{"v1"})
	for _, name := range []string{"shop-1", "shop-2"} {
		tell(name, wire.ServiceStatus, status(other))
	}
	tell("shop-1", wire.ServiceAPIs, wire.APIs{Digest: other, APIs: []string{"v1"}})
	if tell("shop-2", wire.ServiceStatus, status(other)).APIs { // the cache lags
		tell("shop-2", wire.ServiceAPIs, wire.APIs{Digest: other, APIs: []string{"v1"}})
	}
	for _, name := range []string{"shop-1", "shop-2"} {
		until(t, name+" serves something else", func() bool { return r.get(name).Status.Agent.APIs == other })
	}
	if err := r.fleet.sweepOnce(timeout(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	if !r.fleet.known(digest) {
		t.Error("a young list was removed")
	}
	until(t, "the unused list is removed", func() bool {
		if err := r.fleet.sweepOnce(timeout(t), later); err != nil {
			t.Fatal(err)
		}
		return !r.fleet.known(digest)
	})
	if !r.fleet.known(other) {
		t.Error("the list in use was removed")
	}
}

// One cluster cannot fill the store with lists.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	running(t, r.fleet.Run)
	r.add("shop-1")
	refused := 0
	for i := range maxNewLists + 5 {
		apis := []string{fmt.Sprintf("g%d/v1", i)}
		var ack wire.Ack
		r.ask("shop-1", wire.ServiceStatus, wire.Status{Kubernetes: &wire.KubernetesStatus{APIs: wire.DigestAPIs(apis)}}, &ack)
		r.ask("shop-1", wire.ServiceAPIs, wire.APIs{Digest: wire.DigestAPIs(apis), APIs: apis}, &ack)
		if ack.Error != "" {
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("%d lists refused, want 5", refused)
	}
}

func TestApplyClaims(t *testing.T) {
	t.Parallel()
	many := map[string]string{"zz": "", "big": strings.Repeat("x", 2000), strings.Repeat("n", 300): "x"}
	for i := range 30 {
		many[fmt.Sprintf("c%02d", i)] = "x"
	}
	for _, tt := range []struct {
		name   string
		before []cluster.Claim
		k      wire.KubernetesStatus
		want   string
	}{
		{"an older agent", []cluster.Claim{{Name: "mine", Value: "1"}}, wire.KubernetesStatus{Version: "v1", ClusterUID: "u"}, "mine=1 kubeversion.open-cluster-management.io=v1 id.k8s.io=u"},
		{"no ClusterClaims", []cluster.Claim{{Name: "mine", Value: "1"}}, wire.KubernetesStatus{Product: "EKS", Platform: "AWS"}, "mine=1 platform.open-cluster-management.io=AWS product.open-cluster-management.io=EKS"},
		{"claims", []cluster.Claim{{Name: "old", Value: "1"}, {Name: "id.k8s.io", Value: "u"}}, wire.KubernetesStatus{
			Product: "EKS", Claims: map[string]string{"b": "2", "a": "1", "product.open-cluster-management.io": "ROSA", "id.k8s.io": "forged", "kubeversion.open-cluster-management.io": "v0"},
		}, "id.k8s.io=u a=1 b=2 product.open-cluster-management.io=ROSA"},
		{"none left", []cluster.Claim{{Name: "old", Value: "1"}}, wire.KubernetesStatus{Claims: map[string]string{}}, ""},
	} {
		s := cluster.ManagedClusterStatus{ClusterClaims: tt.before}
		applyClaims(&s, &tt.k)
		var got []string
		for _, c := range s.ClusterClaims {
			got = append(got, c.Name+"="+c.Value)
		}
		if line := strings.Join(got, " "); line != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, line, tt.want)
		}
	}
	s := cluster.ManagedClusterStatus{}
	applyClaims(&s, &wire.KubernetesStatus{Claims: many})
	if n := len(s.ClusterClaims); n != wire.MaxClaims || s.ClusterClaims[n-1].Name != "c19" {
		t.Errorf("%d claims, the last %+v", n, s.ClusterClaims[n-1])
	}
}
