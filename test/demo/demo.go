// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// demo is what runs, in the order it was started.
type demo struct {
	options
	dir        string
	step       int
	programs   local.Programs
	hub        *local.Hub
	kubeconfig string        // of the managed cluster
	kubernetes *kube.Cluster // nil when it is the user's own
	running    []*local.Process
	applied    bool
}

func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }
func (d *demo) binary(name string) string  { return filepath.Join(d.bin, name) }

// start runs a program that the demo ends with itself.
func (d *demo) start(log, name string, args ...string) (*local.Process, error) {
	p, err := d.programs.Start(d.path(log+".log"), name, args...)
	if err == nil {
		d.running = append(d.running, p)
	}
	return p, err
}

// drover runs the operator's command line.
func (d *demo) drover(ctx context.Context, args ...string) (string, error) {
	return d.hub.Drover(ctx, args...)
}

func (d *demo) shown(command string) { fmt.Printf("  $ %s\n", command) }

func indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("    ", line)
	}
}

func (d *demo) startHub(ctx context.Context) error {
	if err := d.serveHub(ctx, d.listen); err != nil {
		if !strings.Contains(err.Error(), "address already in use") {
			return err
		}
		fmt.Printf("  %s is taken; using a free port\n", d.listen)
		if err := d.serveHub(ctx, "127.0.0.1:0"); err != nil {
			return err
		}
	}
	fmt.Printf("    serving API, agents and pages at \x1b[1m%s\x1b[0m\n", d.hub.URL)
	return nil
}

func (d *demo) serveHub(ctx context.Context, listen string) error {
	d.shown("drover-hub serve --data-dir " + d.path("hub") + " --listen " + listen)
	var err error
	d.hub, err = d.programs.StartHub(ctx, d.dir, listen, "--sample-every", "3s")
	if d.hub.Process != nil {
		d.running = append(d.running, d.hub.Process)
	}
	return err
}

var fingerprintLine = regexp.MustCompile(`(?m)^fingerprint:\s+([0-9a-f]{64})$`)

// join lets an agent join as name, as two people would: one on the cluster, one
// at the hub.
func (d *demo) join(ctx context.Context, name string, agentArgs ...string) error {
	d.shown("drover token create --cluster " + name + " > token")
	token, err := d.drover(ctx, "token", "create", "--cluster", name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path(name+".token"), []byte(token), 0o600); err != nil {
		return err
	}
	args := append([]string{"join", "--token-file", d.path(name + ".token"), "--state-dir", d.path(name)}, agentArgs...)
	d.shown("drover-agent " + strings.Join(args, " "))
	joining, err := d.start(name+"-join", "drover-agent", args...)
	if err != nil {
		return err
	}
	fingerprint := ""
	if err := local.Until(ctx, "the agent asks to join", time.Minute, joining, func() (bool, error) {
		text, err := os.ReadFile(joining.Log)
		if m := fingerprintLine.FindSubmatch(text); m != nil && bytes.Contains(text, []byte("request:")) {
			fingerprint = string(m[1])
		}
		return fingerprint != "", err
	}); err != nil {
		return err
	}
	fmt.Printf("    the agent prints its fingerprint: %s\n", fingerprint)
	d.shown("drover requests")
	requests, err := d.drover(ctx, "requests")
	if err != nil {
		return err
	}
	indent(requests)
	fmt.Println("    the operator compares the two, and approves:")
	d.shown("drover approve " + name + " --fingerprint " + fingerprint[:16])
	if _, err := d.drover(ctx, "approve", name, "--fingerprint", fingerprint); err != nil {
		return err
	}
	if err := local.Until(ctx, "the agent collects its certificate", time.Minute, joining, func() (bool, error) { return false, nil }); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !joining.Succeeded() {
			return err
		}
	}
	run := []string{"run", "--state-dir", d.path(name)}
	if d.kubeconfig != "" {
		run = append(run, "--kubeconfig", d.kubeconfig)
	}
	d.shown("drover-agent " + strings.Join(run, " "))
	agent, err := d.start(name, "drover-agent", run...)
	if err != nil {
		return err
	}
	if err := d.hub.Available(ctx, name, agent); err != nil {
		return err
	}
	d.shown("drover clusters")
	clusters, err := d.drover(ctx, "clusters")
	indent(clusters)
	return err
}

func (d *demo) joinMachine(ctx context.Context) error {
	return d.join(ctx, machineName, "--label", "kind=machine")
}

func (d *demo) joinCluster(ctx context.Context) error {
	return d.join(ctx, clusterName, "--kubeconfig", d.kubeconfig, "--label", "kind=kubernetes")
}

// startKubernetes takes the cluster of $KUBECONFIG, or builds and starts one.
func (d *demo) startKubernetes(ctx context.Context) error {
	if own := os.Getenv("KUBECONFIG"); own != "" {
		fmt.Printf("  using yours: KUBECONFIG=%s; the demo adds the namespace drover-demo and removes it at the end\n", own)
		d.kubeconfig = own
		return nil
	}
	link := d.binary("kubetest")
	build := exec.CommandContext(ctx, d.build, link)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	build.Cancel = func() error { return build.Process.Signal(os.Interrupt) }
	if err := build.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("build the local Kubernetes: %w", err)
	}
	fmt.Println("    starting etcd, kube-apiserver, controller-manager and scheduler in one process (a few seconds)")
	var err error
	d.kubernetes, err = kube.Start(ctx, kube.Options{Dir: d.path("kubernetes"), Binary: mustAbs(link), Metrics: true})
	if err != nil {
		return err
	}
	d.kubeconfig = d.kubernetes.Kubeconfig
	return nil
}

// addonFiles are an addon as its author writes it: YAML, some of it with values in it.
var addonFiles = map[string]string{
	"greeting.yaml.tmpl": `apiVersion: v1
kind: ConfigMap
metadata: {name: greeting}
data: {text: "hello {{ .Cluster.Name }}, from the hub"}
`,
	"web.yaml.tmpl": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.k8s.io/pause:3.10
        resources: {requests: {cpu: 50m, memory: 32Mi}}
`,
}

// addonValues are the values that the addon has unless somebody says otherwise.
const addonValues = "replicas: 2\n"

func (d *demo) installAddon(ctx context.Context) error {
	dir, values := d.path("hello"), d.path("values.yaml")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, text := range addonFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(values, []byte(addonValues), 0o600); err != nil {
		return err
	}
	d.applied = true
	for _, args := range [][]string{
		{"addon", "push", addonName + "@1.0.0", dir, "--values", values, "--default"},
		{"addon", "install", addonName, "--cluster", clusterName, "--namespace", "drover-demo", "--wait"},
		{"addon", "install", addonName, "--cluster", clusterName, "--set", "replicas=3", "--wait"},
		{"addon", "list"},
		{"explain", clusterName, addonName},
	} {
		d.shown("drover " + strings.Join(args, " "))
		began := time.Now()
		out, err := d.drover(ctx, args...)
		if err != nil {
			return err
		}
		indent(out)
		if args[1] == "install" {
			fmt.Printf("    applied, and its replicas ready, after %s\n", time.Since(began).Round(10*time.Millisecond))
		}
	}
	return nil
}

// withPods is a row of the cluster with at least one pod.
var withPods = regexp.MustCompile(clusterName + ` +connected +\S+ of \S+ +[1-9]`)

func (d *demo) showTop(ctx context.Context) error {
	d.shown("drover top")
	agent := d.running[len(d.running)-1]
	return local.Until(ctx, "samples arrive", time.Minute, agent, func() (bool, error) {
		out, err := d.drover(ctx, "top")
		if err != nil || !withPods.MatchString(out) {
			return false, err
		}
		indent(out)
		return true, nil
	})
}

// kubectl is how to look at the managed cluster.
func (d *demo) kubectl(args string) string {
	if d.kubernetes == nil {
		return "kubectl --kubeconfig " + d.kubeconfig + " " + args
	}
	return mustAbs(d.binary("kubetest")) + " kubectl --kubeconfig " + d.kubeconfig + " " + args
}

// live keeps the load of the fleet in view until the demo is interrupted.
func (d *demo) live(ctx context.Context) error {
	fmt.Println("Live load of the fleet (drover top --watch); Ctrl-C ends the demo and all it started.")
	fmt.Println()
	lines := 0
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		out, err := d.drover(ctx, "top")
		switch {
		case ctx.Err() != nil:
			fmt.Println()
			return nil
		case err != nil:
			out = err.Error() + "\n"
		}
		if terminal() {
			if lines > 0 {
				fmt.Printf("\x1b[%dA\x1b[J", lines)
			}
			lines = strings.Count(out, "\n")
			fmt.Print(out)
		}
		select {
		case <-ctx.Done():
			fmt.Println()
			return nil
		case <-t.C:
		}
	}
}

func terminal() bool {
	st, err := os.Stdout.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// end takes back what the demo did and stops what it started, last first.
func (d *demo) end() {
	fmt.Println("Cleaning up:")
	if d.applied && d.kubernetes == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		d.removeAddon(ctx)
		cancel()
	}
	for _, p := range slices.Backward(d.running) {
		select {
		case <-p.Done():
		default:
			fmt.Printf("  stopping %s %s\n", p.Name, strings.TrimSuffix(filepath.Base(p.Log), ".log"))
			p.Stop(15 * time.Second)
		}
	}
	if d.kubernetes != nil {
		fmt.Println("  stopping Kubernetes")
		if err := d.kubernetes.Stop(); err != nil {
			fmt.Printf("  %v\n", err)
		}
	}
	if err := os.RemoveAll(d.dir); err != nil {
		fmt.Printf("  %v\n", err)
	}
	fmt.Println("  done")
}

// removeAddon takes the demo's objects off a cluster that stays.
func (d *demo) removeAddon(ctx context.Context) {
	fmt.Println("  removing the namespace drover-demo from your cluster")
	if _, err := d.drover(ctx, "addon", "remove", addonName, "--cluster", clusterName, "--wait", "--yes"); err != nil {
		fmt.Printf("  %v\n  remove it yourself: kubectl delete namespace drover-demo\n", err)
	}
}
