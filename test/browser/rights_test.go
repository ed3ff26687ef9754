// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// limited opens a browser for the holder of an access token of a user.
func limited(t *testing.T, h *local.Hub, user string) *Page {
	t.Helper()
	token, err := h.Drover(t.Context(), "access", "create", user, "--user", user)
	must(t, err)
	b, err := Start(context.Background())
	must(t, err)
	t.Cleanup(b.Close)
	p, err := b.Open(1280, 800)
	must(t, err)
	must(t, p.As(strings.TrimSpace(token)))
	t.Cleanup(func() {
		if t.Failed() {
			keep(t, p)
		}
	})
	return p
}

// role lets a user do something, as an administrator would with kubectl.
func role(t *testing.T, h *local.Hub, user string, rule ...string) {
	t.Helper()
	for _, args := range [][]string{
		append([]string{"create", "clusterrole", user}, rule...),
		{"create", "clusterrolebinding", user, "--clusterrole=" + user, "--user=" + user},
	} {
		if out, err := kube.Kubectl(h.Kubeconfig(), args...).CombinedOutput(); err != nil {
			t.Fatalf("kubectl %v: %v\n%s", args, err, out)
		}
	}
}

// names are those of clusters that the document has anywhere: text, attributes and
// scripts' answers that were drawn.
func names(t *testing.T, p *Page) []string {
	t.Helper()
	found, err := Eval[[]string](p, `[...new Set(document.documentElement.outerHTML.match(/shop-\d{4}/g) || [])].sort()`)
	must(t, err)
	return found
}

// TestNothingAllowed: who may do nothing is told so on every page, and learns no name.
func TestNothingAllowed(t *testing.T) {
	t.Parallel()
	h := startHub(t, Options()...)
	must(t, Seed(t.Context(), h, Fleet{Clusters: 6}))
	p := limited(t, h, "nobody")
	for path, text := range map[string]string{
		"/": "You may not see", "/requests": "You may not see", "/tokens": "You may not see", "/addons": "You may not see",
		"/clusters/" + Name(3): "You may not see", "/trail": "may not", "/hub": "may not", "/access": "nobody",
	} {
		must(t, p.Go(h, path), p.UntilText(text), p.Settled())
		if found := slices.DeleteFunc(names(t, p), func(n string) bool { return strings.HasSuffix(path, n) }); len(found) > 0 {
			t.Errorf("%s shows %v to who may see nothing", path, found)
		}
		if wrong, err := p.Axe(); err != nil || len(wrong) > 0 {
			t.Errorf("%s: %v %v", path, wrong, err)
		}
	}
	must(t, p.Go(h, "/tokens"), p.Until("a reason on the button", `(() => {
  const b = [...document.querySelectorAll("main button")].find((b) => /Create a join token/.test(b.innerText));
  return b && b.getAttribute("aria-disabled") === "true" && /You may not create jointokens/.test(document.getElementById(b.getAttribute("aria-describedby"))?.textContent);
})()`))
	clean(t, p)
}

// TestOneClusterAllowed: who may see one cluster of many finds it, what may be done
// with it, and no trace of the others.
func TestOneClusterAllowed(t *testing.T) {
	t.Parallel()
	if _, err := kube.Binary(); err != nil {
		t.Skip("needs kubectl: ", err)
	}
	h := startHub(t, Options()...)
	must(t, Seed(t.Context(), h, Fleet{Clusters: 30}))
	role(t, h, "ann", "--verb=get,list,watch", "--resource=managedclusters.cluster.open-cluster-management.io", "--resource-name="+Name(3))
	p := limited(t, h, "ann")
	for _, path := range []string{"/", "/?view=table", "/clusters/" + Name(3)} {
		must(t, p.Go(h, path), p.Until("the cluster", `document.querySelector("main").outerHTML.includes(%s)`, quote(Name(3))), p.Settled())
		if found := names(t, p); !slices.Equal(found, []string{Name(3)}) {
			t.Errorf("%s shows %v, want %s alone", path, found, Name(3))
		}
	}
	must(t, p.Until("what may not be done says why", `["Edit labels", "Revoke", "Remove"].every((name) => {
  const b = [...document.querySelectorAll("main button")].find((b) => b.innerText.startsWith(name));
  return b && b.getAttribute("aria-disabled") === "true" && /You may not/.test(document.getElementById(b.getAttribute("aria-describedby"))?.textContent);
})`))
	must(t, p.Go(h, "/clusters/"+Name(3)+"/works"), p.UntilText("You may not see the works of this cluster"))
	must(t, p.Go(h, "/clusters/"+Name(4)), p.UntilText("You may not see"))

	// What becomes allowed is there at once, and gone when it is not any more.
	must(t, p.Go(h, "/?view=table"), p.UntilText(Name(3)))
	role(t, h, "bob", "--verb=get,list,watch", "--resource=managedclusters.cluster.open-cluster-management.io")
	if out, err := kube.Kubectl(h.Kubeconfig(), "create", "clusterrolebinding", "ann-too", "--clusterrole=bob", "--user=ann").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, p.UntilText(Name(7)))
	if out, err := kube.Kubectl(h.Kubeconfig(), "delete", "clusterrolebinding", "ann-too").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, p.Until("the others are gone", `!document.documentElement.outerHTML.includes(%s) && document.body.innerText.includes(%s)`, quote(Name(7)), quote(Name(3))))
	clean(t, p)
}
