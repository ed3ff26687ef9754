// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smallstep/certificates/authority/provisioner"

	"github.com/drover-io/drover/pki/identity"
)

func TestCSRCannotChooseIdentity(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	caConstraint, err := asn1.Marshal(struct {
		IsCA bool
	}{true})
	if err != nil {
		t.Fatal(err)
	}
	serverUsage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})
	if err != nil {
		t.Fatal(err)
	}
	other := identity.ClusterURI("fleet.test", "other")
	for _, tt := range []struct {
		name    string
		csr     x509.CertificateRequest
		wantErr string // "" means signed, and the request had no influence
	}{
		{"other common name", x509.CertificateRequest{Subject: pkix.Name{CommonName: "other"}}, "common name"},
		{"no common name", x509.CertificateRequest{}, "common name"},
		{"other identity", x509.CertificateRequest{Subject: pkix.Name{CommonName: "paris"}, URIs: []*url.URL{other}}, "alternative names"},
		{"hub name", x509.CertificateRequest{Subject: pkix.Name{CommonName: "paris"}, DNSNames: []string{"hub.fleet.test"}}, "alternative names"},
		{"address and mail", x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "paris"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}, EmailAddresses: []string{"a@fleet.test"},
		}, "alternative names"},
		{"groups", x509.CertificateRequest{Subject: pkix.Name{CommonName: "paris", Organization: []string{"system:masters"}}}, "subject"},
		{"CA", x509.CertificateRequest{
			Subject:         pkix.Name{CommonName: "paris"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: caConstraint}},
		}, ""},
		{"server usage", x509.CertificateRequest{
			Subject:         pkix.Name{CommonName: "paris"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: serverUsage}},
		}, ""},
		{"unknown extension", x509.CertificateRequest{
			Subject:         pkix.Name{CommonName: "paris"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}},
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := newKey(t)
			der, err := x509.CreateCertificateRequest(rand.Reader, &tt.csr, key)
			if err != nil {
				t.Fatal(err)
			}
			issued, err := ca.SignAgent(t.Context(), der, "paris")
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error is %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkPlainAgent(t, issued.Leaf, key)
		})
	}
}

// checkPlainAgent compares a certificate of cluster paris field by field.
func checkPlainAgent(t *testing.T, leaf *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	type content struct {
		Subject           string
		URIs              []string
		Names             int
		IsCA              bool
		Usage             x509.KeyUsage
		ExtUsage          []x509.ExtKeyUsage
		UnknownUsage      int
		Extensions        []string
		UnhandledCritical int
	}
	got := content{
		Subject: leaf.Subject.String(), Names: len(leaf.DNSNames) + len(leaf.IPAddresses) + len(leaf.EmailAddresses),
		IsCA: leaf.IsCA, Usage: leaf.KeyUsage, ExtUsage: leaf.ExtKeyUsage,
		UnknownUsage: len(leaf.UnknownExtKeyUsage), UnhandledCritical: len(leaf.UnhandledCriticalExtensions),
	}
	for _, u := range leaf.URIs {
		got.URIs = append(got.URIs, u.String())
	}
	for _, e := range leaf.Extensions {
		got.Extensions = append(got.Extensions, e.Id.String())
	}
	want := content{
		Subject: "CN=paris", URIs: []string{"spiffe://fleet.test/cluster/paris"},
		Usage: x509.KeyUsageDigitalSignature, ExtUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Extensions: []string{"2.5.29.15", "2.5.29.37", "2.5.29.14", "2.5.29.35", "2.5.29.17"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the certificate has another key")
	}
}

func TestNameTricks(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	for _, name := range []string{
		"", "a/b", "..", ".", "A", "a.b", "a*", ">", "a b", "-a", "a-", "a\n", "ä", "a%2fb", strings.Repeat("a", 64),
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.SignAgent(t.Context(), der, name); err == nil {
			t.Errorf("%q was signed", name)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCSR, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "paris"}}, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	broken, _ := pem.Decode(newCSR(t, newKey(t), "paris"))
	broken.Bytes[len(broken.Bytes)-1] ^= 1
	for name, csr := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "RSA": rsaCSR, "bad signature": broken.Bytes,
		"a certificate": identity.MarshalCerts(ca.Roots()),
	} {
		if _, err := ca.SignAgent(t.Context(), csr, "paris"); err == nil {
			t.Errorf("%s: was signed", name)
		}
	}
}

func TestForgedClientCerts(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	stranger := open(t, nil) // same trust domain, other keys
	agentKey, agentChain, _ := agent(t, ca, "paris")
	_, strangerChain, _ := agent(t, stranger, "paris")
	hub, err := ca.GetHubCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	mid := ca.Issuer()
	child := sign(t, leafTemplate("lyon"), agentChain[0], agentKey)
	twin := *agentChain[0]
	selfKey := newKey(t)
	twin.PublicKey = selfKey.Public()
	twinCert := sign(t, &twin, &twin, selfKey)
	signer := ca.issuer.Load().signer.(*ecdsa.PrivateKey)
	variant := func(change func(*x509.Certificate)) []*x509.Certificate {
		template := leafTemplate("paris")
		change(template)
		return []*x509.Certificate{sign(t, template, mid, signer), mid}
	}
	uri := func(text string) []*url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	for _, tt := range []struct {
		name  string
		chain []*x509.Certificate
		want  identity.Reason
	}{
		{"genuine", agentChain, ""},
		{"genuine, signed by hand", variant(func(*x509.Certificate) {}), ""},
		{"none", nil, identity.ReasonNoCertificate},
		{"leaf of another hub", strangerChain, identity.ReasonUntrusted},
		{"leaf of another hub, our intermediate", []*x509.Certificate{strangerChain[0], mid}, identity.ReasonUntrusted},
		{"signed by an agent", []*x509.Certificate{child, agentChain[0], mid}, identity.ReasonUntrusted},
		{"self-signed twin", []*x509.Certificate{twinCert, mid}, identity.ReasonUntrusted},
		{"the hub's own certificate", parseAll(t, hub), identity.ReasonUsage},
		{"the intermediate", []*x509.Certificate{mid}, identity.ReasonUsage},
		{"no intermediate", agentChain[:1], identity.ReasonUntrusted},
		{"no usage", variant(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), identity.ReasonUsage},
		{"two usages", variant(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), identity.ReasonUsage},
		{"no URI", variant(func(c *x509.Certificate) { c.URIs = nil }), identity.ReasonIdentity},
		{"two URIs", variant(func(c *x509.Certificate) {
			c.URIs = append(c.URIs, identity.ClusterURI("fleet.test", "lyon"))
		}), identity.ReasonIdentity},
		{"https scheme", variant(func(c *x509.Certificate) { c.URIs = uri("https://fleet.test/cluster/paris") }), identity.ReasonIdentity},
		{"hub path", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test/hub") }), identity.ReasonIdentity},
		{"deeper path", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test/cluster/paris/x") }), identity.ReasonIdentity},
		{"escaped name", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test/cluster/p%61ris") }), identity.ReasonIdentity},
		{"escaped slash", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test/cluster%2Fparis") }), identity.ReasonIdentity},
		{"query", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test/cluster/paris?a") }), identity.ReasonIdentity},
		{"empty query", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test/cluster/paris?") }), identity.ReasonIdentity},
		{"port", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://fleet.test:1/cluster/paris") }), identity.ReasonIdentity},
		{"subdomain", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://x.fleet.test/cluster/paris") }), identity.ReasonIdentity},
		{"other domain", variant(func(c *x509.Certificate) { c.URIs = uri("spiffe://other.test/cluster/paris") }), identity.ReasonUntrusted},
		{"CA leaf", variant(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), identity.ReasonUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peer, err := identity.VerifyClient(tt.chain, ca.RootPool(), "fleet.test", time.Now())
			if got := identity.ReasonOf(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("reason is %q (%v), want %q; peer %q", got, err, tt.want, peer.Name)
			}
		})
	}
}

func leafTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(77),
		Subject:      pkix.Name{CommonName: name},
		URIs:         []*url.URL{identity.ClusterURI("fleet.test", name)},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func sign(t *testing.T, template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	pub, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template == parent {
		pub = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestClockSkew: the agent's certificate is good from 5 minutes before its signature
// until 24 h after it, on the hub's clock.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	_, chain, _ := agent(t, ca, "paris")
	hub, err := ca.GetHubCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := identity.Trust{TrustDomain: "fleet.test", Roots: ca.Roots()}
	for _, tt := range []struct {
		skew time.Duration
		want identity.Reason
		hub  string
	}{
		{-4 * time.Minute, "", ""},
		{-6 * time.Minute, identity.ReasonNotYetValid, "check this machine's clock"},
		{23 * time.Hour, "", ""},
		{25 * time.Hour, identity.ReasonExpired, "check this machine's clock"},
	} {
		now := time.Now().Add(tt.skew)
		_, err := identity.VerifyClient(chain, ca.RootPool(), "fleet.test", now)
		if got := identity.ReasonOf(err); got != tt.want {
			t.Errorf("client at %s: reason is %q, want %q", tt.skew, got, tt.want)
		}
		err = identity.VerifyHub(parseAll(t, hub), trust, now)
		var hubErr *identity.HubError
		if tt.hub == "" && err != nil || tt.hub != "" && (!errors.As(err, &hubErr) || hubErr.Reason != identity.HubTime || !strings.Contains(err.Error(), tt.hub)) {
			t.Errorf("hub at %s: error is %v, want %q", tt.skew, err, tt.hub)
		}
	}
}

func TestLeafOutlivesIssuer(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	root, rootKey, err := ca.files.loadRootKey(ca.roots)
	if err != nil {
		t.Fatal(err)
	}
	short, err := newIntermediateFor(root, rootKey, ca.td, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca.issuer.Store(short)
	if _, err := ca.SignAgent(t.Context(), newCSR(t, newKey(t), "paris"), "paris"); !errors.Is(err, ErrOutlivesIssuer) {
		t.Fatalf("error is %v, want %v", err, ErrOutlivesIssuer)
	}
	if err := ca.RotateIntermediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent(t, ca, "paris")
}

// TestEnforcer: what the templates should never produce is refused all the same.
func TestEnforcer(t *testing.T) {
	t.Parallel()
	e := enforcer{open(t, nil)}
	agentLeaf := func() *x509.Certificate { return leafTemplate("paris") }
	hubLeaf := func() *x509.Certificate {
		c := leafTemplate("hub")
		c.URIs = []*url.URL{identity.HubURI("fleet.test")}
		c.DNSNames = []string{"hub.fleet.test"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		return c
	}
	for _, tt := range []struct {
		name   string
		leaf   *x509.Certificate
		change func(*x509.Certificate)
		ok     bool
	}{
		{"agent", agentLeaf(), func(*x509.Certificate) {}, true},
		{"hub", hubLeaf(), func(*x509.Certificate) {}, true},
		{"CA", agentLeaf(), func(c *x509.Certificate) { c.IsCA = true }, false},
		{"cert sign", agentLeaf(), func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, false},
		{"two usages", agentLeaf(), func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }, false},
		{"agent for servers", agentLeaf(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
		{"any usage", agentLeaf(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, false},
		{"DNS", agentLeaf(), func(c *x509.Certificate) { c.DNSNames = []string{"hub.fleet.test"} }, false},
		{"IP", agentLeaf(), func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4zero} }, false},
		{"mail", agentLeaf(), func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b"} }, false},
		{"no URI", agentLeaf(), func(c *x509.Certificate) { c.URIs = nil }, false},
		{"groups", agentLeaf(), func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters"} }, false},
		{"other common name", agentLeaf(), func(c *x509.Certificate) { c.Subject.CommonName = "lyon" }, false},
		{"extension", agentLeaf(), func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}}}
		}, false},
		{"hub with client usage", hubLeaf(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, false},
		{"hub with other name", hubLeaf(), func(c *x509.Certificate) { c.DNSNames = []string{"x.fleet.test"} }, false},
		{"api with hub name", hubLeaf(), func(c *x509.Certificate) { c.URIs = []*url.URL{identity.APIURI("fleet.test")} }, false},
		{"too long", agentLeaf(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(11 * 365 * 24 * time.Hour) }, false},
	} {
		tt.change(tt.leaf)
		if err := e.Enforce(tt.leaf); (err == nil) != tt.ok {
			t.Errorf("%s: error is %v", tt.name, err)
		}
	}
	var _ provisioner.CertificateEnforcer = e
}
