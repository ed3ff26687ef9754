// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// stopTimeout bounds the orderly end of all parts together. It takes one to
// two seconds while clients have watches open, and a fraction of one without.
const stopTimeout = 5 * time.Second

// runAll is the command "all".
func runAll(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("all", flag.ContinueOnError)
	dir := fs.String("dir", "", "directory for data, keys and logs; DIR/pki/admin.kubeconfig is the way in,\nDIR/ready holds URL and process id once the cluster works")
	port := fs.Int("port", 0, "port of the API server on 127.0.0.1; 0 picks a free one")
	etcd := fs.String("etcd", "", "URL of a running etcd; empty runs one in this process")
	prefix := fs.String("etcd-prefix", "/registry", "key prefix in etcd, different for each cluster that shares one")
	metrics := fs.Bool("metrics", false, "serve metrics.k8s.io with fixed usage of "+nodeName)
	sync := fs.Bool("sync", false, syncHelp)
	apiOnly := fs.Bool("api-only", false, "run nothing but etcd and the API server")
	if err := parse(fs, args); err != nil {
		return err
	}
	path, err := prepareDir(*dir)
	if err != nil {
		return err
	}
	c := &cluster{dir: path, sync: *sync, apiOnly: *apiOnly, failed: make(chan error, 4)}
	begin := time.Now()
	err = c.start(ctx, *port, *etcd, *prefix, *metrics)
	if err == nil {
		progress("cluster ready at %s after %.1f s", c.url, time.Since(begin).Seconds())
		progress("kubeconfig: %s", c.pki.kubeconfig(clientAdmin))
		select {
		case <-ctx.Done():
			progress("stopping")
		case err = <-c.failed:
		}
	}
	c.stop()
	if ctx.Err() != nil {
		return nil // told to end, be it half-way through the start
	}
	return err
}

// cluster is the one cluster of this process.
type cluster struct {
	dir string
	url string
	pki pki

	sync    bool // etcd syncs
	apiOnly bool // no controllers, scheduler and node

	// failed gets the error of a component that ended by itself.
	failed chan error

	// parts are in the order in which they started.
	parts []part
}

// part is something that runs until end has returned.
type part struct {
	name string
	end  func()
}

// start starts all parts and returns when pods can run (with apiOnly: when the
// API server serves), when a part fails or
// when ctx ends. stop must be called in any case.
func (c *cluster) start(ctx context.Context, port int, etcd, prefix string, metrics bool) error {
	l, err := listen(port)
	if err != nil {
		return err
	}
	c.parts = append(c.parts, part{"listener", func() { _ = l.Close() }})
	c.url = "https://" + l.Addr().String()

	if c.pki, err = openPKI(filepath.Join(c.dir, "pki")); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	if err := c.pki.writeKubeconfigs(c.url); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if etcd == "" {
		e, addr, err := startEtcd(ctx, c.dir, 0, c.sync)
		if err != nil {
			return err
		}
		c.parts = append(c.parts, part{"etcd", e.Close})
		etcd = addr
		progress("etcd serves at %s", etcd)
	}

	parts, err := newComponents(c.pki, etcd, prefix, l)
	if err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.pki.kubeconfig(clientAdmin))
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}

	// A part that fails ends the wait, too.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.run("apiserver", cancel, parts.runAPIServer)
	err = c.bringUp(ctx, cfg, parts, cancel, metrics)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// bringUp waits for the API server, starts the rest unless apiOnly, and waits
// until pods can run.
func (c *cluster) bringUp(ctx context.Context, cfg *rest.Config, parts *components, cancel context.CancelCauseFunc, metrics bool) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if err := waitAPI(ctx, client); err != nil {
		return err
	}
	progress("API server ready at %s", c.url)
	if c.apiOnly {
		return writeReady(c.dir, c.url)
	}

	c.run("controller-manager", cancel, parts.runControllers)
	c.run("scheduler", cancel, parts.runScheduler)
	c.run("kwok", cancel, func(ctx context.Context) error { return runKwok(ctx, c.dir, c.pki) })
	if err := createNode(ctx, client); err != nil {
		return fmt.Errorf("create node %s: %w", nodeName, err)
	}
	if err := waitWorkable(ctx, client); err != nil {
		return err
	}

	if metrics {
		dyn, err := dynamic.NewForConfig(cfg)
		if err != nil {
			return err
		}
		if err := installMetrics(ctx, dyn); err != nil {
			return err
		}
		c.run("metrics", cancel, func(ctx context.Context) error { refreshMetrics(ctx, dyn); return nil })
	}
	return writeReady(c.dir, c.url)
}

// run starts a part in the background. If it ends before it is stopped, its
// error goes to c.failed and to cancel.
func (c *cluster) run(name string, cancel context.CancelCauseFunc, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.parts = append(c.parts, part{name, func() { stop(); <-done }})
	go func() {
		defer close(done)
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		err = fmt.Errorf("%s: %w (log: %s)", name, err, logFile(c.dir))
		cancel(err)
		select {
		case c.failed <- err:
		default: // one reason is enough
		}
	}()
}

// stop ends the parts in reverse order: each one's end needs those below it.
func (c *cluster) stop() {
	timeout := time.After(stopTimeout)
	for _, p := range slices.Backward(c.parts) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.end()
		}()
		select {
		case <-done:
		case <-timeout:
			progress("%s did not end within %s; ending without it", p.name, stopTimeout)
			return
		}
	}
}
