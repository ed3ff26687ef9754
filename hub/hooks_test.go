// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/pki/jointoken"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// agent is one key that joins over the real port.
type agent struct {
	r     *running
	trust identity.Trust
	key   *ecdsa.PrivateKey
	cert  *tls.Certificate
}

func (r *running) agent(token jointoken.Token) *agent {
	r.t.Helper()
	key, err := identity.GenerateKey()
	if err != nil {
		r.t.Fatal(err)
	}
	cert, err := identity.Carrier(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return &agent{r: r, key: key, cert: cert, trust: identity.Trust{TrustDomain: token.TrustDomain, Pins: token.Pins}}
}

func (a *agent) do(method, path string, body, out any) int {
	a.r.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		a.r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(timeout(a.r.t), method, a.r.url+path, bytes.NewReader(data))
	if err != nil {
		a.r.t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: identity.ClientTLS(identity.ClientOptions{
		Trust: a.trust, Certificate: func() (*tls.Certificate, error) { return a.cert, nil },
	})}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		a.r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		a.r.t.Fatal(err)
	}
	return resp.StatusCode
}

func (a *agent) join(token jointoken.Token, name string) (st wire.JoinState) {
	a.r.t.Helper()
	csr, err := identity.NewRequest(a.key, name)
	if err != nil {
		a.r.t.Fatal(err)
	}
	if code := a.do(http.MethodPost, wire.PathJoin, wire.JoinRequest{ID: token.ID, Secret: token.Secret, Cluster: name, CSR: string(csr)}, &st); code != http.StatusAccepted {
		a.r.t.Fatalf("join: %d", code)
	}
	return st
}

func (r *running) token(spec string) jointoken.Token {
	r.t.Helper()
	made, err := r.client().Resource(tokens()).Create(timeout(r.t), object(r.t,
		"{apiVersion: fleet.drover.io/v1alpha1, kind: JoinToken, metadata: {generateName: jt-}, spec: "+spec+"}"), metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.parse(made)
}

func (r *running) parse(made *unstructured.Unstructured) jointoken.Token {
	r.t.Helper()
	text, _, _ := unstructured.NestedString(made.Object, "status", "token")
	token, err := jointoken.Parse(text)
	if err != nil {
		r.t.Fatalf("token %q: %v", text, err)
	}
	return token
}

func patch(t *testing.T, c dynamic.Interface, gvr schema.GroupVersionResource, name, change string, sub ...string) (*unstructured.Unstructured, error) {
	t.Helper()
	data, err := json.Marshal(object(t, change).Object)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(gvr).Patch(timeout(t), name, types.MergePatchType, data, metav1.PatchOptions{}, sub...)
}

// refused checks an error of the API, and that it says why.
func refused(t *testing.T, what string, err error, is func(error) bool, text string) {
	t.Helper()
	if err == nil || !is(err) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; want an error about %q", what, err, text)
	}
}

func TestTokenRules(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	create := func(spec string, opts metav1.CreateOptions) (*unstructured.Unstructured, error) {
		return c.Resource(tokens()).Create(ctx, object(t,
			"{apiVersion: fleet.drover.io/v1alpha1, kind: JoinToken, metadata: {name: t1}, spec: "+spec+", status: {secretHash: mine, id: mine}}"), opts)
	}
	dry, err := create("{}", metav1.CreateOptions{DryRun: []string{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	if text, _, _ := unstructured.NestedString(dry.Object, "status", "token"); text != "" {
		t.Error("a dry run gives a secret away")
	}
	made, err := create("{clusterName: shop-1}", metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := r.parse(made)
	if token.Cluster != "shop-1" || token.URLs[0] != r.url {
		t.Errorf("token %v", token)
	}
	read, err := c.Resource(tokens()).Get(ctx, "t1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(read.Object)
	if strings.Contains(string(text), token.Secret) || strings.Contains(string(text), `"token":`) || strings.Contains(string(text), "mine") {
		t.Errorf("stored: %s", text)
	}
	for _, spec := range []string{"{clusterName: Shop}", "{ttlSeconds: 5}", "{ttlSeconds: 604801}", "{uses: 0}", "{autoApprove: true}"} {
		_, err := c.Resource(tokens()).Create(ctx, object(t, "{apiVersion: fleet.drover.io/v1alpha1, kind: JoinToken, metadata: {name: bad}, spec: "+spec+"}"), metav1.CreateOptions{})
		refused(t, spec, err, apierrors.IsInvalid, "spec")
	}
	_, err = patch(t, c, tokens(), "t1", "{status: {expires: '2099-01-01T00:00:00Z'}}", "status")
	refused(t, "status by a person", err, apierrors.IsForbidden, "kept by the hub")
	_, err = patch(t, c, tokens(), "t1", "{spec: {uses: 100}}")
	refused(t, "more uses", err, apierrors.IsInvalid, "cannot be changed")
	if _, err := patch(t, c, tokens(), "t1", "{spec: {revoked: true}, status: {expires: '2099-01-01T00:00:00Z'}}"); err != nil {
		t.Error(err)
	}
	after, err := c.Resource(tokens()).Get(ctx, "t1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	was, _, _ := unstructured.NestedString(read.Object, "status", "expires")
	if now, _, _ := unstructured.NestedString(after.Object, "status", "expires"); now != was {
		t.Errorf("an update moved the end from %s to %s", was, now)
	}
	var ref wire.Refusal
	a := r.agent(token)
	csr, _ := identity.NewRequest(a.key, "shop-1")
	if code := a.do(http.MethodPost, wire.PathJoin, wire.JoinRequest{ID: token.ID, Secret: token.Secret, Cluster: "shop-1", CSR: string(csr)}, &ref); code != http.StatusForbidden {
		t.Errorf("revoked token: %d %+v", code, ref)
	}
}

func TestApprovalRules(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c, ctx := r.client(), timeout(t)
	_, err := c.Resource(requests()).Create(ctx, object(t, `{apiVersion: fleet.drover.io/v1alpha1, kind: JoinRequest, metadata: {name: own},
		spec: {clusterName: shop-1, fingerprint: "`+strings.Repeat("0", 64)+`", csr: x, token: t}}`), metav1.CreateOptions{})
	refused(t, "a request by a person", err, apierrors.IsForbidden, "made by an agent")

	token := r.token("{uses: 2}")
	a := r.agent(token)
	st := a.join(token, "shop-1")
	fingerprint := identity.Fingerprint(a.key.Public())
	approve := func(fp string) error {
		_, err := patch(t, c, requests(), st.ID, "{spec: {approval: {decision: Approve, by: somebody, fingerprint: '"+fp+"'}}}")
		return err
	}
	refused(t, "no fingerprint", approve(""), apierrors.IsInvalid, "fingerprint")
	refused(t, "too few digits", approve(fingerprint[:15]), apierrors.IsInvalid, "16 hex digits")
	refused(t, "another key", approve(strings.Repeat("f", 64)), apierrors.IsInvalid, "not the key")
	_, err = patch(t, c, requests(), st.ID, "{spec: {approval: {decision: Yes}}}")
	refused(t, "unknown decision", err, apierrors.IsInvalid, "decision")
	_, err = patch(t, c, requests(), st.ID, "{spec: {clusterName: shop-2}}")
	refused(t, "another name", err, apierrors.IsInvalid, "cannot be changed")
	_, err = patch(t, c, requests(), st.ID, "{status: {phase: Joined}}", "status")
	refused(t, "status by a person", err, apierrors.IsForbidden, "kept by the hub")
	if err := approve(strings.ToUpper(fingerprint[:8]) + ":" + fingerprint[8:16]); err != nil {
		t.Fatal(err)
	}
	until(t, "joined", func() bool {
		a.do(http.MethodGet, wire.PathJoin+"/"+st.ID, nil, &st)
		return st.State == wire.JoinApproved
	})
	got, err := c.Resource(requests()).Get(ctx, st.ID, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if by, _, _ := unstructured.NestedString(got.Object, "spec", "approval", "by"); by != "admin" {
		t.Errorf("approved by %q, want who asked", by)
	}
	_, err = patch(t, c, requests(), st.ID, "{spec: {approval: {decision: Deny}}}")
	refused(t, "another decision", err, apierrors.IsInvalid, "decided")
	_, err = patch(t, c, requests(), st.ID, "{spec: {approval: null}}")
	refused(t, "the decision taken back", err, apierrors.IsInvalid, "taken back")

	// The name is in use now.
	b := r.agent(token)
	again := b.join(token, "shop-1")
	_, err = patch(t, c, requests(), again.ID, "{spec: {approval: {decision: Approve, fingerprint: '"+identity.Fingerprint(b.key.Public())+"'}}}")
	refused(t, "a name in use", err, apierrors.IsInvalid, "replace")

	// Identities belong to the hub, but for the ban.
	_, err = c.Resource(identities()).Create(ctx, object(t, "{apiVersion: fleet.drover.io/v1alpha1, kind: AgentIdentity, metadata: {name: shop-9}, spec: {}}"), metav1.CreateOptions{})
	refused(t, "an identity by a person", err, apierrors.IsForbidden, "kept by the hub")
	refused(t, "an identity removed by a person", c.Resource(identities()).Delete(ctx, "shop-1", metav1.DeleteOptions{}), apierrors.IsForbidden, "ManagedCluster")
	_, err = patch(t, c, identities(), "shop-1", "{status: {serial: '1'}}", "status")
	refused(t, "a serial by a person", err, apierrors.IsForbidden, "kept by the hub")
	certs, err := identity.ParseCerts([]byte(st.Chain))
	if err != nil {
		t.Fatal(err)
	}
	a.cert = &tls.Certificate{PrivateKey: a.key, Leaf: certs[0]}
	for _, cert := range certs {
		a.cert.Certificate = append(a.cert.Certificate, cert.Raw)
	}
	csr, _ := identity.NewRequest(b.key, "shop-1")
	renew := func() (ref wire.Refusal, code int) {
		code = a.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: string(csr)}, &ref)
		return ref, code
	}
	if ref, code := renew(); code != http.StatusOK {
		t.Fatalf("renew: %d %+v", code, ref)
	}
	// Its certificate is no key to the API.
	cfg := r.config()
	keyPEM, _ := identity.MarshalKey(a.key)
	cfg.CertData, cfg.KeyData = []byte(st.Chain), keyPEM
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer hc.CloseIdleConnections()
	agents, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = agents.Resource(clusters()).List(ctx, metav1.ListOptions{})
	if !apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) {
		t.Errorf("an agent reads the API: %v", err)
	}
	if _, err := patch(t, c, identities(), "shop-1", "{spec: {revoked: true, reason: stolen}}"); err != nil {
		t.Fatal(err)
	}
	if ref, code := renew(); code != http.StatusUnauthorized || ref.Reason != wire.ReasonRevoked {
		t.Errorf("renew after the ban: %d %+v", code, ref)
	}
}

// TestRestartBetween: the hub stops after an approval was written and before
// it was carried out, and goes on at the next start.
func TestRestartBetween(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, nil)
	token := r.token("{}")
	a := r.agent(token)
	st := a.join(token, "shop-1")
	if _, err := patch(t, r.client(), requests(), st.ID, "{spec: {approval: {decision: Approve, fingerprint: '"+identity.Fingerprint(a.key.Public())+"'}}}"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r = start(t, dir, nil)
	a.r = r
	until(t, "joined", func() bool {
		a.do(http.MethodGet, wire.PathJoin+"/"+st.ID, nil, &st)
		return st.State == wire.JoinApproved
	})
	if _, err := r.client().Resource(clusters()).Get(timeout(t), "shop-1", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// warnings collects what kubectl would print.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func TestClusterAndWorkRules(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	ctx := timeout(t)
	var warned warnings
	cfg := r.config()
	cfg.WarningHandler = &warned
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer hc.CloseIdleConnections()
	c, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		t.Fatal(err)
	}
	mc := func(name string) *unstructured.Unstructured {
		return object(t, "{apiVersion: cluster.open-cluster-management.io/v1, kind: ManagedCluster, metadata: {name: '"+name+"'}, spec: {hubAcceptsClient: false}}")
	}
	for _, bad := range []string{"Shop", "a.b", "a_b", "-a", "a-", strings.Repeat("a", 64)} {
		_, err := c.Resource(clusters()).Create(ctx, mc(bad), metav1.CreateOptions{})
		refused(t, bad, err, apierrors.IsInvalid, "metadata.name")
	}
	if _, err := c.Resource(clusters()).Create(ctx, mc(strings.Repeat("a", 63)), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	w := func(name string) *unstructured.Unstructured {
		return object(t, "{apiVersion: work.open-cluster-management.io/v1, kind: ManifestWork, metadata: {name: "+name+", finalizers: [example.org/own]}, spec: {workload: {manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}]}}}")
	}
	// as in Kubernetes a namespace comes first, here that of no cluster yet
	_, err = c.Resource(works()).Namespace("shop-1").Create(ctx, w("early"), metav1.CreateOptions{})
	refused(t, "no namespace", err, apierrors.IsNotFound, `namespaces "shop-1" not found`)
	if _, err := c.Resource(of("", "v1", "namespaces")).Create(ctx, object(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop-1}}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	paper, err := c.Resource(works()).Namespace("shop-1").Create(ctx, w("early"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(warned.text) != 1 || !strings.Contains(warned.text[0], `no ManagedCluster "shop-1"`) || len(paper.GetFinalizers()) != 1 {
		t.Errorf("warnings %q, finalizers %q", warned.text, paper.GetFinalizers())
	}
	if _, err := c.Resource(clusters()).Create(ctx, mc("shop-1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A cluster that is only registered has nobody who would take the finalizer off
	// again: its works come and go like any object.
	until(t, "warned of a cluster without an agent", func() bool {
		warned.text = nil
		got, err := c.Resource(works()).Namespace("shop-1").Create(ctx, w("later"), metav1.CreateOptions{DryRun: []string{"All"}})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(got.GetFinalizers(), work.Finalizer) {
			t.Fatalf("finalizers %q", got.GetFinalizers())
		}
		return len(warned.text) == 1 && strings.Contains(warned.text[0], `no agent has joined for cluster "shop-1"`)
	})
	if err := c.Resource(works()).Namespace("shop-1").Delete(ctx, "early", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resource(works()).Namespace("shop-1").Patch(ctx, "early", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resource(works()).Namespace("shop-1").Get(ctx, "early", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a work of a cluster without an agent stays: %v", err)
	}
	// What is not valid is refused where it is written.
	wrong := w("wrong")
	wrong.SetAnnotations(map[string]string{work.AnnotationDrift: "Sometimes"})
	_, err = c.Resource(works()).Namespace("shop-1").Create(ctx, wrong, metav1.CreateOptions{})
	refused(t, "drift", err, apierrors.IsInvalid, `Unsupported value: "Sometimes": supported values: "Correct", "Report"`)
	wrong.SetAnnotations(map[string]string{work.AnnotationBundle: "sha256:" + strings.Repeat("0", 64)})
	_, err = c.Resource(works()).Namespace("shop-1").Create(ctx, wrong, metav1.CreateOptions{})
	refused(t, "bundle", err, apierrors.IsInvalid, "this hub has no such bundle")
}
