// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/hub/live"
	"github.com/drover-io/drover/hub/metrics"
	liveapi "github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/wire"
)

// TestDashboard: pages for anybody, and all that they read for who may.
func TestDashboard(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	transport, err := rest.TransportFor(r.config())
	if err != nil {
		t.Fatal(err)
	}
	anybodys := r.config()
	anybodys.CertData, anybodys.KeyData = nil, nil
	nobody, err := rest.TransportFor(anybodys)
	if err != nil {
		t.Fatal(err)
	}
	get := func(as http.RoundTripper, path string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(timeout(t), http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := as.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	text := func(res *http.Response) string {
		t.Helper()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	page := get(nobody, "/clusters/shop-1")
	if csp := page.Header.Get("Content-Security-Policy"); page.StatusCode != http.StatusOK || !strings.Contains(csp, "script-src 'self'") {
		t.Errorf("page: %d, policy %q", page.StatusCode, csp)
	}
	for _, path := range []string{liveapi.PathHub, liveapi.PathTable + "/clusters", liveapi.PathLive + "?table=clusters"} {
		if res := get(nobody, path); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s for nobody: %d", path, res.StatusCode)
		}
	}
	var hub liveapi.Hub
	if err := json.Unmarshal([]byte(text(get(transport, liveapi.PathHub))), &hub); err != nil {
		t.Fatal(err)
	}
	if hub.TrustDomain == "" || len(hub.Certificates) < 4 || len(hub.Streams) < 3 || hub.Revision == 0 || hub.DiskTotal == 0 || time.Since(hub.Started) > time.Minute || len(hub.URLs) == 0 {
		t.Errorf("hub: %+v", hub)
	}
	for _, c := range hub.Certificates {
		if c.Name == "" || time.Until(c.NotAfter) <= 0 {
			t.Errorf("certificate %+v", c)
		}
	}
	stream := get(transport, liveapi.PathLive+"?table=clusters&table=sessions")
	if stream.ProtoMajor != 2 {
		t.Errorf("the stream came by %s: eight tabs would not fit", stream.Proto)
	}
	line, err := bufio.NewReader(stream.Body).ReadString('\n')
	var frame liveapi.Frame
	if err != nil || json.Unmarshal([]byte(line), &frame) != nil || !frame.Ready || len(frame.Columns["clusters"]) == 0 {
		t.Errorf("first frame %q: %v", line, err)
	}
}

func TestLoadOf(t *testing.T) {
	t.Parallel()
	k := func(usage, requests map[string]string) *wire.KubernetesSample {
		return &wire.KubernetesSample{Usage: usage, Requests: requests, Allocatable: map[string]string{"cpu": "4", "memory": "8Gi"}}
	}
	for name, tt := range map[string]struct {
		in   metrics.Sample
		want live.Load
		ok   bool
	}{
		"nothing":  {metrics.Sample{}, live.Load{}, false},
		"usage":    {metrics.Sample{Kubernetes: k(map[string]string{"cpu": "1", "memory": "2Gi"}, map[string]string{"cpu": "4", "memory": "8Gi"})}, live.Load{CPU: 25, Memory: 25}, true},
		"requests": {metrics.Sample{Kubernetes: k(nil, map[string]string{"cpu": "3000m"})}, live.Load{CPU: 75}, true},
		"nonsense": {metrics.Sample{Kubernetes: k(map[string]string{"cpu": "x", "memory": "1"}, nil)}, live.Load{}, false},
		"machine":  {metrics.Sample{Host: &wire.HostSample{CPU: 1, Cores: 2, MemoryUsed: 1, MemoryTotal: 4}}, live.Load{CPU: 50, Memory: 25}, true},
	} {
		got, ok := loadOf(tt.in)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %+v %t", name, got, ok)
		}
	}
}
