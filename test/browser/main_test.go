// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/drover-io/drover/test/local"
)

// programs is where the programs under test are.
var programs string

func TestMain(m *testing.M) {
	if _, err := Find(); err != nil {
		fmt.Println("skipping tests of the dashboard:", err)
		os.Exit(0)
	}
	// Who works on the tests builds the programs once: make build.
	if programs = os.Getenv("DROVER_PROGRAMS"); programs != "" {
		os.Exit(m.Run())
	}
	os.Exit(local.Main(&programs, m.Run))
}

// startHub starts a hub that ends with the test.
func startHub(t *testing.T, args ...string) *local.Hub {
	t.Helper()
	h, err := local.Programs(programs).StartHub(t.Context(), t.TempDir(), "127.0.0.1:0", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Process.Stop(20 * time.Second) })
	return h
}

// open starts a browser that is logged in.
func open(t *testing.T, h *local.Hub) (*Browser, *Page) {
	t.Helper()
	b, err := Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	p, err := b.Open(1280, 800)
	must(t, err)
	must(t, p.Login(h))
	t.Cleanup(func() {
		if t.Failed() {
			keep(t, p)
		}
	})
	return b, p
}

// keep writes what a failed test was looking at where DROVER_SHOTS says.
func keep(t *testing.T, p *Page) {
	dir := os.Getenv("DROVER_SHOTS")
	if dir == "" || p.ctx.Err() != nil {
		return
	}
	if png, err := p.Screenshot(); err == nil {
		_ = os.WriteFile(dir+"/"+t.Name()+".png", png, 0o600)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// clean fails the test for whatever broke the policy of the pages or was not caught.
func clean(t *testing.T, p *Page) {
	t.Helper()
	violations, err := p.Violations()
	must(t, err)
	for _, v := range append(violations, p.Errors()...) {
		t.Errorf("the page: %s", v)
	}
}
