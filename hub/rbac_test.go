// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/registry"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/schemas"
)

// rig is an API with roles on a real store. Who asks is in a header.
type rig struct {
	t     *testing.T
	url   string
	store *store.Store
	roles *auth.Stored
}

const rigPatience = 30 * time.Second

func newRig(t *testing.T) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	must(err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(rigPatience) {
		t.Fatal("server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	must(err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(err)
	db, err := store.Open(t.Context(), js, store.Options{})
	must(err)
	r := &rig{t: t, store: db, roles: auth.NewStored(db, zaptest.NewLogger(t))}
	for _, run := range []func(context.Context) error{db.Run, r.roles.Run} {
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
	kinds, err := schemas.Documents()
	must(err)
	base := hooks(&parts{store: db})
	// the rules of tokens need a CA; those of permissions are what is tested here
	delete(base, fleet.ResourceJoinTokens)
	handler, err := api.New(api.Config{
		Store: registry.Store{Store: db}, Kinds: kinds, Hooks: withRegistry(r.roles, db, withPermissions(r.roles, base)), Log: zaptest.NewLogger(t),
		Authenticator: authenticator.RequestFunc(func(q *http.Request) (*authenticator.Response, bool, error) {
			name, groups, _ := strings.Cut(q.Header.Get("X-Who"), "/")
			return &authenticator.Response{User: &user.DefaultInfo{Name: name, Groups: append(strings.Fields(groups), user.AllAuthenticated)}}, true, nil
		}),
		Authorizer: auth.RBAC{Source: r.roles},
	})
	must(err)
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

const rigRoot = "root/" + user.SystemPrivilegedGroup

// do sends a request and returns the answer's code and text.
func (r *rig) do(who, method, path, body string) (int, string) {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, bytes.NewBufferString(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("X-Who", who)
	q.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		q.Header.Set("Content-Type", "application/merge-patch+json")
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// grant gives rules to a user, everywhere, and waits until they count.
func (r *rig) grant(name string, rules ...rbacv1.PolicyRule) {
	r.t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "of-" + name}, Rules: rules}
	if _, err := store.Of[rbacv1.ClusterRole](r.store, auth.ResourceClusterRoles).Create(r.t.Context(), role); err != nil {
		r.t.Fatal(err)
	}
	r.bind(name, role.Name)
	probe := &user.DefaultInfo{Name: name}
	r.until(func(p *auth.Policy) bool { held, _ := p.Rules(probe, ""); return len(held) > 0 })
}

func (r *rig) bind(name, role string) {
	r.t.Helper()
	b := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-" + strings.ReplaceAll(role, ":", "-")},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	if _, err := store.Of[rbacv1.ClusterRoleBinding](r.store, auth.ResourceClusterRoleBindings).Create(r.t.Context(), b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) until(ok func(*auth.Policy) bool) {
	r.t.Helper()
	deadline := time.After(rigPatience)
	for {
		changed := r.roles.Changed()
		if p := r.roles.Policy(); p != nil && ok(p) {
			return
		}
		select {
		case <-changed.Done():
		case <-deadline:
			r.t.Fatal("the roles are not known in time")
		}
	}
}

func allow(verbs, group, resources string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: []string{group}, Resources: strings.Fields(resources)}
}

// step is one request of a story and what it is answered.
type step struct {
	name              string
	who, method, path string
	body              string
	code              int
	want              string // part of the answer
}

func (r *rig) steps(steps []step) {
	r.t.Helper()
	for _, s := range steps {
		code, text := r.do(s.who, s.method, s.path, s.body)
		if code != s.code || !strings.Contains(text, s.want) {
			r.t.Errorf("%s: %s %s = %d, want %d with %q\n%s", s.name, s.method, s.path, code, s.code, s.want, text)
		}
	}
}

func TestVirtualVerbs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	writes := []rbacv1.PolicyRule{
		allow("get create update patch", fleet.Group, "jointokens joinrequests agentidentities"),
		allow("get create update patch", cluster.Group, "managedclusters"),
	}
	r.grant("writer", writes...)
	r.grant("approver", append(writes, allow("approve", fleet.Group, "joinrequests"))...)
	r.grant("revoker", append(writes, allow("approve", fleet.Group, "joinrequests"), allow("revoke", fleet.Group, "agentidentities"))...)
	r.grant("acceptor", append(writes, allow("accept", cluster.Group, "managedclusters"))...)
	r.grant("ocm", append(writes, allow("update", cluster.Group, "managedclusters/accept"))...)
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, UID: types.UID("u-" + name), CreationTimestamp: metav1.Now(), Generation: 1}
	}
	for name, obj := range map[string]any{
		"j1": &fleet.JoinRequest{ObjectMeta: meta("j1"), Spec: fleet.JoinRequestSpec{ClusterName: "c1", Fingerprint: strings.Repeat("ab", 32), CSR: "x", Token: "t"}, Status: fleet.JoinRequestStatus{Phase: fleet.PhasePending}},
		"j2": &fleet.JoinRequest{ObjectMeta: meta("j2"), Spec: fleet.JoinRequestSpec{ClusterName: "c1", Fingerprint: strings.Repeat("ab", 32), CSR: "x", Token: "t", Rejoin: true}, Status: fleet.JoinRequestStatus{Phase: fleet.PhasePending}},
		"i1": &fleet.AgentIdentity{ObjectMeta: meta("i1")},
	} {
		resource := fleet.ResourceJoinRequests
		if name == "i1" {
			resource = fleet.ResourceAgentIdentities
		}
		data, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Create(t.Context(), store.Key{Resource: resource, Name: name}, data); err != nil {
			t.Fatal(err)
		}
	}
	const (
		fl       = "/apis/fleet.drover.io/v1alpha1/"
		clusters = "/apis/cluster.open-cluster-management.io/v1/managedclusters"
		mc       = `{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"NAME"},"spec":{"hubAcceptsClient":VALUE}}`
		token    = `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"name":"NAME"},"spec":{"clusterName":"c1","autoApprove":VALUE}}`
		approve  = `{"spec":{"approval":{"decision":"Approve","fingerprint":"abababababababab"}}}`
		replace  = `{"spec":{"approval":{"decision":"Approve","fingerprint":"abababababababab","replace":true}}}`
	)
	fill := func(text, name, value string) string {
		return strings.NewReplacer("NAME", name, "VALUE", value).Replace(text)
	}
	r.steps([]step{
		{"label a request", "writer", "PATCH", fl + "joinrequests/j1", `{"metadata":{"labels":{"a":"b"}}}`, 200, ""},
		{"approve without the verb", "writer", "PATCH", fl + "joinrequests/j1", approve, 403, `needs the verb \"approve\"`},
		{"approve", "approver", "PATCH", fl + "joinrequests/j1", approve, 200, `"by":"approver"`},
		{"label a decided request", "writer", "PATCH", fl + "joinrequests/j1", `{"metadata":{"labels":{"a":"c"}}}`, 200, ""},
		{"take a decision back", "writer", "PATCH", fl + "joinrequests/j1", `{"spec":{"approval":null}}`, 403, "approve"},
		{"replace without revoke", "approver", "PATCH", fl + "joinrequests/j2", replace, 403, `needs the verb \"revoke\"`},
		{"replace", "revoker", "PATCH", fl + "joinrequests/j2", replace, 200, ""},

		{"token", "writer", "POST", fl + "jointokens", fill(token, "t1", "false"), 201, ""},
		{"token that approves", "writer", "POST", fl + "jointokens", fill(token, "t2", "true"), 403, `needs the verb \"approve\"`},
		{"token that approves, dry run", "writer", "POST", fl + "jointokens?dryRun=All", fill(token, "t2", "true"), 403, "approve"},
		{"token that approves, by an approver", "approver", "POST", fl + "jointokens", fill(token, "t2", "true"), 201, ""},

		{"revoke without the verb", "approver", "PATCH", fl + "agentidentities/i1", `{"spec":{"revoked":true}}`, 403, `needs the verb \"revoke\"`},
		{"revoke", "revoker", "PATCH", fl + "agentidentities/i1", `{"spec":{"revoked":true}}`, 200, ""},

		{"cluster", "writer", "POST", clusters, fill(mc, "c1", "false"), 201, ""},
		{"accepted cluster", "writer", "POST", clusters, fill(mc, "c2", "true"), 403, `needs the verb \"accept\"`},
		{"accept without the verb", "writer", "PATCH", clusters + "/c1", `{"spec":{"hubAcceptsClient":true}}`, 403, "accept"},
		{"accept", "acceptor", "PATCH", clusters + "/c1", `{"spec":{"hubAcceptsClient":true}}`, 200, ""},
		{"label an accepted cluster", "writer", "PATCH", clusters + "/c1", `{"metadata":{"labels":{"a":"b"}}}`, 200, ""},
		{"drop without the verb", "writer", "PATCH", clusters + "/c1", `{"spec":{"hubAcceptsClient":null}}`, 403, "accept"},
		{"drop in the words of OCM", "ocm", "PATCH", clusters + "/c1", `{"spec":{"hubAcceptsClient":false}}`, 200, ""},
		{"masters", rigRoot, "POST", clusters, fill(mc, "c2", "true"), 201, ""},
		{"nobody", "nobody", "GET", clusters, "", 403, `cannot list resource \"managedclusters\"`},
	})
}

func TestEscalation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const rb = rbacv1.GroupName
	roles := allow("get list create update patch delete", rb, "roles clusterroles rolebindings clusterrolebindings")
	r.grant("lead", roles, allow("get", "", "namespaces"))
	r.grant("binder", roles, allow("bind", rb, "clusterroles"))
	r.grant("esc", roles, allow("escalate", rb, "clusterroles roles"))
	const (
		base    = "/apis/rbac.authorization.k8s.io/v1/"
		role    = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"NAME"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["WHAT"]}]}`
		local   = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"NAME"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["WHAT"]}]}`
		binding = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"NAME"},"roleRef":{"kind":"ClusterRole","name":"WHAT"},"subjects":[{"kind":"User","name":"friend"}]}`
		inside  = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"NAME"},"roleRef":{"kind":"ClusterRole","name":"WHAT"},"subjects":[{"kind":"User","name":"friend"},{"kind":"ServiceAccount","name":"x","namespace":"n1"}]}`
		sum     = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"NAME"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}`
		more    = `{"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]}`
		refused = "attempting to grant RBAC permissions not currently held"
	)
	fill := func(text, name, what string) string {
		return strings.NewReplacer("NAME", name, "WHAT", what).Replace(text)
	}
	r.steps([]step{
		{"own rules", "lead", "POST", base + "clusterroles", fill(role, "ns", "namespaces"), 201, ""},
		{"more", "lead", "POST", base + "clusterroles", fill(role, "ev", "events"), 403, refused},
		{"more, dry run", "lead", "POST", base + "clusterroles?dryRun=All", fill(role, "ev", "events"), 403, refused},
		{"more, by patch", "lead", "PATCH", base + "clusterroles/ns", more, 403, refused},
		{"more, by put", "lead", "PUT", base + "clusterroles/ns", strings.Replace(fill(role, "ns", "events"), `"name":"ns"`, `"name":"ns","resourceVersion":"99"`, 1), 409, ""},
		{"more, in a namespace", "lead", "POST", base + "namespaces/n1/roles", fill(local, "r", "events"), 403, refused},
		{"own, in a namespace", "lead", "POST", base + "namespaces/n1/roles", fill(local, "r", "namespaces"), 201, ""},
		{"label a role one does not have", "lead", "PATCH", base + "clusterroles/of-esc", `{"metadata":{"labels":{"a":"b"}}}`, 403, refused},
		{"finalizers alone", "lead", "PATCH", base + "clusterroles/of-esc", `{"metadata":{"finalizers":["example.io/x"]}}`, 200, ""},
		{"sum", "lead", "POST", base + "clusterroles", fill(sum, "sum", ""), 403, "all permissions"},
		{"sum, escalate", "esc", "POST", base + "clusterroles", fill(sum, "sum", ""), 201, ""},
		{"escalate", "esc", "PATCH", base + "clusterroles/ns", more, 200, ""},

		{"bind own", "lead", "POST", base + "clusterrolebindings", fill(binding, "b1", "of-lead"), 201, `"apiGroup":"rbac.authorization.k8s.io"`},
		{"bind what grew", "lead", "POST", base + "clusterrolebindings", fill(binding, "b2", "ns"), 403, refused},
		{"bind in a namespace", "lead", "POST", base + "namespaces/n1/rolebindings", fill(inside, "b2", "ns"), 403, refused},
		{"bind nothing", "lead", "POST", base + "clusterrolebindings", fill(binding, "b2", "none"), 404, "none"},
		{"another namespace in the body", "lead", "POST", base + "clusterrolebindings", strings.Replace(fill(binding, "b2", "ns"), `"name":"b2"`, `"name":"b2","namespace":"n1"`, 1), 403, ""},
		{"more subjects", "lead", "PATCH", base + "clusterrolebindings/esc-of-esc", `{"subjects":[{"kind":"User","name":"lead"}]}`, 403, refused},
		{"bind with the verb", "binder", "POST", base + "clusterrolebindings", fill(binding, "b2", "ns"), 201, ""},
		{"bind in a namespace with the verb", "binder", "POST", base + "namespaces/n1/rolebindings", fill(inside, "b2", "of-lead"), 201, ""},
		{"change a binding's role", "binder", "PATCH", base + "clusterrolebindings/b2", `{"roleRef":{"name":"of-lead"}}`, 422, "cannot change roleRef"},
		{"unknown kind of role", "binder", "POST", base + "clusterrolebindings", strings.Replace(fill(binding, "b3", "ns"), `"kind":"ClusterRole","name":"ns"`, `"kind":"Role","name":"ns"`, 1), 400, "cannot be bound here"},
		{"no role", "binder", "POST", base + "clusterrolebindings", strings.Replace(fill(binding, "b3", "ns"), `"roleRef":{"kind":"ClusterRole","name":"ns"},`, "", 1), 422, "roleRef"},
		{"delete", "lead", "DELETE", base + "clusterrolebindings/b2", "", 200, ""},
		{"masters", rigRoot, "PATCH", base + "clusterroles/ns", more, 200, ""},
	})
	// what was just given counts at once for the guard, without waiting
	r.bind("lead", "ns")
	r.until(func(p *auth.Policy) bool {
		held, _ := p.Rules(&user.DefaultInfo{Name: "lead"}, "")
		return len(held) > 2
	})
	r.steps([]step{{"give on what one was given", "lead", "POST", base + "clusterroles", fill(role, "ev", "events"), 201, ""}})
}
