// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
)

// The device flow of RFC 8628, as a grant of fosite: this version of the library
// has none. The tokens are made by the library, as in the other flows.

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// pollEvery is what the provider asks clients for, in seconds; tests wait for it.
const pollEvery = 1

// Errors of RFC 8628 that the library does not know.
func errPending() *fosite.RFC6749Error {
	return &fosite.RFC6749Error{ErrorField: "authorization_pending", DescriptionField: "The user has not decided yet.", CodeField: http.StatusBadRequest}
}

func errExpired() *fosite.RFC6749Error {
	return &fosite.RFC6749Error{ErrorField: "expired_token", DescriptionField: "The device code is not known, used or expired.", CodeField: http.StatusBadRequest}
}

// pending is one device that waits.
type pending struct {
	userCode, client string
	scopes           []string
	expires          time.Time
	denied           bool
	session          *openid.DefaultSession // nil until the user decided
}

type devices struct {
	mu  sync.Mutex
	all map[string]*pending // by device code
}

func newDevices() *devices { return &devices{all: map[string]*pending{}} }

func (p *provider) device(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("client_id") != publicClient {
		w.WriteHeader(http.StatusUnauthorized)
		answer(w, map[string]any{"error": "invalid_client"})
		return
	}
	code, text := rand.Text(), rand.Text()
	user := text[:4] + "-" + text[4:8]
	p.devices.mu.Lock()
	p.devices.all[code] = &pending{
		userCode: user, client: publicClient, scopes: strings.Fields(r.FormValue("scope")), expires: time.Now().Add(time.Minute),
	}
	p.devices.mu.Unlock()
	answer(w, map[string]any{
		"device_code": code, "user_code": user, "verification_uri": p.issuer + "/device/verify", "expires_in": 60, "interval": pollEvery,
	})
}

// verifyDevice is the user at the page, with code, username, password and, to
// refuse, deny=true.
func (p *provider) verifyDevice(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("username")
	u := p.users[name]
	if u == nil || u.password != r.FormValue("password") {
		http.Error(w, "wrong name or password", http.StatusUnauthorized)
		return
	}
	session := p.session(name, u)
	p.devices.mu.Lock()
	defer p.devices.mu.Unlock()
	for _, d := range p.devices.all {
		if d.userCode == r.FormValue("user_code") && time.Now().Before(d.expires) {
			d.denied, d.session = r.FormValue("deny") == "true", session
			return
		}
	}
	http.Error(w, "no such code", http.StatusNotFound)
}

// deviceHandler is the grant at the token endpoint.
type deviceHandler struct {
	devices  *devices
	strategy *compose.CommonStrategy
	config   *fosite.Config
	store    interface {
		CreateAccessTokenSession(ctx context.Context, signature string, request fosite.Requester) error
		CreateRefreshTokenSession(ctx context.Context, signature, access string, request fosite.Requester) error
	}
}

var _ fosite.TokenEndpointHandler = (*deviceHandler)(nil)

func (p *provider) deviceFactory(config fosite.Configurator, _, strategy any) any {
	return &deviceHandler{devices: p.devices, strategy: strategy.(*compose.CommonStrategy), config: config.(*fosite.Config), store: p.store}
}

func (h *deviceHandler) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

func (h *deviceHandler) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(deviceGrant)
}

func (h *deviceHandler) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	code := r.GetRequestForm().Get("device_code")
	h.devices.mu.Lock()
	defer h.devices.mu.Unlock()
	d := h.devices.all[code]
	switch {
	case d == nil || time.Now().After(d.expires) || d.client != r.GetClient().GetID():
		return errExpired()
	case d.denied:
		return fosite.ErrAccessDenied
	case d.session == nil:
		return errPending()
	}
	delete(h.devices.all, code)
	for _, s := range d.scopes {
		r.GrantScope(s)
	}
	d.session.SetExpiresAt(fosite.AccessToken, time.Now().UTC().Add(h.config.GetAccessTokenLifespan(ctx)))
	d.session.SetExpiresAt(fosite.RefreshToken, time.Now().UTC().Add(h.config.GetRefreshTokenLifespan(ctx)))
	r.SetSession(d.session)
	return nil
}

func (h *deviceHandler) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, w fosite.AccessResponder) error {
	token, signature, err := h.strategy.GenerateAccessToken(ctx, r)
	if err != nil {
		return err
	}
	if err := h.store.CreateAccessTokenSession(ctx, signature, r.Sanitize(nil)); err != nil {
		return err
	}
	w.SetAccessToken(token)
	w.SetTokenType("bearer")
	w.SetExpiresIn(h.config.GetAccessTokenLifespan(ctx))
	w.SetScopes(r.GetGrantedScopes())
	if r.GetGrantedScopes().Has("offline_access") {
		refresh, refreshSignature, err := h.strategy.GenerateRefreshToken(ctx, r)
		if err != nil {
			return err
		}
		if err := h.store.CreateRefreshTokenSession(ctx, refreshSignature, signature, r.Sanitize(nil)); err != nil {
			return err
		}
		w.SetExtra("refresh_token", refresh)
	}
	claims := r.GetSession().(*openid.DefaultSession).IDTokenClaims()
	claims.Audience = []string{r.GetClient().GetID()}
	id, err := h.strategy.GenerateIDToken(ctx, h.config.GetIDTokenLifespan(ctx), r)
	if err != nil {
		return err
	}
	w.SetExtra("id_token", id)
	return nil
}
