// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows Drover's main job on this machine, with the real binaries:
// a hub, two agents, a real Kubernetes, an approval, live metrics and an addon
// rolled out. Interrupted, it ends all it started.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/drover-io/drover/test/local"
)

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of drover-hub, drover-agent and drover")
	flag.StringVar(&o.build, "build-kubernetes", "test/kubernetes/build.sh", "script that builds the local Kubernetes")
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8443", "address of the hub; when it is taken, a free port")
	flag.BoolVar(&o.once, "once", false, "end when everything has worked once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, o)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "\ndemo: error: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	bin, build, listen string
	once               bool
}

const (
	clusterName = "shop-1"
	machineName = "edge-box"
	addonName   = "hello"
)

func run(ctx context.Context, o options) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "drover-demo-")
	if err != nil {
		return err
	}
	d := &demo{options: o, dir: dir, programs: local.Programs(o.bin)}
	defer d.end()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Start a hub: one binary, no database, no Kubernetes of its own", d.startHub},
		{"Join this machine: a token, a fingerprint, an approval", d.joinMachine},
		{"Get a real Kubernetes", d.startKubernetes},
		{"Join the cluster", d.joinCluster},
		{"Publish an addon, install it, and change its values", d.installAddon},
		{"Live metrics", d.showTop},
	} {
		d.step++
		fmt.Printf("\n\x1b[1m[%d/6] %s\x1b[0m\n", d.step, step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\nEverything works, %s after the start.\n", time.Since(began).Round(100*time.Millisecond))
	d.hints()
	if o.once {
		return nil
	}
	return d.live(ctx)
}

// hints say what to try next.
func (d *demo) hints() {
	fmt.Printf(`
  Dashboard   %[1]s
  Look around in another terminal (kubectl works too, if you have one):

    export KUBECONFIG=%[2]s PATH=%[3]s:$PATH
    drover clusters -o wide
    drover dashboard                # a link that logs your browser in
    drover addon preview %[5]s --set replicas=5
    drover addon install %[5]s --cluster %[4]s --set replicas=5
    drover explain %[4]s %[5]s
    kubectl get managedclusters
    kubectl describe managedclusteraddon -n %[4]s %[5]s
    kubectl get clustermetrics

  The managed cluster itself: %[6]s

`, d.hub.URL, d.hub.Kubeconfig(), mustAbs(d.bin), clusterName, addonName, d.kubectl("get deployments -n drover-demo"))
}

func mustAbs(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}
