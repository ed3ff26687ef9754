// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package web serves the dashboard: files that were built of the sources in this
// directory by package bundle, and are part of the program. All that they show
// comes from the hub's API, with the rights of who is logged in.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// index answers for every path of the dashboard: which page it is, the script
// finds out.
const index = "index.html"

// assets are the files whose names change with their content.
const assets = "assets/"

// Policy lets pages load and run what the hub serves and nothing else; nothing in
// a page becomes markup or script by accident.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler serves the built files. Every path that is none of them, and not below
// /v1 or the API, is a page of the dashboard. With live the files may change
// meanwhile, and nothing is kept.
func Handler(built fs.FS, live bool) (http.Handler, error) {
	if live {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h, err := newPages(built)
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, r)
		}), nil
	}
	return newPages(built)
}

// pages are the files by their path.
type pages map[string]*file

type file struct {
	kind   string // media type
	etag   string
	data   []byte
	packed func() []byte // nil: not worth it
}

func newPages(built fs.FS) (pages, error) {
	p := pages{}
	err := fs.WalkDir(built, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(built, name)
		if err != nil {
			return err
		}
		p[name] = newFile(name, data)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the dashboard's files: %w", err)
	}
	if p[index] == nil {
		return nil, errors.New("read the dashboard's files: there is no index.html; run `make ui`")
	}
	return p, nil
}

func newFile(name string, data []byte) *file {
	sum := sha256.Sum256(data)
	f := &file{kind: mime.TypeByExtension(path.Ext(name)), etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, data: data}
	switch path.Ext(name) { // whatever the machine's table says
	case ".js":
		f.kind = "text/javascript; charset=utf-8"
	case ".css":
		f.kind = "text/css; charset=utf-8"
	case ".svg":
		f.kind = "image/svg+xml"
	}
	if len(data) > 1<<10 {
		f.packed = sync.OnceValue(func() []byte { return pack(data) })
	}
	return f
}

func pack(data []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil // there is such a level
	}
	if _, err := w.Write(data); err != nil || w.Close() != nil || out.Len() >= len(data) {
		return nil
	}
	return out.Bytes()
}

// ServeHTTP implements http.Handler.
func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	f := p[name]
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !reads && f == nil && name != "":
		h.Set("Cache-Control", "no-store")
		http.Error(w, "404 page not found", http.StatusNotFound) // as Kubernetes answers for a path that it has not
		return
	case !reads:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	case f != nil && strings.HasPrefix(name, assets):
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	case f != nil && name != index:
		h.Set("Cache-Control", "no-cache")
	case !isPage(name):
		h.Set("Cache-Control", "no-store")
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	default:
		f = p[index]
		h.Set("Cache-Control", "no-store")
	}
	f.serve(w, r)
}

// isPage tells pages of the dashboard from files and paths of the API that there
// are not.
func isPage(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case "assets", "v1", "api", "apis", "openapi":
		return false
	}
	return true
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	data, etag := f.data, f.etag
	if f.packed != nil && takesGzip(r) {
		if packed := f.packed(); packed != nil {
			h.Set("Content-Encoding", "gzip")
			data, etag = packed, strings.TrimSuffix(f.etag, `"`)+`-gz"`
		}
	}
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, struct{ io.ReadSeeker }{bytes.NewReader(data)})
}

func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
