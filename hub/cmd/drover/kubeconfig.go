// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/shared/apis/clusterregistry"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
)

func registered() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: clusterregistry.Group, Version: clusterregistry.Version, Resource: "clusters"}
}

// kubeconfigOptions says what becomes part of a kubeconfig.
type kubeconfigOptions struct {
	file, selector, from, command string
	skip                          bool
}

func (g *globals) kubeconfigCommand() *cobra.Command {
	o := &kubeconfigOptions{}
	c := &cobra.Command{
		Use: "kubeconfig [NAME ...]", Short: "Write a kubeconfig with the addresses of clusters, from the registry",
		Example: "  drover clusters kubeconfig -l env=prod --output fleet.kubeconfig",
		Long: `Writes a kubeconfig with one context for each cluster of the registry that is
named or selected, or for all: its address and its authorities.

It holds no credentials, as the registry does not. Each user runs a program,
--exec-command, with the arguments CLUSTER KIND NAMESPACE NAME, the last three
from spec.authInfo.user; it prints an ExecCredential as kubectl documents.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if len(args) > 0 && o.selector != "" {
				return daemon.Usage("selector: give names or a selector, not both")
			}
			list, err := registeredClusters(ctx, hub, args, o.selector)
			if err != nil {
				return err
			}
			config, skipped, err := o.build(list)
			if err != nil {
				return err
			}
			text, err := clientcmd.Write(*config)
			if err != nil {
				return fmt.Errorf("encode kubeconfig: %w", err)
			}
			if len(skipped) > 0 {
				say(cmd, "left out, without an address: %s", strings.Join(skipped, ", "))
			}
			if o.file == "" || o.file == "-" {
				_, err := cmd.OutOrStdout().Write(text)
				return err
			}
			if err := durable.WriteFile(o.file, text, 0o600); err != nil {
				return err
			}
			say(cmd, "%s: %s", o.file, plural(len(config.Contexts), "context"))
			return nil
		}),
	}
	f := c.Flags()
	f.StringVarP(&o.selector, "selector", "l", "", "label selector, as in kubectl")
	f.StringVarP(&o.file, "output", "o", "-", "file to write, for its owner only")
	f.StringVar(&o.from, "from", "", "address of who will use it, to pick among addresses by their clientCIDR")
	f.StringVar(&o.command, "exec-command", "drover-credential", "program that gives credentials")
	f.BoolVar(&o.skip, "skip-missing", false, "leave out clusters without an address")
	return c
}

// registeredClusters are those named, or those selected.
func registeredClusters(ctx context.Context, hub *client.Client, names []string, selector string) ([]clusterregistry.Cluster, error) {
	all, err := hub.Resource(registered()).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var out []clusterregistry.Cluster
	for i := range all.Items {
		if len(names) > 0 && !slices.Contains(names, all.Items[i].GetName()) {
			continue
		}
		var c clusterregistry.Cluster
		if err := into(all.Items[i].Object, &c); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", all.Items[i].GetName(), err)
		}
		out = append(out, c)
	}
	for _, n := range names {
		if !slices.ContainsFunc(out, func(c clusterregistry.Cluster) bool { return c.Name == n }) {
			return nil, daemon.Hint(fmt.Errorf("cluster %q: not found", n), "`drover clusters` lists the clusters")
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no clusters found")
	}
	return out, nil
}

// build makes the kubeconfig. Clusters without an address are refused, or left out.
func (o *kubeconfigOptions) build(list []clusterregistry.Cluster) (config *clientcmdapi.Config, skipped []string, err error) {
	var from netip.Addr
	if o.from != "" {
		if from, err = netip.ParseAddr(o.from); err != nil {
			return nil, nil, daemon.Usage("from %q: want an IP address", o.from)
		}
	}
	config = clientcmdapi.NewConfig()
	for i := range list {
		c := &list[i]
		server := serverOf(c.Spec.KubernetesAPIEndpoints.ServerEndpoints, from)
		if server == "" {
			skipped = append(skipped, c.Name)
			continue
		}
		user := &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", Command: o.command, Args: []string{c.Name},
			InteractiveMode: clientcmdapi.IfAvailableExecInteractiveMode,
			InstallHint:     o.command + " is a program of yours that gives credentials; --exec-command of `drover clusters kubeconfig` names another one",
		}
		if ref := c.Spec.AuthInfo.User; ref != nil {
			user.Args = append(user.Args, ref.Kind, ref.Namespace, ref.Name)
		}
		config.Clusters[c.Name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: c.Spec.KubernetesAPIEndpoints.CABundle}
		config.AuthInfos[c.Name] = &clientcmdapi.AuthInfo{Exec: user}
		config.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
		if config.CurrentContext == "" {
			config.CurrentContext = c.Name
		}
	}
	if len(skipped) > 0 && (!o.skip || len(config.Contexts) == 0) {
		return nil, nil, &daemon.Error{
			Err:  fmt.Errorf("cluster %s: the registry has no address of its API server", strings.Join(skipped, ", ")),
			Code: 1, Hint: "set spec.kubernetesApiEndpoints.serverEndpoints: kubectl edit clusters.clusterregistry.k8s.io " + skipped[0] + "; or leave such clusters out with --skip-missing",
		}
	}
	return config, skipped, nil
}

// serverOf picks the first address that clients at from may use; from is not
// valid when nobody said.
func serverOf(list []clusterregistry.ServerEndpoint, from netip.Addr) string {
	for _, e := range list {
		if e.ServerAddress == "" {
			continue
		}
		if from.IsValid() && e.ClientCIDR != "" {
			network, err := netip.ParsePrefix(e.ClientCIDR)
			any4 := e.ClientCIDR == "0.0.0.0/0"
			if err != nil || !any4 && !network.Contains(from) {
				continue
			}
		}
		if strings.Count(e.ServerAddress, ":") > 1 && !strings.HasPrefix(e.ServerAddress, "[") {
			return "https://[" + e.ServerAddress + "]"
		}
		return "https://" + e.ServerAddress
	}
	return ""
}
