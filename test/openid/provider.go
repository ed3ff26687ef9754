// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/google/uuid"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
	"golang.org/x/crypto/bcrypt"
)

// account is one user. groups become a claim as the provider's setting says.
type account struct {
	password string
	groups   []string
}

// Clients that the provider knows.
const (
	publicClient       = "drover-cli" // loopback redirects, no secret
	confidentialClient = "drover-hub"
	confidentialSecret = "correct horse battery staple"
	hubCallback        = "/v1/login/callback" // at any address of this machine
)

type provider struct {
	issuer  string
	users   map[string]*account
	oauth   fosite.OAuth2Provider
	store   *storage.MemoryStore
	devices *devices

	mu     sync.Mutex
	keys   []jose.JSONWebKey // private, the newest last; all are published
	groups string            // "array" or "string": form of the claim
}

func newProvider(issuer string, users map[string]*account, life time.Duration) (*provider, error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	hash, err := bcrypt.GenerateFromPassword([]byte(confidentialSecret), bcrypt.MinCost)
	if err != nil {
		return nil, err
	}
	p := &provider{issuer: issuer, users: users, store: storage.NewMemoryStore(), groups: "array"}
	if err := p.rotate(false); err != nil {
		return nil, err
	}
	scopes := fosite.Arguments{"openid", "profile", "email", "groups", "offline_access"}
	p.store.Clients[publicClient] = &fosite.DefaultClient{
		ID: publicClient, Public: true, Scopes: scopes, ResponseTypes: fosite.Arguments{"code"},
		GrantTypes:   fosite.Arguments{"authorization_code", "refresh_token", deviceGrant},
		RedirectURIs: []string{"http://127.0.0.1/callback", "http://[::1]/callback"},
	}
	p.store.Clients[confidentialClient] = &fosite.DefaultClient{
		ID: confidentialClient, Secret: hash, Scopes: scopes, ResponseTypes: fosite.Arguments{"code"},
		GrantTypes: fosite.Arguments{"authorization_code", "refresh_token"},
	}
	cfg := &fosite.Config{
		IDTokenIssuer: issuer, GlobalSecret: secret, EnforcePKCE: true, RefreshTokenScopes: []string{"offline_access"},
		AccessTokenLifespan: life, IDTokenLifespan: life, TokenURL: issuer + "/token", SendDebugMessagesToClients: true,
	}
	key := func(context.Context) (any, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		k := p.keys[len(p.keys)-1]
		return &k, nil
	}
	strategy := &compose.CommonStrategy{
		CoreStrategy:               compose.NewOAuth2HMACStrategy(cfg),
		OpenIDConnectTokenStrategy: compose.NewOpenIDConnectStrategy(key, cfg),
		Signer:                     &jwt.DefaultSigner{GetPrivateKey: key},
	}
	p.devices = newDevices()
	p.oauth = compose.Compose(cfg, p.store, strategy,
		compose.OAuth2AuthorizeExplicitFactory, compose.OAuth2RefreshTokenGrantFactory, p.deviceFactory,
		compose.OpenIDConnectExplicitFactory, compose.OpenIDConnectRefreshFactory,
		compose.OAuth2TokenRevocationFactory, compose.OAuth2PKCEFactory)
	return p, nil
}

// rotate signs with a new key from now on. Old keys stay published, or not.
func (p *provider) rotate(forget bool) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if forget {
		p.keys = nil
	}
	p.keys = append(p.keys, jose.JSONWebKey{Key: key, KeyID: uuid.NewString(), Algorithm: "ES256", Use: "sig"})
	return nil
}

func (p *provider) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": p.issuer, "jwks_uri": p.issuer + "/keys",
			"authorization_endpoint": p.issuer + "/authorize", "token_endpoint": p.issuer + "/token",
			"device_authorization_endpoint": p.issuer + "/device", "revocation_endpoint": p.issuer + "/revoke",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"}, "code_challenge_methods_supported": []string{"S256"},
			"scopes_supported": []string{"openid", "profile", "email", "groups", "offline_access"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var set jose.JSONWebKeySet
		for _, k := range p.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		answer(w, set)
	})
	mux.HandleFunc("/authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		err := p.oauth.NewRevocationRequest(r.Context(), r)
		p.oauth.WriteRevocationResponse(r.Context(), w, err)
	})
	mux.HandleFunc("POST /device", p.device)
	mux.HandleFunc("POST /device/verify", p.verifyDevice)
	// What a test does as the provider's administrator.
	mux.HandleFunc("POST /admin/rotate", func(w http.ResponseWriter, r *http.Request) {
		if err := p.rotate(r.FormValue("forget") == "true"); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /admin/groups", func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.groups = r.FormValue("form")
	})
	mux.HandleFunc("POST /admin/forget", func(w http.ResponseWriter, _ *http.Request) {
		for id := range p.store.RefreshTokenRequestIDs {
			if err := p.store.RevokeRefreshToken(context.Background(), id); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	})
	return mux
}

// authorize logs in with the form's or the query's username and password, since
// nobody is there to fill in a page.
func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if p.adoptCallback(r.FormValue("client_id"), r.FormValue("redirect_uri")) != nil {
		http.Error(w, "redirect_uri: not of the hub", http.StatusBadRequest)
		return
	}
	ar, err := p.oauth.NewAuthorizeRequest(ctx, r)
	if err != nil {
		p.oauth.WriteAuthorizeError(ctx, w, ar, err)
		return
	}
	name := r.FormValue("username")
	u := p.users[name]
	if u == nil || u.password != r.FormValue("password") {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "<form method=post><input name=username><input name=password type=password></form>")
		return
	}
	for _, s := range ar.GetRequestedScopes() {
		ar.GrantScope(s)
	}
	response, err := p.oauth.NewAuthorizeResponse(ctx, ar, p.session(name, u))
	if err != nil {
		p.oauth.WriteAuthorizeError(ctx, w, ar, err)
		return
	}
	p.oauth.WriteAuthorizeResponse(ctx, w, ar, response)
}

// adoptCallback registers the hub's callback: its port is not known before.
func (p *provider) adoptCallback(client, redirect string) error {
	if client != confidentialClient {
		return nil
	}
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "https" || u.Path != hubCallback || !strings.HasPrefix(u.Host, "127.0.0.1:") {
		return fmt.Errorf("redirect_uri %q", redirect)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store.Clients[client].(*fosite.DefaultClient).RedirectURIs = []string{redirect}
	return nil
}

func (p *provider) session(name string, u *account) *openid.DefaultSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	extra := map[string]any{"email": name + "@example.test", "email_verified": true, "preferred_username": name}
	switch p.groups {
	case "string":
		extra["groups"] = u.groups[0]
	default:
		extra["groups"] = u.groups
	}
	now := time.Now().UTC()
	return &openid.DefaultSession{
		Claims: &jwt.IDTokenClaims{
			Issuer: p.issuer, Subject: "id-of-" + name, IssuedAt: now, RequestedAt: now, AuthTime: now, Extra: extra,
		},
		Headers: &jwt.Headers{}, Subject: name, Username: name,
	}
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	request, err := p.oauth.NewAccessRequest(ctx, r, openid.NewDefaultSession())
	if err != nil {
		p.oauth.WriteAccessError(ctx, w, request, err)
		return
	}
	response, err := p.oauth.NewAccessResponse(ctx, request)
	if err != nil {
		p.oauth.WriteAccessError(ctx, w, request, err)
		return
	}
	p.oauth.WriteAccessResponse(ctx, w, request, response)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
