// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/hub/catalog/config"
)

// TestDocumentation: the example in docs/addons.md is true.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../../docs/addons.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(name string) string {
		t.Helper()
		_, rest, ok := strings.Cut(string(data), "```yaml\n# "+name+"\n")
		text, _, closed := strings.Cut(rest, "```")
		if !ok || !closed {
			t.Fatalf("docs/addons.md has no block %q", name)
		}
		return text
	}
	layers := object(t, block("values"))
	var in config.Evaluation
	for _, name := range []string{"version", "addon", "placement", "installed"} {
		values, _ := layers[name].(map[string]any)
		in.Layers = append(in.Layers, config.Layer{Name: name, Values: values})
	}
	got, err := config.Evaluate(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, o := range got.Origin {
		fmt.Fprintf(&lines, "%-32s # %s\n", o.Path+": "+string(o.Value), o.Layer)
	}
	if diff := cmp.Diff(block("outcome"), lines.String()); diff != "" {
		t.Error(diff)
	}
}
