// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

func revisions() schema.GroupVersionResource { return fleetResource("workrevisions") }

// history are the revisions of a work, the newest first.
func history(ctx context.Context, hub *client.Client, cluster, name string) ([]fleet.WorkRevision, error) {
	list, err := hub.Resource(revisions()).Namespace(cluster).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []fleet.WorkRevision
	for i := range list.Items {
		var r fleet.WorkRevision
		if err := into(list.Items[i].Object, &r); err != nil {
			return nil, err
		}
		if r.Spec.Work == name {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b fleet.WorkRevision) int { return cmp.Compare(b.Spec.Revision, a.Spec.Revision) })
	return out, nil
}

func (g *globals) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history CLUSTER WORK", Short: "What was taken from a work, and can be undone", Args: cobra.ExactArgs(2),
		Example: "  drover works history shop-1 hello",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			list, err := history(ctx, hub, args[0], args[1])
			if err != nil {
				return err
			}
			if g.output == "json" || g.output == "yaml" {
				return g.encode(cmd.OutOrStdout(), map[string]any{"revisions": list})
			}
			if len(list) == 0 {
				say(cmd, "nothing was taken from work %s of cluster %s in the last days", args[1], args[0])
				return nil
			}
			now := time.Now()
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 3, ' ', 0)
			fmt.Fprintln(w, "REVISION\tREASON\tBY\tAGE\tLEFT\tWHAT")
			for _, r := range list {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", r.Spec.Revision, cell(r.Spec.Reason), cell(r.Spec.By),
					duration.HumanDuration(now.Sub(r.CreationTimestamp.Time)), duration.HumanDuration(max(r.Spec.ExpiresAt.Sub(now), 0)), cell(r.Spec.Message))
			}
			return w.Flush()
		}),
	}
}

func (g *globals) undoCommand() *cobra.Command {
	var to string
	var yes bool
	c := &cobra.Command{
		Use: "undo CLUSTER WORK", Short: "Bring a work back as it was before manifests were dropped, or it was deleted", Args: cobra.ExactArgs(2),
		Long: `Brings a work back as it was before manifests were dropped from it, or before it
was deleted. The hub keeps that for a week; "drover works history" lists it.`,
		Example: "  drover undo shop-1 hello\n  drover undo shop-1 hello --to 3",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			ns, name := args[0], args[1]
			list, err := history(ctx, hub, ns, name)
			if err != nil {
				return err
			}
			r, err := chooseRevision(list, to, ns, name)
			if err != nil {
				return err
			}
			live, err := hub.Resource(works()).Namespace(ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			gone := err != nil
			if !gone && live.GetDeletionTimestamp() != nil {
				return daemon.Hint(fmt.Errorf("work %s of cluster %s is still being removed", name, ns),
					"undo it when it is gone: its agent has to report first; `drover explain %s %s` says what remains", ns, name)
			}
			if err := confirm(cmd, yes, name, "Work %s of cluster %s will be as it was at revision %d, before %s (%s).\n"+
				"What was changed since is replaced; that can be undone in turn.", name, ns, r.Spec.Revision, r.Spec.Message, r.Spec.By); err != nil {
				return err
			}
			next, err := restored(r, live, gone)
			if err != nil {
				return err
			}
			if gone {
				next, err = hub.Resource(works()).Namespace(ns).Create(ctx, next, metav1.CreateOptions{FieldManager: client.FieldManager})
			} else {
				next, err = hub.Resource(works()).Namespace(ns).Update(ctx, next, metav1.UpdateOptions{FieldManager: client.FieldManager})
			}
			if err != nil {
				return err
			}
			return g.object(cmd, works(), next, fmt.Sprintf("work %s is as it was at revision %d", name, r.Spec.Revision))
		}),
	}
	c.Flags().StringVar(&to, "to", "", "`REVISION` of drover works history (default the newest)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// chooseRevision picks a revision by number or name; the newest when to is empty.
func chooseRevision(list []fleet.WorkRevision, to, cluster, name string) (*fleet.WorkRevision, error) {
	if len(list) == 0 {
		return nil, daemon.Hint(fmt.Errorf("there is nothing to undo for work %s of cluster %s", name, cluster),
			"the hub keeps what was taken from a work for a week")
	}
	for i := range list {
		if to == "" || to == list[i].Name || to == strconv.FormatInt(list[i].Spec.Revision, 10) {
			return &list[i], nil
		}
	}
	return nil, daemon.Hint(fmt.Errorf("work %s of cluster %s has no revision %q", name, cluster, to), "`drover works history %s %s` lists them", cluster, name)
}

// restored is the work as a revision has it, over the live one if there is one.
func restored(r *fleet.WorkRevision, live *unstructured.Unstructured, gone bool) (*unstructured.Unstructured, error) {
	var spec map[string]any
	if err := json.Unmarshal(r.Spec.WorkSpec.Raw, &spec); err != nil {
		return nil, fmt.Errorf("read revision %d: %w", r.Spec.Revision, err)
	}
	next := live
	if gone {
		next = &unstructured.Unstructured{Object: map[string]any{"apiVersion": work.Group + "/" + work.Version, "kind": work.Kind}}
		next.SetName(r.Spec.Work)
		next.SetNamespace(r.Namespace)
	}
	next.Object["spec"] = spec
	next.SetLabels(r.Spec.Labels)
	next.SetAnnotations(r.Spec.Annotations)
	return next, nil
}
