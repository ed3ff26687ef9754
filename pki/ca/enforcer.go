// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/drover-io/drover/pki/identity"
)

// ErrOutlivesIssuer: the certificate would end after the intermediate that signs
// it. The intermediate must be rotated first.
var ErrOutlivesIssuer = errors.New("the certificate would outlive the intermediate: rotate the intermediate (this needs the root key)")

// enforcer looks at every certificate just before it is signed. It repeats what
// templates and name constraints should already have made sure of, because those
// are configuration of a foreign library and this is the last line.
type enforcer struct{ ca *CA }

// Enforce implements provisioner.CertificateEnforcer. It changes nothing.
func (e enforcer) Enforce(cert *x509.Certificate) error {
	if cert.NotAfter.After(e.ca.Issuer().NotAfter) {
		return ErrOutlivesIssuer
	}
	if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		return errors.New("refusing to sign: not a plain leaf")
	}
	if len(cert.ExtKeyUsage) != 1 || len(cert.UnknownExtKeyUsage) != 0 {
		return errors.New("refusing to sign: not exactly one extended key usage")
	}
	if len(cert.URIs) != 1 {
		return fmt.Errorf("refusing to sign: %d URIs, want exactly 1", len(cert.URIs))
	}
	if len(cert.EmailAddresses) != 0 {
		return errors.New("refusing to sign: an e-mail address")
	}
	if len(cert.ExtraExtensions) != 0 && !onlyNames(cert) {
		return errors.New("refusing to sign: an extension that was not asked for")
	}
	switch cert.ExtKeyUsage[0] {
	case x509.ExtKeyUsageClientAuth:
		return e.client(cert)
	case x509.ExtKeyUsageServerAuth:
		return e.server(cert)
	case x509.ExtKeyUsageCodeSigning:
		return e.signer(cert)
	}
	return errors.New("refusing to sign: neither for a client nor for a server nor for signing lists")
}

func (e enforcer) signer(cert *x509.Certificate) error {
	if cert.URIs[0].String() != identity.DesiredURI(e.ca.td).String() {
		return errors.New("refusing to sign: a signer of another identity than the desired state's")
	}
	if len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.Subject.Organization) != 0 {
		return errors.New("refusing to sign: a signer with other names than its URI")
	}
	return nil
}

func (e enforcer) client(cert *x509.Certificate) error {
	kind, name, err := identity.ParseClientID(e.ca.td, cert.URIs[0])
	if err != nil {
		return fmt.Errorf("refusing to sign: %w", err)
	}
	if len(cert.DNSNames)+len(cert.IPAddresses) != 0 {
		return errors.New("refusing to sign: a client with a DNS name or IP address")
	}
	if cert.Subject.CommonName != name {
		return errors.New("refusing to sign: common name and identity differ")
	}
	if kind == identity.KindCluster && len(cert.Subject.Organization) != 0 {
		return errors.New("refusing to sign: a cluster with groups")
	}
	return nil
}

func (e enforcer) server(cert *x509.Certificate) error {
	td := e.ca.td
	switch cert.URIs[0].String() {
	case identity.HubURI(td).String():
		if !slices.Equal(cert.DNSNames, []string{identity.HubName(td)}) || len(cert.IPAddresses) != 0 {
			return errors.New("refusing to sign: a hub certificate with other names than the hub's")
		}
		return nil
	case identity.APIURI(td).String():
		if slices.Contains(cert.DNSNames, identity.HubName(td)) {
			return errors.New("refusing to sign: an API certificate with the hub's name")
		}
		return checkAdvertised(cert.DNSNames, td)
	}
	return errors.New("refusing to sign: a server that is neither hub nor api")
}

// onlyNames reports whether the only raw extension is the one of the alternative
// names, which the authority may write itself.
func onlyNames(cert *x509.Certificate) bool {
	for _, ext := range cert.ExtraExtensions {
		if !ext.Id.Equal([]int{2, 5, 29, 17}) {
			return false
		}
	}
	return true
}
