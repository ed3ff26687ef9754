// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package signin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// own marks a request as one of the hub's own pages.
func own(r *http.Request) {
	r.Header.Set("X-Drover-Request", "1")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "https://"+r.URL.Host)
}

// open logs a browser in with the provider.
func (h *hub) open(p *Provider, user string) *Browser {
	h.t.Helper()
	b := p.NewBrowser(user, h.roots)
	status, text := h.ask(b.Client, "POST", "/v1/login/issuer", `{"issuer":"corp","returnTo":"/v1/session"}`, own)
	var begun struct{ Location string }
	if err := json.Unmarshal([]byte(text), &begun); err != nil || status != 200 {
		h.t.Fatalf("begin: %d %s", status, text)
	}
	status, at, text, err := b.SignIn(begun.Location)
	if err != nil || status != 200 || at != h.url+"/v1/session" || !strings.Contains(text, `"user":"corp:`+user+`@example.test"`) {
		h.t.Fatalf("login: %d at %s: %s, %v", status, at, text, err)
	}
	return b
}

// TestDashboardLogin: a session by the provider, what protects it, and its ends.
func TestDashboardLogin(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	h := startHub(t, provider, "")
	h.bind("corp:fleet-admins", "drover:admin")
	b := h.open(provider, "alice")

	u, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	cookies := b.Jar.Cookies(u)
	if len(cookies) != 1 || cookies[0].Name != "__Host-drover-session" || !regexp.MustCompile(`^drover_se_s-[a-z2-7]{26}_[a-z2-7]{59}$`).MatchString(cookies[0].Value) {
		t.Fatalf("cookies: %v", cookies)
	}

	token := `{"apiVersion":"fleet.drover.io/v1alpha1","kind":"JoinToken","metadata":{"generateName":"x-"}}`
	const tokens = "/apis/fleet.drover.io/v1alpha1/jointokens"
	set := func(header, value string) func(*http.Request) {
		return func(r *http.Request) { own(r); r.Header.Set(header, value) }
	}
	unset := func(header string) func(*http.Request) {
		return func(r *http.Request) { own(r); r.Header.Del(header) }
	}
	for _, tt := range []struct {
		name, method string
		change       func(*http.Request)
		want         int
	}{
		{"read", "GET", nil, 200},
		{"read from anywhere", "GET", set("Sec-Fetch-Site", "cross-site"), 200},
		{"write by the own page", "POST", own, 201},
		{"write without the header", "POST", unset("X-Drover-Request"), 401},
		{"write from another site", "POST", set("Sec-Fetch-Site", "cross-site"), 401},
		{"write from a sibling site", "POST", set("Sec-Fetch-Site", "same-site"), 401},
		{"write by an old browser", "POST", unset("Sec-Fetch-Site"), 201},
		{"write by an old browser from another site", "POST", func(r *http.Request) {
			unset("Sec-Fetch-Site")(r)
			r.Header.Set("Origin", "https://evil.example")
		}, 401},
		{"a bearer token beside the cookie counts", "GET", set("Authorization", "Bearer nonsense"), 401},
	} {
		if status, text := h.ask(b.Client, tt.method, tokens, token, tt.change); status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, status, text, tt.want)
		}
	}

	h.restart()
	if status, text := h.get(b.Client, "/v1/session", ""); status != 200 {
		t.Errorf("after a restart: %d %s", status, text)
	}
	admin := h.asAdmin()
	if out := admin.must("drover", "session", "list"); !strings.Contains(out, "corp:alice@example.test") || !strings.Contains(out, "Issuer") {
		t.Errorf("session list: %s", out)
	}
	second := h.open(provider, "alice")
	if status, text := h.ask(b.Client, "DELETE", "/v1/session", "", own); status != 204 {
		t.Errorf("logout: %d %s", status, text)
	}
	gone := func(b *Browser) {
		t.Helper()
		Until(t, "the session ends", func() error {
			status, text := h.ask(&http.Client{Transport: b.Transport, Timeout: patience}, "GET", "/v1/session", "", func(r *http.Request) { r.AddCookie(cookies[0]) })
			if status != 401 {
				return fmt.Errorf("%d %s", status, text)
			}
			return nil
		})
	}
	gone(b)
	if len(b.Jar.Cookies(u)) != 0 {
		t.Error("the browser keeps the cookie")
	}
	cookies = second.Jar.Cookies(u)
	name, _, _ := strings.Cut(strings.TrimPrefix(cookies[0].Value, "drover_se_"), "_")
	admin.must("drover", "session", "revoke", name)
	gone(second)
	admin.fails(1, "kept by the hub", "kubectl", "patch", "session", sessionOf(t, h, provider), "--type=merge", "-p", `{"spec":{"user":"admin"}}`)

	out := admin.must("drover", "audit", "--resource", "sessions", "-o", "json")
	for _, want := range []string{`"login.drover.io/issuer": "corp"`, `"username": "corp:alice@example.test"`, `"verb": "delete"`} {
		if !strings.Contains(out, want) {
			t.Errorf("the audit log has no %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "code=") {
		t.Error("the audit log has a provider's code")
	}
}

func sessionOf(t *testing.T, h *hub, p *Provider) string {
	t.Helper()
	b := h.open(p, "bob")
	_, text := h.get(b.Client, "/v1/session", "")
	var me struct{ Session string }
	if err := json.Unmarshal([]byte(text), &me); err != nil || me.Session == "" {
		t.Fatalf("session: %s, %v", text, err)
	}
	return me.Session
}

// TestDashboardCallback: what is not the answer to a login of this browser is none.
func TestDashboardCallback(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	h := startHub(t, provider, "")
	begin := func(b *Browser) string {
		_, text := h.ask(b.Client, "POST", "/v1/login/issuer", `{"issuer":"corp","returnTo":"https://evil.example/"}`, own)
		var begun struct{ Location string }
		if err := json.Unmarshal([]byte(text), &begun); err != nil {
			t.Fatal(text)
		}
		return begun.Location
	}
	// An attacker's login does not become the victim's.
	attacker, victim := provider.NewBrowser("bob", h.roots), provider.NewBrowser("alice", h.roots)
	var stolen string
	attacker.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		stolen = r.URL.String()
		return http.ErrUseLastResponse
	}
	if _, _, _, err := attacker.SignIn(begin(attacker)); err != nil || !strings.HasPrefix(stolen, h.url+"/v1/login/callback?") {
		t.Fatalf("%v at %s", err, stolen)
	}
	begin(victim)
	resp, err := victim.Get(stolen)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if at := resp.Request.URL; at.Path != "/login" || !strings.Contains(at.Fragment, "begin+again") {
		t.Errorf("led to %s", at)
	}
	if status, _ := h.get(victim.Client, "/v1/session", ""); status != 401 {
		t.Errorf("the victim is somebody: %d", status)
	}
	// Nobody is led to another site.
	honest := provider.NewBrowser("bob", h.roots)
	if _, at, _, err := honest.SignIn(begin(honest)); err != nil || at != h.url+"/" {
		t.Errorf("led to %s, %v", at, err)
	}
	for _, tt := range []struct {
		name, body string
		change     func(*http.Request)
		want       int
		text       string
	}{
		{"no such provider", `{"issuer":"other"}`, own, 400, "no such identity provider"},
		{"another site", `{"issuer":"corp"}`, func(r *http.Request) { own(r); r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "refused"},
		{"a form", `issuer=corp`, func(r *http.Request) { own(r); r.Header.Set("Content-Type", "text/plain") }, 400, "application/json"},
		{"another address", `{"issuer":"corp"}`, func(r *http.Request) { own(r); r.Host, r.Header["Origin"] = "evil.example", nil }, 400, "advertise"},
	} {
		if status, text := h.ask(honest.Client, "POST", "/v1/login/issuer", tt.body, tt.change); status != tt.want || !strings.Contains(text, tt.text) {
			t.Errorf("%s: %d %s, want %d %q", tt.name, status, text, tt.want, tt.text)
		}
	}
}

// TestDashboardLink: the holder of the admin's certificate logs a browser in, once.
func TestDashboardLink(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	h := startHub(t, provider, "")
	admin := h.asAdmin()
	link := strings.TrimSpace(admin.must("drover", "dashboard"))
	code, ok := strings.CutPrefix(link, h.url+"/login#code=")
	if !ok || len(code) < 52 {
		t.Fatalf("link %q", link)
	}
	b := provider.NewBrowser("", h.roots)
	resp, err := b.Get(h.url + "/login")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for header, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := resp.Header.Get(header); resp.StatusCode != 200 || !strings.Contains(got, want) {
			t.Errorf("%d %s: %q", resp.StatusCode, header, got)
		}
	}
	redeem := func(b *Browser, change func(*http.Request)) int {
		status, _ := h.ask(b.Client, "POST", "/v1/login/code", `{"code":"`+code+`"}`, change)
		return status
	}
	if status := redeem(b, nil); status != 403 {
		t.Errorf("without the header: %d", status)
	}
	if status := redeem(b, own); status != 200 {
		t.Fatalf("redeem: %d", status)
	}
	if status := redeem(provider.NewBrowser("", h.roots), own); status != 401 {
		t.Errorf("a second time: %d", status)
	}
	if status, text := h.get(b.Client, "/v1/session", ""); status != 200 || !strings.Contains(text, `"user":"admin"`) || !strings.Contains(text, "system:masters") {
		t.Errorf("who: %d %s", status, text)
	}
	// A session makes no links, and neither does a token.
	if status, text := h.ask(b.Client, "POST", "/v1/login/link", `{}`, own); status != 403 || !strings.Contains(text, "client certificate") {
		t.Errorf("link by a session: %d %s", status, text)
	}
}

// TestAccessTokens: made, used, not made by those who may not, revoked.
func TestAccessTokens(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	h := startHub(t, provider, "")
	admin := h.asAdmin()
	h.bind("deployers", "drover:operator")
	token := strings.TrimSpace(admin.must("drover", "access", "create", "ci", "--user", "ci:deploy", "--group", "deployers", "--ttl", "1h"))
	if !regexp.MustCompile(`^drover_at_ci_[a-z2-7]{59}$`).MatchString(token) {
		t.Fatalf("token %q", token)
	}
	admin.fails(4, "already exists", "drover", "access", "create", "ci", "--user", "x")
	admin.fails(1, "at most", "drover", "access", "create", "long", "--user", "x", "--ttl", "9000h")
	admin.fails(1, "system:", "drover", "access", "create", "sys", "--user", "system:admin")
	admin.fails(1, "cannot be changed", "kubectl", "patch", "accesstoken", "ci", "--type=merge", "-p", `{"spec":{"user":"root"}}`)
	ci := h.person("ci")
	ci.use(token)
	if out := ci.must("kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); out != "ci:deploy" {
		t.Errorf("whoami: %s", out)
	}
	ci.must("drover", "clusters")
	ci.fails(1, "forbidden", "drover", "access", "create", "more", "--user", "ci:deploy")

	// Who may make tokens, but is not everybody.
	admin.must("kubectl", "create", "clusterrole", "minter", "--verb=create", "--resource=accesstokens.fleet.drover.io")
	h.bind("corp:staff", "minter")
	bob := h.person("bob")
	bob.signIn(provider, "bob")
	const name = "corp:bob@example.test"
	bob.fails(1, `may not impersonate users "ci:deploy"`, "drover", "access", "create", "t1", "--user", "ci:deploy")
	bob.fails(1, `may not impersonate groups "system:masters"`, "drover", "access", "create", "t2", "--user", name, "--group", "system:masters")
	bob.fails(1, `may not impersonate groups "deployers"`, "drover", "access", "create", "t3", "--user", name, "--group", "deployers")
	mine := strings.TrimSpace(bob.must("drover", "access", "create", "bobs", "--user", name, "--group", "corp:staff"))
	again := h.person("again")
	again.use(mine)
	again.fails(1, "may not impersonate users", "drover", "access", "create", "t4", "--user", name)
	admin.must("kubectl", "create", "clusterrole", "as-ci", "--verb=impersonate", "--resource=users", "--resource-name=ci:deploy")
	admin.must("kubectl", "create", "clusterrolebinding", "as-ci", "--clusterrole=as-ci", "--group=corp:staff")
	Until(t, "bob may impersonate", func() error {
		if _, errs, code := bob.run("drover", "access", "create", "t5", "--user", "ci:deploy"); code != 0 {
			return fmt.Errorf("%s", errs)
		}
		return nil
	})

	admin.must("drover", "access", "revoke", "ci")
	Until(t, "the token is revoked", func() error {
		if _, errs, code := ci.run("drover", "clusters"); code == 0 || !strings.Contains(errs, "not known, or was revoked") {
			return fmt.Errorf("exit %d: %s", code, errs)
		}
		return nil
	})
	admin.must("drover", "access", "create", "ci", "--user", "ci:deploy")
	ci.fails(1, "not known, or was revoked", "drover", "clusters")
	if out := admin.must("drover", "audit", "--verb", "authenticate", "-o", "json"); !strings.Contains(out, "wrong secret for access token ci") || strings.Contains(out, "drover_at_ci_") {
		t.Errorf("audit: %s", out)
	}
	if out := admin.must("kubectl", "get", "accesstokens", "-o", "yaml"); strings.Contains(out, "drover_at_") || !strings.Contains(out, "createdBy: "+name) {
		t.Errorf("stored: %s", out)
	}
}

// use writes a kubeconfig with an access token.
func (p *person) use(token string) {
	p.hub.t.Helper()
	p.must("kubectl", "config", "set-cluster", "hub", "--server="+p.hub.url, "--certificate-authority="+p.hub.dir+"/data/pki/roots.crt")
	p.must("kubectl", "config", "set-credentials", "me", "--token="+token)
	p.must("kubectl", "config", "set-context", "hub", "--cluster=hub", "--user=me")
	p.must("kubectl", "config", "use-context", "hub")
}
