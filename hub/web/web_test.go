// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package web_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/drover-io/drover/hub/web"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	script := strings.Repeat("let x = 1;\n", 500)
	h, err := web.Handler(fstest.MapFS{
		"index.html":         {Data: []byte("<!doctype html>app")},
		"favicon.svg":        {Data: []byte("<svg/>")},
		"assets/main-abc.js": {Data: []byte(script)},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	const page, no, kept = "<!doctype html>app", "404 page not found\n", "public, max-age=31536000, immutable"
	for _, tt := range []struct {
		method, path string
		code         int
		body, cache  string
		kind         string
	}{
		{"GET", "/", 200, page, "no-store", "text/html; charset=utf-8"},
		{"GET", "/index.html", 200, page, "no-store", "text/html; charset=utf-8"},
		{"GET", "/clusters/shop-1.eu", 200, page, "no-store", "text/html; charset=utf-8"},
		{"GET", "/addons/versions/logging-1.2.0", 200, page, "no-store", "text/html; charset=utf-8"},
		{"HEAD", "/fleet", 200, "", "no-store", "text/html; charset=utf-8"},
		{"GET", "/favicon.svg", 200, "<svg/>", "no-cache", "image/svg+xml"},
		{"GET", "/assets/main-abc.js", 200, script, kept, "text/javascript; charset=utf-8"},
		{"GET", "/assets/main-old.js", 404, no, "no-store", "text/plain; charset=utf-8"},
		{"GET", "/assets/../index.html", 200, page, "no-store", "text/html; charset=utf-8"},
		{"GET", "/v1/nothing", 404, no, "no-store", "text/plain; charset=utf-8"},
		{"GET", "/apis", 404, no, "no-store", "text/plain; charset=utf-8"},
		{"DELETE", "/nonsense", 404, "404 page not found\n", "no-store", "text/plain; charset=utf-8"},
		{"POST", "/", 405, "method not allowed\n", "", "text/plain; charset=utf-8"},
	} {
		for _, packed := range []bool{false, true} {
			r := httptest.NewRequest(tt.method, "https://hub.example"+tt.path, nil)
			if packed {
				r.Header.Set("Accept-Encoding", "br, gzip;q=0.5")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var body io.Reader = w.Body
			if w.Header().Get("Content-Encoding") == "gzip" {
				if !packed {
					t.Errorf("%s %s: compressed, not asked for", tt.method, tt.path)
				}
				if body, err = gzip.NewReader(w.Body); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.code || string(text) != tt.body || w.Header().Get("Cache-Control") != tt.cache || w.Header().Get("Content-Type") != tt.kind {
				t.Errorf("%s %s: %d %.40q %v", tt.method, tt.path, w.Code, text, w.Header())
			}
			if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "require-trusted-types-for 'script'") || strings.Contains(csp, "unsafe") {
				t.Errorf("%s %s: policy %q", tt.method, tt.path, csp)
			}
		}
	}
}

// TestRevalidate: what was not changed is not sent again, in either encoding.
func TestRevalidate(t *testing.T) {
	t.Parallel()
	h, err := web.Handler(fstest.MapFS{"index.html": {}, "icon.svg": {Data: []byte(strings.Repeat("<svg/>", 1000))}}, false)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]bool{}
	for _, encoding := range []string{"", "gzip"} {
		ask := func(tag string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", "/icon.svg", nil)
			r.Header.Set("Accept-Encoding", encoding)
			r.Header.Set("If-None-Match", tag)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		tag := ask("").Header().Get("ETag")
		if again := ask(tag); again.Code != http.StatusNotModified || tags[tag] {
			t.Errorf("%q: %d, tag %s", encoding, again.Code, tag)
		}
		tags[tag] = true
	}
}

// TestLive: files that change are served as they are, and one that is missing is
// said to be.
func TestLive(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{}
	h, err := web.Handler(files, true)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Body.String()
	}
	if got := ask(); !strings.Contains(got, "make ui") {
		t.Errorf("without files: %q", got)
	}
	for _, text := range []string{"one", "two"} {
		files["index.html"] = &fstest.MapFile{Data: []byte(text)}
		if got := ask(); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
}
