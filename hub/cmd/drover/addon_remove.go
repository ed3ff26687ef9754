// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func (g *globals) addOnRemoveCommand() *cobra.Command {
	var t targets
	var yes, dependents, wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove an addon from clusters, and there all that belongs to it", Args: cobra.ExactArgs(1),
		Long: `Removes an addon from clusters: its hooks run, its objects go, with its namespaces
and definitions what is in them. Shows first what goes, and asks when that is on more
than one cluster.`,
		Example: "  drover addon remove logging --cluster shop-1 --wait\n  drover addon remove cert-manager --clusters env=test --with-dependents --yes",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if err := t.check(); err != nil {
				return err
			}
			var preview fleet.Preview
			err := hub.Post(ctx, fleet.PathAddOnPreview, fleet.PreviewRequest{AddOn: args[0], Clusters: t.names, Selector: t.selector, Remove: true}, &preview)
			if err != nil {
				return err
			}
			r := &removing{globals: g, cmd: cmd, hub: hub, addOn: args[0], dependents: dependents}
			text, clusters := r.plan(&preview)
			if len(clusters) == 0 {
				return fmt.Errorf("addon %s is not installed on any of these clusters", args[0])
			}
			say(cmd, "%s", text)
			if len(clusters) > 1 || len(r.others) > 0 {
				if err := confirm(cmd, yes, args[0], "On %d clusters.", len(clusters)); err != nil {
					return err
				}
			}
			r.remove(ctx, clusters)
			if wait {
				r.wait(ctx, clusters, timeout)
			}
			if r.failed > 0 {
				return fmt.Errorf("%d of the clusters failed", r.failed)
			}
			return ctx.Err()
		}),
	}
	t.flags(c)
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dependents, "with-dependents", false, "remove the addons that need it, too, before it")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is gone")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long --wait waits")
	return c
}

type removing struct {
	*globals
	cmd        *cobra.Command
	hub        *client.Client
	addOn      string
	dependents bool
	others     map[string][]string // dependents by cluster
	failed     int
}

// plan says what goes, and where.
func (r *removing) plan(p *fleet.Preview) (text string, clusters []string) {
	var b strings.Builder
	r.others = map[string][]string{}
	for _, o := range p.Outcomes {
		if o.Error != "" {
			fmt.Fprintf(&b, "%s: %s\n", clustersText(o.Clusters, false), cell(o.Error))
			continue
		}
		fmt.Fprintf(&b, "%s: %d objects go\n", clustersText(o.Clusters, false), len(o.Objects))
		for _, x := range o.Objects {
			if slices.Contains(protected(), x.Kind) && x.Action == wire.ActionDelete {
				fmt.Fprintf(&b, "  - %s %s, and all that is in it\n", cell(x.Kind), cell(x.Name))
			}
		}
		if len(o.Requires) > 0 {
			verb := "need it: remove them first, or use --with-dependents"
			if r.dependents {
				verb = "need it, and go first"
				for _, c := range o.Clusters {
					r.others[c] = o.Requires
				}
			}
			fmt.Fprintf(&b, "  %s %s\n", cell(strings.Join(o.Requires, ", ")), verb)
		}
		clusters = append(clusters, o.Clusters...)
	}
	slices.Sort(clusters)
	return strings.TrimRight(b.String(), "\n"), clusters
}

func (r *removing) remove(ctx context.Context, clusters []string) {
	for _, name := range clusters {
		resource := r.hub.Resource(addons()).Namespace(name)
		order := []string{r.addOn}
		for _, other := range r.others[name] {
			addOn, _, _ := strings.Cut(other, "@")
			order = append([]string{addOn}, order...)
		}
		for _, addOn := range r.sorted(ctx, name, order) {
			if obj, err := resource.Get(ctx, addOn, metav1.GetOptions{}); err == nil && obj.GetAnnotations()[addon.AnnotationPlacement] != "" {
				say(r.cmd, "%s: placement %s installed %s, and does again unless it no longer chooses the cluster",
					name, obj.GetAnnotations()[addon.AnnotationPlacement], addOn)
			}
			err := resource.Delete(ctx, addOn, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				r.failed++
				fmt.Fprintf(r.cmd.OutOrStdout(), "%s: %s is not removed: %s\n", name, addOn, cell(err.Error()))
				break
			}
			fmt.Fprintf(r.cmd.OutOrStdout(), "%s: %s is being removed\n", name, addOn)
		}
	}
}

// sorted adds the dependents of dependents, which go before those.
func (r *removing) sorted(ctx context.Context, cluster string, order []string) []string {
	if !r.dependents {
		return order
	}
	seen := map[string]bool{}
	var out []string
	var visit func(addOn string)
	visit = func(addOn string) {
		if seen[addOn] {
			return
		}
		seen[addOn] = true
		var p fleet.Preview
		if err := r.hub.Post(ctx, fleet.PathAddOnPreview, fleet.PreviewRequest{AddOn: addOn, Clusters: []string{cluster}, Remove: true}, &p); err == nil {
			for _, o := range p.Outcomes {
				for _, other := range o.Requires {
					name, _, _ := strings.Cut(other, "@")
					visit(name)
				}
			}
		}
		out = append(out, addOn)
	}
	for _, addOn := range order {
		visit(addOn)
	}
	return out
}

func (r *removing) wait(ctx context.Context, clusters []string, timeout time.Duration) {
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	open := map[string]string{}
	for _, name := range clusters {
		open[name] = ""
	}
	err := client.Poll(wait, waitInterval, func() (bool, error) {
		for _, name := range clusters {
			was, waiting := open[name]
			if !waiting {
				continue
			}
			obj, err := r.hub.Resource(addons()).Namespace(name).Get(wait, r.addOn, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				fmt.Fprintf(r.cmd.OutOrStdout(), "%s: %s is removed\n", name, r.addOn)
				delete(open, name)
				continue
			}
			if err != nil {
				return false, err
			}
			var a addon.ManagedClusterAddOn
			if err := into(obj.Object, &a); err != nil {
				return false, err
			}
			if c := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionProgressing); c != nil && a.DeletionTimestamp != nil && c.Message != was {
				open[name] = c.Message
				fmt.Fprintf(r.cmd.OutOrStdout(), "%s: %s\n", name, cell(c.Message))
			}
		}
		return len(open) == 0, nil
	})
	if err != nil {
		for name, text := range open {
			r.failed++
			fmt.Fprintf(r.cmd.OutOrStdout(), "%s: %s is still there after %s: %s\n", name, r.addOn, timeout, cell(text))
		}
	}
}

func (g *globals) addOnListCommand() *cobra.Command {
	var namespace string
	c := &cobra.Command{
		Use: "list", Short: "Installed addons: version, health, how far they are", Args: cobra.NoArgs,
		Example: "  drover addon list\n  drover addon list --cluster shop-1",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			if g.output != "table" && g.output != "wide" {
				return g.list(ctx, cmd, hub, addons(), namespace, metav1.ListOptions{})
			}
			all, err := hub.Resource(addons()).Namespace(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if len(all.Items) == 0 {
				say(cmd, "No addons are installed.")
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 3, ' ', 0)
			fmt.Fprintln(w, "CLUSTER\tADDON\tVERSION\tREVISION\tAVAILABLE\tSTATE\tMESSAGE")
			for i := range all.Items {
				var a addon.ManagedClusterAddOn
				if err := into(all.Items[i].Object, &a); err != nil {
					return err
				}
				fmt.Fprintln(w, addOnRow(&a))
			}
			return w.Flush()
		}),
	}
	c.Flags().StringVarP(&namespace, "cluster", "n", "", "of one cluster (default: of all)")
	return c
}

func addOnRow(a *addon.ManagedClusterAddOn) string {
	version, revision := "", ""
	if c := a.Status.Content; c != nil {
		version = c.Version
		if c.LastApplied != nil && c.LastApplied.Version != "" && c.LastApplied.Version != c.Version {
			version = c.LastApplied.Version + " -> " + c.Version
		}
		if c.Revision > 0 {
			revision = fmt.Sprint(c.Revision)
		}
	}
	available, state, message := "", "", ""
	if c := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionAvailable); c != nil {
		available, message = string(c.Status), c.Message
	}
	if c := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionProgressing); c != nil {
		if state = c.Reason; c.Reason != addon.ReasonCompleted {
			message = c.Message
		}
	}
	cells := []string{a.Namespace, a.Name, version, revision, available, state, message}
	for i := range cells {
		cells[i] = cell(cells[i])
	}
	return strings.Join(cells, "\t")
}

func (g *globals) addOnPreviewCommand() *cobra.Command {
	var t targets
	var file, namespace string
	var sets []string
	c := &cobra.Command{
		Use: "preview NAME[@VERSION]", Short: "What clusters would get of an addon, before anything changes", Args: cobra.ExactArgs(1),
		Long: `Renders an addon for clusters, without asking their agents, and shows what changes
against what the hub gave them last. Clusters with the same outcome are shown
together; without clusters those on which it is installed. -o yaml shows the values
with their layers, and the manifests.`,
		Example: "  drover addon preview logging@2.0.0 --clusters env=prod",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			name, version, _ := strings.Cut(args[0], "@")
			values, err := readValues(file, sets)
			if err != nil {
				return err
			}
			var preview fleet.Preview
			err = hub.Post(ctx, fleet.PathAddOnPreview, fleet.PreviewRequest{
				AddOn: name, Version: version, Clusters: t.names, Selector: t.selector, Values: values, Namespace: namespace,
			}, &preview)
			if err != nil {
				return err
			}
			return g.showPreview(cmd, &preview)
		}),
	}
	t.flags(c)
	c.Flags().StringVarP(&file, "values", "f", "", "YAML file with values")
	c.Flags().StringArrayVar(&sets, "set", nil, "one value, such as image.tag=v2; repeatable")
	c.Flags().StringVar(&namespace, "namespace", "", "namespace on the cluster, as if it were installed there")
	return c
}

// showPreview prints outcomes; one that is an error makes the command fail.
func (g *globals) showPreview(cmd *cobra.Command, p *fleet.Preview) error {
	if g.output == "json" || g.output == "yaml" {
		return g.encode(cmd.OutOrStdout(), p)
	}
	out := cmd.OutOrStdout()
	failed := 0
	if len(p.Outcomes) == 0 {
		say(cmd, "It is not installed on any cluster.")
	}
	for _, o := range p.Outcomes {
		who := clustersText(o.Clusters, g.output == "wide")
		if o.Error != "" {
			failed += len(o.Clusters)
			fmt.Fprintf(out, "%s: %s\n", who, cell(o.Error))
			continue
		}
		change := outcomeText(&fleet.DiffOutcome{State: fleet.DiffChanges, Objects: o.Objects})
		if len(o.Objects) == 0 {
			change = "no change"
		}
		fmt.Fprintf(out, "%s: version %s: %s\n", who, cell(o.Version), change)
		if len(o.Requires) > 0 {
			fmt.Fprintf(out, "    first %s\n", cell(strings.Join(o.Requires, ", ")))
		}
		for _, x := range o.Objects {
			printObjectDiff(out, &x)
		}
		for _, v := range o.Values {
			if v.Layer != fleet.LayerVersion {
				fmt.Fprintf(out, "    %s = %s (%s)\n", cell(v.Path), cell(string(v.Value)), cell(v.From))
			}
		}
	}
	if failed > 0 {
		return &daemon.Error{Err: fmt.Errorf("%d clusters would not get it", failed), Code: 1}
	}
	return nil
}
