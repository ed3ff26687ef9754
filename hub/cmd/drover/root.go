// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

// The resources that the commands speak of.
func tokens() schema.GroupVersionResource   { return fleetResource("jointokens") }
func requests() schema.GroupVersionResource { return fleetResource("joinrequests") }
func identities() schema.GroupVersionResource {
	return fleetResource("agentidentities")
}
func metrics() schema.GroupVersionResource { return fleetResource("clustermetrics") }
func clusters() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: cluster.Group, Version: cluster.Version, Resource: "managedclusters"}
}

func works() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: work.Group, Version: work.Version, Resource: "manifestworks"}
}

func fleetResource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: fleet.Group, Version: fleet.Version, Resource: name}
}

// globals are the options of every command.
type globals struct {
	kubeconfig, context, output string
}

var outputs = []string{"table", "wide", "json", "yaml", "name"}

func root() *cobra.Command {
	g := &globals{}
	c := &cobra.Command{
		Use: "drover", Short: "Manages a fleet of Kubernetes clusters through a Drover hub",
		Long: `drover manages a fleet of Kubernetes clusters through a Drover hub.

It uses the hub's credential as kubectl does: --kubeconfig, $KUBECONFIG, ~/.kube/config.
kubectl works with the same credential: kubectl get managedclusters`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &daemon.Error{Err: fmt.Errorf("unknown command %q", args[0]), Code: daemon.ExitUsage, Hint: "`drover --help` lists the commands"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(outputs, g.output) && (g.output == "" || cmd.Annotations[annotationOutputs] != g.output) {
				return daemon.Usage("output %q: want %s", g.output, strings.Join(outputs, ", "))
			}
			return nil
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&g.kubeconfig, "kubeconfig", "", "credential of the hub (default $KUBECONFIG, then ~/.kube/config)")
	f.StringVar(&g.context, "context", "", "context of the kubeconfig (default the current one)")
	f.StringVarP(&g.output, "output", "o", "table", strings.Join(outputs, ", "))
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"join", "Let clusters join:", []*cobra.Command{g.tokenCommand(), g.requestsCommand(), g.approveCommand(), g.denyCommand()}},
		{"fleet", "See the fleet:", []*cobra.Command{g.clustersCommand(), g.clusterCommand(), g.topCommand()}},
		{"work", "Give clusters something to run:", []*cobra.Command{
			g.applyCommand(), g.diffCommand(), g.worksCommand(), g.workCommand(), g.explainCommand(), g.undoCommand(), g.bundleCommand(), g.addonCommand(),
		}},
		{"people", "People and programs:", []*cobra.Command{
			g.loginCommand(), g.logoutCommand(), g.authCommand(), g.dashboardCommand(), g.accessCommand(), g.sessionCommand(), g.auditCommand(),
		}},
	} {
		c.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, command := range group.commands {
			command.GroupID = group.id
			c.AddCommand(command)
		}
	}
	c.AddCommand(
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), daemon.VersionLine("drover")) },
		},
	)
	return c
}

// run connects and calls f; what f returns is explained to the person.
func (g *globals) run(f func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		hub, err := client.New(g.kubeconfig, g.context)
		if err != nil {
			return err
		}
		return client.Explain(f(cmd.Context(), cmd, hub, args), hub.Server())
	}
}

// into decodes an object of the API into a kind's struct.
func into(obj map[string]any, kind any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(obj, kind)
}

// say prints for a person, beside the data on standard output.
func say(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}
