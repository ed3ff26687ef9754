// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"time"

	"github.com/drover-io/drover/pki/identity"
)

// Issued is a signed certificate.
type Issued struct {
	// Leaf is the certificate itself.
	Leaf *x509.Certificate
	// ChainPEM is the leaf, then the intermediate; without the root.
	ChainPEM []byte
	// Serial is decimal, as every serial in this package.
	Serial              string
	NotBefore, NotAfter time.Time
}

// SignAgent signs an agent's key, for a join and for a renewal alike: who may have
// a certificate is for the caller to check. csr is PEM or DER; only its key is
// used, and one that asks for anything but the cluster's name is refused.
func (ca *CA) SignAgent(ctx context.Context, csr []byte, cluster string) (Issued, error) {
	if err := identity.ValidName(cluster); err != nil {
		return Issued{}, fmt.Errorf("sign agent: %w", err)
	}
	request, err := identity.ParseRequest(csr, cluster)
	if err != nil {
		return Issued{}, fmt.Errorf("sign agent %s: %w", cluster, err)
	}
	issued, err := ca.sign(ctx, ca.engine.agents, request, cluster,
		[]string{identity.ClusterURI(ca.td, cluster).String()}, nil)
	if err != nil {
		return Issued{}, fmt.Errorf("sign agent %s: %w", cluster, err)
	}
	return issued, nil
}

// SignUser signs the key of a person or tool. The groups are the caller's word.
func (ca *CA) SignUser(ctx context.Context, csr []byte, name string, groups []string) (Issued, error) {
	if err := identity.ValidUserName(name); err != nil {
		return Issued{}, fmt.Errorf("sign user: %w", err)
	}
	for _, group := range groups {
		if err := identity.ValidGroup(group); err != nil {
			return Issued{}, fmt.Errorf("sign user %s: %w", name, err)
		}
	}
	request, err := identity.ParseRequest(csr, name)
	if err != nil {
		return Issued{}, fmt.Errorf("sign user %s: %w", name, err)
	}
	issued, err := ca.sign(ctx, ca.engine.users, request, name,
		[]string{identity.UserURI(ca.td, name).String()}, groups)
	if err != nil {
		return Issued{}, fmt.Errorf("sign user %s: %w", name, err)
	}
	return issued, nil
}

func (ca *CA) sign(ctx context.Context, t *tokenSigner, csr *x509.CertificateRequest, subject string, sans, groups []string) (Issued, error) {
	chain, err := ca.engine.sign(ctx, t, csr, subject, sans, groups)
	if err != nil {
		return Issued{}, err
	}
	leaf := chain[0]
	return Issued{
		Leaf:      leaf,
		ChainPEM:  identity.MarshalCerts(chain),
		Serial:    leaf.SerialNumber.String(),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
	}, nil
}

// HubCertificate makes a new certificate, with a new key, for the agents' side of
// the port. Its chain is leaf, intermediate, roots: an agent at first contact has
// nothing but a pin, and finds the root in the handshake.
func (ca *CA) HubCertificate(ctx context.Context) (*tls.Certificate, error) {
	name := identity.HubName(ca.td)
	return ca.serverCertificate(ctx, ca.engine.hubs, name, []string{name, identity.HubURI(ca.td).String()})
}

// APICertificate makes a new certificate, with a new key, for the people's side of
// the port.
func (ca *CA) APICertificate(ctx context.Context) (*tls.Certificate, error) {
	name := identity.APIName(ca.td)
	sans := []string{name}
	for _, more := range append([]string{"localhost"}, ca.cfg.AdvertiseDNS...) {
		if more != name && !slices.Contains(sans, more) {
			sans = append(sans, more)
		}
	}
	for _, ip := range ca.cfg.AdvertiseIPs {
		sans = append(sans, ip.String())
	}
	return ca.serverCertificate(ctx, ca.engine.apis, name, append(sans, identity.APIURI(ca.td).String()))
}

func (ca *CA) serverCertificate(ctx context.Context, t *tokenSigner, name string, sans []string) (*tls.Certificate, error) {
	cert, err := ca.leaf(ctx, t, name, sans, time.Time{})
	if err != nil {
		return nil, err
	}
	for _, root := range ca.roots {
		cert.Certificate = append(cert.Certificate, root.Raw)
	}
	return cert, nil
}

// leaf makes a certificate of the hub's own with a new key; its chain is leaf and
// intermediate. It ends at until; zero means at the end of t's life.
func (ca *CA) leaf(ctx context.Context, t *tokenSigner, name string, sans []string, until time.Time) (*tls.Certificate, error) {
	key, err := identity.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	chain, err := ca.engine.signUntil(ctx, t, csr, name, sans, nil, until)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, link := range chain {
		cert.Certificate = append(cert.Certificate, link.Raw)
	}
	return cert, nil
}

func certificates(ders [][]byte) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, 0, len(ders))
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	return out, nil
}
