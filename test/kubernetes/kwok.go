// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	heartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/config"
	kwokcmd "sigs.k8s.io/kwok/pkg/kwok/cmd"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
)

// fakeNode marks the nodes that kwok plays.
const fakeNode = "kwok.x-k8s.io/node"

// runKwok plays nodes and pods until ctx ends. kwok listens on port 0's
// choice: it can neither be given a listener nor tell which port it took, so
// the port is found here and free for a moment before kwok opens it.
func runKwok(ctx context.Context, dir string, p pki) error {
	stages := filepath.Join(dir, "kwok-stages.yaml")
	if err := writeFile(stages, []byte(strings.Join([]string{
		nodefast.DefaultNodeInit,
		heartbeat.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady,
		podfast.DefaultPodComplete,
		podfast.DefaultPodDelete,
	}, "\n---\n"))); err != nil {
		return fmt.Errorf("write stages: %w", err)
	}

	// Should another process take the port in that moment, kwok ends the
	// process unless these two are equal. The port only serves logs and exec,
	// which no fake pod has.
	for _, name := range []string{"POD_IP", "HOST_IP"} {
		if err := os.Setenv(name, "127.0.0.1"); err != nil {
			return err
		}
	}
	config.WorkDir = filepath.Join(dir, "kwok") // else it reads ~/.kwok/kwok.yaml

	l, err := listen(0)
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	args := []string{
		"--config=" + stages,
		"--kubeconfig=" + p.kubeconfig(clientKwok),
		"--manage-all-nodes=false",
		"--manage-nodes-with-annotation-selector=" + fakeNode + "=fake",
		"--node-ip=127.0.0.1",
		fmt.Sprintf("--node-port=%d", port),
		fmt.Sprintf("--server-address=127.0.0.1:%d", port),
		"--node-lease-duration-seconds=40",
	}
	os.Args = append([]string{"kwok"}, args...) // config.InitFlags reads it

	flags := pflag.NewFlagSet("kwok", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	ctx, _ = kwoklog.InitFlags(ctx, flags)
	ctx, err = config.InitFlags(ctx, flags)
	if err != nil {
		return err
	}
	cmd := kwokcmd.NewCommand(ctx)
	cmd.PersistentFlags().AddFlagSet(flags)
	cmd.SetArgs(args)
	if err := l.Close(); err != nil {
		return err
	}
	return cmd.ExecuteContext(ctx)
}
