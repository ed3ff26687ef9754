// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openid recognises people by the tokens of OpenID Connect providers, and
// logs them in to the dashboard with one. Which claims make the user and the
// groups is said for each provider; names that begin with "system:" are never
// theirs to give.
package openid

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
	"golang.org/x/oauth2"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/shared/daemon"
)

const (
	// maxToken bounds a provider's token, in bytes. Some list hundreds of groups.
	maxToken = 16 << 10
	// providerTimeout bounds one request to a provider, maxAnswer its answer.
	providerTimeout = 10 * time.Second
	maxAnswer       = 1 << 20
	// retryMost is the longest pause between attempts to reach a provider.
	retryMost = time.Minute
)

// Providers recognises the holders of ID tokens of OpenID Connect providers. A
// provider that is down stops nobody but its own users, and them only when its
// keys are not known or have changed.
type Providers struct {
	providers []*provider
	log       *zap.Logger
}

var _ authenticator.Token = (*Providers)(nil)

// provider is one issuer and what is known of it.
type provider struct {
	Issuer
	client   *http.Client
	secret   string
	keys     *keySet
	verifier *oidc.IDTokenVerifier
	metadata atomic.Pointer[metadata] // nil until it was reached
}

// metadata is what a provider says about itself.
type metadata struct {
	endpoint oauth2.Endpoint
	keysURL  string
}

// New reads the issuers' files. It reaches no provider: they may be down.
func New(issuers Issuers, log *zap.Logger) (*Providers, error) {
	ps := &Providers{log: log}
	for i := range issuers {
		p, err := newProvider(issuers[i])
		if err != nil {
			return nil, fmt.Errorf("oidc[%d].%w", i, err)
		}
		ps.providers = append(ps.providers, p)
	}
	return ps, nil
}

func newProvider(iss Issuer) (*provider, error) {
	p := &provider{Issuer: iss}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxIdleConnsPerHost = 2
	if iss.CAFile != "" {
		text, err := os.ReadFile(iss.CAFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("caFile %s: no certificate in PEM", iss.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if iss.ClientSecretFile != "" {
		text, err := os.ReadFile(iss.ClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("clientSecretFile: %w", err)
		}
		if p.secret = strings.TrimSpace(string(text)); p.secret == "" {
			return nil, fmt.Errorf("clientSecretFile %s: empty", iss.ClientSecretFile)
		}
	}
	p.client = &http.Client{
		Transport: bounded{transport}, Timeout: providerTimeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 3 {
				return errors.New("refused to follow a redirect that is not to https, or the fourth")
			}
			return nil
		},
	}
	p.keys = newKeySet(p.load)
	// Audience and times are checked here, with several audiences and less skew.
	p.verifier = oidc.NewVerifier(iss.IssuerURL, p.keys, &oidc.Config{
		SkipClientIDCheck: true, SkipExpiryCheck: true, SupportedSigningAlgs: signingAlgorithms(),
	})
	return p, nil
}

// bounded limits the size of answers.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// load asks the provider about itself and for its keys.
func (p *provider) load(ctx context.Context) ([]jose.JSONWebKey, error) {
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.IssuerURL)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", p.IssuerURL, err)
	}
	var more struct {
		Keys string `json:"jwks_uri"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, fmt.Errorf("discover %s: %w", p.IssuerURL, err)
	}
	m := &metadata{endpoint: found.Endpoint(), keysURL: more.Keys}
	for name, u := range map[string]string{"jwks_uri": m.keysURL, "token_endpoint": m.endpoint.TokenURL, "authorization_endpoint": m.endpoint.AuthURL} {
		if !strings.HasPrefix(u, "https://") {
			return nil, fmt.Errorf("discover %s: %s %q is not https", p.IssuerURL, name, u)
		}
	}
	keys, err := fetchKeys(ctx, p.client, m.keysURL)
	if err != nil {
		return nil, err
	}
	p.metadata.Store(m)
	return keys, nil
}

// Run keeps the keys of all providers fresh until ctx ends. A provider that is
// down is tried again; tokens signed with known keys work meanwhile.
func (ps *Providers) Run(ctx context.Context) error {
	g := daemon.NewGroup(ctx)
	for _, p := range ps.providers {
		g.Go("oidc "+p.Name, func(ctx context.Context) error { return ps.follow(ctx, p) })
	}
	g.Go("oidc", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	err := g.Wait()
	for _, p := range ps.providers {
		p.client.CloseIdleConnections()
	}
	return err
}

func (ps *Providers) follow(ctx context.Context, p *provider) error {
	log := ps.log.With(zap.String("issuer", p.Name), zap.String("url", p.IssuerURL))
	down := false
	for pause := time.Second; ; {
		err := p.keys.refresh(ctx, 0)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !down:
			down = true
			log.Warn("the identity provider cannot be reached, will try again; tokens signed with keys that are known still work", zap.Error(err))
		case err != nil:
			log.Debug("the identity provider still cannot be reached", zap.Error(err))
		case down:
			down = false
			log.Info("the identity provider is reached again")
		}
		wait := keysEvery
		if err != nil {
			wait = pause
			pause = min(2*pause, retryMost)
		} else {
			pause = time.Second
		}
		if !daemon.Sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// AuthenticateToken implements authenticator.Token. What is no token of a known
// issuer is not recognised, and not an error.
func (ps *Providers) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if len(token) > maxToken {
		return nil, false, fmt.Errorf("the token is longer than %d bytes", maxToken)
	}
	iss, err := unverifiedIssuer(token)
	if err != nil {
		return nil, false, nil
	}
	for _, p := range ps.providers {
		if p.IssuerURL != iss {
			continue
		}
		who, err := p.verify(ctx, token, "", p.audiences(), time.Now())
		if err != nil {
			return nil, false, fmt.Errorf("token of %s: %w", p.Name, err)
		}
		return &authenticator.Response{User: who}, true, nil
	}
	return nil, false, nil
}

var errNotToken = errors.New("not a token of a provider")

// unverifiedIssuer says which provider to ask, and proves nothing.
func unverifiedIssuer(token string) (string, error) {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return "", errNotToken
	}
	payload, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		return "", errNotToken
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &c); err != nil || c.Issuer == "" {
		return "", errNotToken
	}
	return c.Issuer, nil
}

// verify says who a token speaks for. With a nonce the token must be the answer
// to the login that has it.
func (p *provider) verify(ctx context.Context, token, nonce string, audiences []string, now time.Time) (user.Info, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("longer than %d bytes", maxToken)
	}
	id, err := p.verifier.Verify(ctx, token)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "oidc: "))
	}
	if !slices.ContainsFunc(id.Audience, func(a string) bool { return slices.Contains(audiences, a) }) {
		return nil, fmt.Errorf("made for %q, not for this hub", id.Audience)
	}
	if nonce != "" && id.Nonce != nonce {
		return nil, errors.New("not the answer to this login")
	}
	var raw json.RawMessage
	if err := id.Claims(&raw); err != nil {
		return nil, err
	}
	c, err := parseClaims(raw)
	if err != nil {
		return nil, err
	}
	if err := c.checkTimes(now); err != nil {
		return nil, err
	}
	if err := c.checkRequired(p.RequiredClaims); err != nil {
		return nil, err
	}
	return p.user(c)
}
