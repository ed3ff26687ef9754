// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func (g *globals) diffCommand() *cobra.Command {
	var files, names []string
	var selector string
	var timeout time.Duration
	c := &cobra.Command{
		Use: "diff -f FILE", Short: "What works would change on their clusters, before they are applied", Args: cobra.NoArgs,
		Example: "  drover diff -f work.yaml\n  drover diff -f work.yaml --clusters env=prod",
		Long: `Asks the agent of each cluster what the works in a file would change there, by a
server-side dry run. Nothing is changed. Clusters on which the outcome is the
same are shown together.

A work is compared with the cluster its namespace names; --cluster and --clusters
compare it with others.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			if len(files) == 0 {
				return &daemon.Error{Err: errors.New("filename: missing"), Code: daemon.ExitUsage, Hint: "add -f FILE, or -f - for standard input"}
			}
			req := fleet.DiffRequest{Clusters: names, Selector: selector, TimeoutSeconds: int(timeout.Seconds())}
			for _, f := range files {
				objects, err := readObjects(f, cmd.InOrStdin())
				if err != nil {
					return err
				}
				for _, o := range objects {
					if o.GetKind() != work.Kind {
						say(cmd, "%s %s is not for a cluster, left out", o.GetKind(), o.GetName())
						continue
					}
					text, err := json.Marshal(o.Object)
					if err != nil {
						return err
					}
					req.Works = append(req.Works, text)
				}
			}
			if len(req.Works) == 0 {
				return errors.New("no ManifestWork in the files")
			}
			var answer fleet.Diff
			if err := hub.Post(ctx, fleet.PathDiff, req, &answer); err != nil {
				return err
			}
			if g.output == "json" || g.output == "yaml" {
				return g.encode(cmd.OutOrStdout(), answer)
			}
			printDiff(cmd.OutOrStdout(), &answer, g.output == "wide")
			return nil
		}),
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "YAML or JSON file with works; - reads standard input; repeatable")
	c.Flags().StringSliceVarP(&names, "cluster", "n", nil, "compare with this cluster; repeatable")
	c.Flags().StringVar(&selector, "clusters", "", "compare with the clusters of this label selector")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for one cluster")
	c.MarkFlagsMutuallyExclusive("cluster", "clusters")
	return c
}

// printDiff prints outcomes, the most frequent first. wide names all clusters.
func printDiff(out io.Writer, d *fleet.Diff, wide bool) {
	for _, w := range d.Works {
		fmt.Fprintf(out, "work %s\n", cell(w.Name))
		for _, o := range w.Outcomes {
			fmt.Fprintf(out, "  %s: %s\n", clustersText(o.Clusters, wide), outcomeText(&o))
			for _, x := range o.Objects {
				printObjectDiff(out, &x)
			}
		}
	}
}

// maxShown is how many clusters a line names by itself.
const maxShown = 5

func clustersText(names []string, wide bool) string {
	text := "1 cluster"
	if len(names) != 1 {
		text = fmt.Sprintf("%d clusters", len(names))
	}
	shown := names
	if !wide {
		shown = names[:min(len(names), maxShown)]
	}
	list := strings.Join(shown, ", ")
	if len(shown) < len(names) {
		list += ", …"
	}
	return text + " (" + cell(list) + ")"
}

func outcomeText(o *fleet.DiffOutcome) string {
	switch o.State {
	case fleet.DiffNone:
		return "no change"
	case fleet.DiffOffline:
		return "offline, not asked"
	case fleet.DiffFailed:
		return "could not be compared: " + cell(o.Message)
	}
	count := map[string]int{}
	fields := 0
	for _, x := range o.Objects {
		count[x.Action]++
		if x.Action == wire.ActionChange {
			fields += max(x.Total, len(x.Fields))
		}
	}
	var parts []string
	add := func(action, format string) {
		if n := count[action]; n > 0 {
			parts = append(parts, fmt.Sprintf(format, n))
		}
	}
	add(wire.ActionRefuse, "%d refused")
	add(wire.ActionCreate, "%d created")
	if n := count[wire.ActionChange]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d changed in %d fields", n, fields))
	}
	add(wire.ActionDelete, "%d deleted")
	if o.Unchanged > 0 {
		parts = append(parts, fmt.Sprintf("%d as they are", o.Unchanged))
	}
	return strings.Join(parts, ", ")
}

func printObjectDiff(out io.Writer, x *wire.ObjectDiff) {
	sign := map[string]string{wire.ActionCreate: "+", wire.ActionChange: "~", wire.ActionDelete: "-", wire.ActionRefuse: "!"}[x.Action]
	name := x.Name
	if x.Namespace != "" {
		name = x.Namespace + "/" + x.Name
	}
	line := "    " + sign + " " + cell(x.Kind) + " " + cell(name)
	if x.Message != "" {
		line += ": " + cell(x.Message)
	}
	fmt.Fprintln(out, line)
	if x.Action != wire.ActionChange {
		return
	}
	for _, f := range x.Fields {
		fmt.Fprintf(out, "        %s: %s -> %s\n", cell(f.Path), cell(absent(f.Live)), cell(absent(f.Desired)))
	}
	if more := x.Total - len(x.Fields); more > 0 {
		fmt.Fprintf(out, "        and %d more fields\n", more)
	}
}

func absent(v string) string {
	if v == "" {
		return "(none)"
	}
	return v
}
