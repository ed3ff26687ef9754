// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
	"github.com/drover-io/drover/hub/auth/openid"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/": "/", "/clusters?x=1#y": "/clusters?x=1#y", "": "/", "clusters": "/", "//evil": "/", "https://evil": "/", `/\evil`: "/", "/a\nb": "/",
		"javascript:alert(1)": "/", "/login": "/", "/v1/login/callback?code=x": "/", "/" + strings.Repeat("a", 2000): "/", "\t//evil": "/", "/%2f/evil": "/%2f/evil",
	} {
		if got := local(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	var l links
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	add := func() string {
		code, ok := l.add(link{expires: now.Add(linkLife)}, now)
		if !ok {
			t.Fatal("too many")
		}
		return code
	}
	a, b, c := add(), add(), add()
	var wg sync.WaitGroup
	won := make(chan bool, 20)
	for range 20 {
		wg.Go(func() { _, ok := l.take(a, now); won <- ok })
	}
	wg.Wait()
	winners := 0
	for range 20 {
		if <-won {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d redeemed one link", winners)
	}
	if _, ok := l.take(b, now.Add(linkLife)); ok {
		t.Error("a link outlived its minute")
	}
	if _, ok := l.take(c, now.Add(linkLife-time.Second)); !ok {
		t.Error("a link ended early")
	}
	for range maxLinks {
		add()
	}
	if _, ok := l.add(link{expires: now.Add(linkLife)}, now); ok {
		t.Error("one more than most")
	}
	if _, ok := l.add(link{expires: now.Add(2 * linkLife)}, now.Add(linkLife)); !ok {
		t.Error("links that are over still take a place")
	}
}

func FuzzTrip(f *testing.F) {
	good := trip{SignIn: openid.SignIn{Issuer: "corp", State: "s", Nonce: "n", Verifier: "v"}, ReturnTo: "/", Started: 100}
	c, err := good.cookie()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Value, "s")
	f.Add("e30", "")
	f.Fuzz(func(t *testing.T, value, state string) {
		got, err := parseTrip(value, state, time.Unix(160, 0))
		if err == nil && (got.State != state || state == "" || got.Verifier == "" || got.Nonce == "") {
			t.Errorf("%+v for state %q", got, state)
		}
		if value == c.Value && state == "s" && (err != nil || got != good) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestParseTripAge(t *testing.T) {
	t.Parallel()
	c, err := trip{SignIn: openid.SignIn{State: "s", Nonce: "n", Verifier: "v"}, Started: 1000}.cookie()
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]bool{1000: true, 1600: true, 1601: false, 900: false} {
		if _, err := parseTrip(c.Value, "s", time.Unix(at, 0)); (err == nil) != want {
			t.Errorf("at %d: %v", at, err)
		}
	}
}

// fakes: what stands behind Login has tests of its own, and all of it together in
// test/signin. Here are the cases that a real provider or store does not make.
type fakes struct {
	mu       sync.Mutex
	events   []*auditv1.Event
	auditErr error
	ended    []string
}

func (f *fakes) Record(_ context.Context, ev *auditv1.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, ev)
	return f.auditErr
}

func (f *fakes) Issuers() []openid.PublicIssuer { return []openid.PublicIssuer{{Name: "corp"}} }
func (f *fakes) AuthURL(context.Context, openid.SignIn, string) (string, error) {
	return "", errors.New("dial tcp 10.0.0.1: refused")
}

func (f *fakes) Finish(context.Context, openid.SignIn, string, string) (user.Info, error) {
	return nil, errors.New("wrong nonce")
}

func (f *fakes) Start(_ context.Context, who user.Info, _ fleet.SessionSpec, _ time.Time) (*fleet.Session, *http.Cookie, error) {
	s := &fleet.Session{}
	s.Name = "s-1"
	return s, &http.Cookie{Name: auth.SessionCookie, Value: who.GetName()}, nil
}

func (f *fakes) End(_ context.Context, name string) error {
	f.ended = append(f.ended, name)
	return nil
}

func (f *fakes) Ends(string) time.Time { return time.Time{} }

func (f *fakes) CheckOrigin(r *http.Request) error {
	if r.Header.Get(auth.HeaderRequest) == "" {
		return errors.New("refused: no header")
	}
	return nil
}

func newLogin(t *testing.T, f *fakes) *Login {
	t.Helper()
	certificate := authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		if r.Header.Get("Test-Certificate") == "" {
			return nil, false, nil
		}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{NotAfter: time.Now().Add(time.Hour)}}}
		return &authenticator.Response{User: &user.DefaultInfo{Name: "admin"}}, true, nil
	})
	l, err := New(Config{Providers: f, Sessions: f, Authenticator: certificate, Certificates: certificate, URLs: []string{"https://hub.example"}, Auditor: f, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func ask(l *Login, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://hub.example"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(auth.HeaderRequest, "1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w
}

// TestLinkExpires: a minute by the clock.
func TestLinkExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t, &fakes{})
		make := func() string {
			w := ask(l, "POST", "/v1/login/link", `{}`, "Test-Certificate", "1")
			_, rest, _ := strings.Cut(w.Body.String(), "#code=")
			code, _, _ := strings.Cut(rest, `"`)
			if w.Code != http.StatusCreated || code == "" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return code
		}
		early, late := make(), make()
		time.Sleep(linkLife - time.Second)
		if w := ask(l, "POST", "/v1/login/code", `{"code":"`+early+`"}`); w.Code != http.StatusOK || len(w.Result().Cookies()) != 1 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		time.Sleep(time.Second)
		if w := ask(l, "POST", "/v1/login/code", `{"code":"`+late+`"}`); w.Code != http.StatusUnauthorized {
			t.Errorf("after a minute: %d %s", w.Code, w.Body)
		}
	})
}

// TestUnrecorded: nobody is logged in without a record.
func TestUnrecorded(t *testing.T) {
	t.Parallel()
	f := &fakes{}
	l := newLogin(t, f)
	code, _ := l.links.add(link{who: &user.DefaultInfo{Name: "admin"}, expires: time.Now().Add(time.Minute)}, time.Now())
	f.auditErr = errors.New("disk full")
	w := ask(l, "POST", "/v1/login/code", `{"code":"`+code+`"}`)
	if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) != 0 || len(f.ended) != 1 {
		t.Errorf("%d %s, cookies %v, ended %v", w.Code, w.Body, w.Result().Cookies(), f.ended)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	c, err := trip{SignIn: openid.SignIn{Issuer: "corp", State: "s", Nonce: "n", Verifier: "v"}, ReturnTo: "/", Started: time.Now().Unix()}.cookie()
	if err != nil {
		t.Fatal(err)
	}
	cookie := c.Name + "=" + c.Value
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		want                     string
	}{
		{name: "description", method: "GET", path: "/v1/login", code: 200, want: `"name":"corp"`},
		{name: "page", method: "GET", path: "/login", code: 200, want: "<title>Log in to Drover"},
		{name: "script", method: "GET", path: "/login/login.js", code: 200, want: "X-Drover-Request"},
		{name: "provider down", method: "POST", path: "/v1/login/issuer", body: `{"issuer":"corp"}`, code: 503, want: "cannot be reached; try again"},
		{name: "unknown field", method: "POST", path: "/v1/login/issuer", body: `{"isuer":"corp"}`, code: 400, want: "isuer"},
		{name: "large body", method: "POST", path: "/v1/login/code", body: `{"code":"` + strings.Repeat("x", maxBody) + `"}`, code: 400, want: "too large"},
		{name: "no header", method: "POST", path: "/v1/login/code", body: `{}`, headers: []string{auth.HeaderRequest, ""}, code: 403, want: "no header"},
		{name: "empty code", method: "POST", path: "/v1/login/code", body: `{}`, code: 401, want: "drover dashboard"},
		{name: "nobody", method: "GET", path: "/v1/session", code: 401, want: "not logged in"},
		{name: "as another", method: "GET", path: "/v1/session", headers: []string{"Impersonate-User", "root", "Test-Certificate", "1"}, code: 400, want: "Impersonate-User"},
		{name: "logout of no session", method: "DELETE", path: "/v1/session", headers: []string{"Test-Certificate", "1"}, code: 400, want: "no session"},
		{name: "callback without cookie", method: "GET", path: "/v1/login/callback?state=s&code=c", code: 303, want: "begin+again"},
		{name: "callback with another state", method: "GET", path: "/v1/login/callback?state=x&code=c", headers: []string{"Cookie", cookie}, code: 303, want: "begin+again"},
		{name: "refused by the provider", method: "GET", path: "/v1/login/callback?state=s&error=access_denied", headers: []string{"Cookie", cookie}, code: 303, want: "access_denied"},
		{name: "answer not accepted", method: "GET", path: "/v1/login/callback?state=s&code=c", headers: []string{"Cookie", cookie}, code: 303, want: "wrong+nonce"},
		{name: "wrong method", method: "PUT", path: "/v1/session", code: 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &fakes{}
			w := ask(newLogin(t, f), tt.method, tt.path, tt.body, tt.headers...)
			if got := w.Body.String() + w.Header().Get("Location"); w.Code != tt.code || !strings.Contains(got, tt.want) {
				t.Errorf("%d %s, want %d %q", w.Code, got, tt.code, tt.want)
			}
			if strings.Contains(w.Body.String(), "10.0.0.1") {
				t.Error("shows the hub's network to anybody")
			}
			if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
				t.Errorf("policy %q", csp)
			}
			for _, ev := range f.events {
				if strings.Contains(ev.RequestURI, "code") && strings.Contains(ev.RequestURI, "?") {
					t.Errorf("recorded %s", ev.RequestURI)
				}
			}
		})
	}
}
