// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signin is for tests of who may ask the hub: it starts the identity
// provider of test/openid, and its tests run the real programs against it.
package signin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The users of the provider, all with this password, and its clients.
const (
	Password     = "swordfish"
	PublicClient = "drover-cli"
	HubClient    = "drover-hub"
	HubSecret    = "correct horse battery staple"
)

// ErrNotBuilt says that the program openidtest is not there.
var ErrNotBuilt = errors.New(`openidtest is not built: run "make openid"`)

// patience bounds every wait; it is only reached when a test fails.
const patience = 60 * time.Second

// Provider is a running identity provider. Alice is in fleet-admins and staff,
// bob in staff.
type Provider struct {
	URL    string
	CAFile string
	// Trust has its certificate, and the system's.
	Trust *x509.CertPool

	process *exec.Cmd
	t       testing.TB
	args    []string
}

// binary is bin/openidtest of the module around the working directory.
func binary() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "bin", "openidtest")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", ErrNotBuilt
		}
	}
}

// Start starts a provider that ends with the test. Without the program the test is
// skipped, and fails where CI is set.
func Start(t testing.TB, life time.Duration) *Provider {
	t.Helper()
	bin, err := binary()
	if errors.Is(err, ErrNotBuilt) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &Provider{CAFile: filepath.Join(dir, "ca.crt"), t: t, args: []string{
		bin, "--dir", dir, "--life", life.String(),
		"--user", "alice:" + Password + ":fleet-admins,staff", "--user", "bob:" + Password + ":staff",
	}}
	p.start()
	t.Cleanup(p.Stop)
	text, err := os.ReadFile(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	p.Trust = x509.NewCertPool()
	p.Trust.AppendCertsFromPEM(text)
	return p
}

func (p *Provider) start() {
	p.t.Helper()
	file := filepath.Join(filepath.Dir(p.CAFile), "issuer.url")
	_ = os.Remove(file) // of an earlier start
	p.process = exec.Command(p.args[0], p.args[1:]...)
	p.process.Stdout, p.process.Stderr = p.t.Output(), p.t.Output()
	if err := p.process.Start(); err != nil {
		p.t.Fatal(err)
	}
	Until(p.t, "the provider serves", func() error {
		text, err := os.ReadFile(file)
		p.URL = strings.TrimSpace(string(text))
		return err
	})
}

// Stop ends the provider; it forgets everything.
func (p *Provider) Stop() {
	if p.process == nil {
		return
	}
	_ = p.process.Process.Kill()
	_ = p.process.Wait()
	p.process = nil
}

// Admin does something as the provider's administrator.
func (p *Provider) Admin(what string, form url.Values) {
	p.t.Helper()
	resp, err := p.client().PostForm(p.URL+"/admin/"+what, form)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("admin %s: %s", what, resp.Status)
	}
}

func (p *Provider) client() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.Trust, MinVersion: tls.VersionTLS12},
	}}
}

// Approve is a user who enters a device's code.
func (p *Provider) Approve(user, code string, deny bool) error {
	resp, err := p.client().PostForm(p.URL+"/device/verify", url.Values{
		"user_code": {code}, "username": {user}, "password": {Password}, "deny": {fmt.Sprint(deny)},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %s", resp.Status)
	}
	return nil
}

// Browser is a browser without scripts: it keeps cookies, follows redirects, and
// logs in at the provider as user.
type Browser struct {
	*http.Client
	provider *Provider
	user     string
}

// NewBrowser trusts the provider, and the certificates in more.
func (p *Provider) NewBrowser(user string, more []byte) *Browser {
	p.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	trust := p.Trust.Clone()
	trust.AppendCertsFromPEM(more)
	return &Browser{provider: p, user: user, Client: &http.Client{Timeout: patience, Jar: jar, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12},
	}}}
}

// SignIn opens the provider's page at location, logs in, and follows where it leads.
// It returns the last answer's status, address and text.
func (b *Browser) SignIn(location string) (status int, at, text string, err error) {
	u, err := url.Parse(location)
	if err != nil {
		return 0, "", "", err
	}
	q := u.Query()
	q.Set("username", b.user)
	q.Set("password", Password)
	resp, err := b.PostForm(b.provider.URL+u.Path, q)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Request.URL.String(), string(body), err
}

// Until calls f until it returns nil, or fails the test.
func Until(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(30 * time.Millisecond)
	}
}
