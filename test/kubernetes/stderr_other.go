// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "os"

// redirectStderr leaves the logs of the components on standard error.
func redirectStderr(*os.File) (*os.File, error) { return os.Stderr, nil }
