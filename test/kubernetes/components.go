// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	basecompatibility "k8s.io/component-base/compatibility"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// components are the three programs of Kubernetes with their flags parsed.
// Feature gates, logging and metrics are one per process: that is why all
// three parse before any starts, and why a process runs one cluster only.
type components struct {
	apiserver  *apiserveroptions.ServerRunOptions
	controller *controlleroptions.KubeControllerManagerOptions
	scheduler  *scheduleroptions.Options
}

// newComponents configures the components of one cluster: keys from p, data
// in etcd below prefix, API on l.
func newComponents(p pki, etcd, prefix string, l net.Listener) (*components, error) {
	c := &components{
		apiserver: apiserveroptions.NewServerRunOptions(),
		scheduler: scheduleroptions.NewOptions(),
	}
	var err error
	if c.controller, err = controlleroptions.NewKubeControllerManagerOptions(); err != nil {
		return nil, fmt.Errorf("controller-manager: %w", err)
	}
	controllerFlags := c.controller.Flags(controllers.KnownControllers(), controllers.ControllersDisabledByDefault(), controllers.ControllerAliases())
	c.controller.ParsedFlags = &controllerFlags

	port := l.Addr().(*net.TCPAddr).Port
	if err := errors.Join(
		parseComponent("apiserver", c.apiserver.Flags(), apiserverFlags(p, etcd, prefix, port)),
		parseComponent("controller-manager", controllerFlags, controllerFlagValues(p)),
		parseComponent("scheduler", *c.scheduler.Flags, []string{
			"--kubeconfig=" + p.kubeconfig(clientScheduler),
			"--leader-elect=false",
			"--secure-port=0",
		}),
	); err != nil {
		return nil, err
	}
	// The listener is open already, so nobody can take the port in between.
	c.apiserver.SecureServing.Listener = l

	registry := c.apiserver.GenericServerRunOptions.ComponentGlobalsRegistry
	if err := registry.Set(); err != nil {
		return nil, fmt.Errorf("set feature gates: %w", err)
	}
	if err := logsapi.ValidateAndApply(c.apiserver.Logs, registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)); err != nil {
		return nil, fmt.Errorf("set up logging: %w", err)
	}
	// The components watch deprecated APIs on purpose.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	return c, nil
}

func parseComponent(name string, sets cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func apiserverFlags(p pki, etcd, prefix string, port int) []string {
	return []string{
		"--etcd-servers=" + etcd,
		"--etcd-prefix=/" + strings.Trim(prefix, "/"),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.0.0.0/16",
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",

		// Without these two an open watch of one client keeps the API server
		// from ending for a minute.
		"--shutdown-send-retry-after=true",
		"--shutdown-watch-termination-grace-period=1s",

		"--tls-cert-file=" + p.cert("apiserver"),
		"--tls-private-key-file=" + p.key("apiserver"),
		"--client-ca-file=" + p.cert("ca"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.path("sa.pub"),
		"--service-account-signing-key-file=" + p.key("sa"),

		"--requestheader-client-ca-file=" + p.cert("ca"),
		"--requestheader-allowed-names=" + clientProxy,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + p.cert(clientProxy),
		"--proxy-client-key-file=" + p.key(clientProxy),
	}
}

func controllerFlagValues(p pki) []string {
	return []string{
		"--kubeconfig=" + p.kubeconfig(clientController),
		"--authentication-kubeconfig=",
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials=false",
		"--service-account-private-key-file=" + p.key("sa"),
		"--root-ca-file=" + p.cert("ca"),
		"--cluster-signing-cert-file=" + p.cert("ca"),
		"--cluster-signing-key-file=" + p.key("ca"),
	}
}

// runAPIServer serves the API until ctx ends.
func (c *components) runAPIServer(ctx context.Context) error {
	completed, err := c.apiserver.Complete(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(completed.Validate()...); err != nil {
		return err
	}
	return apiserver.Run(ctx, completed)
}

// runControllers runs kube-controller-manager until ctx ends.
func (c *components) runControllers(ctx context.Context) error {
	cfg, err := c.controller.Config(ctx, controllers.KnownControllers(), controllers.ControllersDisabledByDefault(), controllers.ControllerAliases())
	if err != nil {
		return err
	}
	return controllers.Run(ctx, cfg.Complete())
}

// runScheduler runs kube-scheduler until ctx ends.
func (c *components) runScheduler(ctx context.Context) error {
	cfg, sched, err := scheduler.Setup(ctx, c.scheduler)
	if err != nil {
		return err
	}
	return scheduler.Run(ctx, cfg, sched)
}
