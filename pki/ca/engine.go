// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"go.step.sm/crypto/jose"

	"github.com/drover-io/drover/pki/identity"
)

// crlLife is how long a revocation list is good; it is renewed at half of that.
const crlLife = 24 * time.Hour

// tokenLife is how long a one-time token can be spent. It never leaves the process.
const tokenLife = time.Minute

// The templates take names from the one-time token, which only this package can
// sign, and the key from the request. Nothing else of a request gets through.
const (
	clientTemplate = `{"subject":{"commonName":{{ toJson .Subject.CommonName }}},` +
		`"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}`
	userTemplate = `{"subject":{"commonName":{{ toJson .Subject.CommonName }},"organization":{{ toJson .Token.groups }}},` +
		`"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["clientAuth"]}`
	serverTemplate = `{"subject":{"commonName":{{ toJson .Subject.CommonName }}},` +
		`"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["serverAuth"]}`
	signerTemplate = `{"subject":{"commonName":{{ toJson .Subject.CommonName }}},` +
		`"sans":{{ toJson .SANs }},"keyUsage":["digitalSignature"],"extKeyUsage":["codeSigning"]}`
)

// engine is the embedded authority with its five provisioners.
type engine struct {
	auth *authority.Authority

	agents, users, hubs, apis, signers *tokenSigner
}

// tokenSigner mints the one-time tokens of one provisioner, with a key that lives
// as long as the process.
type tokenSigner struct {
	name     string
	audience string
	ttl      time.Duration
	signer   jose.Signer
	prov     *provisioner.JWK
}

func (ca *CA) newEngine() (*engine, error) {
	e := &engine{}
	for _, p := range []struct {
		to             **tokenSigner
		name, template string
		ttl            time.Duration
	}{
		{&e.agents, "agents", clientTemplate, ca.cfg.AgentTTL},
		{&e.users, "users", userTemplate, ca.cfg.UserTTL},
		{&e.hubs, "hub-servers", serverTemplate, ca.cfg.ServerTTL},
		{&e.apis, "api-servers", serverTemplate, ca.cfg.ServerTTL},
		{&e.signers, "desired-signers", signerTemplate, signerTTL},
	} {
		signer, err := newTokenSigner(p.name, p.template, ca.td, p.ttl)
		if err != nil {
			return nil, fmt.Errorf("make provisioner %s: %w", p.name, err)
		}
		*p.to = signer
	}
	crl := &config.CRLConfig{
		GenerateOnRevoke: true,
		CacheDuration:    &provisioner.Duration{Duration: crlLife},
		// The extension is critical and has an odd default.
		IDPurl: "https://" + identity.HubName(ca.td) + "/v1/crl",
	}
	cfg := &config.Config{
		DNSNames:   []string{identity.HubName(ca.td)},
		CommonName: "hub",
		CRL:        crl,
		AuthorityConfig: &config.AuthConfig{
			Backdate: &provisioner.Duration{Duration: ca.backdate},
			// The keys of the provisioners are younger than the process, so no older
			// token exists; but a clock set back after the start would stop signing.
			DisableIssuedAtCheck: true,
			Provisioners:         provisioner.List{e.agents.prov, e.users.prov, e.hubs.prov, e.apis.prov, e.signers.prov},
		},
	}
	auth, err := authority.NewEmbedded(
		authority.WithConfig(cfg),
		authority.WithDatabase(ca.store),
		authority.WithX509RootCerts(ca.roots...),
		authority.WithX509IntermediateCerts(ca.Issuer()),
		authority.WithX509SignerFunc(ca.currentIssuer),
		authority.WithX509Enforcers(enforcer{ca}),
		authority.WithQuietInit(),
	)
	if err != nil {
		return nil, fmt.Errorf("start authority: %w", err)
	}
	if err := checkProvisioners(auth, e.agents, e.users, e.hubs, e.apis, e.signers); err != nil {
		return nil, err
	}
	// With the list enabled at the start, the authority would run a ticker of its
	// own that nothing waits for. Run does that work.
	crl.Enabled = true
	e.auth = auth
	return e, nil
}

// checkProvisioners finds those that failed to start: the authority only logs it,
// and signing would fail much later. Its configuration still lists them as healthy;
// only what it serves tells.
func checkProvisioners(auth *authority.Authority, signers ...*tokenSigner) error {
	for _, s := range signers {
		p, err := auth.LoadProvisionerByName(s.name)
		if err != nil {
			return fmt.Errorf("provisioner %s is missing: %w", s.name, plain(err))
		}
		if failed, ok := p.(provisioner.Uninitialized); ok {
			return fmt.Errorf("provisioner %s did not start: %w", s.name, failed.Reason)
		}
	}
	return nil
}

func newTokenSigner(name, template, td string, ttl time.Duration) (*tokenSigner, error) {
	key, err := jose.GenerateJWK("EC", "P-256", jose.ES256, "sig", "", 0)
	if err != nil {
		return nil, err
	}
	public := key.Public()
	if public.KeyID, err = jose.Thumbprint(&public); err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key.Key},
		new(jose.SignerOptions).WithType("JWT").WithHeader("kid", public.KeyID))
	if err != nil {
		return nil, err
	}
	yes := true
	shortest := provisioner.Duration{Duration: time.Second}
	life := provisioner.Duration{Duration: ttl}
	return &tokenSigner{
		name:     name,
		audience: "https://" + identity.HubName(td) + "/1.0/sign",
		ttl:      ttl,
		signer:   signer,
		prov: &provisioner.JWK{
			Type: "JWK",
			Name: name,
			Key:  &public,
			Claims: &provisioner.Claims{
				MinTLSDur: &shortest, MaxTLSDur: &life, DefaultTLSDur: &life,
				DisableRenewal: &yes, DisableSmallstepExtensions: &yes,
			},
			Options: &provisioner.Options{X509: &provisioner.X509Options{Template: template}},
		},
	}, nil
}

// claims are the content of a one-time token.
type claims struct {
	jose.Claims
	SANs         []string          `json:"sans"`
	Confirmation map[string]string `json:"cnf"`
	Groups       []string          `json:"groups,omitempty"`
}

// mint makes the token for one signature of one request.
func (t *tokenSigner) mint(csr *x509.CertificateRequest, subject string, sans, groups []string) (string, error) {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	sum := sha256.Sum256(csr.Raw)
	now := time.Now()
	return jose.Signed(t.signer).Claims(claims{
		Claims: jose.Claims{
			ID:        hex.EncodeToString(id[:]),
			Issuer:    t.name,
			Subject:   subject,
			Audience:  jose.Audience{t.audience},
			IssuedAt:  jose.NewNumericDate(now),
			NotBefore: jose.NewNumericDate(now),
			Expiry:    jose.NewNumericDate(now.Add(tokenLife)),
		},
		SANs:         sans,
		Confirmation: map[string]string{"x5rt#S256": base64.RawURLEncoding.EncodeToString(sum[:])},
		Groups:       groups,
	}).CompactSerialize()
}

// sign mints a token, spends it and signs.
func (e *engine) sign(ctx context.Context, t *tokenSigner, csr *x509.CertificateRequest, subject string, sans, groups []string) ([]*x509.Certificate, error) {
	return e.signUntil(ctx, t, csr, subject, sans, groups, time.Time{})
}

// signUntil is sign for a certificate that ends at a given time; zero means at the
// end of the life that t gives.
func (e *engine) signUntil(ctx context.Context, t *tokenSigner, csr *x509.CertificateRequest, subject string, sans, groups []string, until time.Time) ([]*x509.Certificate, error) {
	token, err := t.mint(csr, subject, sans, groups)
	if err != nil {
		return nil, fmt.Errorf("mint one-time token: %w", err)
	}
	return e.spend(ctx, token, csr, until)
}

// spend signs for a token.
func (e *engine) spend(ctx context.Context, token string, csr *x509.CertificateRequest, until time.Time) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = provisioner.NewContextWithMethod(ctx, provisioner.SignMethod)
	options, err := e.auth.Authorize(ctx, token)
	if err != nil {
		return nil, plain(err)
	}
	wanted := provisioner.SignOptions{}
	if !until.IsZero() {
		wanted.NotAfter = provisioner.NewTimeDuration(until)
	}
	chain, err := e.auth.SignWithContext(ctx, csr, wanted, options...)
	if err != nil {
		return nil, plain(err)
	}
	return chain, nil
}

// plain keeps the text of an authority's error and drops its details, which hold
// the token and the request. What this package itself returned inside stays.
func plain(err error) error {
	for _, own := range []error{ErrOutlivesIssuer, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, own) {
			return own
		}
	}
	return errors.New(err.Error())
}

// currentIssuer is the authority's view of the issuer.
func (ca *CA) currentIssuer() ([]*x509.Certificate, crypto.Signer, error) {
	current := ca.issuer.Load()
	return []*x509.Certificate{current.cert}, current.signer, nil
}
