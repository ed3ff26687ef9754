// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary a process of agents: "count address directory".
const childEnv = "DROVER_TEST_AGENTS"

// BenchmarkSessions reports what one connected agent costs the hub. The agents
// are in a process of their own. Run it with -benchtime 1x.
func BenchmarkSessions(b *testing.B) {
	const agents = 500
	for b.Loop() {
		h := newHub(b, nil)
		if _, err := h.broker.EnsureMetricsStream(b.Context()); err != nil {
			b.Fatal(err)
		}
		dir := b.TempDir()
		key, err := x509.MarshalECPrivateKey(h.ca.key)
		if err != nil {
			b.Fatal(err)
		}
		text := append(pem.EncodeToMemory(&pem.Block{Type: "KEY", Bytes: key}),
			pem.EncodeToMemory(&pem.Block{Type: "CERT", Bytes: h.ca.cert.Raw})...)
		if err := os.WriteFile(filepath.Join(dir, "ca.pem"), text, 0o600); err != nil {
			b.Fatal(err)
		}
		rss, heap, routines := measure(b)
		cpu := cpuTime(b)

		child := exec.Command(os.Args[0], "-test.run=^TestAgentsProcess$", "-test.timeout=5m")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s", childEnv, agents, h.Addr(), dir))
		stdin, err := child.StdinPipe() // its end is the child's
		if err != nil {
			b.Fatal(err)
		}
		var output bytes.Buffer
		child.Stdout, child.Stderr = &output, &output
		if err := child.Start(); err != nil {
			b.Fatal(err)
		}
		eventually(b, "agents are in", func() bool { return h.Stats().Connects == agents })
		// All have sent CONNECT, their subscriptions and a sample.
		eventually(b, "agents have published", func() bool {
			s, err := h.broker.JetStream().Stream(b.Context(), "METRICS")
			return err == nil && s.CachedInfo().State.Msgs == agents
		})
		spent := cpuTime(b) - cpu
		rss2, heap2, routines2 := measure(b)
		b.ReportMetric(float64(rss2-rss)/agents/1024, "KB-RSS/agent")
		b.ReportMetric(float64(heap2-heap)/agents/1024, "KB-heap/agent")
		b.ReportMetric(float64(routines2-routines)/agents, "goroutines/agent")
		b.ReportMetric(spent.Seconds()*1000/agents, "ms-CPU/connect")

		stdin.Close()
		if err := child.Wait(); err != nil {
			b.Fatalf("%v: %s", err, &output)
		}
	}
}

// measure returns resident bytes, live heap and goroutines after a collection.
func measure(b *testing.B) (rss, heap, routines int64) {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return pages * int64(os.Getpagesize()), int64(m.HeapAlloc), int64(runtime.NumGoroutine())
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestAgentsProcess is the benchmark's other process.
func TestAgentsProcess(t *testing.T) {
	var count int
	var addr, dir string
	if _, err := fmt.Sscan(os.Getenv(childEnv), &count, &addr, &dir); err != nil {
		t.Skip("for BenchmarkSessions")
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	keyBlock, rest := pem.Decode(text)
	certBlock, _ := pem.Decode(rest)
	ca := &authority{td: "fleet.test", pool: x509.NewCertPool()}
	if ca.key, err = x509.ParseECPrivateKey(keyBlock.Bytes); err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		t.Fatal(err)
	}
	ca.pool.AddCert(ca.cert)
	h := &testHub{ca: ca}
	for i := range count {
		cluster := fmt.Sprintf("c%d", i)
		a := h.rawWith(t, h.agentCert(t, cluster), addr)
		a.send(fmt.Sprintf("SUB fm.%s.down.hint 1\r\nSUB _INBOX_%s.> 2\r\n", cluster, cluster) +
			pub(fmt.Sprintf("fm.%s.up.metrics.host", cluster), "", strings.Repeat("x", 1000)))
		a.sync()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	context.AfterFunc(ctx, func() { os.Stdin.Close() })
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // waits for the end of the benchmark
}
