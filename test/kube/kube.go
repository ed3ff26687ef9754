// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube starts real Kubernetes control planes for tests and the demo.
//
// Each cluster is one process of the program in test/kubernetes: etcd, API
// server, controllers, scheduler, and one fake node named node-0 on which pods
// become Ready without running anything. A cluster is ready after about three
// seconds and takes about 280 MiB. It needs no containers, no root and no
// network; the program is built once with "make kubernetes".
package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNotBuilt says that the program kubetest is not there.
var ErrNotBuilt = errors.New(`kubetest is not built: run "make kubernetes"`)

// maxOwnEtcd is the number of clusters up to which each one runs its own
// etcd. More of them share one, which saves memory.
const maxOwnEtcd = 3

// Options says how to start a cluster.
type Options struct {
	// Dir holds the data, keys and logs, and must be a directory of this
	// cluster alone. A directory of a stopped cluster starts that cluster
	// again, with all its objects.
	Dir string

	// Binary is the path of kubetest. Empty means Binary().
	Binary string

	// Port of the API server on 127.0.0.1. Zero picks a free one.
	Port int

	// Metrics adds a metrics.k8s.io API with usage of node-0: 850m of CPU and
	// 2Gi of memory, until a test writes something else.
	Metrics bool

	// SharedEtcd is the URL of an Etcd that several clusters use, each below
	// a prefix made from its Dir. Empty gives the cluster an etcd of its own.
	SharedEtcd string

	// Sync lets etcd sync every write to disk, as a real one does, which costs
	// time and saves the data from a power cut.
	Sync bool

	// APIOnly runs nothing but etcd and the API server: no pod ever runs.
	APIOnly bool

	// Env is added to the environment of the process.
	Env []string

	// Log gets a line of progress now and then. Nil means none.
	Log io.Writer
}

// Binary returns the path of the program kubetest: the environment variable
// KUBETEST_BIN, else bin/kubetest of the module around the working directory,
// or of a module further up. The error is ErrNotBuilt if there is none.
func Binary() (string, error) {
	if path := os.Getenv("KUBETEST_BIN"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("KUBETEST_BIN: %w", err)
		}
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find kubetest: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.mod")) && exists(filepath.Join(dir, "bin", "kubetest")) {
			return filepath.Join(dir, "bin", "kubetest"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", ErrNotBuilt
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Cluster is one running cluster. Its process ends with Stop, and on Linux
// also when this process ends in any way.
type Cluster struct {
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string

	// Dir is the directory from the options, made absolute.
	Dir string

	// Log is the path of the process's log. What the components of Kubernetes
	// say is in components.log beside it.
	Log string

	proc   *process
	config *rest.Config
}

// Start starts a cluster and returns when pods can run on it: the API server
// is ready and node-0 is Ready. If it fails or ctx ends, the process is gone.
// Once Start has returned, ctx has no effect on the cluster.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	begin := time.Now()
	args := []string{"all", "--port", strconv.Itoa(opts.Port)}
	if opts.SharedEtcd != "" {
		abs, err := filepath.Abs(opts.Dir)
		if err != nil {
			return nil, fmt.Errorf("resolve directory: %w", err)
		}
		sum := sha256.Sum256([]byte(abs))
		args = append(args, "--etcd", opts.SharedEtcd, "--etcd-prefix", "/"+hex.EncodeToString(sum[:6]))
	}
	if opts.Metrics {
		args = append(args, "--metrics")
	}
	if opts.Sync {
		args = append(args, "--sync")
	}
	if opts.APIOnly {
		args = append(args, "--api-only")
	}

	proc, err := startProcess(ctx, opts, args)
	if err != nil {
		return nil, fmt.Errorf("start Kubernetes: %w", err)
	}
	c := &Cluster{
		Kubeconfig: filepath.Join(proc.dir, "pki", "admin.kubeconfig"),
		Dir:        proc.dir,
		Log:        proc.log,
		proc:       proc,
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return nil, errors.Join(fmt.Errorf("read kubeconfig: %w", err), c.Stop())
	}
	c.config.QPS = -1
	opts.logf("Kubernetes ready at %s after %.1f s, pid %d", c.config.Host, time.Since(begin).Seconds(), c.Pid())
	return c, nil
}

// RESTConfig returns a new client configuration of the administrator, without
// a limit of requests per second.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Pid returns the process id of the cluster.
func (c *Cluster) Pid() int { return c.proc.cmd.Process.Pid }

// Done is closed when the process of the cluster has ended for any reason.
func (c *Cluster) Done() <-chan struct{} { return c.proc.done }

// Stop ends the cluster and waits for it: SIGTERM, and SIGKILL ten seconds
// later. It may be called more than once. The error says that the process did
// not end in order.
func (c *Cluster) Stop() error { return c.proc.stop() }

// Etcd is an etcd that several clusters share.
type Etcd struct {
	// URL is where it serves.
	URL string

	proc *process
}

// StartEtcd starts an etcd. It uses only Dir, Binary, Port and Log of opts.
func StartEtcd(ctx context.Context, opts Options) (*Etcd, error) {
	proc, err := startProcess(ctx, opts, []string{"etcd", "--port", strconv.Itoa(opts.Port)})
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	return &Etcd{URL: proc.url, proc: proc}, nil
}

// Stop ends the etcd, as Cluster.Stop does.
func (e *Etcd) Stop() error { return e.proc.stop() }

// Set is a number of clusters that start and end together.
type Set struct {
	// Clusters are in the order of their directories.
	Clusters []*Cluster

	etcd *Etcd
}

// StartSet starts n clusters at once in the directories cluster-0, cluster-1
// and so on below opts.Dir. Port and SharedEtcd of opts are not used: more
// than three clusters share an etcd. If one fails, none is left.
func StartSet(ctx context.Context, n int, opts Options) (*Set, error) {
	set := &Set{Clusters: make([]*Cluster, n)}
	opts.Port, opts.SharedEtcd = 0, ""
	dir := opts.Dir
	if n > maxOwnEtcd {
		var err error
		opts.Dir = filepath.Join(dir, "etcd")
		if set.etcd, err = StartEtcd(ctx, opts); err != nil {
			return nil, err
		}
		opts.SharedEtcd = set.etcd.URL
	}

	g, ctx := errgroup.WithContext(ctx)
	for i := range set.Clusters {
		opts := opts
		opts.Dir = filepath.Join(dir, "cluster-"+strconv.Itoa(i))
		g.Go(func() (err error) {
			set.Clusters[i], err = Start(ctx, opts)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, set.Stop())
	}
	return set, nil
}

// Stop ends all clusters of the set.
func (s *Set) Stop() error {
	var g errgroup.Group
	for _, c := range s.Clusters {
		if c != nil {
			g.Go(c.Stop)
		}
	}
	err := g.Wait()
	if s.etcd != nil { // after its users
		err = errors.Join(err, s.etcd.Stop())
	}
	return err
}

// Kubectl returns a command that runs the real kubectl with args against the
// server of kubeconfig, any server. A kubetest that is not built is reported
// when the command runs.
func Kubectl(kubeconfig string, args ...string) *exec.Cmd {
	bin, err := Binary()
	cmd := exec.Command(bin, append([]string{"kubectl", "--kubeconfig", kubeconfig}, args...)...)
	if err != nil {
		cmd.Err = err
	}
	cmd.Env = append(os.Environ(),
		// The default cache in the home directory is kept by host and port:
		// it would answer with the API of an earlier cluster on the same port.
		"KUBECACHEDIR="+filepath.Join(filepath.Dir(kubeconfig), "kubectl-cache"),
		// The user's own aliases and defaults are no part of a test.
		"KUBECTL_KUBERC=false",
	)
	return cmd
}

func (o Options) logf(format string, args ...any) {
	if o.Log != nil {
		fmt.Fprintf(o.Log, format+"\n", args...)
	}
}
