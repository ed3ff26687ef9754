// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func (g *globals) worksCommand() *cobra.Command {
	var namespace string
	c := &cobra.Command{
		Use: "works", Short: "Manifests for clusters, and how far they are", Args: cobra.NoArgs,
		Example: "  drover works\n  drover works -n shop-1 -o wide",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			return g.list(ctx, cmd, hub, works(), namespace, metav1.ListOptions{})
		}),
	}
	c.Flags().StringVarP(&namespace, "cluster", "n", "", "of one cluster (default: of all)")
	c.AddCommand(g.historyCommand())
	return c
}

func (g *globals) workCommand() *cobra.Command {
	c := &cobra.Command{Use: "work", Short: "Change one work", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.workRemoveCommand(), g.approvePruneCommand())
	return c
}

func (g *globals) workRemoveCommand() *cobra.Command {
	var namespace string
	var yes, wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "remove CLUSTER WORK", Short: "Remove a work, and from the cluster what it applied there", Args: cobra.RangeArgs(1, 2),
		Long: `Removes a work, and from the cluster what it applied there, also namespaces and
other kinds that otherwise wait for a word. For a week "drover undo" can bring it back.
"drover work remove WORK -n CLUSTER" is the same.`,
		Example: "  drover work remove shop-1 hello --wait",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			name := args[len(args)-1]
			switch {
			case len(args) == 2 && namespace != "" && namespace != args[0]:
				return daemon.Usage("cluster: %s or %s? give CLUSTER WORK, or WORK -n CLUSTER", args[0], namespace)
			case len(args) == 2:
				namespace = args[0]
			case namespace == "":
				return &daemon.Error{Err: errors.New("cluster: missing"), Code: daemon.ExitUsage, Hint: "give CLUSTER WORK; `drover works` lists them"}
			}
			obj, err := hub.Resource(works()).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			warning, err := removalWarning(obj.Object)
			if err != nil {
				return err
			}
			if err := confirm(cmd, yes, name, "%s", warning); err != nil {
				return err
			}
			if err := hub.Resource(works()).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				return err
			}
			// This was the explicit word: kinds that are never removed without one go as
			// well. It comes after the deletion, so that undo does not bring it back.
			err = annotate(ctx, hub, namespace, name, map[string]any{work.AnnotationPrune: wire.PruneUnguarded})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			if !wait {
				say(cmd, "work %s is being removed; its agent cleans up and reports", name)
				return nil
			}
			return awaitRemoval(ctx, cmd, hub, namespace, name, timeout)
		}),
	}
	c.Flags().StringVarP(&namespace, "cluster", "n", "", "the cluster of the work, when it is not the first argument")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&wait, "wait", false, "wait until everything is gone")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long --wait waits")
	return c
}

func awaitRemoval(ctx context.Context, cmd *cobra.Command, hub *client.Client, namespace, name string, timeout time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := client.Poll(wait, 200*time.Millisecond, func() (bool, error) {
		_, err := hub.Resource(works()).Namespace(namespace).Get(wait, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return &daemon.Error{
			Err:  fmt.Errorf("work %s is still being removed after %s", name, timeout),
			Hint: "is the agent connected? `drover clusters`; `kubectl describe manifestwork` says what remains", Code: daemon.ExitWaiting,
		}
	}
	if err == nil {
		say(cmd, "work %s is removed", name)
	}
	return err
}
