// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/drover-io/drover/pki/identity"
)

func signMessage(t *testing.T, key *ecdsa.PrivateKey, message []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestSignDesired(t *testing.T) {
	t.Parallel()
	ca, other := open(t, nil), open(t, nil)
	message := []byte("what runs")
	sig, text, err := ca.SignDesired(message)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.ParseCerts(text)
	if err != nil || len(chain) != 2 {
		t.Fatalf("chain of %d, %v", len(chain), err)
	}
	trust := identity.Trust{TrustDomain: ca.TrustDomain(), Roots: ca.Roots()}
	now, leaf := time.Now(), chain[0]
	if life := leaf.NotAfter.Sub(now); life < 6*24*time.Hour || life > 7*24*time.Hour {
		t.Errorf("the signer lives for %s", life)
	}

	agentKey, agentChain, _ := agent(t, ca, "shop-1")
	hub, err := ca.HubCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hubChain, err := certificates(hub.Certificate[:2])
	if err != nil {
		t.Fatal(err)
	}
	otherSig, otherText, err := other.SignDesired(message)
	if err != nil {
		t.Fatal(err)
	}
	otherChain, err := identity.ParseCerts(otherText)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := trust
	elsewhere.TrustDomain = "elsewhere.test"
	for _, tt := range []struct {
		name    string
		message string
		sig     []byte
		chain   []*x509.Certificate
		trust   identity.Trust
		now     time.Time
		want    identity.DesiredReason
	}{
		{name: "good", now: now},
		{name: "the clock is a little behind", now: leaf.NotBefore.Add(-50 * time.Minute)},
		{name: "the clock is a little ahead", now: leaf.NotAfter.Add(50 * time.Minute)},
		{name: "the clock is a day behind", now: leaf.NotBefore.Add(-24 * time.Hour), want: identity.DesiredTime},
		{name: "over", now: leaf.NotAfter.Add(2 * time.Hour), want: identity.DesiredTime},
		{name: "on the disk since", now: time.Time{}},
		{name: "changed", message: "what ran", now: now, want: identity.DesiredSignature},
		{name: "changed on the disk", message: "what ran", want: identity.DesiredSignature},
		{name: "no signature", sig: []byte{}, now: now, want: identity.DesiredSignature},
		{name: "another hub", sig: otherSig, chain: otherChain, now: now, want: identity.DesiredUntrusted},
		{name: "another hub, with this one's root", sig: otherSig, chain: append(otherChain[:2:2], ca.Roots()...), now: now, want: identity.DesiredUntrusted},
		{name: "without the intermediate", chain: chain[:1], now: now, want: identity.DesiredUntrusted},
		{name: "no certificate", chain: []*x509.Certificate{}, now: now, want: identity.DesiredUntrusted},
		{name: "another trust domain", trust: elsewhere, now: now, want: identity.DesiredNotSigner},
		{name: "signed by an agent", sig: signMessage(t, agentKey, message), chain: agentChain, now: now, want: identity.DesiredUntrusted},
		{name: "signed by the hub's server key", sig: signMessage(t, hub.PrivateKey.(*ecdsa.PrivateKey), message), chain: hubChain, now: now, want: identity.DesiredUntrusted},
		{name: "no roots", trust: identity.Trust{TrustDomain: ca.TrustDomain()}, now: now, want: identity.DesiredUntrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := message
			if tt.message != "" {
				m = []byte(tt.message)
			}
			if tt.sig == nil {
				tt.sig = sig
			}
			if tt.chain == nil {
				tt.chain = chain
			}
			if tt.trust.TrustDomain == "" {
				tt.trust = trust
			}
			err := identity.VerifyDesired(m, tt.sig, tt.chain, tt.trust, tt.now)
			var refused *identity.DesiredError
			got := identity.DesiredReason("")
			if errors.As(err, &refused) {
				got = refused.Reason
			}
			if got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %q: %v; want %q", got, err, tt.want)
			}
		})
	}

	// The certificate of a signer opens nothing else.
	if _, err := identity.VerifyClient(chain, ca.RootPool(), ca.TrustDomain(), now); err == nil {
		t.Error("a signer is taken for a client")
	}
	if err := identity.VerifyHub(chain, trust, now); err == nil {
		t.Error("a signer is taken for the hub")
	}
	// Renewal changes the key, and what the former signed stays good.
	if err := ca.reissueSigner(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, again, err := ca.SignDesired(message)
	if err != nil || string(again) == string(text) {
		t.Errorf("the signer did not change, %v", err)
	}
	if err := identity.VerifyDesired(message, sig, chain, trust, now); err != nil {
		t.Errorf("signed before the renewal: %v", err)
	}
}
