// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command drover-agent manages one cluster for a hub.
package main

import (
	"os"

	"github.com/drover-io/drover/shared/daemon"
)

func main() { os.Exit(daemon.Main(root())) }
