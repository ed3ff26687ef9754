// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/auth/openid"
	"github.com/drover-io/drover/hub/login"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// principals are the ways to be somebody for the hub.
type principals struct {
	tokens      *auth.AccessTokens
	sessions    *auth.Sessions
	issuers     *openid.Providers
	credentials *auth.Credentials // all of them
	login       *login.Login
}

func (h *Hub) identify(p *parts, restoredAt time.Time) (*principals, error) {
	issuers, err := openid.New(h.cfg.OIDC, h.log.Named("oidc"))
	if err != nil {
		return nil, err
	}
	id := &principals{
		issuers: issuers, tokens: auth.NewAccessTokens(p.store, h.log.Named("tokens")),
		sessions: auth.NewSessions(auth.SessionConfig{
			Store: p.store, Idle: h.cfg.SessionIdle, Life: h.cfg.SessionLife, RestoredAt: restoredAt, Log: h.log.Named("sessions"),
		}),
	}
	log := h.log.Named("login")
	certificates := auth.ClientCertificate(rootPool(p.ca), p.ca.TrustDomain())
	id.credentials = &auth.Credentials{
		Certificates: certificates, Tokens: []authenticator.Token{id.tokens, issuers}, Sessions: id.sessions,
		Refused: login.RecordRefused(p.audit, log),
	}
	id.login, err = login.New(login.Config{
		Providers: issuers, Sessions: id.sessions, Authenticator: id.credentials, Certificates: certificates,
		URLs: p.urls, Auditor: p.audit, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if len(h.cfg.OIDC) > 0 {
		h.log.Info("identity providers are configured", zap.Int("count", len(h.cfg.OIDC)))
	}
	return id, nil
}

// admitAccessToken makes the secret of a new token. Whether the creator may make
// it was checked before; see permissions.accessToken.
func admitAccessToken(_ context.Context, r *api.Admission) error {
	switch r.Operation {
	case api.UpdateStatus:
		return hubsOwn("accesstokens", "status")
	case api.Create:
	default:
		return nil
	}
	var t fleet.AccessToken
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object, &t); err != nil {
		return err
	}
	text, err := auth.PrepareAccessToken(&t, r.User.GetName(), time.Now())
	if err != nil {
		return err
	}
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&t.Status)
	if err != nil {
		return err
	}
	r.Object["status"] = status
	if !r.DryRun && r.Reveal != nil {
		r.Reveal([]string{"status", "token"}, text)
	}
	return nil
}

func admitSession(_ context.Context, r *api.Admission) error {
	switch r.Operation {
	case api.Create:
		return hubsOwn("sessions", "a Session is made by a login; it")
	case api.Update, api.UpdateStatus:
		return hubsOwn("sessions", "a Session cannot be changed, only deleted; it")
	}
	return nil
}

// accessToken: nobody makes a token for more than they are or may impersonate.
// Who is only a token themselves must be permitted to impersonate even their own
// user: else a token that leaked could outlive itself.
func (p *permissions) accessToken(ctx context.Context, r *api.Admission) error {
	if r.Operation != api.Create {
		return nil
	}
	name, _ := at(r.Object, "spec", "user").(string)
	list, _ := at(r.Object, "spec", "groups").([]any)
	byToken := len(r.User.GetExtra()[auth.ExtraAccessToken]) > 0
	core := func(resource string) schema.GroupResource { return schema.GroupResource{Resource: resource} }
	if byToken || name != r.User.GetName() {
		if err := p.impersonate(ctx, r, core("users"), name, "spec.user"); err != nil {
			return err
		}
	}
	for i, v := range list {
		group, _ := v.(string)
		// Groups are those of the user who asks, not of the one who is named.
		if !byToken && name == r.User.GetName() && slices.Contains(r.User.GetGroups(), group) {
			continue
		}
		if err := p.impersonate(ctx, r, core("groups"), group, fmt.Sprintf("spec.groups[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *permissions) impersonate(ctx context.Context, r *api.Admission, resource schema.GroupResource, name, what string) error {
	ok, err := p.may(ctx, r.User, auth.VerbImpersonate, resource, "", name)
	if err != nil || ok {
		return err
	}
	return apierrors.NewForbidden(fleetResource("accesstokens"), nameIn(r.Object), fmt.Errorf(
		"%s: User %q may not impersonate %s %q, and nobody makes a token for more than that", what, r.User.GetName(), resource.Resource, name))
}
