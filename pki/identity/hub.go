// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Trust is what an agent knows about its hub. Exactly one of Pins (from the join
// token, for the first contact) and Roots (the stored bundle, for ever after) is set.
type Trust struct {
	TrustDomain string
	// Pins are root fingerprints, lower-case hex.
	Pins []string
	// Roots is the bundle that came with the agent's certificate.
	Roots []*x509.Certificate
}

// HubReason says why a server is not the hub.
type HubReason string

// The reasons of a HubError.
const (
	// HubNoTrust: this side has neither pins nor a bundle, or both.
	HubNoTrust HubReason = "noTrust"
	// HubNoCertificate: the server showed none.
	HubNoCertificate HubReason = "noCertificate"
	// HubOtherRoot: the server shows another root than the token or bundle names.
	// Either the address leads to another hub, or someone is in between.
	HubOtherRoot HubReason = "otherRoot"
	// HubNotSigned: the server shows the right root, but its own certificate was
	// not signed under it. Only an attacker or a broken hub does that.
	HubNotSigned HubReason = "notSigned"
	// HubTime: a certificate is not valid now; most often a wrong clock.
	HubTime HubReason = "time"
	// HubNotHub: a genuine certificate of this fleet, but not the hub's.
	HubNotHub HubReason = "notHub"
)

// HubError is the error of VerifyHub.
type HubError struct {
	Reason HubReason
	text   string
	err    error
}

// Error implements error.
func (e *HubError) Error() string { return e.text }

// Unwrap returns the error of crypto/x509, if there is one.
func (e *HubError) Unwrap() error { return e.err }

func hubError(reason HubReason, err error, format string, args ...any) error {
	return &HubError{Reason: reason, text: fmt.Sprintf(format, args...), err: err}
}

// VerifyHub checks that the certificates a server showed, leaf first, are the
// hub's. A chain must be built *to* a pinned root or a root of the bundle: that
// the pinned root is merely among them proves nothing, since it is public.
func VerifyHub(certs []*x509.Certificate, trust Trust, now time.Time) error {
	if err := ValidTrustDomain(trust.TrustDomain); err != nil {
		return hubError(HubNoTrust, err, "check hub: %v", err)
	}
	if (len(trust.Pins) == 0) == (len(trust.Roots) == 0) {
		return hubError(HubNoTrust, nil, "check hub: need either pins of a join token or a stored root bundle")
	}
	if len(certs) == 0 {
		return hubError(HubNoCertificate, nil, "the hub showed no certificate: is the address a Drover hub's?")
	}
	leaf := certs[0]
	roots, known := trustedRoots(certs, trust)
	if !known {
		return otherRoot(certs, trust, nil)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: pool(certs[1:]),
		DNSName:       HubName(trust.TrustDomain),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		CurrentTime:   now,
	})
	if err != nil {
		return explain(certs, trust, now, err)
	}
	if len(chains) == 0 {
		return hubError(HubNotSigned, nil, "the hub's certificate has no chain to a trusted root")
	}
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(leaf.UnknownExtKeyUsage) != 0 || leaf.IsCA {
		return hubError(HubNotHub, nil, "the server's certificate is not a hub's: it is not for server use only")
	}
	uri, err := onlyURI(leaf)
	if err != nil {
		return hubError(HubNotHub, err, "the server's certificate is not a hub's: %v", err)
	}
	if !sameURI(uri, HubURI(trust.TrustDomain)) {
		return hubError(HubNotHub, nil, "the server's certificate is not a hub's: it belongs to %s", shown(uri.String()))
	}
	return nil
}

// trustedRoots returns the roots to build to, and whether the server showed, or
// the bundle holds, any.
func trustedRoots(certs []*x509.Certificate, trust Trust) (*x509.CertPool, bool) {
	if len(trust.Roots) > 0 {
		return pool(trust.Roots), true
	}
	roots, known := x509.NewCertPool(), false
	for _, cert := range certs {
		if cert.IsCA && slices.Contains(trust.Pins, CertFingerprint(cert)) {
			roots.AddCert(cert)
			known = true
		}
	}
	return roots, known
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, cert := range certs {
		p.AddCert(cert)
	}
	return p
}

// explain turns an error of x509.Verify into one that says what to do.
func explain(certs []*x509.Certificate, trust Trust, now time.Time, err error) error {
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return timeError(invalid.Cert, now, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return hubError(HubNotHub, err, "the server's certificate is not a hub's: it is not for server use")
	case errors.As(err, &host):
		return hubError(HubNotHub, err, "the server's certificate is not a hub's: it is not for %s", HubName(trust.TrustDomain))
	case len(trust.Pins) > 0 || showsTrusted(certs, trust):
		return hubError(HubNotSigned, err, "the server shows the right root, but its certificate is not signed under it: someone may be in between (%v)", err)
	}
	return otherRoot(certs, trust, err)
}

func timeError(cert *x509.Certificate, now time.Time, err error) error {
	what := "has ended on " + cert.NotAfter.UTC().Format(time.RFC3339)
	if now.Before(cert.NotBefore) {
		what = "starts on " + cert.NotBefore.UTC().Format(time.RFC3339)
	}
	return hubError(HubTime, err, "the hub's certificate %s and this machine's clock says %s: check this machine's clock",
		what, now.UTC().Format(time.RFC3339))
}

// showsTrusted reports whether the server showed a root of the bundle.
func showsTrusted(certs []*x509.Certificate, trust Trust) bool {
	for _, cert := range certs {
		for _, root := range trust.Roots {
			if cert.Equal(root) {
				return true
			}
		}
	}
	return false
}

func otherRoot(certs []*x509.Certificate, trust Trust, err error) error {
	source, wanted := "token", trust.Pins
	if len(trust.Roots) > 0 {
		source, wanted = "stored bundle", nil
		for _, root := range trust.Roots {
			wanted = append(wanted, CertFingerprint(root))
		}
	}
	var got []string
	for _, cert := range certs {
		if cert.IsCA && cert.CheckSignatureFrom(cert) == nil {
			got = append(got, CertFingerprint(cert))
		}
	}
	shows := "no root"
	if len(got) > 0 {
		shows = "another root (pin " + pinList(got) + ")"
	}
	return hubError(HubOtherRoot, err, "the server shows %s and not the one that the %s names (pin %s): this is not the hub, or someone is in between",
		shows, source, pinList(wanted))
}

// pinList shortens pins for a message: 16 digits are enough to compare by eye.
func pinList(pins []string) string {
	short := make([]string, 0, len(pins))
	for _, pin := range pins {
		short = append(short, pin[:min(16, len(pin))])
		if len(short) == 4 {
			break
		}
	}
	return strings.Join(short, ", ")
}

// ClientOptions are the options of ClientTLS.
type ClientOptions struct {
	Trust
	// Certificate returns what to show: the carrier certificate before the join,
	// the stored one afterwards. Called once a handshake.
	Certificate func() (*tls.Certificate, error)
	// Time is the clock for the check of the hub; nil means time.Now.
	Time func() time.Time
}

// ClientTLS returns the agent's side of TLS towards the hub: version 1.3, HTTP/1.1
// (the websocket needs it), the hub's name whatever the address, and VerifyHub in
// place of the usual check. The caller must not follow redirects.
func ClientTLS(opts ClientOptions) *tls.Config {
	now := opts.Time
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"},
		ServerName: HubName(opts.TrustDomain),
		// crypto/tls cannot pin: it is told to check nothing, and VerifyConnection,
		// which runs on every handshake before any byte is sent, checks everything.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return VerifyHub(state.PeerCertificates, opts.Trust, now())
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if opts.Certificate == nil {
				return &tls.Certificate{}, nil
			}
			return opts.Certificate()
		},
	}
}
