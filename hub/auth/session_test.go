// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestSessionCheck(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	s := &Sessions{cfg: SessionConfig{Idle: time.Hour, Life: 8 * time.Hour, RestoredAt: now.Add(-5 * time.Hour)}}
	at := func(d time.Duration) *metav1.Time { m := metav1.NewTime(now.Add(d)); return &m }
	c := newCredential("s-1")
	for _, tt := range []struct {
		name                string
		made, last, expires time.Duration
		seen                time.Time
		edit                func(*fleet.Session)
		ended               bool
	}{
		{name: "fresh", made: -time.Minute, last: -time.Minute, expires: time.Hour},
		{name: "idle", made: -2 * time.Hour, last: -time.Hour, expires: time.Hour, ended: true},
		{name: "used since it was written down", made: -2 * time.Hour, last: -time.Hour, seen: now.Add(-time.Minute), expires: time.Hour},
		{name: "used, but another replica knows of later", made: -2 * time.Hour, last: -time.Minute, seen: now.Add(-2 * time.Hour), expires: time.Hour},
		{name: "too old though used", made: -4 * time.Hour, last: -time.Second, seen: now, expires: 0, ended: true},
		{name: "from before a restore", made: -6 * time.Hour, last: -time.Second, expires: time.Hour, ended: true},
		{name: "wrong secret", made: -time.Minute, last: -time.Minute, expires: time.Hour, edit: func(o *fleet.Session) { o.Status.SecretHash = "" }, ended: true},
		{name: "no end", made: -time.Minute, last: -time.Minute, edit: func(o *fleet.Session) { o.Status.Expires = nil }, ended: true},
		{name: "being deleted", made: -time.Minute, last: -time.Minute, expires: time.Hour, edit: func(o *fleet.Session) { o.DeletionTimestamp = at(0) }, ended: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			obj := &fleet.Session{
				ObjectMeta: metav1.ObjectMeta{Name: "s-1", CreationTimestamp: *at(tt.made)},
				Status:     fleet.SessionStatus{SecretHash: c.hash(), Expires: at(tt.expires), LastSeen: at(tt.last)},
			}
			if tt.edit != nil {
				tt.edit(obj)
			}
			if err := s.check(obj, c, tt.seen, now); (err != nil) != tt.ended {
				t.Errorf("%v, want ended %v", err, tt.ended)
			}
		})
	}
	if s.check(nil, c, now, now) == nil {
		t.Error("no record is no session")
	}
}

// TestSessions is the life of sessions over a real store.
func TestSessions(t *testing.T) {
	t.Parallel()
	st := openStore(t)
	s := NewSessions(SessionConfig{Store: st, Idle: time.Hour, Log: zap.NewNop()})
	ctx := t.Context()
	start := func(name string) (*fleet.Session, *http.Cookie) {
		t.Helper()
		obj, cookie, err := s.Start(ctx, &user.DefaultInfo{
			Name: name, Groups: []string{"x", user.AllAuthenticated}, Extra: map[string][]string{"k": {"v"}},
		}, fleet.SessionSpec{Method: fleet.SessionByIssuer}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return obj, cookie
	}
	ask := func(cookies ...*http.Cookie) (*authenticator.Response, bool, error) {
		r := httptest.NewRequest(http.MethodGet, "https://hub/", nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		return s.AuthenticateRequest(r)
	}
	await := func(cookie *http.Cookie, want bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			_, ok, err := ask(cookie)
			if ok == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, %v", ok, err)
			}
		}
	}
	obj, cookie := start("alice")
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || !strings.HasPrefix(cookie.Name, "__Host-") || cookie.Valid() != nil {
		t.Errorf("cookie %v", cookie)
	}
	await(cookie, true)
	who, _, _ := ask(cookie)
	if u := who.User; u.GetName() != "alice" || strings.Join(u.GetGroups(), " ") != "x system:authenticated" ||
		u.GetExtra()["k"][0] != "v" || u.GetExtra()[ExtraSession][0] != obj.Name {
		t.Errorf("user %+v", u)
	}
	if _, ok, err := ask(); ok || err != nil {
		t.Errorf("no cookie: %v, %v", ok, err)
	}
	if _, ok, err := ask(cookie, cookie); ok || err == nil {
		t.Errorf("two cookies: %v, %v", ok, err)
	}
	// Looking whether it is still good is no use of it.
	seen := func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.seen[obj.Name] }
	before := seen()
	if err := s.Good(obj.Name); err != nil || !seen().Equal(before) {
		t.Errorf("good: %v, seen %v, then %v", err, before, seen())
	}
	if at := s.Ends(obj.Name); !at.Equal(obj.Status.Expires.Time) || !s.Ends("s-nobody").IsZero() {
		t.Errorf("ends %v", at)
	}
	if err := s.Good("s-nobody"); !errors.Is(err, errSessionEnded) {
		t.Errorf("no session is good: %v", err)
	}
	stranger := newCredential(obj.Name)
	if _, ok, err := ask(&http.Cookie{Name: SessionCookie, Value: stranger.text(PrefixSession)}); ok || !errors.Is(err, errSessionEnded) {
		t.Errorf("wrong secret: %v, %v", ok, err)
	}

	// What was seen is written down, and what is over is cleared away.
	now := time.Now()
	s.mu.Lock()
	s.seen[obj.Name] = now.Add(30 * time.Minute)
	s.mu.Unlock()
	s.tend(ctx, now.Add(30*time.Minute))
	stored, err := s.objects.Get(ctx, "", obj.Name)
	if err != nil || stored.Status.LastSeen.Sub(now) < 29*time.Minute {
		t.Errorf("last seen %v, %v", stored.Status.LastSeen, err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s.tend(ctx, now.Add(2*time.Hour)); errors.Is(get(ctx, s, obj.Name), store.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an idle session is not cleared away")
		}
	}
	await(cookie, false)
	if err := s.Good(obj.Name); !errors.Is(err, errSessionEnded) {
		t.Errorf("an ended session is good: %v", err)
	}

	// The certificate that a session stands for bounds it.
	end := time.Now().Add(time.Minute)
	short, _, err := s.Start(ctx, &user.DefaultInfo{Name: "b"}, fleet.SessionSpec{Method: fleet.SessionByCertificate}, end)
	if err != nil || short.Status.Expires.After(end) {
		t.Errorf("expires %v, %v", short.Status.Expires, err)
	}
	_, first := start("carol")
	await(first, true)
	for range maxSessions {
		start("carol")
	}
	await(first, false)
}

func get(ctx context.Context, s *Sessions, name string) error {
	_, err := s.objects.Get(ctx, "", name)
	return err
}

func TestCheckOrigin(t *testing.T) {
	t.Parallel()
	s := NewSessions(SessionConfig{})
	for _, tt := range []struct {
		name, method, site, origin string
		header, ok                 bool
	}{
		{"own page", "POST", "same-origin", "https://hub", true, true},
		{"typed in", "POST", "none", "", true, true},
		{"no header", "POST", "same-origin", "https://hub", false, false},
		{"cross site", "POST", "cross-site", "https://evil", true, false},
		{"same site", "DELETE", "same-site", "https://other.hub", true, false},
		{"old browser", "PUT", "", "https://hub", true, true},
		{"old browser, other origin", "PATCH", "", "https://evil", true, false},
		{"old browser, opaque origin", "POST", "", "null", true, false},
		{"no browser", "POST", "", "", true, true},
		{"no browser, no header", "POST", "", "", false, false},
		{"unknown method", "MAKE", "same-origin", "", false, false},
	} {
		r := httptest.NewRequest(tt.method, "https://hub/x", nil)
		for key, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin} {
			if value != "" {
				r.Header.Set(key, value)
			}
		}
		if tt.header {
			r.Header.Set(HeaderRequest, "1")
		}
		if err := s.checkOrigin(r); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	named := func(name string) *authenticator.Response {
		return &authenticator.Response{User: &user.DefaultInfo{Name: name}}
	}
	by := func(header string) authenticator.Request {
		return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			switch v := r.Header.Get(header); v {
			case "":
				return nil, false, nil
			case "bad":
				return nil, false, errors.New("bad " + header)
			default:
				return named(v), true, nil
			}
		})
	}
	var told string
	c := &Credentials{
		Certificates: by("Cert"), Sessions: by("Session"),
		Refused: func(_ *http.Request, err *RefusedError) { told = err.Detail },
		Tokens: []authenticator.Token{
			authenticator.TokenFunc(func(_ context.Context, text string) (*authenticator.Response, bool, error) {
				if text == "stolen" {
					return nil, false, &RefusedError{Detail: "detail", Err: errors.New("refused")}
				}
				return named(text), text == "one", nil
			}),
			authenticator.TokenFunc(func(_ context.Context, text string) (*authenticator.Response, bool, error) {
				return named(text), text == "two", nil
			}),
		},
	}
	for _, tt := range []struct {
		name, cert, bearer, session, want, fails string
	}{
		{name: "nothing"},
		{name: "certificate first", cert: "c", bearer: "Bearer one", session: "s", want: "c"},
		{name: "bad certificate", cert: "bad", bearer: "Bearer one", fails: "bad Cert"},
		{name: "first token", bearer: "Bearer one", session: "s", want: "one"},
		{name: "second token", bearer: "bearer two", want: "two"},
		{name: "unknown token and a session", bearer: "Bearer three", session: "s", fails: "no kind"},
		{name: "basic", bearer: "Basic b25lOg==", session: "s", fails: "no kind"},
		{name: "empty", bearer: "Bearer ", fails: "no kind"},
		{name: "two in one", bearer: "Bearer one, Bearer two", fails: "no kind"},
		{name: "refused", bearer: "Bearer stolen", fails: "refused"},
		{name: "session", session: "s", want: "s"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for key, value := range map[string]string{"Cert": tt.cert, "Authorization": tt.bearer, "Session": tt.session} {
			if value != "" {
				r.Header.Set(key, value)
			}
		}
		who, ok, err := c.AuthenticateRequest(r)
		if tt.fails != "" {
			if ok || err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s: %v, %v, want %s", tt.name, ok, err, tt.fails)
			}
			continue
		}
		if err != nil || ok != (tt.want != "") || ok && who.User.GetName() != tt.want {
			t.Errorf("%s: %v, %v, %v, want %s", tt.name, who, ok, err, tt.want)
		}
	}
	if told != "detail" {
		t.Errorf("told %q", told)
	}
}
