// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"
)

const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
	pemRequest     = "CERTIFICATE REQUEST"

	// CarrierName is the common name of a carrier certificate.
	CarrierName = "join"
)

// GenerateKey makes a P-256 key.
func GenerateKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// Fingerprint is the SHA-256 of the key's SubjectPublicKeyInfo in lower-case hex:
// what an operator compares, and what a token pins. It is empty for a key of a
// kind that crypto/x509 cannot write; an empty fingerprint equals no pin.
func Fingerprint(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	return fingerprint(der)
}

// CertFingerprint is the Fingerprint of the certificate's key.
func CertFingerprint(cert *x509.Certificate) string { return fingerprint(cert.RawSubjectPublicKeyInfo) }

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// MarshalKey returns the key as PKCS#8 PEM.
func MarshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// ParseKey reads what MarshalKey wrote.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, errors.New("no PEM block " + pemKey)
	}
	return parseKeyDER(block.Bytes)
}

func parseKeyDER(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("not a PKCS#8 key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key")
	}
	return key, nil
}

// SaveKey writes the key to path with mode 0600, whole or not at all.
func SaveKey(path string, key *ecdsa.PrivateKey) error {
	text, err := MarshalKey(key)
	if err != nil {
		return err
	}
	return writeFile(path, text, 0o600, noSteps)
}

// LoadKey reads a key file. A file that others can read is refused.
func LoadKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return key, nil
}

// ReadPrivate reads a file that only its owner may read, and refuses one that
// others can: its content has to be taken as known to them.
func ReadPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func checkPrivate(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s: mode %04o, want 0600 (chmod 600 it; replace the key if others may have read it)", path, mode)
	}
	return nil
}

// NewRequest returns a PEM certificate request for the key. Its only content is
// the cluster name as common name: the hub takes the key from it and nothing else.
func NewRequest(key crypto.Signer, cluster string) ([]byte, error) {
	if err := ValidName(cluster); err != nil {
		return nil, err
	}
	return newRequest(key, cluster)
}

// NewUserRequest is NewRequest for a user.
func NewUserRequest(key crypto.Signer, user string) ([]byte, error) {
	if err := ValidUserName(user); err != nil {
		return nil, err
	}
	return newRequest(key, user)
}

func newRequest(key crypto.Signer, name string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), nil
}

// ParseRequest reads a certificate request, PEM or DER, checks that its sender
// holds the key, and that it asks for nothing but the name: any other common name
// and any alternative name is refused here, so that a request which could never
// be signed is not shown for approval.
func ParseRequest(text []byte, name string) (*x509.CertificateRequest, error) {
	der := text
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != pemRequest {
			return nil, fmt.Errorf("certificate request: PEM block is %s, want %s", shown(block.Type), pemRequest)
		}
		der = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errors.New("certificate request: cannot be parsed")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("certificate request: not signed by its own key")
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("certificate request: key is not P-256")
	}
	if csr.Subject.CommonName != name {
		return nil, fmt.Errorf("certificate request: common name is %s, want %s", shown(csr.Subject.CommonName), shown(name))
	}
	if len(csr.Subject.Names) != 1 {
		return nil, errors.New("certificate request: the subject has more than a common name")
	}
	if len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses)+len(csr.URIs) != 0 {
		return nil, errors.New("certificate request: must not ask for alternative names")
	}
	return csr, nil
}

// Carrier returns the self-signed certificate that carries a key through TLS
// before the hub has signed one. It is valid from 1970 to 2242, so joining does
// not depend on the clock.
func Carrier(key crypto.Signer) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: CarrierName},
		NotBefore:    time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2242, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create carrier certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("create carrier certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// MarshalCerts returns the certificates as PEM, in order.
func MarshalCerts(certs []*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})...)
	}
	return text
}

// ParseCerts reads one or more PEM certificates and refuses any other block.
func ParseCerts(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("PEM block is %s, want %s", shown(block.Type), pemCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block " + pemCertificate)
	}
	return certs, nil
}
