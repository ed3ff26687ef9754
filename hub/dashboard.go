// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"net/http"
	"os"

	"github.com/drover-io/drover/hub/web"
)

// pages are the dashboard: as it was built into the program, or from a directory
// in which somebody works on it.
func (h *Hub) pages() (http.Handler, error) {
	if h.cfg.UIDir != "" {
		return web.Handler(os.DirFS(h.cfg.UIDir), true)
	}
	built, err := web.Built()
	if err != nil {
		return nil, err
	}
	return web.Handler(built, false)
}
