// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
)

// labelAddon is on the works of an addon.
const labelAddon = "open-cluster-management.io/addon-name"

func addons() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "addon.open-cluster-management.io", Version: "v1beta1", Resource: "managedclusteraddons"}
}

func (g *globals) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain CLUSTER WORK|ADDON", Short: "Why a work or an addon is as it is: from what was wanted to what runs", Args: cobra.ExactArgs(2),
		Long: `Goes from what was wanted to what runs on the cluster, one step a line, and says at
the first step that is not done what it waits for and what to do.`,
		Example: "  drover explain shop-1 hello",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			all, err := explainAll(ctx, hub, args[0], args[1])
			if err != nil {
				return err
			}
			if g.output == "json" || g.output == "yaml" {
				return g.encode(cmd.OutOrStdout(), map[string]any{"explanations": all})
			}
			now := time.Now()
			for _, e := range all {
				if err := printExplanation(cmd.OutOrStdout(), &e, now); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// explainAll explains a work or, when there is none of the name, an addon and all
// works of it.
func explainAll(ctx context.Context, hub *client.Client, cluster, name string) ([]fleet.Explanation, error) {
	var head fleet.Explanation
	err := hub.Get(ctx, explainPath(cluster, name), &head)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("cluster %s has neither a work nor an addon %q", cluster, name)
	}
	if err != nil {
		return nil, err
	}
	out := []fleet.Explanation{head}
	if !slices.ContainsFunc(head.Lines, func(l fleet.Evidence) bool { return l.Stage == fleet.StageWork }) {
		return out, nil // of a work
	}
	list, err := hub.Resource(works()).Namespace(cluster).List(ctx, metav1.ListOptions{LabelSelector: labelAddon + "=" + name})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		var e fleet.Explanation
		if err := hub.Get(ctx, explainPath(cluster, list.Items[i].GetName()), &e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func explainPath(cluster, name string) string {
	return fleet.PathExplain + "/" + url.PathEscape(cluster) + "/" + url.PathEscape(name)
}

// marks are how the states of evidence look.
func mark(state string) string {
	switch state {
	case fleet.EvidenceOK:
		return "ok"
	case fleet.EvidenceWaiting:
		return "WAITING"
	case fleet.EvidenceProblem:
		return "PROBLEM"
	}
	return "-"
}

func printExplanation(out io.Writer, e *fleet.Explanation, now time.Time) error {
	fmt.Fprintf(out, "%s on cluster %s\n", cell(e.Name), cell(e.Cluster))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, l := range e.Lines {
		age := ""
		if !l.Time.IsZero() {
			age = duration.HumanDuration(max(now.Sub(l.Time), 0))
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", cell(l.Stage), mark(l.State), age, cell(l.Text))
		if l.Hint != "" {
			fmt.Fprintf(w, "\t\t\tto do: %s\n", cell(l.Hint))
		}
	}
	return w.Flush()
}
