// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command drover is the operator's command line: a client of the hub's API and
// nothing else.
package main

import (
	"os"

	"github.com/drover-io/drover/shared/daemon"
)

func main() { os.Exit(daemon.Main(root())) }
