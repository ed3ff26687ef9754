// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

// protected are the kinds with which more goes than themselves.
func protected() []string {
	return []string{"Namespace", "CustomResourceDefinition", "PersistentVolumeClaim"}
}

func (g *globals) approvePruneCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "approve-prune CLUSTER WORK", Short: "Let a removal go on that waits for a word", Args: cobra.ExactArgs(2),
		Long: `Shows which objects a changed or deleted work would remove from its cluster, and
lets the agent remove exactly those. A removal waits when it is large, or takes
namespaces, CustomResourceDefinitions or volume claims; "drover explain" shows it.`,
		Example: "  drover work approve-prune shop-1 hello",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			ns, name := args[0], args[1]
			obj, err := hub.Resource(works()).Namespace(ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			var w work.ManifestWork
			if err := into(obj.Object, &w); err != nil {
				return err
			}
			plan := w.Status.PrunePlan
			switch {
			case plan == nil:
				return daemon.Hint(fmt.Errorf("no removal of work %s on cluster %s waits for a word", name, ns),
					"`drover explain %s %s` says how it stands", ns, name)
			case w.Annotations[work.AnnotationApprovePrune] == plan.ID:
				say(cmd, "the plan is approved already; the agent carries it out")
				return nil
			}
			if err := confirm(cmd, yes, name, "%s", planText(ns, plan)); err != nil {
				return err
			}
			if err := annotate(ctx, hub, ns, name, map[string]any{work.AnnotationApprovePrune: plan.ID}); err != nil {
				return err
			}
			say(cmd, "the removal of %d objects by work %s on cluster %s is approved", plan.Total, name, ns)
			return nil
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func planText(cluster string, p *work.PrunePlan) string {
	var b strings.Builder
	why := "more than one change may remove by itself"
	if p.Reason == wire.PlanReasonProtected {
		why = "among them kinds with which more goes than themselves"
	}
	fmt.Fprintf(&b, "These %d objects will be deleted on cluster %s (%s):\n", p.Total, cell(cluster), why)
	for _, o := range p.Objects {
		b.WriteString("  " + noteText(o) + "\n")
	}
	if more := int(p.Total) - len(p.Objects); more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	b.WriteString("To keep them, put them back into the work instead.")
	return b.String()
}

func noteText(o work.ObjectNote) string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + o.Name
	}
	text := cell(o.Kind) + " " + cell(name)
	if o.Message != "" {
		text += ": " + cell(o.Message)
	}
	return text
}

// removalWarning says what a removal takes with it.
func removalWarning(obj map[string]any) (string, error) {
	var w work.ManifestWork
	if err := into(obj, &w); err != nil {
		return "", err
	}
	policy := ""
	if w.Spec.DeleteOption != nil {
		policy = w.Spec.DeleteOption.PropagationPolicy
	}
	if policy == work.Orphan {
		return fmt.Sprintf("Work %s will be removed; the objects that it applied on cluster %s stay there.", w.Name, w.Namespace), nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The objects that work %s applied on cluster %s will be deleted there.\n", w.Name, w.Namespace)
	var grave []string
	for _, m := range w.Status.ResourceStatus.Manifests {
		if slices.Contains(protected(), m.ResourceMeta.Kind) {
			grave = append(grave, noteText(work.ObjectNote{Kind: m.ResourceMeta.Kind, Namespace: m.ResourceMeta.Namespace, Name: m.ResourceMeta.Name}))
		}
	}
	if len(grave) > 0 {
		b.WriteString("With these goes all that is in them:\n")
		for _, g := range grave {
			b.WriteString("  " + g + "\n")
		}
	}
	if w.Annotations[work.AnnotationBundle] != "" || w.Status.Summary != nil {
		b.WriteString("Not all objects are listed here: the work has a bundle, or very many.\n")
	}
	b.WriteString("To keep them, set spec.deleteOption.propagationPolicy to Orphan first.")
	return b.String(), nil
}

// annotate sets annotations of a work.
func annotate(ctx context.Context, hub *client.Client, namespace, name string, annotations map[string]any) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return err
	}
	_, err = hub.Resource(works()).Namespace(namespace).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: client.FieldManager})
	return err
}
