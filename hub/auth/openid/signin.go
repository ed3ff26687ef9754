// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"k8s.io/apiserver/pkg/authentication/user"
)

// PublicIssuer is what a client needs to log in with a provider; none of it is
// secret.
type PublicIssuer struct {
	Name      string `json:"name"`
	IssuerURL string `json:"issuerURL"`
	// ClientID and Scopes are for the command line. Without a ClientID only the
	// dashboard can be logged in to.
	ClientID string   `json:"clientID,omitempty"`
	Scopes   []string `json:"scopes"`
	// Dashboard says whether the dashboard can be logged in to.
	Dashboard bool `json:"dashboard"`
}

// Issuers are the providers, in the order of the options.
func (ps *Providers) Issuers() []PublicIssuer {
	out := make([]PublicIssuer, 0, len(ps.providers))
	for _, p := range ps.providers {
		out = append(out, PublicIssuer{
			Name: p.Name, IssuerURL: p.IssuerURL, ClientID: p.cliClientID(), Scopes: p.scopes(), Dashboard: p.ClientID != "",
		})
	}
	return out
}

// ErrNoIssuer: there is no provider of that name, or none for the dashboard.
var ErrNoIssuer = errors.New("no such identity provider")

// SignIn is one login to the dashboard under way: the authorization code flow with
// PKCE. Its holder keeps it until the provider sends the user back.
type SignIn struct {
	Issuer   string `json:"i"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
}

// AuthURL is where the user's browser must go, and be sent back to redirect from.
func (ps *Providers) AuthURL(ctx context.Context, s SignIn, redirect string) (string, error) {
	p, m, err := ps.reach(ctx, s.Issuer)
	if err != nil {
		return "", err
	}
	return p.config(m, redirect).AuthCodeURL(s.State, oidc.Nonce(s.Nonce), oauth2.S256ChallengeOption(s.Verifier)), nil
}

// Finish exchanges the provider's code and says who logged in.
func (ps *Providers) Finish(ctx context.Context, s SignIn, redirect, code string) (user.Info, error) {
	p, m, err := ps.reach(ctx, s.Issuer)
	if err != nil {
		return nil, err
	}
	token, err := p.config(m, redirect).Exchange(context.WithValue(ctx, oauth2.HTTPClient, p.client), code, oauth2.VerifierOption(s.Verifier))
	if err != nil {
		return nil, fmt.Errorf("exchange the code at %s: %w", p.Name, err)
	}
	id, _ := token.Extra("id_token").(string)
	if id == "" {
		return nil, fmt.Errorf("%s answered without an ID token", p.Name)
	}
	who, err := p.verify(ctx, id, s.Nonce, []string{p.ClientID}, time.Now())
	if err != nil {
		return nil, fmt.Errorf("token of %s: %w", p.Name, err)
	}
	return who, nil
}

// reach returns a provider for the dashboard, which it may have to ask about itself first.
func (ps *Providers) reach(ctx context.Context, name string) (*provider, *metadata, error) {
	for _, p := range ps.providers {
		if p.Name != name || p.ClientID == "" {
			continue
		}
		if m := p.metadata.Load(); m != nil {
			return p, m, nil
		}
		if err := p.keys.refresh(ctx, keysPause); err != nil {
			return nil, nil, fmt.Errorf("the identity provider %s cannot be reached: %w", name, err)
		}
		return p, p.metadata.Load(), nil
	}
	return nil, nil, ErrNoIssuer
}

// config leaves out offline_access: the hub keeps no provider's tokens.
func (p *provider) config(m *metadata, redirect string) *oauth2.Config {
	var scopes []string
	for _, s := range p.scopes() {
		if s != oidc.ScopeOfflineAccess {
			scopes = append(scopes, s)
		}
	}
	endpoint := m.endpoint
	if p.secret == "" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client has nothing to put into a header
	}
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.secret, Endpoint: endpoint, RedirectURL: redirect, Scopes: scopes}
}
