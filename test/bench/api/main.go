// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command api measures the hub's API beside a real kube-apiserver with etcd, in
// one run on this machine: the same kinds with the same schemas, the same client,
// TLS with client certificates on both sides, and on both sides a write is
// answered when it is on the disk. The two are asked in turns, round after round;
// printed are medians of the rounds. It judges nothing: machines differ.
//
// What is not equal: the hub also stores an audit record of every write, and
// syncs it, before it answers; and its controllers run. A ManagedCluster that is
// created makes them write its namespace, of many together.
// The kube-apiserver keeps no audit log here, and nothing runs but it and etcd.
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
	"syscall"
	"time"
)

type options struct {
	bin      string
	dir      string
	scale    float64
	rounds   int
	writes   int
	list     int
	large    int
	watchers int
	settle   time.Duration
	json     string
	only     string
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.StringVar(&o.dir, "dir", "", "folder for the data, on the disk to measure; empty makes a temporary one")
	flag.Float64Var(&o.scale, "scale", 1, "factor for all counts, such as 0.1 for a quick look")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of every measurement, of restarts at most 3")
	flag.IntVar(&o.writes, "writes", 500, "writes of one measurement")
	flag.IntVar(&o.list, "list", 10_000, "objects for the figures about lists, memory and restarts")
	flag.IntVar(&o.large, "large", 100_000, "objects for the second figures of memory and restarts; 0 leaves them out")
	flag.IntVar(&o.watchers, "watchers", 200, "clients that watch")
	flag.DurationVar(&o.settle, "settle", 15*time.Second, "idle time before memory is read")
	flag.StringVar(&o.json, "json", "", "file for the figures as JSON")
	flag.StringVar(&o.only, "only", "", "measure one server alone: hub or kube")
	flag.Parse()
	for _, n := range []*int{&o.writes, &o.list, &o.large, &o.watchers} {
		if *n > 0 {
			*n = max(1, int(float64(*n)*o.scale))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "drover-bench-api-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	fmt.Printf("%s/%s, %d CPUs, %s, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	fmt.Println("both: TLS, client certificates, each write synced to disk before its answer (etcd with fsync);")
	fmt.Println("the hub with its audit log, synced too, and its controllers, which write a namespace for each")
	fmt.Println("ManagedCluster that is created; the kube-apiserver without either")
	fmt.Println()
	b := &bench{options: o, filled: map[string]int{}}
	defer func() { err = errors.Join(err, b.stop()) }()
	if o.only != "kube" {
		b.servers = append(b.servers, &hubServer{bin: o.bin, dir: filepath.Join(dir, "hub")})
	}
	if o.only != "hub" {
		b.servers = append(b.servers, &kubeServer{dir: filepath.Join(dir, "kube")})
	}
	for _, s := range b.servers {
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.print(os.Stdout)
	if o.json != "" {
		return b.save(o.json)
	}
	return nil
}

type bench struct {
	options
	servers []server
	rows    []*row
	filled  map[string]int // works that fill made, by server
}

func (b *bench) stop() error {
	var errs []error
	for _, s := range b.servers {
		errs = append(errs, s.stop())
	}
	return errors.Join(errs...)
}

// measure does everything, the servers in turns.
func (b *bench) measure(ctx context.Context) error {
	for round := range b.rounds {
		for _, kind := range []kind{works, clusters} {
			for _, clients := range []int{1, 8} {
				for _, s := range b.turn(round) {
					if err := b.writeRates(ctx, s, kind, clients, round); err != nil {
						return fmt.Errorf("%s: %w", s.name(), err)
					}
				}
			}
		}
	}
	// What the rounds made is part of it.
	b.list = max(b.list, 2*b.rounds*b.writes+100)
	if err := b.holding(ctx, b.list, true); err != nil {
		return err
	}
	if b.large > b.list {
		return b.holding(ctx, b.large, false)
	}
	return nil
}

// holding measures what depends on how much there is.
func (b *bench) holding(ctx context.Context, objects int, all bool) error {
	for _, s := range b.servers {
		if err := b.fill(ctx, s, objects); err != nil {
			return fmt.Errorf("%s: fill: %w", s.name(), err)
		}
	}
	if all {
		for round := range b.rounds {
			for _, s := range b.turn(round) {
				if err := b.lists(ctx, s, objects); err != nil {
					return fmt.Errorf("%s: list: %w", s.name(), err)
				}
				if err := b.fanOut(ctx, s, round); err != nil {
					return fmt.Errorf("%s: watch: %w", s.name(), err)
				}
			}
		}
	}
	for _, s := range b.servers {
		if err := b.memory(ctx, s, fmt.Sprintf("memory after filling, %d objects", objects)); err != nil {
			return err
		}
	}
	for round := range min(b.rounds, 3) {
		for _, s := range b.turn(round) {
			if err := b.restart(ctx, s, objects); err != nil {
				return fmt.Errorf("%s: restart: %w", s.name(), err)
			}
		}
	}
	for _, s := range b.servers {
		if err := b.memory(ctx, s, fmt.Sprintf("memory after a restart, %d objects", objects)); err != nil {
			return err
		}
	}
	return nil
}

// turn is the order of a round: who is first changes.
func (b *bench) turn(round int) []server {
	if round%2 == 0 || len(b.servers) < 2 {
		return b.servers
	}
	return []server{b.servers[1], b.servers[0]}
}
