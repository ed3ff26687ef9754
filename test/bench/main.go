// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the real programs on this machine against a real
// Kubernetes and prints figures. It judges nothing: machines differ.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

type options struct {
	bin      string
	applies  int
	pause    time.Duration
	objects  int
	settling time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.IntVar(&o.applies, "applies", 120, "measured applies of a work")
	flag.DurationVar(&o.pause, "every", 500*time.Millisecond, "time from one apply to the next")
	flag.IntVar(&o.objects, "objects", 1000, "objects in the hub for the start and memory figures")
	flag.DurationVar(&o.settling, "settle", 20*time.Second, "idle time before memory is read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func figure(name, format string, args ...any) {
	fmt.Printf("%-58s %s\n", name, fmt.Sprintf(format, args...))
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "drover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s/%s, %d CPUs, %s, %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	for _, name := range []string{"drover-hub", "drover-agent", "drover"} {
		st, err := os.Stat(filepath.Join(o.bin, name))
		if err != nil {
			return fmt.Errorf("%w; run `make build`", err)
		}
		figure("size of "+name, "%.1f MB", float64(st.Size())/1e6)
	}
	managed, err := kube.Start(ctx, kube.Options{Dir: filepath.Join(dir, "kubernetes")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, managed.Stop()) }()
	hub, err := local.Programs(o.bin).StartHub(ctx, dir, "127.0.0.1:0", local.Unlimited()...)
	if hub.Process != nil {
		defer func() { hub.Process.Stop(20 * time.Second) }()
	}
	if err != nil {
		return err
	}
	if err := hub.Join(ctx, cluster, "--kubeconfig", managed.Kubeconfig); err != nil {
		return err
	}
	agent, err := hub.StartAgent(cluster, "--kubeconfig", managed.Kubeconfig)
	if err != nil {
		return err
	}
	defer agent.Stop(20 * time.Second)
	if err := hub.Available(ctx, cluster, agent); err != nil {
		return err
	}
	b := &bench{options: o, hub: hub, agent: agent, managed: managed}
	for _, measure := range []func(context.Context) error{b.latency, b.agentMemory, b.hubStart} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// percentile of sorted values, nearest rank.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func spread(values []time.Duration) string {
	slices.Sort(values)
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  max %s ms  (n=%d)", ms(percentile(values, 50)), ms(percentile(values, 90)),
		ms(percentile(values, 99)), ms(values[len(values)-1]), len(values))
}
