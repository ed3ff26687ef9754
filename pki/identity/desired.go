// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// DesiredSkew is how far an agent's clock may be from the hub's when it judges
// the validity of a signer: more than any clock that TLS to the hub lets pass.
const DesiredSkew = time.Hour

// maxSignerChain bounds the certificates of a signature: leaf, intermediate, and
// room for the cross-certificates of a rotation.
const maxSignerChain = 6

// DesiredURI is the identity of what signs the desired state of clusters.
func DesiredURI(td string) *url.URL {
	return &url.URL{Scheme: scheme, Host: td, Path: "/" + string(KindDesired)}
}

// DesiredReason says why a signature is not the hub's.
type DesiredReason string

// The reasons of a DesiredError.
const (
	// DesiredUntrusted: no chain to a trusted root.
	DesiredUntrusted DesiredReason = "untrusted"
	// DesiredNotSigner: a genuine certificate of this fleet that may not sign lists.
	DesiredNotSigner DesiredReason = "notSigner"
	// DesiredTime: not valid now, beyond the skew.
	DesiredTime DesiredReason = "time"
	// DesiredSignature: the message is not what was signed.
	DesiredSignature DesiredReason = "signature"
)

// DesiredError is the error of VerifyDesired.
type DesiredError struct {
	Reason DesiredReason
	text   string
	err    error
}

// Error implements error.
func (e *DesiredError) Error() string { return e.text }

// Unwrap returns the error of crypto/x509, if there is one.
func (e *DesiredError) Unwrap() error { return e.err }

func desiredError(reason DesiredReason, err error, format string, args ...any) error {
	return &DesiredError{Reason: reason, text: fmt.Sprintf(format, args...), err: err}
}

// VerifyDesired checks that sig, ASN.1 ECDSA over SHA-256, is the signature of
// message by a signer of desired states of trust's domain, whose certificate is
// the first of chain and leads to a root of trust.Roots. Pins are not used: who
// gets a list has joined.
//
// A zero now asks whether the signature was ever good: for what was checked when
// it came and lay on the disk since. A clock that is wrong, or a hub that was away
// for longer than the signer lived, must not stop what runs.
func VerifyDesired(message, sig []byte, chain []*x509.Certificate, trust Trust, now time.Time) error {
	if err := ValidTrustDomain(trust.TrustDomain); err != nil {
		return desiredError(DesiredUntrusted, err, "check signature: %v", err)
	}
	if len(trust.Roots) == 0 {
		return desiredError(DesiredUntrusted, nil, "check signature: no roots to check it against")
	}
	if len(chain) == 0 || len(chain) > maxSignerChain || chain[0] == nil {
		return desiredError(DesiredUntrusted, nil, "check signature: %d certificates, want 1 to %d", len(chain), maxSignerChain)
	}
	leaf := chain[0]
	at, err := signerTime(leaf, now)
	if err != nil {
		return err
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool(trust.Roots), Intermediates: pool(chain[1:]), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		return desiredError(DesiredUntrusted, err, "the signer's certificate does not lead to the hub's root: %v", err)
	}
	// Verify takes a certificate without any usage as good for all of them.
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) || len(leaf.UnknownExtKeyUsage) != 0 ||
		leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA {
		return desiredError(DesiredNotSigner, nil, "the signer's certificate is not for signing lists")
	}
	uri, err := onlyURI(leaf)
	if err != nil {
		return desiredError(DesiredNotSigner, err, "the signer's certificate is not for signing lists: %v", err)
	}
	if !sameURI(uri, DesiredURI(trust.TrustDomain)) {
		return desiredError(DesiredNotSigner, nil, "the signer's certificate is not for signing lists: it belongs to %s", shown(uri.String()))
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return desiredError(DesiredNotSigner, nil, "the signer's key is not an ECDSA key")
	}
	sum := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(key, sum[:], sig) {
		return desiredError(DesiredSignature, nil, "the signature does not match: what it covers was changed")
	}
	return nil
}

// signerTime is the moment of the signer's life at which to check its chain.
func signerTime(leaf *x509.Certificate, now time.Time) (time.Time, error) {
	switch {
	case now.IsZero():
		return leaf.NotAfter, nil
	case now.Before(leaf.NotBefore.Add(-DesiredSkew)):
		return now, desiredError(DesiredTime, nil, "the signer's certificate starts on %s and this machine's clock says %s: check this machine's clock",
			leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter.Add(DesiredSkew)):
		return now, desiredError(DesiredTime, nil, "the signer's certificate has ended on %s and this machine's clock says %s: check this machine's clock",
			leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return leaf.NotBefore, nil
	case now.After(leaf.NotAfter):
		return leaf.NotAfter, nil
	}
	return now, nil
}
