// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/drover-io/drover/pki/identity"
)

// TestVerified: a chain that was good is asked about again when its roots have
// changed, when it has ended, and when it is another one.
func TestVerified(t *testing.T) {
	t.Parallel()
	const td = "fleet.test"
	c, other := newChain(t), newChain(t)
	pool := func(roots ...*x509.Certificate) *x509.CertPool {
		p := x509.NewCertPool()
		for _, r := range roots {
			p.AddCert(r)
		}
		return p
	}
	certs := []*x509.Certificate{c.leaf(identity.UserURI(td, "ann"))}
	now := time.Now()
	var v verified
	for _, tt := range []struct {
		name  string
		certs []*x509.Certificate
		roots *x509.CertPool
		at    time.Time
		ok    bool
	}{
		{"first", certs, pool(c.root), now, true},
		{"again, with a pool of its own", certs, pool(c.root), now, true},
		{"root gone", certs, pool(other.root), now, false},
		{"no roots", certs, pool(), now, false},
		{"root back beside another", certs, pool(other.root, c.root), now, true},
		{"ended", certs, pool(other.root, c.root), certs[0].NotAfter.Add(time.Second), false},
		{"not yet", certs, pool(other.root, c.root), certs[0].NotBefore.Add(-time.Second), false},
		{"another leaf", []*x509.Certificate{other.leaf(identity.UserURI(td, "ann"))}, pool(c.root), now, false},
		{"none", nil, pool(c.root), now, false},
	} {
		peer, err := v.client(tt.certs, tt.roots, td, tt.at)
		if (err == nil) != tt.ok || (tt.ok && peer.Name != "ann") {
			t.Errorf("%s: %+v, %v, want ok = %t", tt.name, peer, err, tt.ok)
		}
	}
	if len(v.chains) != 1 {
		t.Errorf("%d chains are remembered, want 1", len(v.chains))
	}
}
