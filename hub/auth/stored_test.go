// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/store"
)

// patience bounds every wait of a test; it is only reached when the test fails.
const patience = 30 * time.Second

func openStore(t *testing.T) *store.Store {
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
	s, err := store.Open(t.Context(), js, store.Options{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	start(t, s.Run)
	return s
}

// start runs until the function returned is called, or the test ends.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// until waits for a policy that satisfies ok.
func until(t *testing.T, s *Stored, what string, ok func(*Policy) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := s.Changed()
		if ok(s.Policy()) {
			return
		}
		select {
		case <-changed.Done():
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func may(u user.Info, what string) func(*Policy) bool {
	return func(p *Policy) bool {
		d, _ := p.Allow(u, ask(u, what))
		return d == authorizer.DecisionAllow
	}
}

func not(f func(*Policy) bool) func(*Policy) bool {
	return func(p *Policy) bool { return p != nil && !f(p) }
}

func TestStored(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), openStore(t)
	roles, bindings := store.Of[rbacv1.ClusterRole](db, ResourceClusterRoles), store.Of[rbacv1.ClusterRoleBinding](db, ResourceClusterRoleBindings)
	ann := person("ann")
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := NewStored(db, zaptest.NewLogger(t))
	if s.Policy() != nil {
		t.Fatal("a policy before Run")
	}
	if _, _, err := (RBAC{s}).Authorize(ctx, ask(ann, "get g/pods")); err == nil {
		t.Error("decided before anything is known")
	}
	check(roles.Create(ctx, clusterRole("reader", rule("get", "g", "pods"))))
	check(bindings.Create(ctx, everywhere("ClusterRole/reader", "User/ann")))
	// What makes no sense takes nothing away from others.
	for i, key := range []store.Key{
		{Resource: ResourceClusterRoles, Name: "broken"},
		{Resource: ResourceClusterRoleBindings, Name: "broken"},
		{Resource: ResourceRoles, Namespace: "n1", Name: "broken"},
		{Resource: ResourceRoleBindings, Namespace: "n1", Name: "broken"},
	} {
		data := []string{`{"metadata":{"name":"broken"},"rules":"all"}`, `{"metadata":{"name":"broken"},"subjects":[1],"roleRef":[]}`}[i%2]
		check(db.Create(ctx, key, []byte(data)))
	}
	// A binding that says another name than its key, of a namespace it is not in.
	fake, err := json.Marshal(in("n1", "ClusterRole/drover:admin", "User/eve"))
	check(nil, err)
	check(db.Create(ctx, store.Key{Resource: ResourceRoleBindings, Namespace: "n2", Name: "fake"}, fake))

	stop := start(t, s.Run)
	until(t, s, "the first policy", may(ann, "get g/pods"))
	until(t, s, "the built-in roles", func(p *Policy) bool { return p != nil && p.roles[roleKey{"", RoleAdmin}] != nil })
	if may(person("eve"), "get g/pods n1/x")(s.Policy()) || may(person("eve"), "get g/pods n2/x")(s.Policy()) {
		t.Error("a misplaced binding grants")
	}

	check(roles.Update(ctx, "", "reader", func(r *rbacv1.ClusterRole) error { r.Rules[0].Verbs = []string{"list"}; return nil }))
	until(t, s, "a changed role", may(ann, "list g/pods"))
	if may(ann, "get g/pods")(s.Policy()) {
		t.Error("the old rule is still there")
	}
	check(nil, bindings.Delete(ctx, "", everywhere("ClusterRole/reader", "User/ann").Name))
	fresh, err := s.Fresh(ctx)
	if err != nil || may(ann, "list g/pods")(fresh) {
		t.Errorf("a fresh policy knows a binding that is gone (%v)", err)
	}
	until(t, s, "a deleted binding", not(may(ann, "list g/pods")))

	check(store.Of[rbacv1.Role](db, ResourceRoles).Create(ctx, nsRole("n1", "local", rule("get", "g", "maps"))))
	check(store.Of[rbacv1.RoleBinding](db, ResourceRoleBindings).Create(ctx, in("n1", "Role/local", "User/ann")))
	until(t, s, "a role in a namespace", may(ann, "get g/maps n1/x"))

	stop()
	if s.Policy() != nil {
		t.Error("a policy after Run")
	}
	start(t, s.Run)
	until(t, s, "a policy after a restart", may(ann, "get g/maps n1/x"))
}

// TestFresh: a fresh policy knows every write that was acknowledged.
func TestFresh(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), openStore(t)
	bindings := store.Of[rbacv1.ClusterRoleBinding](db, ResourceClusterRoleBindings)
	if _, err := store.Of[rbacv1.ClusterRole](db, ResourceClusterRoles).Create(ctx, clusterRole("reader", rule("get", "g", "pods"))); err != nil {
		t.Fatal(err)
	}
	s, ann := NewStored(db, zaptest.NewLogger(t)), person("ann")
	b := everywhere("ClusterRole/reader", "User/ann")
	for i := range 100 {
		var err error
		if i%2 == 0 {
			_, err = bindings.Create(ctx, b)
		} else {
			err = bindings.Delete(ctx, "", b.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Fresh(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := may(ann, "get g/pods")(p); got != (i%2 == 0) {
			t.Fatalf("write %d: allowed = %t", i, got)
		}
	}
}

// TestBuiltinKept: roles come back to what they should be, but those that people took over.
func TestBuiltinKept(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), openStore(t)
	roles := store.Of[rbacv1.ClusterRole](db, ResourceClusterRoles)
	ensure := func() {
		t.Helper()
		if err := ensureBuiltin(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	change := func(name string, f func(*rbacv1.ClusterRole)) {
		t.Helper()
		if _, err := roles.Update(ctx, "", name, func(r *rbacv1.ClusterRole) error { f(r); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	ensure()
	mine := []rbacv1.PolicyRule{rule("get", "g", "mine")}
	change(RoleViewer, func(r *rbacv1.ClusterRole) { r.Rules, r.Labels["team"] = mine, "a" })
	change(RoleOperator, func(r *rbacv1.ClusterRole) { r.Rules, r.Annotations[annotationAutoupdate] = mine, "false" })
	change(RoleApprover, func(r *rbacv1.ClusterRole) { r.Rules, r.Annotations = mine, nil })
	change(RoleAddonAuthor, func(r *rbacv1.ClusterRole) { r.AggregationRule = &rbacv1.AggregationRule{} })
	if err := roles.Delete(ctx, "", RoleAdmin); err != nil {
		t.Fatal(err)
	}
	ensure()
	// Revisions of the objects, not the store's: its cache may be behind the writes.
	revisions := func() map[string]string {
		t.Helper()
		out := map[string]string{}
		for _, r := range BuiltinRoles() {
			got, err := roles.Get(ctx, "", r.Name)
			if err != nil {
				t.Fatal(err)
			}
			out[r.Name] = got.ResourceVersion
		}
		return out
	}
	kept := revisions()
	builtin := map[string][]rbacv1.PolicyRule{RoleOperator: mine, RoleApprover: mine}
	for _, r := range BuiltinRoles() {
		want, ok := builtin[r.Name]
		if !ok {
			want = r.Rules
		}
		got, err := roles.Get(ctx, "", r.Name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Rules); diff != "" || got.AggregationRule != nil {
			t.Errorf("%s (-want +got):\n%s", r.Name, diff)
		}
		if r.Name == RoleViewer && got.Labels["team"] != "a" {
			t.Error("a label of somebody else is gone")
		}
	}
	ensure()
	if diff := cmp.Diff(kept, revisions()); diff != "" {
		t.Errorf("roles that are as they should be were written again (-before +after):\n%s", diff)
	}
}
