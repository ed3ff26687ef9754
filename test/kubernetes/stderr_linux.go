// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// redirectStderr sends file descriptor 2 to f and returns the old one. The
// components log through several libraries of which each writes to
// descriptor 2; so does a panic.
func redirectStderr(f *os.File) (*os.File, error) {
	old, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := unix.Dup3(int(f.Fd()), 2, 0); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(old), "stderr"), nil
}
