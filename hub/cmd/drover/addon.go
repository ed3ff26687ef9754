// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func (g *globals) addonCommand() *cobra.Command {
	c := &cobra.Command{Use: "addon", Short: "Addons: what the catalog has, and how it is configured", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.addOnInstallCommand(), g.addOnRemoveCommand(), g.addOnListCommand(), g.addOnPreviewCommand(), g.addonConfigCommand())
	return c
}
