// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.step.sm/crypto/pemutil"
	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
)

// The files of a CA, in the order in which they are made. The last one is the
// marker: without it nothing was ever signed, and creation starts again.
const (
	rootKeyFile    = "root.key"
	rootsFile      = "roots.crt"
	issuerKeyFile  = "intermediate.key"
	issuerCertFile = "intermediate.crt"
	// oldKeyFile exists only while an intermediate is being replaced.
	oldKeyFile = "intermediate.key.old"

	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 2 * 365 * 24 * time.Hour
	// rootPathLen leaves room for a cross-certificate between two roots.
	rootPathLen = 2
	// defaultDomain follows 10 hex digits of the root's pin.
	defaultDomain = ".drover.internal"

	pemPlainKey     = "PRIVATE KEY"
	pemEncryptedKey = "ENCRYPTED PRIVATE KEY"
)

// issuer is an intermediate with its key.
type issuer struct {
	cert   *x509.Certificate
	signer crypto.Signer
}

// loaded is what the directory holds.
type loaded struct {
	roots       []*x509.Certificate
	issuer      *issuer
	trustDomain string
}

// material keeps roots and intermediate on disk.
type material struct {
	dir      string
	password []byte
	write    func(path string, data []byte, mode fs.FileMode) error
	log      *zap.Logger
}

func (m *material) path(name string) string { return filepath.Join(m.dir, name) }

func (m *material) exists(name string) (bool, error) {
	_, err := os.Stat(m.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// open loads the CA, or creates it. td may be empty.
func (m *material) open(td string) (*loaded, error) {
	marker, err := m.exists(issuerCertFile)
	if err != nil {
		return nil, err
	}
	if !marker {
		if err := m.create(td); err != nil {
			return nil, fmt.Errorf("create: %w", err)
		}
	}
	l, err := m.load()
	if err != nil {
		return nil, err
	}
	if td != "" && td != l.trustDomain {
		return nil, fmt.Errorf("trust domain is %q in the configuration and %q in %s: it cannot be changed, remove it from the configuration",
			td, l.trustDomain, m.path(issuerCertFile))
	}
	if !marker {
		m.log.Info("certificate authority created", zap.String("trust_domain", l.trustDomain), zap.String("dir", m.dir))
		if len(m.password) == 0 {
			m.log.Warn("the keys of the certificate authority are not encrypted: set a CA password", zap.String("dir", m.dir))
		}
	}
	return l, nil
}

func (m *material) create(td string) error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	root, rootKey, err := m.root(td)
	if err != nil {
		return err
	}
	next, err := newIntermediate(root, rootKey, root.URIs[0].Host)
	if err != nil {
		return err
	}
	if err := m.saveKey(issuerKeyFile, next.signer); err != nil {
		return err
	}
	return m.write(m.path(issuerCertFile), identity.MarshalCerts([]*x509.Certificate{next.cert}), 0o644)
}

// root returns the root that an interrupted creation made, or a new one. A root
// on disk is never replaced: agents may already be pinned to it, if it was the
// intermediate that got lost.
func (m *material) root(td string) (*x509.Certificate, crypto.Signer, error) {
	made, err := m.exists(rootsFile)
	if err != nil {
		return nil, nil, err
	}
	if !made {
		return m.newRoot(td)
	}
	roots, err := m.loadCerts(rootsFile)
	if err != nil {
		return nil, nil, err
	}
	root, key, err := m.loadRootKey(roots)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is missing and a new one cannot be signed (restore the directory from a backup): %w", m.path(issuerCertFile), err)
	}
	if got, err := domainOf(root); err != nil {
		return nil, nil, err
	} else if td != "" && td != got {
		return nil, nil, fmt.Errorf("trust domain is %q in the configuration and %q in %s", td, got, m.path(rootsFile))
	}
	return root, key, nil
}

func (m *material) newRoot(td string) (*x509.Certificate, crypto.Signer, error) {
	key, err := identity.GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	if td == "" {
		td = identity.Fingerprint(key.Public())[:10] + defaultDomain
	}
	template := caTemplate("Drover root", td, rootLife)
	template.MaxPathLen = rootPathLen
	root, err := signCA(template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	if err := m.saveKey(rootKeyFile, key); err != nil {
		return nil, nil, err
	}
	if err := m.write(m.path(rootsFile), identity.MarshalCerts([]*x509.Certificate{root}), 0o644); err != nil {
		return nil, nil, err
	}
	return root, key, nil
}

// rotate replaces the intermediate on disk. At every moment intermediate.crt has
// its key beside it, in intermediate.key or in the old one's file.
func (m *material) rotate(roots []*x509.Certificate, td string) (*issuer, error) {
	root, rootKey, err := m.loadRootKey(roots)
	if err != nil {
		return nil, err
	}
	next, err := newIntermediate(root, rootKey, td)
	if err != nil {
		return nil, err
	}
	if err := m.keepOldKey(); err != nil {
		return nil, err
	}
	if err := m.saveKey(issuerKeyFile, next.signer); err != nil {
		return nil, err
	}
	if err := m.write(m.path(issuerCertFile), identity.MarshalCerts([]*x509.Certificate{next.cert}), 0o644); err != nil {
		return nil, err
	}
	// What is left over is overwritten by the next rotation.
	if err := os.Remove(m.path(oldKeyFile)); err != nil {
		m.log.Warn("cannot remove the key of the old intermediate", zap.Error(err))
	}
	return next, nil
}

// keepOldKey copies the key of the intermediate on disk to the old one's file. If
// it is there already, from an interrupted rotation, then intermediate.key is a key
// that was never used, and copying it would lose the one in use.
func (m *material) keepOldKey() error {
	certs, err := m.loadCerts(issuerCertFile)
	if err != nil {
		return err
	}
	name, _, err := m.issuerKey(certs[0])
	if err != nil || name == oldKeyFile {
		return err
	}
	text, err := os.ReadFile(m.path(issuerKeyFile))
	if err != nil {
		return err
	}
	return m.write(m.path(oldKeyFile), text, 0o600)
}

func newIntermediate(root *x509.Certificate, rootKey crypto.Signer, td string) (*issuer, error) {
	return newIntermediateFor(root, rootKey, td, intermediateLife)
}

func newIntermediateFor(root *x509.Certificate, rootKey crypto.Signer, td string, life time.Duration) (*issuer, error) {
	key, err := identity.GenerateKey()
	if err != nil {
		return nil, err
	}
	template := caTemplate("Drover intermediate", td, life)
	template.MaxPathLenZero = true
	if template.NotAfter.After(root.NotAfter) {
		template.NotAfter = root.NotAfter
	}
	// A verifier that does not know name constraints must refuse: hence critical.
	template.PermittedDNSDomainsCritical = true
	template.PermittedURIDomains = []string{td}
	template.PermittedDNSDomains = []string{td, "localhost"}
	cert, err := signCA(template, root, key.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	return &issuer{cert: cert, signer: key}, nil
}

func caTemplate(name, td string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: name + " " + td},
		// The trust domain's own URI: it is how a later start knows the domain.
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: td}},
		NotBefore:             now.Add(-maxBackdate),
		NotAfter:              now.Add(life),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func signCA(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func (m *material) load() (*loaded, error) {
	roots, err := m.loadCerts(rootsFile)
	if err != nil {
		return nil, err
	}
	certs, err := m.loadCerts(issuerCertFile)
	if err != nil {
		return nil, err
	}
	cert := certs[0]
	td, err := domainOf(cert)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path(issuerCertFile), err)
	}
	if !signedByOne(cert, roots) {
		return nil, fmt.Errorf("%s is not signed by a root in %s: the files are of different authorities, restore the directory from one backup",
			m.path(issuerCertFile), m.path(rootsFile))
	}
	if now := time.Now(); now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
		m.log.Warn("the intermediate is not valid now: check this machine's clock",
			zap.Time("not_before", cert.NotBefore), zap.Time("not_after", cert.NotAfter))
	}
	// The root key is not needed now, but nobody else may have read it.
	if _, err := identity.ReadPrivate(m.path(rootKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_, signer, err := m.issuerKey(cert)
	if err != nil {
		return nil, err
	}
	return &loaded{roots: roots, issuer: &issuer{cert: cert, signer: signer}, trustDomain: td}, nil
}

// issuerKey finds the key of the intermediate and the file that holds it: the
// old one's if a rotation was interrupted before the new certificate was written.
func (m *material) issuerKey(cert *x509.Certificate) (string, crypto.Signer, error) {
	for _, name := range []string{issuerKeyFile, oldKeyFile} {
		key, err := m.loadKey(name)
		if name == oldKeyFile && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", nil, err
		}
		if identity.Fingerprint(key.Public()) == identity.CertFingerprint(cert) {
			return name, key, nil
		}
	}
	return "", nil, fmt.Errorf("%s is not the key of %s: restore both from one backup", m.path(issuerKeyFile), m.path(issuerCertFile))
}

func (m *material) loadCerts(name string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		return nil, err
	}
	certs, err := identity.ParseCerts(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path(name), err)
	}
	return certs, nil
}

// loadRootKey returns the root key and the root that it belongs to.
func (m *material) loadRootKey(roots []*x509.Certificate) (*x509.Certificate, crypto.Signer, error) {
	key, err := m.loadKey(rootKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("the root key is not here: put %s back for this", m.path(rootKeyFile))
	}
	if err != nil {
		return nil, nil, err
	}
	for _, root := range roots {
		if identity.Fingerprint(key.Public()) == identity.CertFingerprint(root) {
			return root, key, nil
		}
	}
	return nil, nil, fmt.Errorf("%s is not the key of a root in %s", m.path(rootKeyFile), m.path(rootsFile))
}

func (m *material) saveKey(name string, key crypto.Signer) error {
	options := []pemutil.Options{pemutil.WithPKCS8(true)}
	if len(m.password) > 0 {
		options = append(options, pemutil.WithPassword(m.password))
	}
	block, err := pemutil.Serialize(key, options...)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return m.write(m.path(name), pem.EncodeToMemory(block), 0o600)
}

func (m *material) loadKey(name string) (crypto.Signer, error) {
	path := m.path(name)
	text, err := identity.ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: not a PEM file", path)
	}
	der := block.Bytes
	switch block.Type {
	case pemPlainKey:
		if len(m.password) > 0 {
			m.log.Warn("a CA password is set, but the key is not encrypted", zap.String("file", path))
		}
	case pemEncryptedKey:
		// pemutil.Parse would ask on the terminal.
		if len(m.password) == 0 {
			return nil, fmt.Errorf("%s is encrypted: give the CA password", path)
		}
		if der, err = pemutil.DecryptPKCS8PrivateKey(block.Bytes, m.password); err != nil {
			return nil, fmt.Errorf("%s: wrong CA password", path)
		}
	default:
		return nil, fmt.Errorf("%s: PEM block is %q, want %q", path, block.Type, pemPlainKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil && block.Type == pemEncryptedKey {
		// One wrong password in 256 passes the padding check.
		return nil, fmt.Errorf("%s: wrong CA password", path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key", path)
	}
	return key, nil
}

func signedByOne(cert *x509.Certificate, roots []*x509.Certificate) bool {
	for _, root := range roots {
		if cert.CheckSignatureFrom(root) == nil {
			return true
		}
	}
	return false
}

// domainOf returns the trust domain that a CA certificate was made for.
func domainOf(cert *x509.Certificate) (string, error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" {
		return "", errors.New("the certificate names no trust domain: it was not made by Drover")
	}
	return cert.URIs[0].Host, identity.ValidTrustDomain(cert.URIs[0].Host)
}
