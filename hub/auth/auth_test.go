// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/pki/identity"
)

func TestAllow(t *testing.T) {
	t.Parallel()
	root := &user.DefaultInfo{Name: "root", Groups: []string{user.SystemPrivilegedGroup}}
	bob := &user.DefaultInfo{Name: "bob", Groups: []string{"devs", user.AllAuthenticated}}
	anon := &user.DefaultInfo{Name: "system:anonymous", Groups: []string{user.AllUnauthenticated}}
	path := func(verb, path string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, Path: path}
	}
	res := func(verb, group, resource, sub string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, ResourceRequest: true}
	}
	tests := []struct {
		name string
		who  user.Info
		what authorizer.AttributesRecord
		want bool
	}{
		{"masters write", root, res("delete", "x", "y", ""), true},
		{"masters read anywhere", root, path("get", "/metrics"), true},
		{"nil", nil, path("get", "/api"), false},
		{"anonymous", anon, path("get", "/api"), false},
		{"discovery", bob, path("get", "/apis/x/v1"), true},
		{"root of discovery", bob, path("get", "/api"), true},
		{"OpenAPI", bob, path("get", "/openapi/v3/apis/x/v1"), true},
		{"version", bob, path("get", "/version"), true},
		{"write to discovery", bob, path("post", "/apis"), false},
		{"neighbour of discovery", bob, path("get", "/apisx"), false},
		{"metrics", bob, path("get", "/metrics"), false},
		{"objects", bob, res("list", "", "namespaces", ""), false},
		{"self review", bob, res("create", "authentication.k8s.io", "selfsubjectreviews", ""), true},
		{"access review", bob, res("create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), true},
		{"review in another group", bob, res("create", "x", "selfsubjectreviews", ""), false},
		{"review of others", bob, res("create", "authorization.k8s.io", "subjectaccessreviews", ""), false},
		{"reading reviews", bob, res("get", "authentication.k8s.io", "selfsubjectreviews", ""), false},
		{"a resource named like a path", bob, res("get", "", "api", ""), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, _ := Allow(tt.who, tt.what)
			if (got == authorizer.DecisionAllow) != tt.want {
				t.Errorf("got %v, want allowed = %t", got, tt.want)
			}
		})
	}
}

// chain makes certificates by hand, also such as the hub's CA never signs.
type chain struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

func newChain(t *testing.T) *chain {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{t: t, key: key}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	c.root = c.sign(tmpl, tmpl)
	return c
}

func (c *chain) sign(tmpl, parent *x509.Certificate) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &c.key.PublicKey, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

func (c *chain) leaf(uri *url.URL, change ...func(*x509.Certificate)) *x509.Certificate {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(42), Subject: pkix.Name{CommonName: "x", Organization: []string{"ops", user.AllAuthenticated, user.AllUnauthenticated}},
		URIs: []*url.URL{uri}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(tmpl)
	}
	return c.sign(tmpl, c.root)
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	const td = "fleet.test"
	c, other := newChain(t), newChain(t)
	pool := x509.NewCertPool()
	pool.AddCert(c.root)
	authn := ClientCertificate(func() *x509.CertPool { return pool }, td)

	tests := []struct {
		name string
		cert *x509.Certificate // nil for none
		ok   bool
		fail bool
	}{
		{"user", c.leaf(identity.UserURI(td, "ann")), true, false},
		{"no certificate", nil, false, false},
		{"cluster", c.leaf(identity.ClusterURI(td, "c1")), false, true},
		{"hub", c.leaf(identity.HubURI(td)), false, true},
		{"another trust domain", c.leaf(identity.UserURI("evil.test", "ann")), false, true},
		{"another CA", other.leaf(identity.UserURI(td, "ann")), false, true},
		{"expired", c.leaf(identity.UserURI(td, "ann"), func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Second) }), false, true},
		{"server certificate", c.leaf(identity.UserURI(td, "ann"), func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false, true},
		{"two identities", c.leaf(identity.UserURI(td, "ann"), func(x *x509.Certificate) { x.URIs = append(x.URIs, identity.UserURI(td, "bob")) }), false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			if tt.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{tt.cert}}
			}
			resp, ok, err := authn.AuthenticateRequest(r)
			if ok != tt.ok || (err != nil) != tt.fail {
				t.Fatalf("ok %t, error %v; want ok %t, error %t", ok, err, tt.ok, tt.fail)
			}
			if !ok {
				return
			}
			want := &user.DefaultInfo{Name: "ann", Groups: []string{"ops", user.AllAuthenticated}, Extra: map[string][]string{ExtraSerial: {"42"}}}
			if diff := cmp.Diff(want, resp.User); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRulesFor(t *testing.T) {
	t.Parallel()
	root := &user.DefaultInfo{Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}
	resources, paths, incomplete, err := Authorizer{}.RulesFor(t.Context(), root, "x")
	if err != nil || incomplete || len(resources) != 4 || len(paths) != 2 || resources[0].GetVerbs()[0] != "*" {
		t.Errorf("got %v %v %t %v", resources, paths, incomplete, err)
	}
}
