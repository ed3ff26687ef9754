// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/drover-io/drover/pki/identity"
)

const (
	// verifiedFor is how long a chain of signatures need not be computed again.
	verifiedFor = time.Minute
	// verifiedMost is how many connections' chains are remembered.
	verifiedMost = 4096
)

// verified remembers the chains of live connections that were good: checking
// signatures costs as much as all else of a small request. Roots and ends of
// certificates are still looked at every time.
type verified struct {
	mu     sync.Mutex
	chains map[*x509.Certificate]verifiedChain // by leaf
}

type verifiedChain struct {
	certs []*x509.Certificate
	roots *x509.CertPool
	peer  identity.Peer

	from, until time.Time
}

// client is identity.VerifyClient. The caller must not change certs.
func (v *verified) client(certs []*x509.Certificate, roots *x509.CertPool, td string, now time.Time) (identity.Peer, error) {
	if len(certs) > 0 {
		v.mu.Lock()
		known, ok := v.chains[certs[0]]
		v.mu.Unlock()
		if ok && !now.Before(known.from) && now.Before(known.until) && slices.Equal(certs, known.certs) && known.roots.Equal(roots) {
			return known.peer, nil
		}
	}
	peer, err := identity.VerifyClient(certs, roots, td, now)
	if err != nil {
		return peer, err
	}
	until := now.Add(verifiedFor)
	for _, c := range certs {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.chains == nil || len(v.chains) >= verifiedMost {
		v.chains = map[*x509.Certificate]verifiedChain{}
	}
	v.chains[certs[0]] = verifiedChain{certs, roots, peer, now, until}
	return peer, nil
}
