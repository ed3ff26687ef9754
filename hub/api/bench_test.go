// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"

	"github.com/drover-io/drover/hub/store"
)

func newBenchHub(b *testing.B) *hub {
	return newHub(b, func(c *Config) { c.Authenticator = authenticator.RequestFunc(everybody) })
}

// direct sends a request past the network.
func (h *hub) direct(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	if w.Code >= 300 {
		h.t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	return w
}

func benchCluster(i int) string {
	return fmt.Sprintf(`{"apiVersion":"cluster.open-cluster-management.io/v1","kind":"ManagedCluster","metadata":{"name":"c%06d","labels":{"env":"prod","group":"g%d"},"annotations":{"note":"%s"}},"spec":{"hubAcceptsClient":true,"taints":[{"key":"a","effect":"NoSelect"}]}}`,
		i, i%10, strings.Repeat("x", 300))
}

func (h *hub) fill(n int) {
	h.t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				h.direct(http.MethodPost, clustersPath, benchCluster(int(i)))
			}
		})
	}
	wg.Wait()
}

func BenchmarkCreate(b *testing.B) {
	h := newBenchHub(b)
	i := 0
	for b.Loop() {
		i++
		h.direct(http.MethodPost, clustersPath, benchCluster(i))
	}
}

func BenchmarkCreateParallel(b *testing.B) {
	h := newBenchHub(b)
	var i atomic.Int64
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.direct(http.MethodPost, clustersPath, benchCluster(int(i.Add(1))))
		}
	})
}

func BenchmarkPatch(b *testing.B) {
	h := newBenchHub(b)
	h.fill(1)
	i := 0
	for b.Loop() {
		i++
		h.direct(http.MethodPatch, clustersPath+"/c000001", `{"metadata":{"labels":{"n":"`+strconv.Itoa(i)+`"}}}`, "Content-Type", mergePatch)
	}
}

func BenchmarkList10k(b *testing.B) {
	h := newBenchHub(b)
	h.fill(10000)
	for _, v := range []struct{ name, query, accept string }{
		{"whole", "", ""},
		{"page", "?limit=500", ""},
		{"label", "?labelSelector=group%3Dg1", ""},
		{"table", "", acceptTable},
		{"partial", "", acceptPartial},
	} {
		b.Run(v.name, func(b *testing.B) {
			size := 0
			for b.Loop() {
				size = h.direct(http.MethodGet, clustersPath+v.query, "", "Accept", v.accept).Body.Len()
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// sink is a watching client that counts events.
type sink struct {
	header http.Header
	events *atomic.Int64
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Flush()              {}
func (s *sink) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p[:min(len(p), 20)]), `{"type":"MODIFIED"`) {
		s.events.Add(1)
	}
	return len(p), nil
}

func BenchmarkWatchFanOut(b *testing.B) {
	for _, watchers := range []int{10, 200, 1000} {
		b.Run(strconv.Itoa(watchers), func(b *testing.B) {
			h := newBenchHub(b)
			h.fill(1)
			ctx, cancel := context.WithCancel(context.Background())
			var events atomic.Int64
			var wg sync.WaitGroup
			rv := h.store.Revision()
			for range watchers {
				wg.Go(func() {
					r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("%s?watch=true&resourceVersion=%d", clustersPath, rv), nil).WithContext(ctx)
					h.api.ServeHTTP(&sink{http.Header{}, &events}, r)
				})
			}
			i := 0
			for b.Loop() {
				i++
				h.direct(http.MethodPatch, clustersPath+"/c000001", `{"metadata":{"labels":{"n":"`+strconv.Itoa(i)+`"}}}`, "Content-Type", mergePatch)
				for events.Load() < int64(i*watchers) {
					runtime.Gosched()
				}
			}
			cancel()
			wg.Wait()
		})
	}
}

// TestMemory reports what the API costs in memory; it has nothing to fail at.
func TestMemory(t *testing.T) {
	if os.Getenv("MEMORY") == "" {
		t.Skip("set MEMORY=1 to measure memory")
	}
	report := func(what string) {
		debug.FreeOSMemory()
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Skip(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		for l := range strings.SplitSeq(string(status), "\n") {
			if strings.HasPrefix(l, "VmRSS") || strings.HasPrefix(l, "RssAnon") {
				t.Logf("%-28s %s, heap %.1f MB", what, strings.Join(strings.Fields(l), " "), float64(m.HeapAlloc)/1e6)
			}
		}
	}
	report("process start")
	h := newHub(t, func(c *Config) { c.Authenticator = authenticator.RequestFunc(everybody) })
	report("broker, store, API")
	h.direct(http.MethodGet, clustersPath, "")
	report("first list")
	h.direct(http.MethodPost, clustersPath, benchCluster(0))
	report("first write (one schema)")
	for _, r := range h.api.current.Load().resources {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
	}
	report("all schemas compiled")
	h.direct(http.MethodGet, "/openapi/v3", "")
	report("OpenAPI v3")
	h.direct(http.MethodGet, "/openapi/v2", "", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	report("OpenAPI v2")
	start := time.Now()
	h.fill(10000)
	t.Logf("10,000 objects in %s", time.Since(start))
	report("10,000 objects")
	h.direct(http.MethodGet, clustersPath, "")
	report("after a list of them")
	if _, err := h.store.List(t.Context(), store.Selection{Resource: "x"}); err != nil {
		t.Fatal(err)
	}
}
