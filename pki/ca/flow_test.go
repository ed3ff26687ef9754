// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/pki/jointoken"
)

// answer is what the test hub says to every request.
type answer struct {
	Name, Serial string
	Reason       identity.Reason
	Chain, Roots []byte
}

// TestAgentLife takes an agent from the token's text through join, restart and
// renewal, over real TLS, with the hub's records left out.
func TestAgentLife(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var a answer
		peer, err := identity.VerifyClient(r.TLS.PeerCertificates, ca.RootPool(), ca.TrustDomain(), time.Now())
		a.Name, a.Serial, a.Reason = peer.Name, peer.Serial, identity.ReasonOf(err)
		csr, readErr := io.ReadAll(r.Body)
		if readErr != nil {
			t.Error(readErr)
		}
		if len(csr) > 0 {
			issued, err := ca.SignAgent(r.Context(), csr, "paris")
			if err != nil {
				t.Error(err)
			}
			a.Chain, a.Roots = issued.ChainPEM, ca.RootsPEM()
		}
		if err := json.NewEncoder(w).Encode(a); err != nil {
			t.Error(err)
		}
	}))
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
		GetCertificate: ca.GetHubCertificate, NextProtos: []string{"http/1.1"},
	}
	server.Config.ErrorLog = discard()
	server.StartTLS()
	defer server.Close()

	text, err := jointoken.New([]string{server.URL}, ca.Pins(), ca.TrustDomain(), "paris").Encode()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jointoken.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := identity.NewFiles(dir)

	// First contact: a pin, a carrier certificate, an unknown client.
	key, err := files.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	carrier, err := identity.Carrier(key)
	if err != nil {
		t.Fatal(err)
	}
	got := post(t, token.URLs[0], identity.Trust{TrustDomain: token.TrustDomain, Pins: token.Pins}, carrier, newCSR(t, key, "paris"))
	if got.Reason != identity.ReasonUntrusted {
		t.Fatalf("the carrier certificate gave reason %q", got.Reason)
	}
	if _, err := files.Install(got.Chain, got.Roots); err != nil {
		t.Fatal(err)
	}

	serials := map[string]bool{}
	for range 3 { // each round is a restart, a connection and a renewal
		files := identity.NewFiles(dir)
		c, err := files.Load()
		if err != nil {
			t.Fatal(err)
		}
		td, name, err := c.ClusterID()
		if err != nil || name != "paris" {
			t.Fatalf("identity is %q: %v", name, err)
		}
		next, err := files.PendingKey()
		if err != nil {
			t.Fatal(err)
		}
		got := post(t, server.URL, identity.Trust{TrustDomain: td, Roots: c.Roots}, c.TLSCertificate(), newCSR(t, next, "paris"))
		if got.Name != "paris" || got.Reason != "" || got.Serial != c.Leaf().SerialNumber.String() || serials[got.Serial] {
			t.Fatalf("the hub saw %q, serial %s, reason %q", got.Name, got.Serial, got.Reason)
		}
		serials[got.Serial] = true
		if _, err := files.Install(got.Chain, got.Roots); err != nil {
			t.Fatal(err)
		}
	}
}

func post(t *testing.T, url string, trust identity.Trust, cert *tls.Certificate, csr []byte) answer {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: identity.ClientTLS(identity.ClientOptions{
		Trust: trust, Certificate: func() (*tls.Certificate, error) { return cert, nil },
	})}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post(url, "application/x-pem-file", bytes.NewReader(csr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}
