// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build noui

package web

import (
	"embed"
	"io/fs"
)

//go:embed without
var without embed.FS

// Built is one page: this hub was built without the dashboard.
func Built() (fs.FS, error) { return fs.Sub(without, "without") }
