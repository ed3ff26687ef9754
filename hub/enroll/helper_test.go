// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/pki/jointoken"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

// rig is a registrar over a real broker, store and CA.
type rig struct {
	t     testing.TB
	store *store.Store
	ca    *authority
	e     *Enroll
	logs  *observer.ObservedLogs

	mu     sync.Mutex
	closed []string // "cluster: reason"
}

// authority is a real CA whose calls can be made to fail.
type authority struct {
	*ca.CA
	mu                    sync.Mutex
	sign, revoke, revoked error
	signed                int
}

func (a *authority) fail(set func(a *authority)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	set(a)
}

func (a *authority) SignAgent(ctx context.Context, csr []byte, cluster string) (ca.Issued, error) {
	a.mu.Lock()
	err := a.sign
	a.signed++
	a.mu.Unlock()
	if err != nil {
		return ca.Issued{}, err
	}
	return a.CA.SignAgent(ctx, csr, cluster)
}

func (a *authority) Revoke(ctx context.Context, serial string, code int, reason string) error {
	a.mu.Lock()
	err := a.revoke
	a.mu.Unlock()
	if err != nil {
		return err
	}
	return a.CA.Revoke(ctx, serial, code, reason)
}

func (a *authority) Revoked(ctx context.Context, serial string) (bool, error) {
	a.mu.Lock()
	err := a.revoked
	a.mu.Unlock()
	if err != nil {
		return false, err
	}
	return a.CA.Revoked(ctx, serial)
}

func newRig(t testing.TB) *rig {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	ctx := timeout(t)
	s, err := store.Open(ctx, b.JetStream(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s.Run)
	kv, err := b.JetStream().CreateOrUpdateKeyValue(ctx, ca.BucketConfig())
	if err != nil {
		t.Fatal(err)
	}
	authorities, err := ca.Open(ctx, ca.Config{Dir: t.TempDir(), TrustDomain: "fleet.test", KV: kv})
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	r := &rig{t: t, store: s, ca: &authority{CA: authorities}, logs: logs}
	r.e = New(Config{
		Store: s, CA: r.ca, URLs: []string{"https://hub.example:8443"}, Log: zap.New(core),
		CloseSessions: func(cluster, reason string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.closed = append(r.closed, cluster+": "+reason)
		},
	})
	return r
}

// running runs a part until the test ends.
func running(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends by cancel
	t.Cleanup(func() { cancel(); <-done })
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// until polls for something that happens by itself.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) wasClosed(want string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.closed, want)
}

// token creates a join token and returns its parsed text.
func (r *rig) token(change func(*fleet.JoinToken)) jointoken.Token {
	r.t.Helper()
	obj := &fleet.JoinToken{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindJoinToken},
		ObjectMeta: metav1.ObjectMeta{Name: requestName()},
		Spec:       fleet.JoinTokenSpec{TTLSeconds: 3600, Uses: 1},
	}
	if change != nil {
		change(obj)
	}
	text, err := r.e.PrepareToken(obj, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.e.tokens.Create(timeout(r.t), obj); err != nil {
		r.t.Fatal(err)
	}
	token, err := jointoken.Parse(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// agent is one key that asks.
type agent struct {
	r    *rig
	key  *ecdsa.PrivateKey
	tls  []*x509.Certificate // what it shows
	addr string
}

func (r *rig) agent() *agent {
	r.t.Helper()
	key, err := identity.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	carrier, err := identity.Carrier(key)
	if err != nil {
		r.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(carrier.Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return &agent{r: r, key: key, tls: []*x509.Certificate{leaf}, addr: "192.0.2.7:4711"}
}

func (a *agent) fingerprint() string { return identity.Fingerprint(a.key.Public()) }

func (a *agent) csr(name string) string {
	a.r.t.Helper()
	csr, err := identity.NewRequest(a.key, name)
	if err != nil {
		a.r.t.Fatal(err)
	}
	return string(csr)
}

// do sends one request and decodes the answer into out or, refused, into the result.
func (a *agent) do(method, path string, body, out any) (int, wire.Refusal) {
	data, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			a.r.t.Fatal(err)
		}
	}
	req := httptest.NewRequest(method, path, bytes.NewReader(data))
	req.RemoteAddr = a.addr
	req.TLS = &tls.ConnectionState{PeerCertificates: a.tls}
	w := httptest.NewRecorder()
	a.r.e.Handler().ServeHTTP(w, req)
	var ref wire.Refusal
	into := out
	if w.Code >= 300 || out == nil {
		into = &ref
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		a.r.t.Errorf("%s %s: answer %q: %v", method, path, w.Body, err)
	}
	return w.Code, ref
}

func (a *agent) joinBody(token jointoken.Token, name string) wire.JoinRequest {
	return wire.JoinRequest{ID: token.ID, Secret: token.Secret, Cluster: name, CSR: a.csr(name)}
}

func (a *agent) join(token jointoken.Token, name string) (int, wire.JoinState, wire.Refusal) {
	var st wire.JoinState
	code, ref := a.do(http.MethodPost, wire.PathJoin, a.joinBody(token, name), &st)
	return code, st, ref
}

// mustJoin asks, is approved, and shows its certificate from then on.
func (a *agent) mustJoin(name string, approval fleet.Approval) *fleet.JoinRequest {
	a.r.t.Helper()
	code, st, ref := a.join(a.r.token(nil), name)
	if code != http.StatusAccepted {
		a.r.t.Fatalf("join: %d %+v", code, ref)
	}
	a.r.approve(st.ID, approval)
	return a.collect(st.ID)
}

func (a *agent) collect(id string) *fleet.JoinRequest {
	a.r.t.Helper()
	ctx := timeout(a.r.t)
	jr, err := a.r.e.requests.Get(ctx, "", id)
	if err != nil {
		a.r.t.Fatal(err)
	}
	if err := a.r.e.decide(ctx, jr); err != nil {
		a.r.t.Fatal(err)
	}
	var st wire.JoinState
	if code, ref := a.do(http.MethodGet, wire.PathJoin+"/"+id, nil, &st); code != http.StatusOK || st.State != wire.JoinApproved {
		a.r.t.Fatalf("poll: %d %+v %+v", code, st, ref)
	}
	a.show(st.Chain)
	return jr
}

func (a *agent) show(chain string) {
	a.r.t.Helper()
	certs, err := identity.ParseCerts([]byte(chain))
	if err != nil {
		a.r.t.Fatal(err)
	}
	a.tls = certs
}

func (a *agent) serial() string { return a.tls[0].SerialNumber.String() }

// approve writes a person's decision, as the API would.
func (r *rig) approve(request string, a fleet.Approval) *fleet.JoinRequest {
	r.t.Helper()
	a.Decision = fleet.Approve
	jr, err := r.e.requests.Update(timeout(r.t), "", request, func(jr *fleet.JoinRequest) error {
		a.Fingerprint = jr.Spec.Fingerprint
		if err := CheckDecision(jr, &a); err != nil {
			return err
		}
		jr.Spec.Approval = &a
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return jr
}

func (r *rig) identity(name string) *fleet.AgentIdentity {
	r.t.Helper()
	id, err := r.e.identities.Get(timeout(r.t), "", name)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (a *agent) reason() string {
	_, err := a.r.e.Verify(timeout(a.r.t), a.tls)
	return reasonOf(err)
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	if ref, ok := err.(*Refused); ok { //nolint:errorlint // the contract is this very type
		return ref.Refusal.Reason
	}
	return "not a *Refused: " + err.Error()
}
