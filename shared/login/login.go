// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package login gets ID tokens of an OpenID Connect provider for somebody at a
// command line: with a browser on the same machine, with one on another (the
// device flow), or by refreshing what was got before.
package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// requestTimeout bounds one request to the provider, maxAnswer its answer in bytes.
const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 1 << 20
)

// Issuer is a provider and the client by which it knows the command line.
type Issuer struct {
	URL      string
	ClientID string
	Scopes   []string
	// CAFile holds the certificates that the provider's must descend from. Empty:
	// the system's.
	CAFile string
}

// Token is what a login gives.
type Token struct {
	IDToken      string    `json:"idToken"`
	RefreshToken string    `json:"refreshToken,omitempty"`
	Expires      time.Time `json:"expires"` // of the ID token
}

// ExpirySkew is how long before its end a token counts as over, so that it does
// not end on its way.
const ExpirySkew = 30 * time.Second

// Valid says whether the ID token can still be used at now.
func (t *Token) Valid(now time.Time) bool {
	return t != nil && t.IDToken != "" && now.Add(ExpirySkew).Before(t.Expires)
}

// ErrLoginNeeded: there is no refresh token, or the provider no longer takes it.
var ErrLoginNeeded = errors.New("nobody is logged in, or the login has ended")

// Client talks to a provider. It reaches it at the first use.
type Client struct {
	issuer   Issuer
	http     *http.Client
	provider *oidc.Provider // nil until discovered
}

// New returns a client of an issuer.
func New(issuer Issuer) (*Client, error) {
	if u, err := url.Parse(issuer.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("issuer %q: want an https URL", issuer.URL)
	}
	if issuer.ClientID == "" {
		return nil, errors.New("client id: missing")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if issuer.CAFile != "" {
		text, err := os.ReadFile(issuer.CAFile)
		if err != nil {
			return nil, fmt.Errorf("issuer's CA: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("issuer's CA %s: no certificate in PEM", issuer.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &Client{issuer: issuer, http: &http.Client{Transport: bounded{transport}, Timeout: requestTimeout}}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// bounded limits the size of answers.
type bounded struct{ next *http.Transport }

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

// CloseIdleConnections lets http.Client close them.
func (b bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

func (c *Client) with(ctx context.Context) context.Context { return oidc.ClientContext(ctx, c.http) }

// config discovers the provider and returns how to talk to it as a public client.
func (c *Client) config(ctx context.Context) (*oauth2.Config, error) {
	if c.provider == nil {
		p, err := oidc.NewProvider(c.with(ctx), c.issuer.URL)
		if err != nil {
			return nil, fmt.Errorf("reach the identity provider: %w", err)
		}
		c.provider = p
	}
	endpoint := c.provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	for _, u := range []string{endpoint.AuthURL, endpoint.TokenURL} {
		if !strings.HasPrefix(u, "https://") {
			return nil, fmt.Errorf("identity provider: endpoint %q is not https", u)
		}
	}
	return &oauth2.Config{ClientID: c.issuer.ClientID, Scopes: c.issuer.Scopes, Endpoint: endpoint}, nil
}

// accept checks the provider's answer. Earlier is the refresh token that it came
// for; a provider that does not rotate them sends none.
func (c *Client) accept(ctx context.Context, answer *oauth2.Token, nonce, earlier string) (*Token, error) {
	raw, _ := answer.Extra("id_token").(string)
	if raw == "" {
		return nil, errors.New("the identity provider answered without an ID token; is openid among the scopes?")
	}
	id, err := c.provider.VerifierContext(c.with(ctx), &oidc.Config{ClientID: c.issuer.ClientID}).Verify(c.with(ctx), raw)
	if err != nil {
		return nil, fmt.Errorf("the identity provider's token: %w", err)
	}
	if nonce != "" && id.Nonce != nonce {
		return nil, errors.New("the identity provider's token is not the answer to this login")
	}
	refresh := answer.RefreshToken
	if refresh == "" {
		refresh = earlier
	}
	return &Token{IDToken: raw, RefreshToken: refresh, Expires: id.Expiry}, nil
}

// Refresh gets a new ID token; ErrLoginNeeded when a person must log in again.
func (c *Client) Refresh(ctx context.Context, t *Token) (*Token, error) {
	if t == nil || t.RefreshToken == "" {
		return nil, ErrLoginNeeded
	}
	cfg, err := c.config(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := cfg.TokenSource(c.with(ctx), &oauth2.Token{RefreshToken: t.RefreshToken}).Token()
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return nil, fmt.Errorf("%w: the identity provider no longer takes the refresh token", ErrLoginNeeded)
	}
	if err != nil {
		return nil, fmt.Errorf("refresh the login: %w", err)
	}
	if answer.Extra("id_token") == nil {
		return nil, fmt.Errorf("%w: the identity provider refreshes no ID tokens", ErrLoginNeeded)
	}
	return c.accept(ctx, answer, "", t.RefreshToken)
}

// Revoke tells the provider that the refresh token is no longer needed. Not all
// providers can be told: then it does nothing.
func (c *Client) Revoke(ctx context.Context, t *Token) error {
	if t == nil || t.RefreshToken == "" {
		return nil
	}
	if _, err := c.config(ctx); err != nil {
		return err
	}
	var more struct {
		Endpoint string `json:"revocation_endpoint"`
	}
	if err := c.provider.Claims(&more); err != nil || !strings.HasPrefix(more.Endpoint, "https://") {
		return nil //nolint:nilerr // it cannot be told
	}
	form := url.Values{"token": {t.RefreshToken}, "token_type_hint": {"refresh_token"}, "client_id": {c.issuer.ClientID}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, more.Endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("revoke the login: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("revoke the login: the identity provider answered %s", resp.Status)
	}
	return nil
}
