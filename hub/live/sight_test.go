// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

var worldClusters = []string{"c1", "c2", "c3", "c4"}

// world is what there is, and who may see it.
type world struct {
	*auth.Stored
	t      *testing.T
	rig    *rig
	rnd    *rand.Rand
	labels map[string]map[string]string // of clusters
	works  map[string]bool              // by namespace/name

	mu      sync.Mutex
	last    *auth.Policy
	allowed map[string]bool // what somebody may have seen since the last forget
}

// Policy notes what the rights allow before anybody acts on them.
func (w *world) Policy() *auth.Policy {
	p := w.Stored.Policy()
	w.mu.Lock()
	same := p == w.last
	w.last = p
	w.mu.Unlock()
	if !same {
		w.allow(p)
	}
	return p
}

func (w *world) allow(p *auth.Policy) {
	for sub, keys := range visible(w.t, p, everything(), "watch") {
		for key := range keys {
			w.mu.Lock()
			w.allowed[sub+" "+key] = true
			w.mu.Unlock()
		}
	}
}

func (w *world) forget() {
	w.mu.Lock()
	w.allowed = map[string]bool{}
	w.mu.Unlock()
	w.allow(w.Stored.Policy())
}

func everything() map[string]bool {
	out := map[string]bool{}
	for _, c := range worldClusters {
		out[c], out[c+"/a"], out[c+"/b"] = true, true, true
	}
	return out
}

func (w *world) there() map[string]bool {
	out := maps.Clone(w.works)
	for c := range w.labels {
		out[c] = true
	}
	return out
}

func selectors() map[string]labels.Selector {
	return map[string]labels.Selector{
		"s1": labels.SelectorFromSet(labels.Set{cluster.LabelSet: "s1"}), "s2": labels.SelectorFromSet(labels.Set{"env": "x"}),
	}
}

// changeRights makes up a role, or gives it in another namespace.
func (w *world) changeRights() {
	r := w.rnd
	name := fmt.Sprintf("r%d", r.IntN(3))
	var rules []any
	for range 1 + r.IntN(2) {
		var verbs, kinds, names []any
		for range 1 + r.IntN(3) {
			verbs = append(verbs, pick(r, "get", "list", "watch", "view", "operate", "*"))
			kinds = append(kinds, pick(r, "managedclusters", "managedclustersets", "manifestworks", "clustermetrics", "nothing"))
		}
		for range r.IntN(3) {
			names = append(names, pick(r, "c1", "c2", "s1", "s2", "a", "b"))
		}
		if slices.Contains(verbs, any("view")) || slices.Contains(verbs, any("operate")) {
			kinds = append(kinds, "managedclustersets")
		}
		rules = append(rules, map[string]any{"apiGroups": []any{"*"}, "resources": kinds, "verbs": verbs, "resourceNames": names})
	}
	w.rig.put(auth.ResourceClusterRoles, "", name, map[string]any{"rules": rules})
	binding := map[string]any{
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}},
	}
	w.rig.remove(auth.ResourceClusterRoleBindings, "", "b"+name)
	w.rig.remove(auth.ResourceRoleBindings, "c1", "b"+name)
	if r.IntN(2) == 0 {
		w.rig.put(auth.ResourceClusterRoleBindings, "", "b"+name, binding)
	} else {
		w.rig.put(auth.ResourceRoleBindings, "c1", "b"+name, binding)
	}
}

// change makes up labels of a cluster, or a work.
func (w *world) change() {
	c := pick(w.rnd, worldClusters...)
	lbls, asAny := map[string]string{}, map[string]any{}
	for k, v := range map[string]string{cluster.LabelSet: pick(w.rnd, "", "s1"), "env": pick(w.rnd, "", "x")} {
		if v != "" {
			lbls[k], asAny[k] = v, v
		}
	}
	w.labels[c] = lbls
	// A cluster counts by the labels it has in each state, before the rights follow.
	if p := w.Stored.Policy(); p != nil {
		w.allow(p.With(auth.NewMembers(w.labels, selectors())))
	}
	w.rig.put(cluster.Resource, "", c, managed(pick(w.rnd, "Online", "Offline"), asAny))
	key := pick(w.rnd, worldClusters...) + "/" + pick(w.rnd, "a", "b")
	ns, name, _ := strings.Cut(key, "/")
	if w.works[key] && w.rnd.IntN(2) == 0 {
		delete(w.works, key)
		w.rig.remove(work.Resource, ns, name)
		return
	}
	w.works[key] = true
	w.rig.put(work.Resource, ns, name, sent(w.rnd.IntN(2) == 0))
}

type fixed struct{ policy *auth.Policy }

func (f fixed) Policy() *auth.Policy { return f.policy }

// may asks for one object as a review would: by a verb, or by get.
func may(t *testing.T, p *auth.Policy, verb, group, resource, ns, name string) bool {
	t.Helper()
	ann := &user.DefaultInfo{Name: "ann", Groups: []string{user.AllAuthenticated}}
	for _, v := range []string{verb, "get"} {
		d, _, err := auth.RBAC{Source: fixed{p}}.Authorize(context.Background(), authorizer.AttributesRecord{
			User: ann, Verb: v, APIGroup: group, Resource: resource, Namespace: ns, Name: name, ResourceRequest: true,
		})
		if err == nil && d == authorizer.DecisionAllow {
			return true
		}
	}
	return false
}

// visible are the keys of what there is that ann may see, by subscription.
func visible(t *testing.T, p *auth.Policy, there map[string]bool, verb string) map[string]map[string]bool {
	out := map[string]map[string]bool{"clusters": {}, "works": {}, "works/c1": {}}
	for key := range there {
		ns, name, ok := strings.Cut(key, "/")
		switch {
		case !ok && may(t, p, verb, cluster.Group, "managedclusters", "", key):
			out["clusters"][key] = true
		case ok && may(t, p, verb, work.Group, "manifestworks", ns, name):
			out["works"][key] = true
			if ns == "c1" {
				out["works/c1"][key] = true
			}
		}
	}
	out["list="+cluster.Resource] = out["clusters"]
	out["list="+work.Resource] = out["works"]
	out["list="+work.Resource+"/c1"] = out["works/c1"]
	return out
}

// TestSight: whatever rights there are, and however they and the objects change
// while somebody looks, a stream shows what reviews of each object allow, and
// nothing else ever comes along it.
func TestSight(t *testing.T) {
	t.Parallel()
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	w := &world{t: t, rnd: rand.New(rand.NewPCG(7, 7)), labels: map[string]map[string]string{}, works: map[string]bool{}, allowed: map[string]bool{}}
	r := newRig(t, func(s *store.Store) auth.Source {
		w.Stored = auth.NewStored(s, zap.NewNop())
		return w
	})
	w.rig = r
	running(t, w.Stored.Run)
	r.put(cluster.ResourceSets, "", "s1", map[string]any{"spec": map[string]any{}})
	r.put(cluster.ResourceSets, "", "s2", map[string]any{"spec": map[string]any{"clusterSelector": map[string]any{
		"selectorType": "LabelSelector", "labelSelector": map[string]any{"matchLabels": map[string]any{"env": "x"}},
	}}})
	for range 12 {
		w.change()
	}
	subs := []string{"clusters", "works", "works/c1", "list=" + cluster.Resource, "list=" + work.Resource, "list=" + work.Resource + "/c1"}
	c := r.follow("ann", "table=clusters&table=works&table=works/c1&"+strings.Join(subs[3:], "&"), 0, func(sub, key string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.allowed[sub+" "+key] {
			t.Errorf("%s tells of %s, which ann may not see", sub, key)
		}
	})
	partly := 0
	for round := range rounds {
		w.forget()
		for range 1 + w.rnd.IntN(3) {
			if w.rnd.IntN(2) == 0 {
				w.changeRights()
			} else {
				w.change()
			}
		}
		var want map[string]map[string]bool
		c.until(fmt.Sprintf("round %d", round), func(c *client) bool {
			want = visible(t, w.Stored.Policy(), w.there(), "watch")
			for _, sub := range subs {
				if !slices.Equal(slices.Sorted(maps.Keys(c.rows[sub])), slices.Sorted(maps.Keys(want[sub]))) {
					return false
				}
			}
			return countsAsAllowed(t, w.Stored.Policy(), c)
		})
		if n := len(want["clusters"]) + len(want["works"]); n > 0 && n < len(w.there()) {
			partly++
		}
		c.until(fmt.Sprintf("round %d, tables", round), func(*client) bool {
			lists := visible(t, w.Stored.Policy(), w.there(), "list")
			for _, name := range []string{"clusters", "works"} {
				rows, _ := r.table("ann", name)
				if !slices.Equal(slices.Sorted(maps.Keys(rows)), slices.Sorted(maps.Keys(lists[name]))) {
					return false
				}
			}
			return true
		})
		if t.Failed() {
			t.FailNow()
		}
	}
	if partly < rounds/4 {
		t.Errorf("only %d of %d states hide something", partly, rounds)
	}
	if c.resets == 0 {
		t.Error("no stream began anew")
	}
}

// countsAsAllowed: works are counted for who may see all of a cluster's, only.
func countsAsAllowed(t *testing.T, p *auth.Policy, c *client) bool {
	for key, row := range c.rows["clusters"] {
		all := may(t, p, "watch", work.Group, "manifestworks", key, "")
		if (counts(t, row, "works") != "<nil>") != all {
			return false
		}
	}
	return true
}
