// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/pki/identity"
)

func TestSignAgent(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	_, chain, issued := agent(t, ca, "paris-1")

	peer, err := identity.VerifyClient(chain, ca.RootPool(), "fleet.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if peer.Kind != identity.KindCluster || peer.Name != "paris-1" || peer.Serial != issued.Serial || peer.Groups != nil {
		t.Errorf("peer is %+v", peer)
	}
	if life := peer.NotAfter.Sub(peer.NotBefore); life < DefaultAgentTTL || life > DefaultAgentTTL+6*time.Minute {
		t.Errorf("lifetime is %s", life)
	}
	if len(chain) != 2 {
		t.Errorf("chain has %d certificates, want leaf and intermediate", len(chain))
	}
}

func TestSignUser(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	for _, tt := range []struct {
		name, user string
		groups     []string
		wantErr    string
	}{
		{name: "admin", user: "admin", groups: []string{"system:masters", "ops"}},
		{name: "no groups", user: "alice"},
		{name: "mail address", user: "alice@example.com", groups: []string{"ops"}},
		{name: "system user", user: "system:admin", wantErr: "not valid"},
		{name: "slash", user: "a/b", wantErr: "not valid"},
		{name: "empty group", user: "bob", groups: []string{""}, wantErr: "group"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			csr, err := identity.NewUserRequest(newKey(t), tt.user)
			if err == nil {
				var issued Issued
				issued, err = ca.SignUser(t.Context(), csr, tt.user, tt.groups)
				if err == nil {
					chain, parseErr := identity.ParseCerts(issued.ChainPEM)
					if parseErr != nil {
						t.Fatal(parseErr)
					}
					peer, verifyErr := identity.VerifyClient(chain, ca.RootPool(), ca.TrustDomain(), time.Now())
					if verifyErr != nil {
						t.Fatal(verifyErr)
					}
					if peer.Kind != identity.KindUser || peer.Name != tt.user {
						t.Errorf("peer is %s %q", peer.Kind, peer.Name)
					}
					// The certificate holds a set: its order is not the caller's.
					slices.Sort(tt.groups)
					slices.Sort(peer.Groups)
					if diff := cmp.Diff(tt.groups, peer.Groups); diff != "" {
						t.Error(diff)
					}
				}
			}
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error is %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestServerCertificates(t *testing.T) {
	t.Parallel()
	ca := open(t, func(cfg *Config) {
		cfg.AdvertiseIPs = []net.IP{net.IPv4(10, 0, 0, 5), net.IPv6loopback}
		cfg.AdvertiseDNS = []string{"one.fleet.test"}
	})
	hub, err := ca.GetHubCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	api, err := ca.GetAPICertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Leaf, intermediate, root: an agent at first contact has only the pin.
	chain := parseAll(t, hub)
	if len(chain) != 3 || !chain[2].Equal(ca.Roots()[0]) || !chain[1].Equal(ca.Issuer()) {
		t.Fatalf("the hub's chain has %d certificates in the wrong order", len(chain))
	}
	trust := identity.Trust{TrustDomain: "fleet.test", Pins: ca.Pins()}
	if err := identity.VerifyHub(chain, trust, time.Now()); err != nil {
		t.Error(err)
	}
	if err := identity.VerifyHub(parseAll(t, api), trust, time.Now()); err == nil {
		t.Error("the API's certificate passes as the hub's")
	}
	for _, name := range []string{"api.fleet.test", "localhost", "one.fleet.test", "10.0.0.5", "::1"} {
		_, err := api.Leaf.Verify(x509.VerifyOptions{
			Roots: ca.RootPool(), DNSName: name, Intermediates: pool(parseAll(t, api)[1:]),
		})
		if err != nil {
			t.Errorf("the API's certificate is not for %s: %v", name, err)
		}
	}
	if err := api.Leaf.VerifyHostname("hub.fleet.test"); err == nil {
		t.Error("the API's certificate has the hub's name")
	}
}

func parseAll(t *testing.T, cert *tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		link, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, link)
	}
	return chain
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, cert := range certs {
		p.AddCert(cert)
	}
	return p
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no directory", Config{KV: kv}, "no directory"},
		{"no bucket", Config{Dir: t.TempDir()}, "no bucket"},
		{"trust domain", Config{KV: kv, Dir: t.TempDir(), TrustDomain: "Fleet"}, "trust domain"},
		{"agent TTL", Config{KV: kv, Dir: t.TempDir(), AgentTTL: time.Millisecond}, "agent TTL"},
		{"user TTL", Config{KV: kv, Dir: t.TempDir(), UserTTL: 500 * 24 * time.Hour}, "user TTL"},
		{"advertised name", Config{KV: kv, Dir: t.TempDir(), AdvertiseDNS: []string{"example.com"}}, "outside the trust domain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(t.Context(), tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

func TestShortLives(t *testing.T) {
	t.Parallel()
	ca := open(t, func(cfg *Config) { cfg.AgentTTL, cfg.ServerTTL = 2*time.Second, 2*time.Second })
	_, chain, issued := agent(t, ca, "paris")
	if life := issued.NotAfter.Sub(issued.NotBefore); life > 4*time.Second {
		t.Fatalf("lifetime is %s", life)
	}
	_, err := identity.VerifyClient(chain, ca.RootPool(), ca.TrustDomain(), issued.NotAfter.Add(time.Second))
	if got := identity.ReasonOf(err); got != identity.ReasonExpired {
		t.Errorf("reason is %q (%v)", got, err)
	}
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  identity.Reason
	}{
		{"in grace", 2 * time.Second, ""},
		{"at the end of grace", 3 * time.Second, identity.ReasonExpired},
	} {
		_, err := identity.VerifyRenewal(chain, ca.RootPool(), ca.TrustDomain(), issued.NotAfter.Add(tt.after), 3*time.Second)
		if got := identity.ReasonOf(err); got != tt.want {
			t.Errorf("%s: reason is %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestRunRenewsServers: the served certificates change, and are always valid.
func TestRunRenewsServers(t *testing.T) {
	t.Parallel()
	ca := open(t, func(cfg *Config) { cfg.ServerTTL = 4 * time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ca.Run(ctx) }()
	first, err := ca.GetHubCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		now, err := ca.GetHubCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !now.Leaf.Equal(first.Leaf) {
			if first.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(now.Leaf.PublicKey) {
				t.Error("the new certificate has the old key")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the hub's certificate was not renewed")
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestDefaultTrustDomain(t *testing.T) {
	t.Parallel()
	ca := open(t, func(cfg *Config) { cfg.TrustDomain = "" })
	if want := ca.Pins()[0][:10] + ".drover.internal"; ca.TrustDomain() != want {
		t.Errorf("trust domain is %q, want %q", ca.TrustDomain(), want)
	}
}

func TestRootAndIntermediate(t *testing.T) {
	t.Parallel()
	ca := open(t, nil)
	root, mid := ca.Roots()[0], ca.Issuer()
	if !root.IsCA || root.MaxPathLen != 2 || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Error("the root is not a CA with path length 2")
	}
	if !mid.IsCA || mid.MaxPathLen != 0 || !mid.MaxPathLenZero || !mid.PermittedDNSDomainsCritical {
		t.Error("the intermediate is not a constrained CA with path length 0")
	}
	if diff := cmp.Diff([]string{"fleet.test"}, mid.PermittedURIDomains); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"fleet.test", "localhost"}, mid.PermittedDNSDomains); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(ca.cfg.Dir + "/root.key")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root.key: %v %v", info.Mode(), err)
	}
}
