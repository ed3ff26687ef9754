// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelp: every command says in one line what it does, and every one that takes
// arguments shows how it is called.
func TestHelp(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := c.CommandPath()
		switch {
		case c.Short == "" || len(c.Short) > 90 || strings.ContainsAny(c.Short, "\n`") || strings.HasSuffix(c.Short, "."):
			t.Errorf("%s: short help %q: want one line of at most 90 characters without a full stop", path, c.Short)
		case !unicode.IsUpper([]rune(c.Short)[0]):
			t.Errorf("%s: short help %q begins with a small letter", path, c.Short)
		}
		if takes := strings.Contains(strings.TrimSuffix(c.Use, " --user USER"), " "); takes && c.HasParent() && c.Example == "" {
			t.Errorf("%s: no example", path)
		}
		for line := range strings.Lines(c.Long) {
			if len(strings.TrimSpace(line)) > 90 {
				t.Errorf("%s: a line of %d characters: %s", path, len(line), line)
			}
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "drover ") {
				t.Errorf("%s: example %q", path, line)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if name, usage := pflag.UnquoteUsage(f); f.Usage == "" || strings.Contains(name, " ") || strings.Contains(usage, "\n") {
				t.Errorf("%s --%s: usage %q", path, f.Name, f.Usage)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
}
