// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/wire"
)

// say is a handler that answers with its name and what it was shown.
func say(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s certificates=%d", name, r.Proto, len(r.TLS.PeerCertificates))
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) { c.AgentHandler, c.PeopleHandler = say("agents"), say("people") })
	cert := h.agentCert(t, "aaa")
	for _, tt := range []struct {
		name, server, path string
		status             int
		body               string
	}{
		{"agent joins", "hub.fleet.test", wire.PathJoin, 200, "agents HTTP/1.1 certificates=1"},
		{"agent polls", "hub.fleet.test", wire.PathJoin + "/1", 200, "agents HTTP/1.1 certificates=1"},
		{"agent renews", "HUB.fleet.test", wire.PathRenew, 200, "agents HTTP/1.1 certificates=1"},
		{"agent on people's path", "hub.fleet.test", "/apis", 404, `{"reason":"bad-request"`},
		{"agent without websocket", "hub.fleet.test", wire.PathAgent, 426, "WebSocket protocol violation"},
		{"tool", "api.fleet.test", "/apis", 200, "people HTTP/2.0 certificates=1"},
		{"tool on agents' path", "api.fleet.test", wire.PathAgent, 421, `{"reason":"bad-request"`},
		{"browser", "localhost", "/", 200, "people HTTP/2.0 certificates=0"},
		{"browser on agents' path", "localhost", wire.PathJoin + "/x", 421, `{"reason":"bad-request"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := h.client(cert, tt.server, h.Addr().String())
			// As browsers and tools do; agents do not.
			client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
			resp, err := client.Get("https://somewhere" + tt.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || !strings.HasPrefix(string(body), tt.body) {
				t.Errorf("status %d, body %q; want %d, %q", resp.StatusCode, body, tt.status, tt.body)
			}
		})
	}
}

func TestTLS12IsRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	for _, name := range []string{"hub.fleet.test", "api.fleet.test", "localhost"} {
		_, err := tls.Dial("tcp", h.Addr().String(), &tls.Config{ServerName: name, RootCAs: h.ca.pool, MaxVersion: tls.VersionTLS12})
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(c *Config) {
		verify := c.Verify
		c.Verify = func(ctx context.Context, r *http.Request) (Peer, error) {
			switch r.Header.Get("Case") {
			case "busy":
				return Peer{}, fmt.Errorf("verify: %w", &RefusalError{
					Status: 503, Refusal: wire.Refusal{Reason: wire.ReasonBusy}, RetryAfter: 1500 * time.Millisecond,
				})
			case "store":
				return Peer{}, errors.New("the store is away")
			}
			return verify(ctx, r)
		}
	})
	h.deny("bbb", wire.ReasonSuperseded)
	for _, tt := range []struct {
		name, cluster string
		header        http.Header
		status        int
		want          wire.Refusal
		retry         string
	}{
		{"origin", "aaa", http.Header{"Origin": {"https://evil.test"}}, 403, wire.Refusal{Reason: wire.ReasonBadRequest, Message: "this path is for agents, not for browsers"}, ""},
		{"no certificate", "", nil, 401, wire.Refusal{Reason: wire.ReasonRefused}, ""},
		{"superseded", "bbb", nil, 401, wire.Refusal{Reason: wire.ReasonSuperseded}, ""},
		{"busy", "aaa", http.Header{"Case": {"busy"}}, 503, wire.Refusal{Reason: wire.ReasonBusy}, "2"},
		{"internal", "aaa", http.Header{"Case": {"store"}}, 500, wire.Refusal{Reason: wire.ReasonInternal, Message: "internal error, see the hub's log"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cert *tls.Certificate
			if tt.cluster != "" {
				cert = h.agentCert(t, tt.cluster)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://hub"+wire.PathAgent, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = tt.header.Clone()
			resp, err := h.client(cert, "hub.fleet.test", h.Addr().String()).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var got wire.Refusal
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || resp.StatusCode != tt.status || resp.Header.Get("Retry-After") != tt.retry {
				t.Errorf("status %d, Retry-After %q, %s", resp.StatusCode, resp.Header.Get("Retry-After"), diff)
			}
			if h.Stats().Refusals[tt.want.Reason] == 0 {
				t.Error("not counted")
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	_, err := Listen(h.Addr().String())
	want := fmt.Sprintf("listen on %s: address already in use", h.Addr())
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
