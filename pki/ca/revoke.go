// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/nosql/database"
)

// The reasons of a revocation (RFC 5280) that Drover uses.
const (
	CodeKeyCompromise = 1
	CodeSuperseded    = 4 // the cluster joined again
	CodeCessation     = 5 // the cluster was removed
)

// Revoke makes a serial useless for ever and renews the revocation list. A serial
// that is already revoked is no error, nor one that this CA does not remember: a
// hub restored from a backup must be able to ban what it has forgotten.
//
// It returns when the revocation is stored. Closing live connections is for the
// caller, who watches the bucket's "revoked.>".
func (ca *CA) Revoke(ctx context.Context, serial string, code int, reason string) error {
	if !serialRE.MatchString(serial) {
		return fmt.Errorf("revoke: serial %q is not a decimal number", serial)
	}
	if code < 0 || code > 10 || code == 7 {
		return fmt.Errorf("revoke %s: reason code %d does not exist", serial, code)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("revoke %s: %w", serial, err)
	}
	already, err := ca.store.IsRevoked(serial)
	if err != nil {
		return fmt.Errorf("revoke %s: %w", serial, err)
	}
	if already {
		return nil
	}
	cert, err := ca.store.GetCertificate(serial)
	if err != nil {
		// The authority needs a certificate; this one has no end, so its
		// revocation is kept for ever.
		number, _ := new(big.Int).SetString(serial, 10)
		cert = &x509.Certificate{SerialNumber: number}
	}
	err = ca.engine.auth.Revoke(provisioner.NewContextWithMethod(ctx, provisioner.RevokeMethod), &authority.RevokeOptions{
		Serial: serial, ReasonCode: code, Reason: reason, PassiveOnly: true, MTLS: true, Crt: cert,
	})
	if err == nil {
		return nil
	}
	// Another replica may have been faster, or only the list may have failed. The
	// record alone decides; the list is renewed by Run.
	if done, lookupErr := ca.store.IsRevoked(serial); lookupErr == nil && done {
		ca.crlStale.Store(true)
		return nil
	}
	return fmt.Errorf("revoke %s: %w", serial, plain(err))
}

// Revoked reports whether a serial is revoked. An error is never "not revoked": the
// result is then true, and the caller must refuse.
func (ca *CA) Revoked(ctx context.Context, serial string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return true, fmt.Errorf("look up revocation: %w", err)
	}
	return ca.store.IsRevoked(serial)
}

// CRL returns the revocation list in DER, for third-party verifiers. The hub itself
// never reads it.
func (ca *CA) CRL(ctx context.Context) ([]byte, error) {
	if err := ca.refreshCRL(ctx); err != nil {
		return nil, err
	}
	info, err := ca.store.GetCRL()
	if err != nil {
		return nil, err
	}
	return info.DER, nil
}

// refreshCRL makes a new list if there is none, if it is past half of its life, or
// if it may lack a revocation.
func (ca *CA) refreshCRL(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := ca.store.GetCRL()
	switch {
	case err == nil:
		if time.Until(info.ExpiresAt) > crlLife/2 && !ca.crlStale.Load() {
			return nil
		}
	case !errors.Is(err, database.ErrNotFound):
		return err
	}
	// Cleared first: a revocation that comes in between sets it again.
	ca.crlStale.Store(false)
	if err := ca.engine.auth.GenerateCertificateRevocationList(); err != nil {
		ca.crlStale.Store(true)
		return fmt.Errorf("make revocation list: %w", plain(err))
	}
	return nil
}
