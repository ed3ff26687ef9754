// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drover-io/drover/test/local"
)

// hostile is text that does something where it is taken for more than text.
const hostile = `<img src=x onerror="window.droverOwned=1"><script>window.droverOwned=2</script>"'${window.droverOwned=3}{{1+1}}` + "\u202e"

// Pages of the dashboard, as Seed fills it.
func pages() []string {
	return []string{
		"/", "/?view=table", "/requests", "/tokens", "/tokens?new=1", "/clusters/" + Name(3), "/clusters/" + Name(3) + "/works",
		"/clusters/" + Name(3) + "/works/web", "/addons", "/addons/logging", "/addons/cert-manager",
		"/addons/cert-manager/versions/1.15.0", "/addons/cert-manager/versions/1.15.0?from=1.14.2", "/addons/cert-manager?do=install&on=name%3A" + Name(3), "/trail", "/hub", "/access", "/nowhere",
	}
}

// TestPages: no page breaks its policy, throws, takes text for markup, or keeps
// anybody out who does not see well; light and dark.
func TestPages(t *testing.T) {
	t.Parallel()
	h := startHub(t, Options()...)
	must(t, Seed(t.Context(), h, Fleet{Clusters: 40, Text: hostile}))
	_, p := open(t, h)
	for _, path := range pages() {
		for _, dark := range []bool{false, true} {
			must(t, p.Dark(dark), p.Go(h, path))
			must(t, p.Until("loaded", `!document.querySelector("main [aria-busy=true]")`))
			wrong, err := p.Axe()
			must(t, err)
			for _, w := range wrong {
				t.Errorf("%s, dark %t: %s", path, dark, w)
			}
			owned, err := Eval[bool](p, "Boolean(window.droverOwned)")
			must(t, err)
			if owned {
				t.Errorf("%s: text became a program", path)
			}
			violations, err := p.Violations()
			must(t, err)
			for _, v := range violations {
				t.Errorf("%s: %s", path, v)
			}
		}
	}
	clean(t, p)
}

// TestPolicy: the policy is in force, and the test would see it broken.
func TestPolicy(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	_, p := open(t, h)
	refused, err := Eval[bool](p, `(() => { try { document.body.innerHTML = "<b>x</b>"; return false; } catch { return true; } })()`)
	must(t, err)
	must(t, p.Until("a report", "window.droverViolations.length > 0"))
	if !refused {
		t.Error("a text became markup")
	}
	if v, err := p.Violations(); err != nil || len(v) != 1 {
		t.Errorf("%v %v, want one report", v, err)
	}
}

// TestStale: a hub that is gone is noticed, and one that is back too, without a
// reload.
func TestStale(t *testing.T) {
	t.Parallel()
	h := startHub(t, Options()...)
	must(t, Seed(t.Context(), h, Fleet{Clusters: 3}))
	_, p := open(t, h)
	must(t, p.Go(h, "/"), p.Until("clusters", `document.querySelector('a[href^="/clusters/"]')`))
	_, err := Eval[any](p, "void (window.droverMark = 1)")
	must(t, err)
	address := h.Address()
	began := time.Now()
	h.Process.Kill()
	must(t, p.Until("the lamp says stale", `document.querySelector(".lamp.stale") && /Stale since/.test(document.querySelector(".lamp").innerText)`))
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("stale after %s, at most 20 s", d)
	}
	must(t, p.Until("what was there stays", `document.querySelector('a[href^="/clusters/"]')`))
	must(t, h.Start(t.Context(), address, Options()...))
	t.Cleanup(func() { h.Process.Stop(20 * time.Second) })
	must(t, p.Until("live again", `document.querySelector(".lamp.live")`))
	if err := p.Until("not by a reload", "window.droverMark === 1"); err != nil {
		t.Error(err)
	}
	clean(t, p)
}

// TestEightTabs: one browser with eight of them, all live, and room for more requests.
func TestEightTabs(t *testing.T) {
	t.Parallel()
	h := startHub(t, Options()...)
	must(t, Seed(t.Context(), h, Fleet{Clusters: 5}))
	b, first := open(t, h)
	tabs := []*Page{first}
	for range 7 {
		p, err := b.Open(1000, 700)
		must(t, err)
		must(t, p.Go(h, "/"))
		tabs = append(tabs, p)
	}
	must(t, first.Go(h, "/"))
	if _, err := h.Drover(t.Context(), "cluster", "label", Name(1), "tabs=eight"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Drover(t.Context(), "cluster", "remove", Name(0), "--yes"); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i, p := range tabs {
		wait.Go(func() {
			if err := p.Until("the change", `document.querySelector('a[href="/clusters/%s"]') && !document.querySelector('a[href="/clusters/%s"]')`, Name(1), Name(0)); err != nil {
				t.Errorf("tab %d: %v", i, err)
			}
			if who, err := Eval[string](p, `fetch("/v1/session").then((r) => r.json()).then((w) => w.user)`); err != nil || who != "admin" {
				t.Errorf("tab %d: one more request: %s %v", i, who, err)
			}
		})
	}
	wait.Wait()
}

// tabTo moves the focus by the keyboard to what begins with a name.
func tabTo(t *testing.T, p *Page, name string) {
	t.Helper()
	for range 150 {
		at, err := Eval[string](p, `(() => { const e = document.activeElement; return (e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].innerText) || e.innerText || "").trim(); })()`)
		must(t, err)
		if len(at) >= len(name) && at[:len(name)] == name {
			return
		}
		must(t, p.Type("\t"))
	}
	t.Fatalf("the keyboard does not reach %q", name)
}

// TestKeyboard: a token is made and revoked, and a place gone to, without a mouse.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	_, p := open(t, h)
	must(t, p.Type("g"), p.Type("t"), p.Until("the tokens", `location.pathname === "/tokens"`), p.UntilText("There is no join token"))
	tabTo(t, p, "Create a join token")
	must(t, p.Type("\r"), p.UntilText("An agent shows the token"))
	tabTo(t, p, "Cluster name")
	must(t, p.Type("by-hand"), p.Type("\r"), p.UntilText("It cannot be shown again"))
	tabTo(t, p, "I have kept the token")
	must(t, p.Type(" "))
	tabTo(t, p, "Close")
	must(t, p.Type("\r"), p.Until("the dialog is closed", `!document.querySelector("dialog[open]")`))
	tabTo(t, p, "Revoke jt-")
	must(t, p.Type("\r"), p.UntilText("No agent can join with token"))
	tabTo(t, p, "Revoke")
	must(t, p.Type("\r"), p.UntilText("Revoked"))
	must(t, p.Do(chromedp.KeyEvent("k", chromedp.KeyModifiers(2))), p.Until("the palette", `document.querySelector("dialog[open] input, [role=combobox]")`))
	must(t, p.Type("hub"), p.Type("\r"), p.Until("the hub", `location.pathname === "/hub"`))
	clean(t, p)
}

// TestTokenExpires: a page that is looked at says that a token's time is over when it
// is, though nobody tells it; such a token cannot be revoked.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	_, p := open(t, h)
	must(t, p.Go(h, "/tokens"))
	if _, err := h.Drover(t.Context(), "token", "create", "--cluster", "brief", "--ttl", "1m"); err != nil {
		t.Fatal(err)
	}
	row := `[...document.querySelectorAll("main tr")].find((r) => r.innerText.includes("brief"))`
	must(t, p.Until("the token", "%s", row), p.Until("it is open", `/Open/.test((%s).innerText)`, row))
	must(t, local.Until(t.Context(), "the token expires", 3*time.Minute, h.Process, func() (bool, error) {
		return Eval[bool](p, `/Expired/.test((%s).innerText) && !(%s).querySelector("button")`, row, row)
	}))
	must(t, p.Go(h, "/tokens?q=phase%3AOpen"), p.UntilText("No token fits the filter"))
	clean(t, p)
}

// TestNarrow: nothing is wider than a phone.
func TestNarrow(t *testing.T) {
	t.Parallel()
	h := startHub(t, Options()...)
	must(t, Seed(t.Context(), h, Fleet{Clusters: 12}))
	_, p := open(t, h)
	must(t, p.Do(chromedp.EmulateViewport(390, 844)))
	for _, path := range pages() {
		must(t, p.Go(h, path))
		over, err := Eval[float64](p, "document.documentElement.scrollWidth - innerWidth")
		must(t, err)
		if over > 1 {
			t.Errorf("%s is %.0f pixels too wide", path, over)
		}
	}
}
