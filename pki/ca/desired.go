// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/drover-io/drover/pki/identity"
)

// signerTTL is the life of a signer of desired states, less when the intermediate
// ends before: a hub whose root key is away must not stop a week early. It is
// renewed at half.
const signerTTL = 7 * 24 * time.Hour

// SignDesired signs what clusters should run. sig is ASN.1 ECDSA over the SHA-256
// of message; chain is the signer's certificate and its issuer, PEM. Agents check
// both with identity.VerifyDesired.
//
// The signer's key lives in this process alone, as those of the server
// certificates do: each replica and each start has its own, and no file or backup
// holds it.
func (ca *CA) SignDesired(message []byte) (sig, chain []byte, err error) {
	cert, err := ca.signing.get()
	if err != nil {
		return nil, nil, fmt.Errorf("sign desired state: %w", err)
	}
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("sign desired state: no ECDSA key")
	}
	sum := sha256.Sum256(message)
	if sig, err = ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
		return nil, nil, fmt.Errorf("sign desired state: %w", err)
	}
	issuers, err := certificates(cert.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("sign desired state: %w", err)
	}
	return sig, identity.MarshalCerts(issuers), nil
}

// SignerNotAfter is the end of the present signer: what it signed should be signed
// anew before that, for agents that ask again.
func (ca *CA) SignerNotAfter() time.Time {
	cert, err := ca.signing.get()
	if err != nil {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}

// reissueSigner makes a new signer with a new key.
func (ca *CA) reissueSigner(ctx context.Context) error {
	now := time.Now()
	var until time.Time
	if end := ca.Issuer().NotAfter; end.Before(now.Add(signerTTL)) {
		until = end
	}
	cert, err := ca.leaf(ctx, ca.engine.signers, "desired", []string{identity.DesiredURI(ca.td).String()}, until)
	if err != nil {
		return err
	}
	ca.signing.set(cert, now.Add(cert.Leaf.NotAfter.Sub(now)/2))
	return nil
}
