// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := newBuckets(Rate{PerSecond: 2, Burst: 3}, func() time.Time { return now })
	took := func(who string) int {
		n := 0
		for {
			wait, ok := b.take(who)
			if !ok {
				if wait <= 0 || wait > time.Second/2 {
					t.Errorf("wait %s", wait)
				}
				return n
			}
			n++
		}
	}
	if n := took("ann"); n != 3 {
		t.Errorf("ann took %d at once", n)
	}
	if _, empty := b.empty("ann"); !empty {
		t.Error("ann's bucket is not empty")
	}
	if n := took("bob"); n != 3 {
		t.Errorf("bob took %d: ann takes from him", n)
	}
	now = now.Add(time.Second)
	if n := took("ann"); n != 2 {
		t.Errorf("ann took %d after a second", n)
	}
	now = now.Add(time.Hour)
	if n := took("ann"); n != 3 {
		t.Errorf("ann took %d after an hour", n)
	}
	for i := range maxBuckets + 10 {
		b.take(strconv.Itoa(i))
	}
	if len(b.known) > maxBuckets {
		t.Errorf("%d askers are remembered", len(b.known))
	}
	if _, ok := newBuckets(Rate{}, time.Now).take("x"); !ok {
		t.Error("a limit where none is asked for")
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "pipe": "pipe", "host:1": "host",
	} {
		if got := source(remote); got != want {
			t.Errorf("%s: %q, want %q", remote, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) {
		c.UserRate, c.AddressRate = Rate{PerSecond: 0.01, Burst: 3}, Rate{PerSecond: 0.01, Burst: 2}
	})
	admin, bob := h.admin(), h.config("bob")
	codes := func(cfg *rest.Config, path string, n int) (out string) {
		for range n {
			a := h.doAs(cfg, http.MethodGet, path, "")
			out += fmt.Sprint(a.code, " ")
			if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); a.code == 429 && (err != nil || seconds < 1 || !strings.Contains(a.body, `"reason":"TooManyRequests"`)) {
				t.Errorf("%v %s", a.header, a.body)
			}
		}
		return out
	}
	if got := codes(admin, clustersPath, 5); got != "200 200 200 429 429 " {
		t.Errorf("admin: %s", got)
	}
	if got := codes(bob, "/apis", 4); got != "200 200 200 429 " {
		t.Errorf("bob: %s", got)
	}
	nobody := rest.CopyConfig(bob)
	nobody.CertData, nobody.KeyData = nil, nil
	if got := codes(nobody, "/apis", 4); got != "401 401 429 429 " {
		t.Errorf("nobody: %s", got)
	}
	if got := codes(nobody, "/version", 1); got != "429 " {
		t.Errorf("nobody, the version: %s", got)
	}
	// a certificate that works is not held up by others at the same address
	if got := codes(h.config("carl"), "/apis", 1); got != "200 " {
		t.Errorf("carl: %s", got)
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for _, path := range []string{clustersPath, "/apis", "/version", clustersPath + "/nothing", "/openapi/v3"} {
		a := h.do(http.MethodGet, path, "")
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
			if a.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, a.header.Get(name))
			}
		}
		if !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no Content-Security-Policy", path)
		}
	}
}
