// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kube

import "syscall"

func procAttr() *syscall.SysProcAttr { return nil }
