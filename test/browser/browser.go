// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package browser looks at the dashboard with a real Chromium, against a real hub.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/drover-io/drover/test/local"
)

// ErrNone: there is no Chromium on this machine.
var ErrNone = errors.New("no chromium found: install it, apt-get install chromium")

// Find returns the path of a Chromium.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNone
}

// Browser is one Chromium with a profile of its own.
type Browser struct {
	ctx  context.Context
	stop context.CancelFunc
}

// Start starts a Chromium; Close ends it.
func Start(ctx context.Context) (*Browser, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	ctx, stopAllocator := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox,
		// The hub's certificate is of its own authority; package test/signin verifies it.
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("force-color-profile", "srgb"),
	)...)
	ctx, stop := chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	b := &Browser{ctx: ctx, stop: func() { stop(); stopAllocator() }}
	if err := chromedp.Do(ctx); err != nil {
		b.stop()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return b, nil
}

// Close ends the browser with all its tabs.
func (b *Browser) Close() { b.stop() }

// Page is one tab.
type Page struct {
	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex
	errors []string // exceptions and console errors
}

// patience bounds every wait for a page.
const patience = 90 * time.Second

// watching notes what breaks the policy of the pages, before anything else runs.
const watching = `window.droverViolations = [];
document.addEventListener("securitypolicyviolation", (e) => window.droverViolations.push(
  e.effectiveDirective + " " + e.blockedURI + " " + (e.sourceFile || "") + ":" + e.lineNumber + " " + (e.sample || "")));`

// Open opens a tab of a size, at no address yet.
func (b *Browser) Open(width, height int64) (*Page, error) {
	ctx, stop := chromedp.NewContext(b.ctx)
	p := &Page{ctx: ctx, stop: stop}
	err := p.Do(chromedp.EmulateViewport(width, height), call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watching}))
	if err != nil {
		stop()
		return nil, err
	}
	go func() {
		for e, err := range chromedp.Events(ctx, runtime.ExceptionThrown) {
			if err != nil {
				return
			}
			text := e.ExceptionDetails.Text
			if x := e.ExceptionDetails.Exception; x != nil {
				text += " " + x.Description
			}
			p.note(text)
		}
	}()
	return p, nil
}

// call is a command of the protocol as a step.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, c, params)
		return chromedp.Void{}, err
	}
}

func (p *Page) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors = append(p.errors, text)
}

// Errors are the exceptions that scripts of the page did not catch.
func (p *Page) Errors() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.errors...)
}

// Close closes the tab.
func (p *Page) Close() { p.stop() }

// Do runs steps, within patience.
func (p *Page) Do(steps ...chromedp.Action[chromedp.Void]) error {
	if err := chromedp.Do(p.ctx); err != nil { // the first use of a context is not bounded
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// Eval is the value of an expression in the page; a promise is awaited.
func Eval[T any](p *Page, format string, args ...any) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf(format, args...), chromedp.EvalAwaitPromise))
}

// quote is a string as JavaScript has it.
func quote(s string) string {
	data, _ := json.Marshal(s) // a string always encodes
	return string(data)
}

// Until waits until an expression is true.
func (p *Page) Until(what, format string, args ...any) error {
	expression := fmt.Sprintf(format, args...)
	deadline := time.Now().Add(patience)
	for {
		ok, err := Eval[bool](p, "Boolean(%s)", expression)
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := Eval[string](p, `location.href + "\n" + (document.body ? document.body.innerText : "")`)
			if len(text) > 3000 {
				text = text[:3000]
			}
			return fmt.Errorf("never: %s (%v); errors %q; the page says:\n%s", what, err, p.Errors(), text)
		}
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// UntilText waits until the page shows a text.
func (p *Page) UntilText(text string) error {
	return p.Until("the text "+text, `document.body && document.body.innerText.includes(%s)`, quote(text))
}

// Login logs the browser in with a link of `drover dashboard`, and waits for the
// page behind it.
func (p *Page) Login(h *local.Hub) error {
	out, err := h.Drover(p.ctx, "dashboard")
	if err != nil {
		return err
	}
	if err := p.Do(chromedp.Navigate(strings.TrimSpace(out))); err != nil {
		return err
	}
	return p.Until("logged in", `location.pathname !== "/login" && document.querySelector(".lamp.live")`)
}

// As makes the tab send an access token with everything that it asks for: it is the
// holder, whoever is logged in.
func (p *Page) As(token string) error {
	return p.Do(call(network.Enable, network.EnableParams{}),
		call(network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": "Bearer " + token}}))
}

// Go leads the page to a path of the hub, with a fresh load.
func (p *Page) Go(h *local.Hub, path string) error {
	if err := p.Do(chromedp.Navigate(h.URL + path)); err != nil {
		return err
	}
	return p.Until("live at "+path, `document.querySelector(".lamp.live") && document.querySelector("main h1")`)
}

// named finds the first visible element of a selector by its name: its label for
// tools that read aloud, or its text, which begins with it.
const named = `(() => {
  const wanted = %s, all = [...document.querySelectorAll(%s)].filter((e) => e.checkVisibility() && !e.disabled);
  const name = (e) => (e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].innerText) || e.innerText || e.placeholder || "").trim();
  const top = [...document.querySelectorAll("dialog[open]")].pop();
  const inside = all.filter((e) => !top || top.contains(e));
  return inside.find((e) => name(e) === wanted) || inside.find((e) => name(e).startsWith(wanted));
})()`

const (
	buttons = `button, a[href], summary, [role=tab], [role=menuitem], [role=option]`
	fields  = `input, textarea, select`
)

// Press waits for a button or link of that name, in the dialog if one is open, and
// presses it.
func (p *Page) Press(name string) error {
	find := fmt.Sprintf(named, quote(name), quote(buttons))
	if err := p.Until("a button "+name, `(%s) && !(%s).getAttribute("aria-disabled")`, find, find); err != nil {
		return err
	}
	_, err := Eval[any](p, `void (%s).click()`, find)
	return err
}

// Follow waits for a link to a path of the hub and follows it, without a fresh load.
func (p *Page) Follow(path string) error {
	find := fmt.Sprintf(`[...document.querySelectorAll("main a[href]")].find((a) => a.getAttribute("href") === %s)`, quote(path))
	if err := p.Until("a link to "+path, `(%s)`, find); err != nil {
		return err
	}
	_, err := Eval[any](p, `void (%s).click()`, find)
	return err
}

// Fill waits for a field of that name and writes into it, as somebody who types.
func (p *Page) Fill(name, text string) error {
	find := fmt.Sprintf(named, quote(name), quote(fields))
	if err := p.Until("a field "+name, `(%s)`, find); err != nil {
		return err
	}
	if _, err := Eval[any](p, `void (() => { const e = %s; e.focus(); e.select && e.select(); })()`, find); err != nil {
		return err
	}
	return p.Type(text)
}

// Tick waits for a checkbox of that name and ticks it.
func (p *Page) Tick(name string) error {
	find := fmt.Sprintf(named, quote(name), quote("input[type=checkbox]"))
	if err := p.Until("a checkbox "+name, `(%s) && !(%s).disabled`, find, find); err != nil {
		return err
	}
	_, err := Eval[any](p, `void ((%s).checked || (%s).click())`, find, find)
	return err
}

// Type sends keys to whatever has the focus. A key that a page takes writes nothing:
// the character is part of the key, and not sent after it.
func (p *Page) Type(keys string) error {
	var steps []chromedp.Action[chromedp.Void]
	for _, r := range keys {
		events := kb.Encode(r)
		down, up := *events[0], *events[len(events)-1]
		down.Type = "rawKeyDown"
		if len(events) == 3 {
			down.Type, down.Text, down.UnmodifiedText = "keyDown", events[1].Text, events[1].UnmodifiedText
		}
		steps = append(steps, call(input.DispatchKeyEvent, down), call(input.DispatchKeyEvent, up))
	}
	return p.Do(steps...)
}

// Settled waits until nothing loads and nothing moves.
func (p *Page) Settled() error {
	return p.Until("settled", `!document.querySelector("main [aria-busy=true], main .loading") && document.getAnimations().every((a) => a.playState !== "running")`)
}

// Violations are what broke the policy since the page was loaded.
func (p *Page) Violations() ([]string, error) {
	return Eval[[]string](p, "window.droverViolations")
}

// Dark makes the page dark, or light.
func (p *Page) Dark(dark bool) error {
	value := "light"
	if dark {
		value = "dark"
	}
	return p.Do(call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: value}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}))
}

// Screenshot is what the window shows, as PNG.
func (p *Page) Screenshot() ([]byte, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.CaptureScreenshot())
}
