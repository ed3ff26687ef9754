// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Kubetest is a whole Kubernetes cluster for tests in one program: etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler and kwok, which
// plays the nodes and the pods. It also holds kubectl.
//
// Everything that the API server, the controllers and the scheduler do is
// real. Containers are not: no image is pulled and no process runs in a pod.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/component-base/version"
)

const usage = `usage: kubetest <command> [flags]

commands:
  all       run a cluster with the one node node-0 until SIGINT or SIGTERM
  etcd      run an etcd that several clusters share, each with its own prefix
  kubectl   kubectl of the same version (also when called through a link named kubectl)
  version   print the Kubernetes version

"kubetest all -h" and "kubetest etcd -h" list the flags.
`

// exit codes
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	// Packages of Kubernetes register flags here, --version among them, and
	// cobra would add all of them to kubectl's and kwok's own flags.
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)

	if filepath.Base(os.Args[0]) == "kubectl" {
		os.Exit(kubectl(os.Args))
	}
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and returns the exit code.
func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}

	switch args[0] {
	case "kubectl":
		return kubectl(args)
	case "version":
		fmt.Println(version.Get().GitVersion)
		return exitOK
	case "help", "-h", "--help":
		fmt.Print(usage)
		return exitOK
	case "all":
		return report(runAll(signals(), args[1:]))
	case "etcd":
		return report(runEtcd(signals(), args[1:]))
	default:
		fmt.Fprintf(os.Stderr, "kubetest: error: unknown command %q\n\n%s", args[0], usage)
		return exitUsage
	}
}

// signals returns a context that the first SIGINT or SIGTERM cancels.
// A second one ends the process at once.
func signals() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// usageError is a mistake in the command line.
type usageError struct{ error }

// report prints err for people and returns the exit code that belongs to it.
func report(err error) int {
	var ue usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &ue):
		progress("error: %v", err)
		return exitUsage
	default:
		progress("error: %v", err)
		return exitError
	}
}

// parse parses args, which may hold flags only.
func parse(fs *flag.FlagSet, args []string) error {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fmt.Printf("usage: kubetest %s [flags]\n\n", fs.Name())
		fs.PrintDefaults()
		return err
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err != nil {
		return usageError{fmt.Errorf("%s: %w (see kubetest %s -h)", fs.Name(), err, fs.Name())}
	}
	return nil
}
