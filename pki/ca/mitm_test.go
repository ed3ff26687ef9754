// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/drover-io/drover/pki/identity"
)

// TestManInTheMiddle shows agents a series of servers over real TLS. No request may
// arrive at a false one, since the first request carries the token's secret.
func TestManInTheMiddle(t *testing.T) {
	t.Parallel()
	genuine := open(t, nil)
	rogue := open(t, nil) // same trust domain, own keys
	hub, err := genuine.GetHubCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	rogueHub, err := rogue.GetHubCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	api, err := genuine.GetAPICertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, chain, _ := agent(t, genuine, "insider")
	insider := (&identity.Credential{Key: key, Chain: append(chain, genuine.Roots()...)}).TLSCertificate()
	with := func(more ...*x509.Certificate) *tls.Certificate {
		cert := *rogueHub
		cert.Certificate = append([][]byte{}, rogueHub.Certificate...)
		for _, link := range more {
			cert.Certificate = append(cert.Certificate, link.Raw)
		}
		return &cert
	}
	first := identity.Trust{TrustDomain: "fleet.test", Pins: genuine.Pins()}
	later := identity.Trust{TrustDomain: "fleet.test", Roots: genuine.Roots()}

	for _, tt := range []struct {
		name  string
		cert  *tls.Certificate
		trust identity.Trust
		tls12 bool
		want  identity.HubReason
		text  string
	}{
		{name: "genuine, first contact", cert: hub, trust: first},
		{name: "genuine, later", cert: hub, trust: later},
		{name: "own CA", cert: rogueHub, trust: first, want: identity.HubOtherRoot, text: "another root (pin " + rogue.Pins()[0][:16]},
		{name: "own CA, later", cert: rogueHub, trust: later, want: identity.HubOtherRoot, text: "stored bundle names (pin " + genuine.Pins()[0][:16]},
		{name: "leaf alone", cert: &tls.Certificate{Certificate: rogueHub.Certificate[:1], PrivateKey: rogueHub.PrivateKey}, trust: first, want: identity.HubOtherRoot, text: "shows no root and not the one that the token names"},
		{name: "own CA and genuine root", cert: with(genuine.Roots()...), trust: first, want: identity.HubNotSigned},
		{name: "own CA and genuine root, later", cert: with(genuine.Roots()...), trust: later, want: identity.HubNotSigned},
		{name: "own CA, genuine intermediate and root", cert: with(genuine.Issuer(), genuine.Roots()[0]), trust: first, want: identity.HubNotSigned},
		{name: "enrolled agent", cert: insider, trust: first, want: identity.HubNotHub},
		{name: "enrolled agent, later", cert: insider, trust: later, want: identity.HubNotHub},
		{name: "API certificate", cert: api, trust: first, want: identity.HubNotHub},
		{name: "no trust", cert: hub, trust: identity.Trust{TrustDomain: "fleet.test"}, want: identity.HubNoTrust},
		{name: "other trust domain", cert: hub, trust: identity.Trust{TrustDomain: "other.test", Pins: genuine.Pins()}, want: identity.HubNotHub},
		{name: "TLS 1.2", cert: hub, trust: first, tls12: true, text: "protocol version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
			server.TLS = &tls.Config{
				ClientAuth:     tls.RequestClientCert,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return tt.cert, nil },
			}
			server.Config.ErrorLog = discard()
			if tt.tls12 {
				server.TLS.MaxVersion = tls.VersionTLS12
			}
			server.StartTLS()
			defer server.Close()

			carrier, err := identity.Carrier(newKey(t))
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{TLSClientConfig: identity.ClientTLS(identity.ClientOptions{
				Trust:       tt.trust,
				Certificate: func() (*tls.Certificate, error) { return carrier, nil },
			})}
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(server.URL)
			if err == nil {
				_ = resp.Body.Close()
			}
			good := tt.want == "" && tt.text == ""
			if good != (err == nil) || good != (requests.Load() == 1) {
				t.Fatalf("error is %v, %d requests arrived", err, requests.Load())
			}
			var hubErr *identity.HubError
			if tt.want != "" && (!errors.As(err, &hubErr) || hubErr.Reason != tt.want) {
				t.Errorf("error is %v, want reason %s", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error is %q, want %q in it", err, tt.text)
			}
		})
	}
}
