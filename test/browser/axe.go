// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	_ "embed"
	"fmt"
)

// axe is axe-core 4.14.1; its licence is beside it.
//
//go:embed testdata/axe.min.js
var axe string

// Axe returns what is wrong for people who cannot see, or not well, one line a rule.
// The script comes in by the protocol of the browser: the policy of the pages is
// not in its way, and stays as it is.
func (p *Page) Axe() ([]string, error) {
	if _, err := Eval[any](p, "%s\n; void 0", axe); err != nil {
		return nil, fmt.Errorf("load axe: %w", err)
	}
	return Eval[[]string](p, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.map(
    (v) => v.id + " (" + v.impact + "): " + v.help + ": " + v.nodes.slice(0, 4).map((n) => n.html.slice(0, 160) + " " + (n.any[0] ? n.any[0].message : "")).join(" | ")))`)
}
