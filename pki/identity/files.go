// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The files of an agent. Key and chain are one file because a rename replaces one
// file: no crash can leave the key of one certificate beside the chain of another.
const (
	credentialFile = "credential.pem"
	pendingFile    = "pending.key"
	rootsFile      = "roots.pem"
)

// ErrNoCredential: the agent has not joined yet.
var ErrNoCredential = errors.New("no credential: this agent has not joined a hub")

// Credential is what an agent shows, and what it trusts.
type Credential struct {
	Key *ecdsa.PrivateKey
	// Chain is the leaf, then its issuers without the root.
	Chain []*x509.Certificate
	// Roots is the hub's bundle.
	Roots []*x509.Certificate
}

// Leaf returns the agent's own certificate.
func (c *Credential) Leaf() *x509.Certificate { return c.Chain[0] }

// ClusterID returns trust domain and name of the identity.
func (c *Credential) ClusterID() (td, name string, err error) {
	uri, err := onlyURI(c.Leaf())
	if err != nil {
		return "", "", err
	}
	name, err = ParseClusterID(uri.Host, uri)
	return uri.Host, name, err
}

// TLSCertificate returns the credential in the form of crypto/tls.
func (c *Credential) TLSCertificate() *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: c.Key, Leaf: c.Leaf()}
	for _, link := range c.Chain {
		cert.Certificate = append(cert.Certificate, link.Raw)
	}
	return cert
}

// Files keeps an agent's credential in a directory. It is safe against a crash at
// any moment: what Load returned before, it still returns, or the new credential.
// One process at a time may write.
type Files struct {
	dir  string
	step stepFunc
}

// NewFiles returns the files in dir. Nothing is read or made.
func NewFiles(dir string) *Files { return &Files{dir: dir, step: noSteps} }

// Load returns the credential, or ErrNoCredential.
func (f *Files) Load() (*Credential, error) {
	path := filepath.Join(f.dir, credentialFile)
	text, err := ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoCredential
	}
	if err != nil {
		return nil, fmt.Errorf("read credential: %w", err)
	}
	c, err := parsePair(text)
	if err != nil {
		return nil, fmt.Errorf("read credential %s: %w", path, err)
	}
	c.Roots, err = f.roots()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (f *Files) roots() ([]*x509.Certificate, error) {
	path := filepath.Join(f.dir, rootsFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	roots, err := ParseCerts(text)
	if err != nil {
		return nil, fmt.Errorf("read roots %s: %w", path, err)
	}
	return roots, nil
}

// PendingKey returns the key to send in the next request: the one that an earlier,
// unanswered request sent, or else a new one. It is on disk before it is returned,
// so an answer that comes after a crash still has its key.
func (f *Files) PendingKey() (*ecdsa.PrivateKey, error) {
	path := filepath.Join(f.dir, pendingFile)
	key, err := LoadKey(path)
	switch {
	case err == nil:
		current, err := f.Load()
		if err == nil && current.Key.Equal(key) {
			// A crash came between Install and the removal: this key is in use,
			// and every certificate has a key of its own.
			break
		}
		return key, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read pending key: %w", err)
	}
	key, err = GenerateKey()
	if err != nil {
		return nil, err
	}
	text, err := MarshalKey(key)
	if err != nil {
		return nil, err
	}
	if err := f.makeDir(); err != nil {
		return nil, err
	}
	if err := writeFile(path, text, 0o600, f.step); err != nil {
		return nil, fmt.Errorf("write pending key: %w", err)
	}
	return key, nil
}

// DropPending forgets the pending key, after the hub denied its request.
func (f *Files) DropPending() error {
	err := os.Remove(filepath.Join(f.dir, pendingFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove pending key: %w", err)
	}
	return nil
}

// Install makes chain and roots, the hub's PEM answer for the pending key, the
// credential. The chain must be for the pending key and lead to one of the roots.
func (f *Files) Install(chainPEM, rootsPEM []byte) (*Credential, error) {
	key, err := LoadKey(filepath.Join(f.dir, pendingFile))
	if err != nil {
		return nil, fmt.Errorf("install certificate: read pending key: %w", err)
	}
	c := &Credential{Key: key}
	if c.Chain, err = ParseCerts(chainPEM); err != nil {
		return nil, fmt.Errorf("install certificate: chain: %w", err)
	}
	if c.Roots, err = ParseCerts(rootsPEM); err != nil {
		return nil, fmt.Errorf("install certificate: roots: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("install certificate: %w", err)
	}
	text, err := marshalPair(c)
	if err != nil {
		return nil, err
	}
	// The roots come first: the new bundle also holds every root that the old
	// credential needs, while the new one may need a root that the old bundle lacks.
	if err := f.SetRoots(c.Roots); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(f.dir, credentialFile), text, 0o600, f.step); err != nil {
		return nil, fmt.Errorf("write credential: %w", err)
	}
	if err := f.step("remove pending key"); err != nil {
		return nil, err
	}
	if err := f.DropPending(); err != nil {
		return nil, err
	}
	return c, nil
}

// SetRoots replaces the bundle, as during a root rotation.
func (f *Files) SetRoots(roots []*x509.Certificate) error {
	if len(roots) == 0 {
		return errors.New("write roots: the bundle is empty")
	}
	if err := f.makeDir(); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(f.dir, rootsFile), MarshalCerts(roots), 0o644, f.step); err != nil {
		return fmt.Errorf("write roots: %w", err)
	}
	return nil
}

// Remove deletes the credential, the pending key and the bundle, for an agent
// that leaves. The key goes first.
func (f *Files) Remove() error {
	for _, name := range []string{credentialFile, pendingFile, rootsFile} {
		err := os.Remove(filepath.Join(f.dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove credential: %w", err)
		}
	}
	return nil
}

func (f *Files) makeDir() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make credential directory: %w", err)
	}
	return nil
}

// check reports whether key, chain and roots belong together.
func (c *Credential) check() error {
	if !c.Key.PublicKey.Equal(c.Leaf().PublicKey) {
		return errors.New("the certificate is for another key")
	}
	if _, _, err := c.ClusterID(); err != nil {
		return err
	}
	_, err := c.Leaf().Verify(x509.VerifyOptions{
		Roots:         pool(c.Roots),
		Intermediates: pool(c.Chain[1:]),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		// Only who signed it matters here: with a wrong clock the agent must still
		// store what it got, or it would ask again for ever.
		CurrentTime: middle(c.Leaf()),
	})
	if err != nil {
		return fmt.Errorf("the certificate does not lead to the roots that came with it: %w", err)
	}
	return nil
}

func middle(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
}

func marshalPair(c *Credential) ([]byte, error) {
	text, err := MarshalKey(c.Key)
	if err != nil {
		return nil, err
	}
	return append(text, MarshalCerts(c.Chain)...), nil
}

func parsePair(text []byte) (*Credential, error) {
	block, rest := pem.Decode(bytes.TrimSpace(text))
	if block == nil || block.Type != pemKey {
		return nil, errors.New("the first PEM block is not " + pemKey)
	}
	key, err := parseKeyDER(block.Bytes)
	if err != nil {
		return nil, err
	}
	chain, err := ParseCerts(rest)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	return &Credential{Key: key, Chain: chain}, nil
}
