// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package login is how people begin and end to be somebody for the hub: sessions
// of the dashboard, by an identity provider or by a one-time link for holders of
// a client certificate, and what the command line needs to log in by itself.
//
//	GET    /v1/login            how one can log in; for anybody
//	POST   /v1/login/issuer     {issuer, returnTo} -> {location}: begin at a provider
//	GET    /v1/login/callback   where the provider sends the browser back
//	POST   /v1/login/link       {returnTo} -> {url, expires}: a one-time link; needs a client certificate
//	POST   /v1/login/code       {code} -> {returnTo}: redeem the link's code
//	GET    /v1/session          who am I; for any credential
//	DELETE /v1/session          log out
//	GET    /login               the page for it
//
// All POST and DELETE need the header X-Drover-Request, and must not come from
// another site. Errors are Kubernetes Status objects.
package login

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/auth/openid"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/live"
)

// Paths that this package serves, for a mux.
const (
	PathLogin   = "/v1/login"
	PathSession = "/v1/session"
	PathPage    = "/login"

	pathIssuer   = PathLogin + "/issuer"
	pathCallback = PathLogin + "/callback"
	pathLink     = PathLogin + "/link"
	pathCode     = PathLogin + "/code"
)

// maxBody bounds requests, maxTrips the logins that wait for a provider at once.
const (
	maxBody  = 8 << 10
	maxTrips = 32
)

// Providers are the identity providers; see openid.Providers.
type Providers interface {
	Issuers() []openid.PublicIssuer
	AuthURL(ctx context.Context, s openid.SignIn, redirect string) (string, error)
	Finish(ctx context.Context, s openid.SignIn, redirect, code string) (user.Info, error)
}

// Sessions are the browsers that are logged in; see auth.Sessions.
type Sessions interface {
	Start(ctx context.Context, who user.Info, facts fleet.SessionSpec, notAfter time.Time) (*fleet.Session, *http.Cookie, error)
	End(ctx context.Context, name string) error
	Ends(name string) time.Time
	CheckOrigin(r *http.Request) error
}

// Auditor keeps the record of logins.
type Auditor interface {
	Record(ctx context.Context, ev *auditv1.Event) error
}

// Config of a Login.
type Config struct {
	Providers Providers
	Sessions  Sessions
	// Authenticator knows all credentials, Certificates only those that may make links.
	Authenticator, Certificates authenticator.Request
	// URLs are those under which browsers reach the hub, the first one preferred.
	URLs    []string
	Auditor Auditor
	Log     *zap.Logger
}

// Login serves the paths. It starts no goroutines.
type Login struct {
	cfg   Config
	links links
	trips chan struct{}
	mux   *http.ServeMux
}

//go:embed pages
var files embed.FS

// New returns a handler for the paths of this package.
func New(cfg Config) (*Login, error) {
	pages, err := fs.Sub(files, "pages")
	if err != nil {
		return nil, err
	}
	l := &Login{cfg: cfg, trips: make(chan struct{}, maxTrips), mux: http.NewServeMux()}
	for pattern, handler := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET " + PathLogin:      l.describe,
		"POST " + pathIssuer:    l.begin,
		"POST " + pathLink:      l.makeLink,
		"POST " + pathCode:      l.redeem,
		"GET " + PathSession:    l.whoami,
		"DELETE " + PathSession: l.logout,
	} {
		l.mux.Handle(pattern, l.answer(handler))
	}
	l.mux.HandleFunc("GET "+pathCallback, l.callback)
	for path, name := range map[string]string{PathPage: "login.html", PathPage + "/login.js": "login.js", PathPage + "/login.css": "login.css"} {
		l.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, pages, name) })
	}
	return l, nil
}

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// ServeHTTP implements http.Handler.
func (l *Login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	l.mux.ServeHTTP(w, r)
}

// answer serves a function whose error is a Status, after the check that a
// request which changes something comes from the hub's own pages, or no page.
func (l *Login) answer(f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		var err error
		for name := range r.Header {
			if strings.HasPrefix(name, "Impersonate-") {
				err = apierrors.NewBadRequest("nobody logs in, or asks who they are, as another: leave " + name + " out")
			}
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if cerr := l.cfg.Sessions.CheckOrigin(r); cerr != nil {
				err = forbidden(cerr.Error())
			}
		}
		if err == nil {
			err = f(w, r)
		}
		if err != nil {
			l.fail(w, r, err)
		}
	})
}

func (l *Login) fail(w http.ResponseWriter, r *http.Request, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		l.cfg.Log.Error("a login request failed", zap.String("path", r.URL.Path), zap.Error(err))
		status = apierrors.NewInternalError(errors.New("the hub's log has the details"))
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(s.Details.RetryAfterSeconds))
	}
	respond(w, int(s.Code), s)
}

// respond writes JSON. A client that went away needs no answer.
func respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func forbidden(text string) error {
	err := apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(text))
	err.ErrStatus.Message = text
	return err
}

func read(r *http.Request, into any) error {
	if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); ct != "application/json" {
		return apierrors.NewBadRequest("want Content-Type application/json")
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return apierrors.NewBadRequest("cannot read the body: " + err.Error())
	}
	return nil
}

// Description is the answer of GET /v1/login.
type Description struct {
	Issuers []openid.PublicIssuer `json:"issuers"`
}

func (l *Login) describe(w http.ResponseWriter, _ *http.Request) error {
	respond(w, http.StatusOK, Description{l.cfg.Providers.Issuers()})
	return nil
}

// Identity is the answer of GET /v1/session.
type Identity = live.Identity

func (l *Login) who(r *http.Request) (user.Info, error) {
	who, ok, err := l.cfg.Authenticator.AuthenticateRequest(r)
	switch {
	case err != nil:
		return nil, apierrors.NewUnauthorized("Unauthorized: " + err.Error())
	case !ok || who == nil || who.User == nil:
		return nil, apierrors.NewUnauthorized("Unauthorized: not logged in")
	}
	return who.User, nil
}

func (l *Login) whoami(w http.ResponseWriter, r *http.Request) error {
	who, err := l.who(r)
	if err != nil {
		return err
	}
	out := Identity{User: who.GetName(), Groups: who.GetGroups(), Extra: who.GetExtra(), Session: sessionOf(who)}
	if at := l.cfg.Sessions.Ends(out.Session); !at.IsZero() {
		out.Expires = &at
	}
	respond(w, http.StatusOK, out)
	return nil
}

func sessionOf(who user.Info) string {
	if names := who.GetExtra()[auth.ExtraSession]; len(names) == 1 {
		return names[0]
	}
	return ""
}

// logout forgets the cookie whether or not it was still good.
func (l *Login) logout(w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, auth.EndCookie())
	who, err := l.who(r)
	if err != nil {
		return err
	}
	name := sessionOf(who)
	if name == "" {
		return apierrors.NewBadRequest("this credential is no session: there is nothing to log out of")
	}
	if err := l.cfg.Sessions.End(r.Context(), name); err != nil {
		return err
	}
	if err := l.record(r, event{verb: "delete", who: who, session: name, code: http.StatusOK}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// local is a path of the hub to go to after the login, "/" for any other text:
// nobody is sent to another site.
func local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") ||
		strings.ContainsAny(path, "\\\r\n\t") || len(path) > 1024 || strings.HasPrefix(u.Path, PathLogin) || u.Path == PathPage {
		return "/"
	}
	return path
}
