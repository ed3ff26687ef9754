// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// clusterName is the namespace of the works on either hub.
const clusterName = "cluster1"

const stopLimit = 20 * time.Second

func startDrover(ctx context.Context, o options, dir string, managed *kube.Cluster) (*system, func(), error) {
	dir = filepath.Join(dir, "drover")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	hub, err := local.Programs(o.bin).StartHub(ctx, dir, "127.0.0.1:0", local.Unlimited()...)
	var stops stack
	if hub.Process != nil {
		stops.push(func() { hub.Process.Stop(stopLimit) })
	}
	if err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	if err := hub.Join(ctx, clusterName, "--kubeconfig", managed.Kubeconfig); err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	agent, err := hub.StartAgent(clusterName, "--kubeconfig", managed.Kubeconfig)
	if err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	stops.push(func() { agent.Stop(stopLimit) })
	if err := hub.Available(ctx, clusterName, agent); err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", hub.Kubeconfig())
	if err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	s, err := newSystem("Drover", "drover-bench", cfg, agent)
	if s != nil {
		s.hub = hub
	}
	return s, func() { _ = stops.run() }, err
}

// startOCM runs the work agent of Open Cluster Management with a Kubernetes as
// its hub, as its end-to-end tests do.
func startOCM(ctx context.Context, o options, dir string, managed *kube.Cluster) (*system, func(), error) {
	dir = filepath.Join(dir, "ocm")
	fmt.Println("building the work agent of Open Cluster Management")
	build := exec.CommandContext(ctx, "go", "build", "-mod=vendor", "-o", filepath.Join(dir, "work"), "./cmd/work")
	build.Dir = o.ocm
	if out, err := build.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("build the work agent: %w: %s", err, out)
	}
	var stops stack
	hub, err := kube.Start(ctx, kube.Options{Dir: filepath.Join(dir, "hub")})
	if err != nil {
		return nil, nil, err
	}
	stops.push(func() { _ = hub.Stop() })
	crds := filepath.Join(o.ocm, "vendor/open-cluster-management.io/api/work/v1")
	for _, step := range []*exec.Cmd{
		kube.Kubectl(hub.Kubeconfig, "apply", "-f", filepath.Join(crds, "0000_00_work.open-cluster-management.io_manifestworks.crd.yaml")),
		kube.Kubectl(hub.Kubeconfig, "create", "namespace", clusterName),
		kube.Kubectl(managed.Kubeconfig, "apply", "-f", filepath.Join(crds, "0000_01_work.open-cluster-management.io_appliedmanifestworks.crd.yaml")),
		kube.Kubectl(managed.Kubeconfig, "create", "namespace", "ocm-agent"),
		kube.Kubectl(hub.Kubeconfig, "wait", "--for=condition=Established", "crd", "--all"),
		kube.Kubectl(managed.Kubeconfig, "wait", "--for=condition=Established", "crd", "--all"),
	} {
		if out, err := step.CombinedOutput(); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%v: %w: %s", step.Args, err, out), stops.run())
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0") // the agent takes no port 0
	if err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	free.Close()
	agent, err := local.Programs(dir).Start(filepath.Join(dir, "agent.log"), "work", "agent",
		"--spoke-cluster-name="+clusterName, "--agent-id=a1", "--workload-source-driver=kube",
		"--workload-source-config="+hub.Kubeconfig, "--kubeconfig="+managed.Kubeconfig,
		"--namespace=ocm-agent", "--disable-leader-election", "--listen="+free.Addr().String())
	if err != nil {
		return nil, nil, errors.Join(err, stops.run())
	}
	stops.push(func() { agent.Stop(stopLimit) })
	s, err := newSystem("OCM", "ocm-bench", hub.RESTConfig(), agent)
	return s, func() { _ = stops.run() }, err
}

func newSystem(name, namespace string, hub *rest.Config, agent *local.Process) (*system, error) {
	client, err := unlimited(hub)
	if err != nil {
		return nil, err
	}
	return &system{
		figures: figures{name: name}, namespace: namespace, agent: agent,
		works: client.Resource(worksResource).Namespace(clusterName),
	}, nil
}

// stack undoes in reverse order.
type stack []func()

func (s *stack) push(f func()) { *s = append(*s, f) }

func (s *stack) run() error {
	for i := len(*s) - 1; i >= 0; i-- {
		(*s)[i]()
	}
	return nil
}
