// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/hub/auth/openid"
	"github.com/drover-io/drover/shared/daemon"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string // parts of the message; none: valid
	}{
		{name: "defaults"},
		{name: "empty data dir", change: func(c *Config) { c.DataDir = "" }, want: []string{"data-dir"}},
		{name: "no port", change: func(c *Config) { c.Listen = "127.0.0.1" }, want: []string{"listen", "host:port"}},
		{name: "port alone", change: func(c *Config) { c.Listen = "8443" }, want: []string{"listen"}},
		{name: "bracketed IPv6", change: func(c *Config) { c.Listen = "[::1]:0" }},
		{name: "good addresses", change: func(c *Config) { c.Advertise = []string{"https://hub.example", "https://[::1]:8443/"} }},
		{name: "http", change: func(c *Config) { c.Advertise = []string{"http://hub.example"} }, want: []string{"advertise", "http://hub.example"}},
		{name: "no scheme", change: func(c *Config) { c.Advertise = []string{"hub.example:8443"} }, want: []string{"advertise"}},
		{name: "port without host", change: func(c *Config) { c.Advertise = []string{"https://:8443"} }, want: []string{"advertise"}},
		{name: "path", change: func(c *Config) { c.Advertise = []string{"https://hub.example/x"} }, want: []string{"advertise"}},
		{name: "query", change: func(c *Config) { c.Advertise = []string{"https://hub.example?x"} }, want: []string{"advertise"}},
		{name: "password", change: func(c *Config) { c.Advertise = []string{"https://a:b@hub.example"} }, want: []string{"advertise"}},
		{name: "certificate without key", change: func(c *Config) { c.TLSCert = "x" }, want: []string{"tls-cert, tls-key"}},
		{name: "key without certificate", change: func(c *Config) { c.TLSKey = "x" }, want: []string{"tls-cert, tls-key"}},
		{name: "trust domain", change: func(c *Config) { c.TrustDomain = "fleet.example" }},
		{name: "bad trust domain", change: func(c *Config) { c.TrustDomain = "Fleet/x" }, want: []string{"trust-domain"}},
		{name: "negative times", change: func(c *Config) { c.AgentTTL, c.LostAfter, c.SampleEvery = -1, -1, -1 }, want: []string{"agent-ttl", "lost-after", "sample-every"}},
		{name: "negative session", change: func(c *Config) { c.SessionIdle, c.SessionLife = -1, -1 }, want: []string{"session-idle", "session-life"}},
		{
			name: "identity providers", change: func(c *Config) {
				c.OIDC = openid.Issuers{{Name: "a", IssuerURL: "https://id.example", ClientID: "x"}, {Name: "A", IssuerURL: "http://id.example"}}
			}, want: []string{"oidc[1].name", "oidc[1].issuerURL", "oidc[1].clientID: missing"},
		},
		{
			name: "all at once", change: func(c *Config) { c.DataDir, c.Listen, c.TLSKey = "", "", "k" },
			want: []string{"data-dir", "listen", "tls-cert"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := Config{DataDir: "d", Listen: DefaultListen}
			if tt.change != nil {
				tt.change(&c)
			}
			err := c.Validate()
			if (err != nil) != (tt.want != nil) {
				t.Fatalf("%v", err)
			}
			if err == nil {
				return
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			var de *daemon.Error
			if !errors.As(err, &de) || de.Code != daemon.ExitUsage || de.Hint == "" {
				t.Errorf("%#v is not an error of usage with a hint", err)
			}
		})
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	addr := &net.TCPAddr{IP: net.IPv4zero, Port: 1234}
	for _, tt := range []struct {
		listen    string
		advertise []string
		want      []string
	}{
		{listen: "127.0.0.1:0", want: []string{"https://127.0.0.1:1234"}},
		{listen: "[::1]:0", want: []string{"https://[::1]:1234"}},
		{listen: "name.example:0", want: []string{"https://name.example:1234"}},
		{listen: ":0", want: []string{"https://" + host + ":1234"}},
		{listen: "0.0.0.0:0", want: []string{"https://" + host + ":1234"}},
		{listen: "[::]:0", want: []string{"https://" + host + ":1234"}},
		{listen: ":0", advertise: []string{"https://a/", "https://b:1"}, want: []string{"https://a", "https://b:1"}},
	} {
		c := Config{Listen: tt.listen, Advertise: tt.advertise}
		got, err := c.urls(addr)
		if err != nil {
			t.Errorf("%s: %v", tt.listen, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s %v:\n%s", tt.listen, tt.advertise, d)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, ip := range addresses([]string{"https://192.0.2.7:1", "https://192.0.2.7", "https://name", "https://[2001:db8::1]"}) {
		seen[ip.String()]++
	}
	for _, want := range []string{"127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"} {
		if seen[want] != 1 {
			t.Errorf("%s is there %d times", want, seen[want])
		}
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	c := Config{DataDir: dir}
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.DataDir = file
	var de *daemon.Error
	if err := c.prepare(); !errors.As(err, &de) || !strings.Contains(err.Error(), file) || !strings.Contains(de.Hint, "--data-dir") {
		t.Errorf("a file as data dir: %v", err)
	}
}

func TestListenInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "data")
	h, err := New(Config{DataDir: dir, Listen: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	var de *daemon.Error
	if err := h.Run(timeout(t)); !errors.As(err, &de) || !strings.Contains(de.Hint, "--listen") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a hub without its port made its data dir: %v", err)
	}
}

func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	first, second := r.pair(), r.pair()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	at := time.Now().Add(-time.Hour)
	write := func(file string, data []byte) {
		t.Helper()
		at = at.Add(time.Second) // file systems may have coarse times
		if err := errors.Join(os.WriteFile(file, data, 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ownCertificate(certFile, keyFile, r.cfg.Log); err == nil {
		t.Error("missing files were accepted")
	}
	write(certFile, first.cert)
	write(keyFile, second.key)
	if _, err := ownCertificate(certFile, keyFile, r.cfg.Log); err == nil || !strings.Contains(err.Error(), "tls-cert") {
		t.Errorf("a key of another certificate: %v", err)
	}
	write(keyFile, first.key)
	get, err := ownCertificate(certFile, keyFile, r.cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want pair) {
		t.Helper()
		c, err := get(nil)
		if err != nil || c.Leaf.SerialNumber.Cmp(want.serial) != 0 {
			t.Errorf("serves another certificate: %v", err)
		}
	}
	serves(first)
	// The certificate is replaced first and the key later: in between the former pair serves.
	write(certFile, second.cert)
	serves(first)
	serves(first)
	write(keyFile, second.key)
	serves(second)
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	serves(second)
	if none, err := ownCertificate("", "", r.cfg.Log); none != nil || err != nil {
		t.Errorf("without files: %v", err)
	}
}
