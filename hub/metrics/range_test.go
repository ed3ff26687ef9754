// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

func TestGrid(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_007, 0)
	g := newGrid(start, start.Add(25*time.Second), 10*time.Second)
	for _, s := range []struct {
		after time.Duration
		cpu   float64
	}{{-time.Minute, 9}, {-7 * time.Second, 1}, {0, 2}, {14 * time.Second, 0.25}, {26 * time.Second, 4}, {time.Hour, 9}} {
		values := make([]float32, len(series()))
		for i, name := range series() {
			values[i] = float32(math.NaN())
			switch name {
			case "cpu":
				values[i] = float32(s.cpu)
			case "nodes":
				values[i] = 3
			}
		}
		g.add(start.Add(s.after), values)
	}
	data, err := json.Marshal(g.columns())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"names":["t","cpu","nodes"],"columns":[[1700000000,1700000010,1700000020,1700000030],[1.5,null,0.25,4],[3,null,3,3]]}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
	empty, err := json.Marshal(newGrid(start, start, 0).columns())
	if err != nil || string(empty) != `{"names":["t"],"columns":[[1700000007]]}` {
		t.Errorf("empty: %s, %v", empty, err)
	}
	for _, tt := range []struct{ span, step, want time.Duration }{
		{time.Hour, time.Second, 6 * time.Second}, {time.Hour, 10 * time.Second, 10 * time.Second}, {time.Minute, 1500 * time.Millisecond, time.Second},
	} {
		if g := newGrid(start, start.Add(tt.span), tt.step); g.step != tt.want || g.points > MaxPoints+1 {
			t.Errorf("%s in steps of %s: %s, %d points", tt.span, tt.step, g.step, g.points)
		}
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	known := series()
	for _, tt := range []struct {
		kind, data string
		want       map[string]float64
	}{
		{wire.SampleKubernetes, `{"healthy":true,"nodes":2,"nodesReady":1,"podsByPhase":{"Running":3,"Odd":1},"podsCapacity":110,"usage":{"cpu":"250m","memory":"1Gi"},"requests":{"cpu":"much"}}`, map[string]float64{
			"healthy": 1, "nodes": 2, "nodesReady": 1, "pods": 4, "podsRunning": 3, "podsPending": 0, "podsFailed": 0, "podsCapacity": 110,
			"kubernetesCPU": 0.25, "kubernetesMemory": 1 << 30,
		}},
		{wire.SampleKubernetes, `{"healthy":false}`, map[string]float64{"healthy": 0}},
		{wire.SampleKubernetes, `{`, nil},
		{wire.SampleHost, `[]`, nil},
		{"future", `{}`, nil},
	} {
		_, got := values(tt.kind, []byte(tt.data))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s:\n%s", tt.kind, tt.data, diff)
		}
	}
	_, host := values(wire.SampleHost, []byte(`{}`))
	for name := range host {
		if !slices.Contains(known, name) {
			t.Errorf("%s is no series", name)
		}
	}
}

func FuzzValues(f *testing.F) {
	f.Add(wire.SampleHost, []byte(`{"cpu":1e308,"time":"0001-01-01T00:00:00Z"}`))
	f.Add(wire.SampleKubernetes, []byte(`{"podsByPhase":{"a":-9223372036854775808},"usage":{"cpu":"1e400"}}`))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		start := time.Unix(1_700_000_000, 0)
		g := newGrid(start, start.Add(time.Minute), time.Second)
		if p, ok := pointOf(kind, start, data); ok {
			g.add(p.at, p.values)
			g.add(start, p.values)
		}
		if _, err := json.Marshal(g.columns()); err != nil {
			t.Error(err)
		}
	})
}

// One cluster's samples come back, in the order of their own time, from a real
// stream, and nobody else's.
func TestRange(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	stream, err := b.EnsureMetricsStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := New(b.JetStream(), zap.NewNop())
	now := time.Now().UTC().Truncate(time.Second)
	publish := func(cluster, kind string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.JetStream().Conn().Publish(wire.MetricsSubject(cluster, kind), data); err != nil {
			t.Fatal(err)
		}
	}
	const samples = 300 // more than one fetch
	for i := range samples {
		at := now.Add(-time.Duration(samples-i) * 2 * time.Second)
		publish("shop-1", wire.SampleHost, wire.HostSample{Time: at, CPU: float64(i), MemoryUsed: 1 << 30})
		publish("shop-10", wire.SampleHost, wire.HostSample{Time: at, CPU: 1e6})
		if i%5 == 0 {
			publish("shop-1", wire.SampleKubernetes, wire.KubernetesSample{Time: at, Healthy: true, Nodes: 3})
		}
	}
	publish("shop-1", wire.SampleHost, wire.HostSample{Time: now.Add(-48 * time.Hour), CPU: 1000}) // a clock that is wrong
	// The stream answers no publisher.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		info, err := stream.Info(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the samples are not in the stream: %v", err)
		}
		if info.State.Msgs == samples*2+samples/5+1 {
			break
		}
	}
	got, err := m.Range(t.Context(), "shop-1", now.Add(-2*time.Hour), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	column := func(name string) []Cell {
		i := slices.Index(got.Names, name)
		if i < 0 {
			t.Fatalf("no %s in %v", name, got.Names)
		}
		return got.Columns[i]
	}
	ts, cpu, nodes := column("t"), column("cpu"), column("nodes")
	if len(ts) > MaxPoints+1 || len(cpu) != len(ts) || len(nodes) != len(ts) {
		t.Errorf("%d points, %d cpu, %d nodes", len(ts), len(cpu), len(nodes))
	}
	last, rising, known := -1.0, true, 0
	for _, v := range cpu {
		if f := float64(v); !math.IsNaN(f) {
			rising, last = rising && f > last, f
			known++
		}
	}
	// An hour has more points than fit, so steps are 6 s: 100 of them have samples.
	if !rising || known < 100 || known > 102 || last < 300 {
		t.Errorf("%d points with samples, rising %v, the last %v", known, rising, last)
	}
	if slices.Contains(got.Names, "kubernetesCPU") {
		t.Error("a column without a sample")
	}
	recent, err := m.Range(t.Context(), "shop-1", now.Add(-time.Minute), 10*time.Second)
	if err != nil || len(recent.Columns[0]) > 9 {
		t.Errorf("the last minute: %d points, %v", len(recent.Columns[0]), err)
	}
	if none, err := m.Range(t.Context(), "shop-2", now.Add(-time.Minute), 10*time.Second); err != nil || len(none.Names) != 1 {
		t.Errorf("a cluster without samples: %v, %v", none.Names, err)
	}
	// Asked again, nothing is read, and what came since is there.
	at := time.Now()
	live, err := json.Marshal(wire.HostSample{Time: at, CPU: 5000})
	if err != nil {
		t.Fatal(err)
	}
	m.take(wire.MetricsSubject("shop-1", wire.SampleHost), live)
	m.take(wire.MetricsSubject("shop-10", wire.SampleHost), live)
	m.js = nil
	again, err := m.Range(t.Context(), "shop-1", at.Add(-time.Minute), time.Second)
	if err != nil || !slices.ContainsFunc(again.Columns[1], func(c Cell) bool { return c > 1000 }) {
		t.Errorf("the sample that came is not there: %v", err)
	}
	m.js = b.JetStream()
	if info, err := stream.Info(t.Context()); err != nil || info.State.Consumers != 0 {
		t.Errorf("%d consumers are left, %v", info.State.Consumers, err)
	}
}

// Only so many clusters are kept, for so long, and no more of each than an hour.
func TestWarmIsBounded(t *testing.T) {
	t.Parallel()
	m := New(nil, zap.NewNop())
	now := time.Now()
	for i := range 2 * maxWarm {
		name := fmt.Sprint(i)
		if _, ok, load := m.recall(name, now.Add(time.Duration(i)*time.Second)); ok || !load {
			t.Errorf("%s: loaded %v, to be loaded %v", name, ok, load)
		}
		m.settle(name, nil, nil)
	}
	last := fmt.Sprint(2*maxWarm - 1)
	if _, ok, load := m.recall(last, now.Add(2*time.Minute)); len(m.warm) != maxWarm || !ok || load {
		t.Errorf("%d clusters are kept, the last: %v %v", len(m.warm), ok, load)
	}
	for range maxKept + 2*trimFrom {
		m.take(wire.MetricsSubject(last, wire.SampleHost), []byte(`{"cpu":1}`))
	}
	if n := len(m.warm[last].points); n > maxKept+trimFrom {
		t.Errorf("%d samples are kept", n)
	}
	if _, _, load := m.recall("new", now.Add(time.Hour)); !load || len(m.warm) != 1 {
		t.Errorf("an hour later %d clusters are kept", len(m.warm))
	}
	m.settle("new", nil, context.Canceled)
	if len(m.warm) != 0 {
		t.Error("what could not be loaded is kept")
	}
}

// BenchmarkRange reads an hour of one cluster among many.
func BenchmarkRange(b *testing.B) {
	for _, clusters := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(clusters), func(b *testing.B) {
			br, err := broker.Open(broker.Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer br.Close()
			stream, err := br.EnsureMetricsStream(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			m := New(br.JetStream(), zap.NewNop())
			now := time.Now().UTC()
			amounts := map[string]string{"cpu": "15930m", "memory": "61523476Ki", "ephemeral-storage": "95551679124", "pods": "110"}
			raw := 0
			for i := range 360 {
				at := now.Add(time.Duration(i-360) * 10 * time.Second)
				host, _ := json.Marshal(wire.HostSample{
					Time: at, CPU: 1.2345678 + float64(i), Cores: 16, Load1: 2.25, MemoryUsed: 12345678901, MemoryTotal: 64 << 30, DiskUsed: 1 << 38, DiskTotal: 1 << 40,
					NetworkReceive: 123456.789, NetworkTransmit: 98765.4321, UptimeSeconds: uint64(i) * 10, AgentMemory: 26 << 20, AgentCPU: 0.0123,
				})
				kube, _ := json.Marshal(wire.KubernetesSample{
					Time: at, Healthy: true, Nodes: 3, NodesReady: 3, PodsByPhase: map[string]int{"Running": 57, "Pending": 1}, PodsCapacity: 330,
					Capacity: amounts, Allocatable: amounts, Requests: amounts, Usage: amounts,
				})
				for c := range clusters {
					name := fmt.Sprintf("shop-%d", c)
					raw += len(host) + len(kube)
					br.JetStream().Conn().Publish(wire.MetricsSubject(name, wire.SampleHost), host)       //nolint:errcheck // a benchmark
					br.JetStream().Conn().Publish(wire.MetricsSubject(name, wire.SampleKubernetes), kube) //nolint:errcheck // a benchmark
				}
				br.JetStream().Conn().Flush() //nolint:errcheck // a benchmark
			}
			for {
				info, err := stream.Info(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if info.State.Msgs == uint64(clusters*720) {
					b.Logf("%d clusters: %.0f KiB an hour of each, in the stream %.0f", clusters, float64(raw)/float64(clusters)/1024, float64(info.State.Bytes)/float64(clusters)/1024)
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			b.ResetTimer()
			for range b.N {
				clear(m.warm)
				got, err := m.Range(b.Context(), "shop-0", now.Add(-time.Hour), 10*time.Second)
				if err != nil || !strings.HasPrefix(got.Names[1], "cpu") {
					b.Fatal(got.Names, err)
				}
			}
		})
	}
}
