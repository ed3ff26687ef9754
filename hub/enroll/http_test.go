// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func TestJoinBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token(nil)
	a, other := r.agent(), r.agent()
	body := func(edit func(*wire.JoinRequest)) wire.JoinRequest {
		b := a.joinBody(token, "shop-1")
		edit(&b)
		return b
	}
	many := map[string]string{}
	for i := range 65 {
		many[strings.Repeat("a", i+1)] = "x"
	}
	for _, tt := range []struct {
		name   string
		body   any
		status int
		text   string
	}{
		{"empty", []byte(nil), http.StatusBadRequest, "body"},
		{"no JSON", []byte("{"), http.StatusBadRequest, "body"},
		{"wrong type", []byte(`{"id":1}`), http.StatusBadRequest, "body"},
		{"more behind it", []byte(`{"id":"x"} {"id":"y"}`), http.StatusBadRequest, "body"},
		{"16 KiB and a byte", bytes.Repeat([]byte(" "), maxBody+1), http.StatusRequestEntityTooLarge, "larger than 16384 bytes"},
		{"bad name", body(func(b *wire.JoinRequest) { b.Cluster = "Shop" }), http.StatusBadRequest, "cluster"},
		{"name with a path", body(func(b *wire.JoinRequest) { b.Cluster = "a/../b" }), http.StatusBadRequest, "cluster"},
		{"no secret", body(func(b *wire.JoinRequest) { b.Secret = "" }), http.StatusBadRequest, "secret"},
		{"endless id", body(func(b *wire.JoinRequest) { b.ID = strings.Repeat("a", 65) }), http.StatusBadRequest, "id"},
		{"no CSR", body(func(b *wire.JoinRequest) { b.CSR = "" }), http.StatusBadRequest, "csr"},
		{"CSR for another name", body(func(b *wire.JoinRequest) { b.CSR = a.csr("shop-2") }), http.StatusBadRequest, "csr"},
		{"CSR of another key", body(func(b *wire.JoinRequest) { b.CSR = other.csr("shop-1") }), http.StatusBadRequest, "TLS client certificate"},
		{"bad label", body(func(b *wire.JoinRequest) { b.Labels = map[string]string{"a b": "c"} }), http.StatusBadRequest, "label"},
		{"too many labels", body(func(b *wire.JoinRequest) { b.Labels = many }), http.StatusBadRequest, "at most 64"},
		{"unknown token", body(func(b *wire.JoinRequest) { b.ID = "0000" }), http.StatusForbidden, "join refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, ref := a.do(http.MethodPost, wire.PathJoin, tt.body, nil)
			if code != tt.status || !strings.Contains(ref.Message, tt.text) {
				t.Errorf("%d %+v, want %d and %q", code, ref, tt.status, tt.text)
			}
			if strings.Contains(ref.Message, token.Secret) {
				t.Error("the answer has the secret")
			}
		})
	}
	a.tls = nil
	if code, ref := a.do(http.MethodPost, wire.PathJoin, body(func(*wire.JoinRequest) {}), nil); code != http.StatusUnauthorized {
		t.Errorf("without a client certificate: %d %+v", code, ref)
	}
	for _, e := range r.logs.All() {
		for _, f := range e.Context {
			if f.String != "" && strings.Contains(f.String, token.Secret) {
				t.Errorf("the log has the secret: %q", e.Message)
			}
		}
	}
}

func TestJoinBackOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.token(nil)
	a := r.agent()
	guess := token
	guess.Secret = strings.Repeat("x", 43)
	for i := range freeFailures {
		if code, _, _ := a.join(guess, "shop-1"); code != http.StatusForbidden {
			t.Fatalf("guess %d: %d", i, code)
		}
	}
	data, err := json.Marshal(a.joinBody(token, "shop-1"))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, wire.PathJoin, bytes.NewReader(data))
	req.TLS, req.RemoteAddr = &tls.ConnectionState{PeerCertificates: a.tls}, a.addr
	w := httptest.NewRecorder()
	r.e.Handler().ServeHTTP(w, req)
	if w.Code == http.StatusAccepted {
		t.Skip("the machine was so slow that the wait was over")
	}
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	other := r.agent()
	other.addr = "192.0.2.99:1"
	if code, _, ref := other.join(r.token(nil), "shop-2"); code != http.StatusAccepted {
		t.Errorf("somebody else's address and token: %d %+v", code, ref)
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, other := r.agent(), r.agent()
	_, st, _ := a.join(r.token(nil), "shop-1")
	path := wire.PathJoin + "/" + st.ID
	if code, ref := other.do(http.MethodGet, path, nil, nil); code != http.StatusNotFound || ref.Message != "no such request" {
		t.Errorf("another key: %d %+v", code, ref)
	}
	if code, ref := a.do(http.MethodGet, wire.PathJoin+"/jr-none", nil, nil); code != http.StatusNotFound || ref.Message != "no such request" {
		t.Errorf("no request: %d %+v", code, ref)
	}
	var got wire.JoinState
	if code, _ := a.do(http.MethodGet, path, nil, &got); code != http.StatusOK || got.State != wire.JoinPending || got.Chain != "" {
		t.Errorf("own: %d %+v", code, got)
	}
	a.tls = nil
	if code, _ := a.do(http.MethodGet, path, nil, nil); code != http.StatusUnauthorized {
		t.Errorf("no key: %d", code)
	}
}

func TestRenewBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.agent()
	a.mustJoin("shop-1", fleet.Approval{})
	next := r.agent()
	for _, tt := range []struct {
		name   string
		body   any
		status int
	}{
		{"empty", []byte(nil), http.StatusBadRequest},
		{"no CSR", wire.RenewRequest{}, http.StatusBadRequest},
		{"another name", wire.RenewRequest{CSR: next.csr("shop-2")}, http.StatusBadRequest},
		{"too large", bytes.Repeat([]byte(" "), maxBody+1), http.StatusRequestEntityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, ref := a.do(http.MethodPost, wire.PathRenew, tt.body, nil); code != tt.status {
				t.Errorf("%d %+v, want %d", code, ref, tt.status)
			}
		})
	}
	nobody := r.agent()
	nobody.tls = nil
	if code, _ := nobody.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: next.csr("shop-1")}, nil); code != http.StatusUnauthorized {
		t.Errorf("no certificate: %d", code)
	}
	r.ca.fail(func(a *authority) { a.sign = errors.New("disk /secret/path is full") })
	code, ref := a.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: next.csr("shop-1")}, nil)
	if code != http.StatusInternalServerError || strings.Contains(ref.Message, "disk") {
		t.Errorf("CA fails: %d %+v", code, ref)
	}
	if got := a.reason(); got != "" {
		t.Errorf("after a failed renewal the old certificate is refused: %s", got)
	}
}

func TestCRL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.agent()
	a.mustJoin("shop-1", fleet.Approval{})
	r.must(r.ca.Revoke(timeout(t), a.serial(), ca.CodeKeyCompromise, "test"))
	w := httptest.NewRecorder()
	r.e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, wire.PathCRL, nil))
	list, err := x509.ParseRevocationList(w.Body.Bytes())
	if err != nil || w.Header().Get("Content-Type") != "application/pkix-crl" {
		t.Fatalf("%d %v", w.Code, err)
	}
	if n := len(list.RevokedCertificateEntries); n != 1 || list.RevokedCertificateEntries[0].SerialNumber.String() != a.serial() {
		t.Errorf("%d entries", n)
	}
}

// FuzzJoin: whatever comes, the answer is a refusal in JSON and nothing is stored.
func FuzzJoin(f *testing.F) {
	r := newRig(f)
	token := r.token(nil)
	a := r.agent()
	good, err := json.Marshal(a.joinBody(token, "shop-1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"id":"x","secret":"y","cluster":"shop-1","csr":"-----BEGIN CERTIFICATE REQUEST-----"}`))
	f.Add([]byte(`{"labels":{"a":null},"facts":[]}`))
	f.Add(bytes.Replace(good, []byte(token.Secret), []byte("other"), 1))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.Contains(body, []byte(token.Secret)) {
			return
		}
		r.e.failures = newFailures()
		code, ref := a.do(http.MethodPost, wire.PathJoin, body, nil)
		if code < 400 || code >= 500 || ref.Reason == "" {
			t.Errorf("%d %+v", code, ref)
		}
	})
}

// FuzzRenew: nothing but a CSR for the own name is signed.
func FuzzRenew(f *testing.F) {
	r := newRig(f)
	a := r.agent()
	a.mustJoin("shop-1", fleet.Approval{})
	for _, name := range []string{"shop-1", "shop-2"} {
		body, err := json.Marshal(wire.RenewRequest{CSR: a.csr(name)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"csr":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var st wire.JoinState
		code, ref := a.do(http.MethodPost, wire.PathRenew, body, &st)
		if code == http.StatusOK {
			certs, err := identity.ParseCerts([]byte(st.Chain))
			if err != nil || certs[0].URIs[0].String() != identity.ClusterURI("fleet.test", "shop-1").String() {
				t.Errorf("signed %v, %v", certs[0].URIs, err)
			}
			return
		}
		if code < 400 || code >= 500 || ref.Reason == "" {
			t.Errorf("%d %+v", code, ref)
		}
	})
}
