// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package web serves the hub's pages for people with a browser. Today that is
// one page, which says what this address is and how to look around; it shows
// nothing of the fleet, since a browser has no way to log in yet.
package web

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed pages
var files embed.FS

const policy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the pages.
func Handler() (http.Handler, error) {
	pages, err := fs.Sub(files, "pages")
	if err != nil {
		return nil, err
	}
	server := http.FileServerFS(pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		server.ServeHTTP(w, r)
	}), nil
}
