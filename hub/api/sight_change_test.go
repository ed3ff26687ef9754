// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/hub/auth"
)

// changing is a Source whose policy a test changes.
type changing struct {
	mu      sync.Mutex
	policy  *auth.Policy
	since   uint64
	changed context.Context
	change  context.CancelFunc
}

func newChanging(p *auth.Policy) *changing {
	c := &changing{policy: p}
	c.changed, c.change = context.WithCancel(context.Background())
	return c
}

func (c *changing) Policy() *auth.Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy
}

func (c *changing) Changed() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *changing) Since() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}

func (c *changing) set(p *auth.Policy, since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy, c.since = p, since
	c.change()
	c.changed, c.change = context.WithCancel(context.Background())
}

// bobMay is a policy that lets bob do things with some names everywhere.
func bobMay(verbs string, names ...string) *auth.Policy {
	return auth.NewPolicy(auth.Objects{
		ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{
			{Verbs: strings.Split(verbs, ","), APIGroups: []string{"*"}, Resources: []string{"managedclusters"}, ResourceNames: names},
			{Verbs: []string{"deletecollection"}, APIGroups: []string{"*"}, Resources: []string{"managedclusters"}},
		}}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
			RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}},
		}},
	})
}

func withRoles(s *changing) func(*Config) {
	return func(c *Config) {
		authz := auth.RBAC{Source: s}
		c.Authorizer, c.Sight = authz, authz
		c.Authenticator = auth.Impersonation(c.Authenticator, authz)
	}
}

func TestWatchEndsWithRights(t *testing.T) {
	t.Parallel()
	s := newChanging(bobMay("get", "c1"))
	h := newHub(t, withRoles(s))
	h.create(clustersPath, clusterJSON("c1", ""))
	h.create(clustersPath, clusterJSON("c2", ""))
	bob := h.config("bob")
	next := h.followAs(bob, clustersPath, "")
	want(t, next, "ADDED", "c1")
	admin := h.follow("")
	want(t, admin, "ADDED", "c1")
	want(t, admin, "ADDED", "c2")
	// a change that means nothing to him
	s.set(bobMay("get,update", "c1"), 0)
	h.patch(mergePatch, clustersPath+"/c2", `{"metadata":{"labels":{"a":"b"}}}`)
	h.patch(mergePatch, clustersPath+"/c1", `{"metadata":{"labels":{"a":"b"}}}`)
	want(t, next, "MODIFIED", "c1")
	s.set(bobMay("get", "c2"), h.store.Revision())
	l := next()
	for l.Type == "BOOKMARK" {
		l = next()
	}
	if l.Type != "ERROR" || l.Object["reason"] != "Expired" || l.Object["code"] != float64(410) {
		t.Errorf("got %v", l)
	}
	if l := next(); l.Type != "EOF" {
		t.Errorf("after the end: %v", l)
	}
	// who goes on from a list of before would miss what can be seen now
	a := h.doAs(bob, http.MethodGet, clustersPath+"?watch=1&timeoutSeconds=1&resourceVersion="+fmt.Sprint(s.since-1), "")
	if a.code != 410 {
		t.Errorf("a watch from before: %d %s", a.code, a.body)
	}
	if a := h.doAs(bob, http.MethodGet, clustersPath+"?watch=1&timeoutSeconds=1&resourceVersion="+fmt.Sprint(s.since), ""); a.code != 200 {
		t.Errorf("a watch from now: %d %s", a.code, a.body)
	}
	want(t, admin, "MODIFIED", "c2")
	want(t, admin, "MODIFIED", "c1") // his rights never change
	s.set(nil, 0)
	if a := h.doAs(bob, http.MethodGet, clustersPath, ""); a.code != 503 {
		t.Errorf("while roles are not known: %d %s", a.code, a.body)
	}
}

func TestDeleteCollectionSeesFirst(t *testing.T) {
	t.Parallel()
	h := newHub(t, withRoles(newChanging(bobMay("get", "c1"))))
	for _, name := range []string{"c1", "c2"} {
		h.create(clustersPath, clusterJSON(name, ""))
	}
	if a := h.doAs(h.config("bob"), http.MethodDelete, clustersPath, ""); a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	for name, code := range map[string]int{"c1": 404, "c2": 200} {
		if a := h.do(http.MethodGet, clustersPath+"/"+name, ""); a.code != code {
			t.Errorf("%s: %d, want %d", name, a.code, code)
		}
	}
}

// notes is an Auditor that keeps the events.
type notes struct {
	mu     sync.Mutex
	events []*auditv1.Event
}

func (n *notes) Ready() error { return nil }

func (n *notes) Record(_ context.Context, ev *auditv1.Event) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, ev)
	return nil
}

// TestImpersonationIsRecorded: with both names, also when it is refused.
func TestImpersonationIsRecorded(t *testing.T) {
	t.Parallel()
	log := &notes{}
	h := newHub(t, withRoles(newChanging(bobMay("get", "c1"))), func(c *Config) { c.Auditor = log })
	as := func(cfg *rest.Config, name string) *rest.Config {
		out := rest.CopyConfig(cfg)
		out.Impersonate.UserName = name
		return out
	}
	a := h.doAs(as(h.admin(), "bob"), http.MethodPost, clustersPath, clusterJSON("c1", ""))
	if a.code != 403 || !strings.Contains(a.body, `User \"bob\" cannot create`) {
		t.Errorf("%d %s", a.code, a.body)
	}
	a = h.doAs(as(h.config("bob"), "admin"), http.MethodGet, clustersPath, "")
	if a.code != 403 || !strings.Contains(a.body, `User \"bob\" cannot impersonate`) {
		t.Errorf("%d %s", a.code, a.body)
	}
	if len(log.events) != 2 {
		t.Fatalf("%d events", len(log.events))
	}
	first, second := log.events[0], log.events[1]
	if first.User.Username != "admin" || first.ImpersonatedUser == nil || first.ImpersonatedUser.Username != "bob" {
		data, _ := json.Marshal(first)
		t.Errorf("%s", data)
	}
	if second.User.Username != "bob" || second.ImpersonatedUser != nil || second.ResponseStatus.Code != 403 {
		data, _ := json.Marshal(second)
		t.Errorf("%s", data)
	}
}
