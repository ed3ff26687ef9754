// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/drover-io/drover/test/local"
)

// startHub starts a hub that ends with the test.
func startHub(t *testing.T, args ...string) *local.Hub {
	t.Helper()
	h, err := local.Programs(binaries).StartHub(t.Context(), t.TempDir(), "127.0.0.1:0", args...)
	t.Cleanup(func() {
		if h.Process != nil {
			h.Process.Kill()
		}
		showLog(t, h.Process)
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// startAgent runs a joined agent that ends with the test.
func startAgent(t *testing.T, h *local.Hub, cluster string, args ...string) *local.Process {
	t.Helper()
	p, err := h.StartAgent(cluster, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// eventually polls until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// showLog prints the end of what a program said, when the test failed.
func showLog(t *testing.T, p *local.Process) {
	if t.Failed() && p != nil {
		t.Logf("%s ends with:\n%s", p.Log, p.Tail())
	}
}
