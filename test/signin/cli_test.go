// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package signin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	urlInOutput  = `(?m)^(https://\S+/authorize\?\S+)$`
	codeInOutput = `enter the code (\S+)`
)

// signIn logs a person in with a browser on the same machine.
func (p *person) signIn(provider *Provider, user string) {
	p.hub.t.Helper()
	b := provider.NewBrowser(user, nil)
	out, err := p.login(urlInOutput, func(location string) error {
		status, at, text, err := b.SignIn(location)
		if err == nil && (status != 200 || !strings.HasPrefix(at, "http://127.0.0.1:") || !strings.Contains(text, "Logged in.")) {
			err = fmt.Errorf("%d at %s: %s", status, at, text)
		}
		return err
	}, "--no-browser", "--issuer-ca-file", provider.CAFile)
	if err != nil {
		p.hub.t.Fatalf("drover login: %v\n%s", err, out)
	}
	if !strings.Contains(out, "Logged in as corp:"+user+"@example.test, groups corp:") {
		p.hub.t.Fatalf("drover login: %s", out)
	}
}

// TestLoginByBrowser: authorization code and PKCE, then kubectl and drover with the
// plugin, refreshes by many at once, and the end of the login.
func TestLoginByBrowser(t *testing.T) {
	t.Parallel()
	provider := Start(t, 31*time.Second) // over after a second, as the command line counts
	h := startHub(t, provider, "")
	h.bind("corp:staff", "drover:viewer")
	alice := h.person("alice")
	alice.signIn(provider, "alice")

	if got := alice.must("kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}"); !strings.Contains(got, "corp:alice@example.test") ||
		!strings.Contains(got, "corp:fleet-admins") || !strings.Contains(got, "system:authenticated") {
		t.Errorf("whoami: %s", got)
	}
	alice.must("kubectl", "get", "managedclusters")
	alice.must("drover", "clusters")
	alice.fails(1, "forbidden", "kubectl", "get", "jointokens")

	// Only its owner reads the login.
	files, err := filepath.Glob(filepath.Join(alice.home, "cache", "drover", "logins", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("logins: %v, %v", files, err)
	}
	for _, path := range append(files, alice.kubeconfig) {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}

	// The provider revokes everything when a refresh token is used twice.
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if out, errs, code := alice.run("drover", "clusters"); code != 0 {
				t.Errorf("one of many: exit %d: %s%s", code, out, errs)
			}
		})
	}
	wg.Wait()

	provider.Admin("forget", nil)
	Until(t, "the login has ended", func() error {
		if _, errs, code := alice.run("kubectl", "get", "managedclusters"); code == 0 || !strings.Contains(errs, "log in again: drover login") {
			return fmt.Errorf("exit %d: %s", code, errs)
		}
		return nil
	})
	alice.signIn(provider, "alice")
	alice.must("drover", "clusters")

	if _, errs, code := alice.run("drover", "logout"); code != 0 || !strings.Contains(errs, "Logged out") {
		t.Errorf("logout: exit %d: %s", code, errs)
	}
	if _, err := os.Stat(files[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the login stays: %v", err)
	}
	alice.fails(1, "drover login", "drover", "clusters")
	h.asAdmin().fails(1, "not one of `drover login`", "drover", "logout")
}

// TestLoginByDevice: the code is entered elsewhere.
func TestLoginByDevice(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	h := startHub(t, provider, "")
	h.bind("corp:staff", "drover:viewer")
	bob := h.person("bob")
	enter := func(deny bool) func(string) error {
		return func(code string) error { return provider.Approve("bob", code, deny) }
	}
	out, err := bob.login(codeInOutput, enter(true), "--device", "--issuer-ca-file", provider.CAFile)
	if err == nil || !strings.Contains(out, "the login was refused at the identity provider") {
		t.Fatalf("denied: %v\n%s", err, out)
	}
	provider.Admin("groups", url.Values{"form": {"string"}}) // a text, where most providers send a list
	if out, err = bob.login(codeInOutput, enter(false), "--device", "--issuer-ca-file", provider.CAFile); err != nil {
		t.Fatalf("drover login: %v\n%s", err, out)
	}
	bob.must("kubectl", "get", "managedclusters")
	if text, _ := os.ReadFile(bob.kubeconfig); !strings.Contains(string(text), "--device") {
		t.Errorf("the kubeconfig forgets how: %s", text)
	}
}

// TestLoginErrors: each says what to do.
func TestLoginErrors(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	h := startHub(t, provider, "")
	p := h.person("anna")
	ca := filepath.Join(h.dir, "data", "pki", "roots.crt")
	p.fails(2, "name the hub with --hub", "drover", "login")
	p.fails(2, "want https://", "drover", "login", "--hub", "http://127.0.0.1")
	p.fails(1, "drover-hub ca roots", "drover", "login", "--hub", h.url)
	p.fails(2, `issuer "other": the hub has corp`, "drover", "login", "--hub", h.url, "--ca-file", ca, "--issuer", "other")
	p.fails(1, "reach the identity provider", "drover", "login", "--hub", h.url, "--ca-file", ca)
	p.fails(1, "want an https URL", "drover", "auth", "token")
}

// TestProviderDown: the hub starts without it, and its users come back with it.
// Then it signs with another key.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	provider := Start(t, 5*time.Minute)
	listen := strings.TrimPrefix(provider.URL, "https://")
	provider.args = append(provider.args, "--listen", listen)
	provider.Stop()
	h := startHub(t, provider, "")
	Until(t, "the hub says that the provider is down", func() error {
		if !strings.Contains(h.log.String(), "the identity provider cannot be reached") {
			return errors.New("not yet")
		}
		return nil
	})
	h.asAdmin().must("kubectl", "get", "managedclusters")
	provider.start()
	Until(t, "the hub says that the provider is back", func() error {
		if !strings.Contains(h.log.String(), "the identity provider is reached again") {
			return errors.New("not yet")
		}
		return nil
	})
	p := h.person("alice")
	p.signIn(provider, "alice")
	old := p.token(provider)
	browser := provider.NewBrowser("", h.roots).Client
	check := func(bearer string, want int) {
		t.Helper()
		if status, text := h.get(browser, "/v1/session", bearer); status != want {
			t.Errorf("%d %s, want %d", status, text, want)
		}
	}
	check(old, 200)
	provider.Admin("rotate", url.Values{"forget": {"true"}})
	cache, err := filepath.Glob(filepath.Join(p.home, "cache", "drover", "logins", "*.json"))
	if err != nil || len(cache) != 1 || os.Remove(cache[0]) != nil {
		t.Fatalf("logins: %v, %v", cache, err)
	}
	// Keys that are not known are looked for every ten seconds at most.
	fresh := p.again(provider, "alice")
	Until(t, "the hub knows the new key", func() error {
		if status, text := h.get(browser, "/v1/session", fresh); status != 200 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	check(old, 401)
	provider.Stop()
	check(fresh, 200)
}

// again logs in by the plugin itself, as kubectl at a terminal would.
func (p *person) again(provider *Provider, user string) string {
	p.hub.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := p.command(ctx, "drover", tokenArgs(provider)...)
	cmd.Env = append(cmd.Env, `KUBERNETES_EXEC_INFO={"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":true}}`)
	var out bytes.Buffer
	var errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		p.hub.t.Fatal(err)
	}
	var location string
	Until(p.hub.t, "the plugin asks", func() error {
		m := regexp.MustCompile(urlInOutput).FindStringSubmatch(errs.String())
		if m == nil {
			return errors.New(errs.String())
		}
		location = m[1]
		return nil
	})
	if _, _, _, err := provider.NewBrowser(user, nil).SignIn(location); err != nil {
		p.hub.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		p.hub.t.Fatalf("%v: %s", err, errs.String())
	}
	return p.tokenIn(out.String())
}

func tokenArgs(provider *Provider) []string {
	return []string{
		"auth", "token", "--issuer-url", provider.URL, "--client-id", PublicClient,
		"--scopes", "openid,profile,email,groups,offline_access", "--issuer-ca-file", provider.CAFile,
	}
}

// token is what the plugin prints.
func (p *person) token(provider *Provider) string {
	p.hub.t.Helper()
	return p.tokenIn(p.must("drover", tokenArgs(provider)...))
}

func (p *person) tokenIn(out string) string {
	p.hub.t.Helper()
	_, rest, ok := strings.Cut(out, `"token":"`)
	token, _, ok2 := strings.Cut(rest, `"`)
	if !ok || !ok2 || !strings.Contains(out, `"apiVersion":"client.authentication.k8s.io/v1"`) {
		p.hub.t.Fatalf("not an ExecCredential: %s", out)
	}
	return token
}
