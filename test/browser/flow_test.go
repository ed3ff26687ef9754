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

// cluster starts a real control plane on which pods run, where one is built; agents
// without one look after the machine alone.
func cluster(t *testing.T) (kubeconfig string, args []string) {
	t.Helper()
	if _, err := kube.Binary(); err != nil {
		t.Logf("without Kubernetes: %v", err)
		return "", nil
	}
	k, err := kube.Start(t.Context(), kube.Options{Dir: t.TempDir(), Metrics: true})
	must(t, err)
	t.Cleanup(func() { _ = k.Stop() })
	return k.Kubeconfig, []string{"--kubeconfig", k.Kubeconfig}
}

// push publishes the addon hello, as its author would.
func push(t *testing.T, h *local.Hub) {
	t.Helper()
	if _, err := h.Drover(t.Context(), "addon", "push", "hello@1.0.0", "testdata/hello", "--default"); err != nil {
		t.Fatal(err)
	}
}

// admitted waits until the agent has its certificate, and starts it.
func admitted(t *testing.T, h *local.Hub, join *local.Process, cluster string, args []string) {
	t.Helper()
	select {
	case <-join.Done():
	case <-time.After(2 * time.Minute):
		t.Fatalf("the agent was not let in:\n%s", join.Tail())
	}
	agent, err := h.StartAgent(cluster, args...)
	must(t, err)
	t.Cleanup(func() { agent.Stop(20 * time.Second) })
}

// runs says whether the addon hello runs where kubeconfig leads to.
func runs(t *testing.T, kubeconfig string) bool {
	t.Helper()
	out, err := kube.Kubectl(kubeconfig, "-n", "hello", "get", "deployment", "web", "--ignore-not-found", "-o", "jsonpath={.status.readyReplicas}").CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl: %v\n%s", err, out)
	}
	return string(out) == "2"
}

// healthy is a row of the addon page, or of a cluster's list of addons.
const healthy = `[...document.querySelectorAll("main tr")].some((r) => r.innerText.includes(%s) && /Healthy/.test(r.innerText) && r.innerText.includes("1.0.0"))`

// TestFirstCluster: from an empty hub to a cluster that is online and runs an addon,
// and back, by nothing but the page and the command that it shows.
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

	kubeconfig, args := cluster(t)
	join, fingerprint := joining(t, h, "shop-1", token, args...)
	must(t, p.Press("Fleet"), p.Press("Compare and approve shop-1"))

	// Not by a fingerprint that differs.
	must(t, p.UntilText("The hub saw"))
	must(t, p.Fill("Paste it here", strings.Repeat("0", 64)), p.UntilText("Not the same"))
	must(t, p.Fill("Paste it here", fingerprint), p.UntilText("The same fingerprint"), p.Press("Approve"))
	admitted(t, h, join, "shop-1", args)
	must(t, p.Press("Fleet"), p.Until("shop-1 is online", `document.querySelector('a[href="/clusters/shop-1"]') && /Online/.test(document.querySelector("main").innerText)`))
	if kubeconfig != "" {
		addon(t, h, p, kubeconfig)
	}

	must(t, p.Press("Fleet"), p.Follow("/clusters/shop-1"), p.UntilText("Online"))
	must(t, p.Press("Remove"), p.Fill("Type shop-1", "shop-1"), p.Type("\r"))
	must(t, p.Until("the fleet is empty again", `location.pathname === "/" && document.body.innerText.includes("Three steps make the first one")`))
	clean(t, p)
}

// addon installs an addon on shop-1, finds it healthy wherever it is shown, and
// removes it.
func addon(t *testing.T, h *local.Hub, p *Page, kubeconfig string) {
	t.Helper()
	must(t, p.Press("Addons"), p.UntilText("The catalog is empty"))
	push(t, h)
	must(t, p.Press("hello"), p.UntilText("hello runs nowhere"), p.Press("Install"))
	must(t, p.UntilText("Choose clusters, and what each would get is shown here"))
	must(t, p.Fill("Clusters", "name:shop-2"), p.UntilText("0 clusters of 1"))
	must(t, p.Fill("Clusters", "name:shop-1"), p.UntilText("4 objects"), p.UntilText("hello/settings"))
	must(t, p.Press("Install on 1 cluster"), p.Until("the dialog is closed", `!document.querySelector("dialog[open]")`))
	must(t, p.Until("healthy on the addon's page", healthy, `"shop-1"`))
	if !runs(t, kubeconfig) {
		t.Error("the page says that the addon is healthy, and the cluster does not run it")
	}

	must(t, p.Follow("/clusters/shop-1/addons?why=hello"), p.UntilText("Why hello is as it is"), p.Until("healthy on the cluster's page", healthy, `"hello"`))
	must(t, p.Press("Overview"), p.Until("charts", `document.querySelectorAll("main .charts canvas").length > 2`))

	// Removed only by its name, from one place or all.
	must(t, p.Press("Addons"), p.Until("the catalog counts it", `/hello/.test(document.querySelector("main").innerText) && /Healthy/.test(document.querySelector("main").innerText)`))
	must(t, p.Follow("/addons/hello"), p.Press("Remove"), p.UntilText("4 objects"))
	must(t, p.Until("a reason", `/Type hello first/.test(document.querySelector("dialog[open]").textContent)`))
	must(t, p.Fill("Type hello", "hello"), p.Press("Remove from 1 cluster"), p.UntilText("hello runs nowhere"))
	if out, err := kube.Kubectl(kubeconfig, "get", "deployments", "-A", "-o", "name").CombinedOutput(); err != nil || strings.Contains(string(out), "web") {
		t.Errorf("the page says that the addon is gone, and the cluster runs it: %v\n%s", err, out)
	}
}

// TestByKeyboard: an agent is let in, and an addon installed and removed, without a
// mouse.
func TestByKeyboard(t *testing.T) {
	t.Parallel()
	kubeconfig, args := cluster(t)
	if kubeconfig == "" {
		t.Skip("needs Kubernetes")
	}
	h := startHub(t)
	push(t, h)
	_, p := open(t, h)
	_, err := Eval[any](p, `void ["mousedown", "mousemove", "pointerdown", "touchstart"].forEach((type) => addEventListener(type, () => { window.droverMouse = true; }, true))`)
	must(t, err)
	token, err := h.Drover(t.Context(), "token", "create", "--cluster", "shop-1")
	must(t, err)
	join, fingerprint := joining(t, h, "shop-1", strings.TrimSpace(token), args...)

	must(t, p.Type("g"), p.Type("r"), p.Until("the requests", `location.pathname === "/requests"`), p.UntilText("shop-1"))
	tabTo(t, p, "Compare and approve shop-1")
	must(t, p.Type("\r"), p.UntilText("The hub saw"))
	must(t, p.Type(fingerprint[len(fingerprint)-16:]), p.UntilText("The same fingerprint"), p.Type("\r"))
	must(t, p.Until("the dialog is closed", `!document.querySelector("dialog[open]")`))
	admitted(t, h, join, "shop-1", args)
	must(t, p.Type("g"), p.Type("f"), p.Until("shop-1 is online", `location.pathname === "/" && /Online/.test(document.querySelector("main").innerText)`))

	must(t, p.Do(chromedp.KeyEvent("k", chromedp.KeyModifiers(2))), p.Until("the palette", `document.querySelector("dialog[open] input")`))
	must(t, p.Type("hello"), p.Until("it finds the addon", `/hello/.test(document.querySelector("dialog[open] [aria-selected=true]")?.innerText)`))
	must(t, p.Type("\r"), p.Until("the addon", `location.pathname === "/addons/hello"`), p.UntilText("hello runs nowhere"))
	must(t, p.Until("installing is allowed", `[...document.querySelectorAll("main button")].some((b) => /^Install/.test(b.innerText) && !b.disabled && !b.getAttribute("aria-disabled"))`))
	must(t, p.Type("i"), p.Until("the dialog", `document.activeElement.closest("dialog") && document.activeElement.matches("input")`))
	must(t, p.Type("name:shop-1"), p.UntilText("4 objects"))
	tabTo(t, p, "Install on 1 cluster")
	must(t, p.Type("\r"), p.Until("healthy", healthy, `"shop-1"`))

	tabTo(t, p, "Remove")
	must(t, p.Type("\r"), p.UntilText("4 objects"))
	tabTo(t, p, "Type hello")
	must(t, p.Type("hello"))
	tabTo(t, p, "Remove from 1 cluster")
	must(t, p.Type("\r"), p.UntilText("hello runs nowhere"))
	if mouse, err := Eval[bool](p, "Boolean(window.droverMouse)"); err != nil || mouse {
		t.Errorf("there was a mouse: %t %v", mouse, err)
	}
	clean(t, p)
}
