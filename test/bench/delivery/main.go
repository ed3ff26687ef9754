// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command delivery measures how works reach a real Kubernetes cluster: latency
// at a light load, bursts, field status, repair of drift, and the agent's
// memory. With -ocm it measures Open Cluster Management's work agent in the same
// run against the same managed cluster, and prints the ratios. It judges nothing:
// machines differ.
//
// -ocm names a checkout of github.com/open-cluster-management-io/ocm; its agent
// is built from there into a temporary folder, with its own defaults. Its hub is
// a second Kubernetes; nothing else of it runs.
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
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/test/kube"
)

type options struct {
	bin       string
	ocm       string
	light     int
	first     int
	burst     int
	fields    int
	drifts    int
	driftWait time.Duration
	settle    time.Duration
	bundle    int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.StringVar(&o.ocm, "ocm", "", "checkout of Open Cluster Management to measure beside Drover")
	flag.IntVar(&o.light, "light", 30, "works created, then changed, at 2.5/s")
	flag.IntVar(&o.first, "first", 240, "works of the first burst")
	flag.IntVar(&o.burst, "burst", 500, "works of the second burst")
	flag.IntVar(&o.fields, "fields", 15, "changes on the cluster whose value is awaited on the hub")
	flag.IntVar(&o.drifts, "drifts", 10, "foreign edits whose repair is awaited, all at once")
	flag.DurationVar(&o.driftWait, "drift-wait", 7*time.Minute, "limit of that wait")
	flag.DurationVar(&o.settle, "settle", 20*time.Second, "idle time before memory is read")
	flag.IntVar(&o.bundle, "bundle", 0, "ConfigMaps of a bundle, applied last and by Drover only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "drover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s/%s, %d CPUs, %s, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	managed, err := kube.Start(ctx, kube.Options{Dir: filepath.Join(dir, "managed")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, managed.Stop()) }()
	cluster, err := dynamic.NewForConfig(managed.RESTConfig())
	if err != nil {
		return err
	}
	var columns []*figures
	starts := []func(context.Context, options, string, *kube.Cluster) (*system, func(), error){startDrover}
	if o.ocm != "" {
		starts = append(starts, startOCM)
	}
	for _, start := range starts {
		f, err := measure(ctx, o, dir, managed, cluster, start)
		if err != nil {
			return err
		}
		columns = append(columns, f)
	}
	print(columns)
	return nil
}

func measure(ctx context.Context, o options, dir string, managed *kube.Cluster, cluster dynamic.Interface,
	start func(context.Context, options, string, *kube.Cluster) (*system, func(), error),
) (*figures, error) {
	s, stop, err := start(ctx, o, dir, managed)
	if err != nil {
		return nil, err
	}
	defer stop()
	s.options = o
	fmt.Printf("\n%s\n", s.name)
	if err := s.follow(ctx, cluster); err != nil {
		return nil, err
	}
	defer s.unfollow()
	for _, phase := range []func(context.Context) error{s.idle, s.lightLoad, s.bursts, s.fieldStatus, s.drift, s.bundlePhase} {
		if err := phase(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return &s.figures, nil
}

// figures are rows in the order in which they were measured.
type figures struct {
	name string
	rows []row
}

type row struct {
	name, text string
	value      float64 // what ratios are made of
	more       bool    // more is better
}

func (f *figures) add(name string, value float64, more bool, format string, args ...any) {
	r := row{name, fmt.Sprintf(format, args...), value, more}
	f.rows = append(f.rows, r)
	fmt.Printf("  %-46s %s\n", r.name, r.text)
}

// print shows the systems side by side; a ratio above 1 speaks for the first.
func print(columns []*figures) {
	if len(columns) != 2 {
		return
	}
	a, b := columns[0], columns[1]
	fmt.Printf("\n%-46s %12s %12s %8s\n%s\n", "p50, or the figure", a.name, b.name, "ratio", strings.Repeat("-", 82))
	for i := range min(len(a.rows), len(b.rows)) {
		x, y := a.rows[i], b.rows[i]
		ratio := y.value / x.value
		if x.more {
			ratio = x.value / y.value
		}
		fmt.Printf("%-46s %12.3g %12.3g %8.2f\n", x.name, x.value, y.value, ratio)
	}
}

// unlimited is a client of the measurement, which must not be what is measured.
func unlimited(cfg *rest.Config) (dynamic.Interface, error) {
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{}
	return dynamic.NewForConfig(cfg)
}
