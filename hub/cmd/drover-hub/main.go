// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command drover-hub is the hub of a fleet of clusters.
package main

import (
	"os"

	"github.com/drover-io/drover/shared/daemon"
)

func main() { os.Exit(daemon.Main(root())) }
