// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/json"
	"testing"

	"go.uber.org/zap/zaptest"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// TestStoredSets: labels and sets count as soon as they change, and only then
// somebody's sight is another one.
func TestStoredSets(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), openStore(t)
	put := func(resource, name string, lbls map[string]string, spec any) {
		t.Helper()
		key := store.Key{Resource: resource, Name: name}
		data, err := json.Marshal(map[string]any{"metadata": map[string]any{"name": name, "labels": lbls}, "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		if old, gerr := db.Get(ctx, key); gerr == nil {
			_, err = db.Update(ctx, key, data, old.Revision)
		} else {
			_, err = db.Create(ctx, key, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := func(resource, name string) {
		t.Helper()
		if _, err := db.Delete(ctx, store.Key{Resource: resource, Name: name}, 0); err != nil {
			t.Fatal(err)
		}
	}
	put(cluster.Resource, "c1", map[string]string{cluster.LabelSet: "blue"}, nil)
	put(cluster.ResourceSets, "blue", nil, nil)
	put(cluster.ResourceSets, "broken", nil, map[string]any{"clusterSelector": map[string]any{"selectorType": "Magic"}})
	if _, err := store.Of[rbacv1.ClusterRole](db, ResourceClusterRoles).Create(ctx, clusterRole("r", rule("view", cluster.Group, "managedclustersets", "blue", "east"))); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Of[rbacv1.ClusterRoleBinding](db, ResourceClusterRoleBindings).Create(ctx, everywhere("ClusterRole/r", "User/ann")); err != nil {
		t.Fatal(err)
	}
	s := NewStored(db, zaptest.NewLogger(t))
	stop := start(t, s.Run)
	ann := person("ann")
	sees := func(what string) func(*Policy) bool { return may(ann, what) }
	c1, c2, c3 := "get "+cluster.Group+"/managedclusters -/c1", "get "+cluster.Group+"/managedclusters -/c2", "get "+cluster.Group+"/managedclusters -/c3"
	until(t, s, "the member of the first state", sees(c1))
	for _, what := range []string{"get -/events c1/e", "list -/events c1", "get -/namespaces c1/c1", "get fleet.drover.io/clustermetrics -/c1", "get " + cluster.Group + "/managedclustersets -/blue"} {
		if !sees(what)(s.Policy()) {
			t.Errorf("ann may not %s", what)
		}
	}
	for _, what := range []string{c2, "get -/events c2/e", "list -/events", "delete " + cluster.Group + "/managedclusters -/c1", "get work.open-cluster-management.io/manifestworks c1/w", "get " + cluster.Group + "/managedclustersets -/broken"} {
		if sees(what)(s.Policy()) {
			t.Errorf("ann may %s", what)
		}
	}

	events := schema.GroupResource{Resource: "events"}
	before := s.Policy().Visible(ann, "list", events)
	put(cluster.Resource, "c2", map[string]string{cluster.LabelSet: "red"}, nil)
	put(cluster.Resource, "c3", map[string]string{"region": "east"}, nil)
	put(cluster.ResourceSets, "east", nil, map[string]any{"clusterSelector": map[string]any{
		"selectorType": cluster.SelectorLabels, "labelSelector": map[string]any{"matchLabels": map[string]string{"region": "east"}},
	}})
	until(t, s, "the member of a new set", sees(c3))
	if s.Policy().Visible(ann, "list", events).Equal(before) {
		t.Error("a new member changes nothing")
	}
	since := s.Since()
	put(cluster.Resource, "c2", map[string]string{cluster.LabelSet: "blue"}, nil)
	until(t, s, "a cluster that joins", sees(c2))
	if s.Since() <= since {
		t.Error("lists of before can be gone on from")
	}
	put(cluster.Resource, "c2", nil, nil)
	until(t, s, "a cluster that leaves", not(sees(c2)))
	gone(cluster.ResourceSets, "east")
	until(t, s, "a set that goes", not(sees(c3)))
	gone(cluster.Resource, "c1")
	until(t, s, "a cluster that goes", not(sees(c1)))
	stop()
	if s.Policy() != nil {
		t.Error("a policy after the end")
	}
}
