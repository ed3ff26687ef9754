// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/smallstep/certificates/db"
	"github.com/smallstep/nosql/database"
	"golang.org/x/crypto/ssh"
)

// BucketName is the KV bucket that BucketConfig describes.
const BucketName = "pki"

// The keys of the bucket. Serials are decimal.
const (
	certKeys    = "cert."    // + serial: DER
	revokedKeys = "revoked." // + serial: db.RevokedCertificateInfo as JSON
	ottKeys     = "ott."     // + token id: empty; its creation is the one use
	crlKey      = "crl"      // db.CertificateRevocationListInfo as JSON

	storeTimeout = 5 * time.Second
	// ottTTL outlives the token by far: expiry is checked to the minute.
	ottTTL = 10 * time.Minute
	// recordSlack is added to the life of records, for clocks that differ.
	recordSlack = 24 * time.Hour
)

var (
	serialRE = regexp.MustCompile(`^[0-9]{1,64}$`)
	ottRE    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// BucketConfig returns the settings of the bucket that Config.KV must have. The
// caller adds replicas. Revocations must not be lost, so the server under it must
// sync every write.
func BucketConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:         BucketName,
		Description:    "certificates, revocations and one-time tokens of the certificate authority",
		History:        1,
		Storage:        jetstream.FileStorage,
		LimitMarkerTTL: time.Minute,
	}
}

// store is the authority's database on a KV bucket. The authority finds the parts
// beyond db.AuthDB by type assertion, so they are asserted here as well.
type store struct {
	kv    jetstream.KeyValue
	grace time.Duration
}

var (
	_ db.AuthDB                      = (*store)(nil)
	_ db.CertificateStorer           = (*store)(nil)
	_ db.CertificateRevocationListDB = (*store)(nil)
)

func newStore(ctx context.Context, kv jetstream.KeyValue, grace time.Duration) (*store, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at bucket %s: %w", kv.Bucket(), err)
	}
	if status.LimitMarkerTTL() <= 0 {
		return nil, fmt.Errorf("bucket %s has no limit marker TTL, so records could not expire: create it with ca.BucketConfig", kv.Bucket())
	}
	return &store{kv: kv, grace: grace}, nil
}

// call bounds one operation: the authority passes no context to its database.
func (s *store) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), storeTimeout)
}

// create makes a key; a zero end keeps it for ever. It fails with
// jetstream.ErrKeyExists if the key is there.
func (s *store) create(key string, value []byte, ttl time.Duration) error {
	ctx, cancel := s.call()
	defer cancel()
	var options []jetstream.KVCreateOpt
	if ttl > 0 {
		// The server counts whole seconds.
		options = append(options, jetstream.KeyTTL(ttl.Truncate(time.Second)+time.Second))
	}
	_, err := s.kv.Create(ctx, key, value, options...)
	return err
}

// keep returns how long the record of a certificate is kept.
func (s *store) keep(notAfter time.Time) time.Duration {
	if notAfter.IsZero() {
		return 0
	}
	return max(time.Until(notAfter), 0) + s.grace + recordSlack
}

// StoreCertificate records a certificate that was just signed.
func (s *store) StoreCertificate(cert *x509.Certificate) error {
	err := s.create(certKeys+cert.SerialNumber.String(), cert.Raw, s.keep(cert.NotAfter))
	if err != nil {
		return fmt.Errorf("store certificate: %w", err)
	}
	return nil
}

// GetCertificate returns a certificate that StoreCertificate recorded.
func (s *store) GetCertificate(serial string) (*x509.Certificate, error) {
	if !serialRE.MatchString(serial) {
		return nil, fmt.Errorf("serial %q is not a decimal number", serial)
	}
	ctx, cancel := s.call()
	defer cancel()
	entry, err := s.kv.Get(ctx, certKeys+serial)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, database.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return x509.ParseCertificate(entry.Value())
}

// IsRevoked reports whether a serial is revoked. With an error it says true, so
// that a caller who forgets the error refuses.
func (s *store) IsRevoked(serial string) (bool, error) {
	if !serialRE.MatchString(serial) {
		return true, fmt.Errorf("serial %q is not a decimal number", serial)
	}
	ctx, cancel := s.call()
	defer cancel()
	_, err := s.kv.Get(ctx, revokedKeys+serial)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return false, nil
	}
	return true, fmt.Errorf("look up revocation: %w", err)
}

// Revoke records a revocation, or returns db.ErrAlreadyExists.
func (s *store) Revoke(info *db.RevokedCertificateInfo) error {
	if !serialRE.MatchString(info.Serial) {
		return fmt.Errorf("serial %q is not a decimal number", info.Serial)
	}
	value, err := json.Marshal(info)
	if err != nil {
		return err
	}
	err = s.create(revokedKeys+info.Serial, value, s.keep(info.ExpiresAt))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return db.ErrAlreadyExists
	}
	if err != nil {
		return fmt.Errorf("store revocation: %w", err)
	}
	return nil
}

// UseToken spends a one-time token: whoever creates its key has it, on whichever
// replica. Only the id is stored; the token itself is nobody's business.
func (s *store) UseToken(id, _ string) (bool, error) {
	if !ottRE.MatchString(id) {
		return false, errors.New("one-time token has a bad id")
	}
	err := s.create(ottKeys+id, nil, ottTTL)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("spend one-time token: %w", err)
	}
	return true, nil
}

// GetRevokedCertificates returns all revocations, for the revocation list.
func (s *store) GetRevokedCertificates() (*[]db.RevokedCertificateInfo, error) {
	ctx, cancel := s.call()
	defer cancel()
	watch, err := s.kv.Watch(ctx, revokedKeys+">", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	defer func() { _ = watch.Stop() }()
	list := []db.RevokedCertificateInfo{}
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("list revocations: %w", ctx.Err())
		case entry, open := <-watch.Updates():
			if !open {
				return nil, errors.New("list revocations: the watch ended early")
			}
			if entry == nil { // all initial values were delivered
				return &list, nil
			}
			var info db.RevokedCertificateInfo
			if err := json.Unmarshal(entry.Value(), &info); err != nil {
				return nil, fmt.Errorf("list revocations: read %s: %w", entry.Key(), err)
			}
			list = append(list, info)
		}
	}
}

// GetCRL returns the stored list. The authority wants database.ErrNotFound, and
// no other error, when there is none yet.
func (s *store) GetCRL() (*db.CertificateRevocationListInfo, error) {
	ctx, cancel := s.call()
	defer cancel()
	entry, err := s.kv.Get(ctx, crlKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, database.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	var info db.CertificateRevocationListInfo
	if err := json.Unmarshal(entry.Value(), &info); err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	return &info, nil
}

// StoreCRL replaces the stored list.
func (s *store) StoreCRL(info *db.CertificateRevocationListInfo) error {
	value, err := json.Marshal(info)
	if err != nil {
		return err
	}
	ctx, cancel := s.call()
	defer cancel()
	if _, err := s.kv.Put(ctx, crlKey, value); err != nil {
		return fmt.Errorf("store revocation list: %w", err)
	}
	return nil
}

// Shutdown does nothing: the bucket is the caller's.
func (s *store) Shutdown() error { return nil }

// SSH certificates do not exist here.

// IsSSHRevoked implements db.AuthDB.
func (s *store) IsSSHRevoked(string) (bool, error) { return true, db.ErrNotImplemented }

// RevokeSSH implements db.AuthDB.
func (s *store) RevokeSSH(*db.RevokedCertificateInfo) error { return db.ErrNotImplemented }

// IsSSHHost implements db.AuthDB.
func (s *store) IsSSHHost(string) (bool, error) { return false, db.ErrNotImplemented }

// GetSSHHostPrincipals implements db.AuthDB.
func (s *store) GetSSHHostPrincipals() ([]string, error) { return nil, db.ErrNotImplemented }

// StoreSSHCertificate implements db.CertificateStorer.
func (s *store) StoreSSHCertificate(*ssh.Certificate) error { return db.ErrNotImplemented }
