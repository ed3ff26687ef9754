// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import "syscall"

// procAttr lets the process end with the one that started it, and keeps a
// Ctrl-C on the terminal away from it: its owner stops it in order.
func procAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
