// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-io/drover/shared/archive"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func dockerConfig(registry, login string) string {
	return `{"auths": {"` + registry + `": {"auth": "` + base64.StdEncoding.EncodeToString([]byte(login)) + `"}}}`
}

func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"fits":       {dockerConfig("registry.example", "ann:geheim"), ""},
		"no JSON":    {"auths: {}", "not JSON at byte 1"},
		"cut off":    {`{"auths": {"geheim`, "not JSON at byte"},
		"empty":      {"", "not JSON at byte 0"},
		"none":       {"{}", "it has no credentials"},
		"a list":     {`{"auths": ["geheim"]}`, "auths is not of the form"},
		"a helper":   {`{"credsStore": "desktop"}`, "put the credentials into auths"},
		"helpers":    {`{"auths": {"a.example": {}}, "credHelpers": {"a.example": "x"}}`, "put the credentials into auths"},
		"not base64": {`{"auths": {"a.example": {"auth": "geheim!"}}}`, `auths["a.example"]: want auth`},
		"no colon":   {dockerConfig("a.example", "geheim"), `auths["a.example"]: want auth`},
		"no login":   {`{"auths": {"a.example": {}}}`, `auths["a.example"]: want auth`},
		"a string":   {`{"auths": {"a.example": "geheim"}}`, `auths["a.example"]: want auth`},
	} {
		err := CheckCredentials(write(t, tt.text))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "geheim")) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	if err := CheckCredentials(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing: %v", err)
	}
}

// TestPullWithCredentials: a real registry behind a login answers those alone who
// have one, and the file is read anew for each pull.
func TestPullWithCredentials(t *testing.T) {
	t.Parallel()
	host := start(t)
	ref := "/addons/a@" + push(t, host, "addons/a", archive.LayerTar, pack(t, false, "a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"))
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "geheim" {
			w.Header().Set("WWW-Authenticate", `Basic realm="addons"`)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer srv.Close()
	private := strings.TrimPrefix(srv.URL, "http://")
	bundles := shelf{}
	file := write(t, dockerConfig("registry.example", "ann:geheim"))
	for _, credentials := range []string{"", file, write(t, dockerConfig(private, "ann:wrong"))} {
		err := New(Config{Bundles: bundles, Credentials: credentials}).Pull(t.Context(), private+ref)
		if err == nil || len(bundles) > 0 || strings.Contains(err.Error(), "geheim") {
			t.Errorf("pulled without the right login: %v, %d bundles", err, len(bundles))
		}
	}
	p := New(Config{Bundles: bundles, Credentials: file})
	if err := os.WriteFile(file, []byte(dockerConfig(private, "ann:geheim")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Pull(t.Context(), private+ref); err != nil || len(bundles) != 2 {
		t.Errorf("%v, %d bundles", err, len(bundles))
	}
}
