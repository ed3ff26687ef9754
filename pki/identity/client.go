// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Reason says why a client certificate is not accepted. The hub answers 401 with
// it, and agents act on it.
type Reason string

// The reasons. VerifyClient and VerifyRenewal return the first six; the others
// belong to the checks that need the hub's records.
const (
	ReasonNoCertificate Reason = "noCertificate"
	// ReasonUntrusted: signed by another CA, or forged.
	ReasonUntrusted Reason = "untrusted"
	// ReasonExpired: over, for a renewal also beyond the grace period. A new token
	// is needed.
	ReasonExpired Reason = "expired"
	// ReasonNotYetValid: from the future; one of the clocks is wrong.
	ReasonNotYetValid Reason = "notYetValid"
	// ReasonUsage: not a client certificate, such as the hub's own.
	ReasonUsage Reason = "usage"
	// ReasonIdentity: not exactly one valid identity of this trust domain.
	ReasonIdentity Reason = "identity"

	// ReasonRemoved: evicted by an operator; may join again with a new token.
	ReasonRemoved Reason = "removed"
	// ReasonRevoked: banned; the agent must not join again by itself.
	ReasonRevoked Reason = "revoked"
	// ReasonSuperseded: another holder of the identity is newer.
	ReasonSuperseded Reason = "superseded"
)

// ClientError is the error of VerifyClient and VerifyRenewal.
type ClientError struct {
	Reason Reason
	Err    error
}

// Error implements error.
func (e *ClientError) Error() string {
	if e.Err == nil {
		return "client certificate: " + string(e.Reason)
	}
	return fmt.Sprintf("client certificate: %v", e.Err)
}

// Unwrap returns the cause.
func (e *ClientError) Unwrap() error { return e.Err }

// ReasonOf returns the reason in an error's tree, or "".
func ReasonOf(err error) Reason {
	var e *ClientError
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// Peer is a client whose certificate was verified. That is not yet a permission:
// the caller must still check that the serial is not revoked, that the cluster's
// record is active, and the lineage.
type Peer struct {
	Kind                Kind // KindCluster or KindUser
	Name                string
	Serial              string // decimal
	NotBefore, NotAfter time.Time
	Leaf                *x509.Certificate
	// Groups of a user; nil for a cluster.
	Groups []string
}

// VerifyClient turns the certificates that a client showed, leaf first, into an
// identity. A kept-alive connection must be checked on every request.
func VerifyClient(certs []*x509.Certificate, roots *x509.CertPool, td string, now time.Time) (Peer, error) {
	if len(certs) == 0 || certs[0] == nil {
		return Peer{}, &ClientError{Reason: ReasonNoCertificate}
	}
	if roots == nil {
		// x509 would take the machine's roots.
		return Peer{}, &ClientError{ReasonUntrusted, errors.New("no roots to check it against")}
	}
	leaf := certs[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: pool(certs[1:]),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime:   now,
	})
	if err != nil {
		return Peer{}, verifyError(err, now)
	}
	// Verify takes a certificate without any usage as good for all of them.
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(leaf.UnknownExtKeyUsage) != 0 || leaf.IsCA {
		return Peer{}, &ClientError{ReasonUsage, errors.New("not for client use only")}
	}
	uri, err := onlyURI(leaf)
	if err != nil {
		return Peer{}, &ClientError{ReasonIdentity, err}
	}
	kind, name, err := ParseClientID(td, uri)
	if err != nil {
		return Peer{}, &ClientError{ReasonIdentity, err}
	}
	peer := Peer{
		Kind: kind, Name: name, Serial: leaf.SerialNumber.String(),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Leaf: leaf,
	}
	if kind == KindUser {
		peer.Groups = slices.Clone(leaf.Subject.Organization)
	}
	return peer, nil
}

// VerifyRenewal is VerifyClient for a renewal: a certificate that ended less than
// grace ago is checked as of its last moment.
func VerifyRenewal(certs []*x509.Certificate, roots *x509.CertPool, td string, now time.Time, grace time.Duration) (Peer, error) {
	if len(certs) > 0 && certs[0] != nil {
		if end := certs[0].NotAfter; now.After(end) && now.Before(end.Add(grace)) {
			now = end
		}
	}
	return VerifyClient(certs, roots, td, now)
}

func verifyError(err error, now time.Time) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		switch {
		case invalid.Reason == x509.Expired && now.Before(invalid.Cert.NotBefore):
			return &ClientError{ReasonNotYetValid, err}
		case invalid.Reason == x509.Expired:
			return &ClientError{ReasonExpired, err}
		case invalid.Reason == x509.IncompatibleUsage:
			return &ClientError{ReasonUsage, err}
		}
	}
	return &ClientError{ReasonUntrusted, err}
}
