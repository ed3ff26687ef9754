// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !noui

package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Built are the files of this build, as package bundle made them.
func Built() (fs.FS, error) { return fs.Sub(dist, "dist") }
