// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drover-io/drover/hub/web/bundle"
)

// TestLogic: what the pages compute is right, in the engine that computes it.
func TestLogic(t *testing.T) {
	t.Parallel()
	script, err := bundle.Script("../../hub/web", "src/logic.test.ts", "logic")
	must(t, err)
	b, err := Start(context.Background())
	must(t, err)
	t.Cleanup(b.Close)
	p, err := b.Open(800, 600)
	must(t, err)
	must(t, p.Do(chromedp.Navigate("about:blank")))
	_, err = Eval[any](p, "%s\n; void (globalThis.logic = logic)", script)
	must(t, err)
	wrong, err := Eval[[]string](p, "logic.run()")
	must(t, err)
	for _, w := range wrong {
		t.Error(w)
	}
}
