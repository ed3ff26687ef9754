// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

var fingerprintPattern = regexp.MustCompile(`fingerprint:\s*([0-9a-f: -]{64,})`)

// joining runs an agent that asks to join with a token, and returns the fingerprint
// that it prints.
func joining(t *testing.T, h *local.Hub, cluster, token string, args ...string) (join *local.Process, fingerprint string) {
	t.Helper()
	file := h.Path(cluster + ".token")
	must(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	join, err := h.Programs.Start(h.Path(cluster+".join.log"), "drover-agent", append([]string{"join", "--token-file", file, "--state-dir", h.Path(cluster)}, args...)...)
	must(t, err)
	t.Cleanup(join.Kill)
	must(t, local.Until(t.Context(), "the agent prints its fingerprint", time.Minute, join, func() (bool, error) {
		m := fingerprintPattern.FindStringSubmatch(join.Tail())
		if m != nil {
			fingerprint = strings.TrimSpace(m[1])
		}
		return m != nil, nil
	}))
	return join, fingerprint
}

// cluster starts a real control plane where one is built; agents without one look
// after the machine alone.
func cluster(t *testing.T) (args []string) {
	t.Helper()
	if _, err := kube.Binary(); err != nil {
		t.Logf("without Kubernetes: %v", err)
		return nil
	}
	k, err := kube.Start(t.Context(), kube.Options{Dir: t.TempDir(), APIOnly: true})
	must(t, err)
	t.Cleanup(func() { _ = k.Stop() })
	return []string{"--kubeconfig", k.Kubeconfig}
}

// TestFirstCluster: from an empty hub to a cluster that is online, and back, by
// nothing but the page and the command that it shows.
func TestFirstCluster(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	_, p := open(t, h)
	must(t, p.UntilText("Three steps make the first one"))
	must(t, p.Press("Create a join token"), p.Fill("Cluster name", "shop-1"), p.Press("Create"), p.UntilText("It cannot be shown again"))
	token, err := Eval[string](p, `document.querySelector("dialog[open] code, dialog[open] pre").innerText`)
	must(t, err)

	// It does not close by accident.
	must(t, p.Do(chromedp.KeyEvent("\x1b")), p.UntilText("It cannot be shown again"))
	must(t, p.Tick("I have kept the token"), p.Press("Close"))

	args := cluster(t)
	join, fingerprint := joining(t, h, "shop-1", token, args...)
	must(t, p.Press("Fleet"), p.Press("Compare and approve shop-1"))

	// Not by a fingerprint that differs.
	must(t, p.UntilText("The hub saw"))
	must(t, p.Fill("Paste it here", strings.Repeat("0", 64)), p.UntilText("Not the same"))
	must(t, p.Fill("Paste it here", fingerprint), p.UntilText("The same fingerprint"), p.Press("Approve"))
	select {
	case <-join.Done():
	case <-time.After(time.Minute):
		t.Fatalf("the agent was not let in:\n%s", join.Tail())
	}
	agent, err := h.StartAgent("shop-1", args...)
	must(t, err)
	t.Cleanup(func() { agent.Stop(20 * time.Second) })
	must(t, p.Press("Fleet"), p.Until("shop-1 is online", `document.querySelector('a[href="/clusters/shop-1"]') && /Online/.test(document.querySelector("main").innerText)`))

	must(t, p.Do(chromedp.Navigate(h.URL+"/clusters/shop-1")), p.UntilText("shop-1"), p.UntilText("Online"))
	must(t, p.Press("Remove"), p.Fill("Type shop-1", "shop-1"), p.Type("\r"))
	must(t, p.Until("the fleet is empty again", `location.pathname === "/" && document.body.innerText.includes("Three steps make the first one")`))
	clean(t, p)
}
