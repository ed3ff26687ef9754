// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// world is who may what, and what there is.
type world struct {
	roles    map[string][]rbacv1.PolicyRule
	bindings []bound
	sets     map[string]labels.Selector
	clusters map[string]map[string]string // labels
	policy   *auth.Policy
}

// bound gives a user a role, in a namespace or everywhere.
type bound struct{ user, role, namespace string }

// Policy implements auth.Source.
func (w *world) Policy() *auth.Policy { return w.policy }

// target is one kind of the property test, and its objects as namespace/name.
type target struct {
	path, group, resource string // path with %s for the namespace
	namespaced            bool
	objects               []string
}

var worldClusters = []string{"c1", "c2", "c3", "c4"}

func targets() []target {
	named := func(prefix string) (out []string) {
		for _, c := range worldClusters {
			out = append(out, prefix+c)
		}
		return out
	}
	var works, events []string
	for _, ns := range append(slices.Clone(worldClusters), "other") {
		works = append(works, ns+"/a", ns+"/b")
		events = append(events, ns+"/e")
	}
	return []target{
		{"/apis/cluster.open-cluster-management.io/v1%s/managedclusters", cluster.Group, "managedclusters", false, named("/")},
		{"/apis/cluster.open-cluster-management.io/v1beta2%s/managedclustersets", cluster.Group, "managedclustersets", false, []string{"/s1", "/s2", "/s3"}},
		{"/apis/fleet.drover.io/v1alpha1%s/clustermetrics", "fleet.drover.io", "clustermetrics", false, named("/")},
		{"/api/v1%s/namespaces", "", "namespaces", false, append(named("/"), "/other")},
		{"/api/v1%s/events", "", "events", true, events},
		{"/apis/work.open-cluster-management.io/v1%s/manifestworks", "work.open-cluster-management.io", "manifestworks", true, works},
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// newWorld makes up roles, bindings, sets and labels.
func newWorld(r *rand.Rand) *world {
	w := &world{roles: map[string][]rbacv1.PolicyRule{}, sets: map[string]labels.Selector{}, clusters: map[string]map[string]string{}}
	for _, c := range worldClusters {
		w.clusters[c] = map[string]string{}
		if set := pick(r, "", "s1", "s2", "s9"); set != "" {
			w.clusters[c][cluster.LabelSet] = set
		}
		if env := pick(r, "", "x", "y"); env != "" {
			w.clusters[c]["env"] = env
		}
	}
	w.sets["s1"] = labels.SelectorFromSet(labels.Set{cluster.LabelSet: "s1"})
	w.sets["s2"] = labels.SelectorFromSet(labels.Set{"env": "x"})
	w.sets["s3"] = pick(r, labels.Everything(), labels.Nothing(), labels.SelectorFromSet(labels.Set{"env": "y"}))
	var o auth.Objects
	for i := range 3 {
		name := fmt.Sprintf("r%d", i)
		for range 1 + r.IntN(2) {
			rule := rbacv1.PolicyRule{APIGroups: []string{"*"}}
			for range 1 + r.IntN(2) {
				rule.Verbs = append(rule.Verbs, pick(r, "get", "list", "watch", "view", "operate", "create", "*"))
				rule.Resources = append(rule.Resources, pick(r, "managedclusters", "managedclustersets", "clustermetrics", "namespaces", "events", "manifestworks", "nothing"))
			}
			if slices.Contains(rule.Verbs, "view") || slices.Contains(rule.Verbs, "operate") {
				rule.Resources = append(rule.Resources, "managedclustersets")
			}
			for range r.IntN(3) {
				rule.ResourceNames = append(rule.ResourceNames, pick(r, "c1", "c2", "s1", "s2", "s3", "a", "e", "other", ""))
			}
			w.roles[name] = append(w.roles[name], rule)
		}
		o.ClusterRoles = append(o.ClusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: w.roles[name]})
	}
	for i := range 2 {
		b := bound{"ann", fmt.Sprintf("r%d", r.IntN(3)), pick(r, "", "c1", "c2", "other")}
		w.bindings = append(w.bindings, b)
		subjects := []rbacv1.Subject{{Kind: "User", Name: b.user}}
		ref := rbacv1.RoleRef{Kind: "ClusterRole", Name: b.role}
		meta := metav1.ObjectMeta{Name: fmt.Sprintf("b%d", i), Namespace: b.namespace}
		if b.namespace == "" {
			o.ClusterRoleBindings = append(o.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
		} else {
			o.RoleBindings = append(o.RoleBindings, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
		}
	}
	w.policy = auth.NewPolicy(o).With(auth.NewMembers(w.clusters, w.sets))
	return w
}

// byRole is the plainest reading of roles and bindings.
func (w *world) byRole(verb, resource, namespace, name string) bool {
	has := func(list []string, s string) bool { return slices.Contains(list, s) || slices.Contains(list, "*") }
	for _, b := range w.bindings {
		if b.namespace != "" && b.namespace != namespace {
			continue
		}
		for _, r := range w.roles[b.role] {
			named := len(r.ResourceNames) == 0 || name != "" && slices.Contains(r.ResourceNames, name)
			if has(r.Verbs, verb) && has(r.Resources, resource) && named {
				return true
			}
		}
	}
	return false
}

// may is what a SubjectAccessReview for one object should say.
func (w *world) may(verb string, t target, namespace, name string) bool {
	if t.resource == "namespaces" && verb == "get" {
		namespace = name
	}
	if w.byRole(verb, t.resource, namespace, name) {
		return true
	}
	in := namespace
	inSet := map[string][]string{"view": {"managedclusters", "clustermetrics", "namespaces", "events"}}
	inSet["operate"] = append(slices.Clone(inSet["view"]), "manifestworks")
	if !t.namespaced {
		in = name
	}
	for _, right := range []string{"view", "operate"} {
		if t.resource == "managedclustersets" && w.byRole(right, "managedclustersets", "", name) {
			return true
		}
		for set, selector := range w.sets {
			lbls, ok := w.clusters[in]
			if ok && selector.Matches(labels.Set(lbls)) && slices.Contains(inSet[right], t.resource) && w.byRole(right, "managedclustersets", "", set) {
				return true
			}
		}
	}
	return false
}

func (w *world) visible(verb string, t target, scope string) (out []string) {
	for _, o := range t.objects {
		ns, name, _ := strings.Cut(o, "/")
		if (scope == "" || scope == ns) && (w.may(verb, t, ns, name) || w.may("get", t, ns, name)) {
			out = append(out, o)
		}
	}
	return out
}

// stopper ends a watch when its initial events are there.
type stopper struct {
	*httptest.ResponseRecorder
	stop func()
}

func (s stopper) Write(p []byte) (int, error) {
	n, err := s.ResponseRecorder.Write(p)
	if strings.Contains(string(p), annotationInitialEnd) {
		s.stop()
	}
	return n, err
}

// seer is the API without the network, as ann sees it.
type seer struct {
	t   *testing.T
	api *API
}

func (s seer) get(target, accept string) (int, []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	s.api.ServeHTTP(stopper{w, cancel}, r)
	return w.Code, w.Body.Bytes()
}

// identify names an object, of any form.
func identify(obj map[string]any) string {
	if row, ok := obj["object"].(map[string]any); ok {
		obj = row
	}
	if rows, ok := obj["rows"].([]any); ok && len(rows) == 1 {
		return identify(rows[0].(map[string]any))
	}
	return metaString(obj, "namespace") + "/" + metaString(obj, "name")
}

// list reads a list in any form, page by page.
func (s seer) list(path, accept string) (code int, out []string) {
	s.t.Helper()
	total := 0
	for token := ""; ; {
		code, body := s.get(path+"?limit=2&continue="+url.QueryEscape(token), accept)
		if code != http.StatusOK {
			return code, nil
		}
		var page struct {
			Metadata metav1.ListMeta  `json:"metadata"`
			Items    []map[string]any `json:"items"`
			Rows     []map[string]any `json:"rows"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			s.t.Fatalf("%v: %s", err, body)
		}
		for _, o := range append(page.Items, page.Rows...) {
			out = append(out, identify(o))
		}
		if n := page.Metadata.RemainingItemCount; n != nil {
			total = len(out) + int(*n)
		}
		if token = page.Metadata.Continue; token == "" {
			if total > 0 && total != len(out) {
				s.t.Errorf("%s tells of %d objects and shows %d", path, total, len(out))
			}
			return code, out
		}
	}
}

func (s seer) watch(path, accept string) (code int, out []string) {
	s.t.Helper()
	code, body := s.get(path+"?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", accept)
	if code != http.StatusOK {
		return code, nil
	}
	for text := range strings.Lines(string(body)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		if l.Type == "ADDED" {
			out = append(out, identify(l.Object))
		}
	}
	return code, out
}

// present is a provider of one object a cluster.
type present struct{}

func (present) Get(_ context.Context, _, name string) (map[string]any, error) {
	return map[string]any{"metadata": map[string]any{"name": name}}, nil
}

func (p present) List(ctx context.Context, _ string) (out []map[string]any, _ error) {
	for _, c := range worldClusters {
		obj, _ := p.Get(ctx, "", c)
		out = append(out, obj)
	}
	return out, nil
}

// TestSight: whatever roles, bindings, sets and labels there are, every form of
// reading shows exactly the objects that a review of each would allow.
func TestSight(t *testing.T) {
	t.Parallel()
	now := &world{}
	h := newHub(t, func(c *Config) {
		authz := auth.RBAC{Source: sourceFunc(func() *auth.Policy { return now.policy })}
		c.Authorizer, c.Sight = authz, authz
		c.Virtual = map[schema.GroupVersionResource]Provider{metrics: present{}}
		c.Authenticator = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
			return &authenticator.Response{User: &user.DefaultInfo{Name: "ann", Groups: []string{user.AllAuthenticated}}}, true, nil
		})
	})
	put := func(resource, ns, name string, lbls map[string]string) {
		t.Helper()
		key := store.Key{Resource: resource, Namespace: ns, Name: name}
		obj := map[string]any{"metadata": map[string]any{"namespace": ns, "name": name, "uid": resource + ns + name, "labels": lbls}, "spec": map[string]any{}}
		data, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if old, err := h.store.Get(t.Context(), key); err == nil {
			_, err = h.store.Update(t.Context(), key, data, old.Revision)
			if err != nil {
				t.Fatal(err)
			}
		} else if _, err = h.store.Create(t.Context(), key, data); err != nil {
			t.Fatal(err)
		}
	}
	kinds := targets()
	for _, k := range kinds {
		for _, o := range k.objects {
			if ns, name, _ := strings.Cut(o, "/"); k.resource != "clustermetrics" {
				put(schema.GroupResource{Group: k.group, Resource: k.resource}.String(), ns, name, nil)
			}
		}
	}
	s := seer{t, h.api}
	const table, partial = acceptTable, "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1"
	partly := 0
	for seed := range uint64(120) {
		now = newWorld(rand.New(rand.NewPCG(seed, 1)))
		for c, lbls := range now.clusters {
			put(cluster.Resource, "", c, lbls)
		}
		for _, k := range kinds {
			scopes := []string{""}
			if k.namespaced {
				scopes = append(scopes, "c1", "c3", "other")
			}
			check := func(what string, scope, verb string, code int, got []string) {
				t.Helper()
				want := now.visible(verb, k, scope)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) || code != http.StatusOK && (code != http.StatusForbidden || len(want) > 0) {
					t.Errorf("seed %d: %s of %s in %q: %d %v, want %v\nroles %+v\nbindings %+v\nclusters %v", seed, what, k.resource, scope, code, got, want, now.roles, now.bindings, now.clusters)
				}
				if len(want) > 0 && len(want) < len(k.objects) {
					partly++
				}
			}
			for _, scope := range scopes {
				in := ""
				if scope != "" {
					in = "/namespaces/" + scope
				}
				path := fmt.Sprintf(k.path, in)
				for what, accept := range map[string]string{"list": "application/json", "table": table, "partial list": fmt.Sprintf(partial, "List")} {
					code, got := s.list(path, accept)
					check(what, scope, "list", code, got)
				}
				if k.resource == "clustermetrics" {
					continue
				}
				for what, accept := range map[string]string{"watch": "application/json", "table watch": table, "partial watch": fmt.Sprintf(partial, "")} {
					code, got := s.watch(path, accept)
					check(what, scope, "watch", code, got)
				}
			}
			for _, o := range k.objects {
				ns, name, _ := strings.Cut(o, "/")
				in := ""
				if ns != "" {
					in = "/namespaces/" + ns
				}
				code, _ := s.get(fmt.Sprintf(k.path, in)+"/"+name, "application/json")
				if want := now.may("get", k, ns, name); (code == http.StatusOK) != want || !want && code != http.StatusForbidden {
					t.Errorf("seed %d: get %s %s: %d, want allowed %t", seed, k.resource, o, code, want)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if partly < 500 {
		t.Errorf("only %d answers hide something", partly)
	}
}

type sourceFunc func() *auth.Policy

func (f sourceFunc) Policy() *auth.Policy { return f() }
