// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/live"
)

// fill stores a fleet such as there may be: labels of a few values, times and
// addresses of each cluster's own, one in fifty in trouble.
func fill(b testing.TB, r *rig, n int) {
	b.Helper()
	rnd := rand.New(rand.NewPCG(1, 1))
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var writes []store.Write
	for i := range n {
		name := fmt.Sprintf("cluster-%05d", i)
		at := func() string { return began.Add(time.Duration(rnd.IntN(90*86400)) * time.Second).Format(time.RFC3339) }
		phase, nodes := "Online", 3+rnd.IntN(3)
		if rnd.IntN(50) == 0 {
			phase = pick(rnd, "Offline", "Unhealthy")
		}
		obj := managed(phase, map[string]any{"env": pick(rnd, "prod", "stage", "dev"), "region": pick(rnd, "eu-1", "eu-2", "us-1", "ap-1"), "wave": fmt.Sprint(rnd.IntN(4))})
		meta := obj["metadata"].(map[string]any)
		meta["name"], meta["uid"], meta["creationTimestamp"] = name, fmt.Sprintf("%016x", rnd.Uint64()), at()
		status := obj["status"].(map[string]any)
		status["conditions"].([]any)[0].(map[string]any)["lastTransitionTime"] = at()
		status["version"] = map[string]any{"kubernetes": pick(rnd, "v1.36.2", "v1.36.4", "v1.37.0")}
		status["agent"] = map[string]any{
			"version": "v0.9.1", "nodes": nodes, "nodesReady": nodes, "address": fmt.Sprintf("10.%d.%d.%d:%d", rnd.IntN(256), rnd.IntN(256), rnd.IntN(256), 1024+rnd.IntN(60000)),
		}
		data, err := json.Marshal(obj)
		if err != nil {
			b.Fatal(err)
		}
		writes = append(writes, store.Write{Key: store.Key{Resource: cluster.Resource, Name: name}, Data: data})
		r.mu.Lock()
		r.loads[name] = Load{CPU: 20 + 60*rnd.Float64(), Memory: 30 + 50*rnd.Float64()}
		r.mu.Unlock()
	}
	for len(writes) > 0 {
		k := min(len(writes), store.MaxBatch)
		if _, err := r.store.Batch(b.Context(), writes[:k]); err != nil {
			b.Fatal(err)
		}
		writes = writes[k:]
	}
}

// BenchmarkTable10000 is the first load of a page that lists 10,000 clusters: after
// a change of one cluster, and while nothing changes.
func BenchmarkTable10000(b *testing.B) {
	r := newRig(b, nil)
	fill(b, r, 10_000)
	for r.store.Objects() < 10_000 {
		time.Sleep(time.Millisecond)
	}
	h := r.live.Handler(b.Context())
	ask := func() []byte {
		req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, live.PathTable+"/"+live.TableClusters, nil)
		req.Header.Set("Test-User", "root")
		req.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusOK || w.Header().Get("Content-Encoding") != "gzip" {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
		return w.Body.Bytes()
	}
	began := time.Now()
	packed := ask()
	first := time.Since(began)
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		b.Fatal(err)
	}
	plain, err := io.ReadAll(zr)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("changed", func(b *testing.B) {
		for i := range b.N {
			b.StopTimer()
			r.put(cluster.Resource, "", "cluster-00007", managed("Online", map[string]any{"n": fmt.Sprint(i)}))
			b.StartTimer()
			ask()
		}
		b.ReportMetric(float64(len(packed)), "gz-bytes")
		b.ReportMetric(float64(len(plain)), "bytes")
		b.ReportMetric(float64(first.Milliseconds()), "first-ms")
	})
	b.Run("unchanged", func(b *testing.B) {
		for range b.N {
			ask()
		}
	})
}
