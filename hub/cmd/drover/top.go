// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/wire"
)

func (g *globals) topCommand() *cobra.Command {
	var watch, addons bool
	var interval time.Duration
	c := &cobra.Command{
		Use: "top", Short: "Load of every cluster and of the machine its agent runs on", Args: cobra.NoArgs,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			if !watch {
				return g.top(ctx, cmd, hub, addons, cmd.OutOrStdout())
			}
			t := time.NewTicker(max(interval, time.Second))
			defer t.Stop()
			for {
				var screen bytes.Buffer
				if err := g.top(ctx, cmd, hub, addons, &screen); err != nil {
					return err
				}
				// Home, the lines with each rest cleared, then clear what is below.
				fmt.Fprintf(cmd.OutOrStdout(), "\x1b[H%s\x1b[J", strings.ReplaceAll(screen.String(), "\n", "\x1b[K\n"))
				select {
				case <-ctx.Done():
					return nil
				case <-t.C:
				}
			}
		}),
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "keep showing, until interrupted")
	c.Flags().BoolVar(&addons, "addons", false, "show the pods of every addon instead")
	c.Flags().DurationVar(&interval, "interval", 2*time.Second, "of --watch")
	return c
}

func (g *globals) top(ctx context.Context, cmd *cobra.Command, hub *client.Client, addons bool, out io.Writer) error {
	all, err := hub.Resource(metrics()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if g.output != "table" && g.output != "wide" {
		return g.encode(out, all.UnstructuredContent())
	}
	if len(all.Items) == 0 {
		say(cmd, "No samples yet. An agent sends its first one right after it connects.")
		return nil
	}
	samples := make([]fleet.ClusterMetrics, len(all.Items))
	for i := range all.Items {
		if err := into(all.Items[i].Object, &samples[i]); err != nil {
			return err
		}
	}
	if addons {
		return printAddOns(out, samples)
	}
	return printTop(out, samples, time.Now())
}

// printAddOns lays out what the pods of addons are and use. Usage of fewer pods than
// there are says of how many it is.
func printAddOns(out io.Writer, samples []fleet.ClusterMetrics) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CLUSTER\tADDON\tPODS\tREADY\tRESTARTS\tCPU\tMEMORY\tMEASURED")
	for i := range samples {
		for _, a := range samples[i].AddOns {
			cpu, memory := usageText(&a)
			measured := "-"
			if cpu != "-" {
				measured = fmt.Sprintf("%d of %d", a.Measured, a.Pods)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", cell(samples[i].Name), cell(a.Name), a.Pods, a.Ready, a.Restarts, cpu, memory, measured)
		}
	}
	return w.Flush()
}

// usageText is CPU and memory; dashes where the cluster does not measure them.
func usageText(a *fleet.AddOnUsage) (cpu, memory string) {
	if a.CPU == nil || a.Memory == nil {
		return "-", "-"
	}
	return cores(*a.CPU), bytesText(float64(*a.Memory))
}

// printTop lays out the last samples. CPU and memory of a cluster are usage
// where the cluster measures it, else what its pods request; USED BY says which.
func printTop(out io.Writer, samples []fleet.ClusterMetrics, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CLUSTER\tAGENT\tNODES\tPODS\tCPU\tMEMORY\tUSED BY\tHOST CPU\tHOST MEMORY\tSAMPLE")
	for i := range samples {
		s := &samples[i]
		agent := "connected"
		if !s.Connected {
			agent = "lost"
		}
		nodes, pods, cpu, memory, by := cells(s.Kubernetes)
		hostCPU, hostMemory := "-", "-"
		var newest time.Time
		if h := s.Host; h != nil {
			newest = h.Time
			hostCPU = fmt.Sprintf("%.2f of %d", h.CPU, h.Cores)
			hostMemory = fmt.Sprintf("%s of %s", bytesText(float64(h.MemoryUsed)), bytesText(float64(h.MemoryTotal)))
		}
		if k := s.Kubernetes; k != nil && k.Time.After(newest) {
			newest = k.Time
		}
		fmt.Fprintln(w, strings.Join([]string{cell(s.Name), agent, nodes, pods, cpu, memory, by, hostCPU, hostMemory, age(now, newest)}, "\t"))
	}
	return w.Flush()
}

func cells(k *wire.KubernetesSample) (nodes, pods, cpu, memory, by string) {
	if k == nil {
		return "-", "-", "-", "-", "-"
	}
	used, by := k.Usage, "usage"
	if used == nil {
		used, by = k.Requests, "requests"
	}
	running := 0
	for _, n := range k.PodsByPhase {
		running += n
	}
	running -= k.PodsByPhase["Succeeded"] + k.PodsByPhase["Failed"]
	pods = fmt.Sprint(running)
	if k.PodsCapacity > 0 {
		pods = fmt.Sprintf("%d of %d", running, k.PodsCapacity)
	}
	return fmt.Sprintf("%d of %d", k.NodesReady, k.Nodes), pods,
		share(used["cpu"], k.Allocatable["cpu"], cores), share(used["memory"], k.Allocatable["memory"], bytesText), by
}

// share is "used of total (n%)"; what is missing or unreadable is a dash.
func share(used, total string, text func(float64) string) string {
	t, err := resource.ParseQuantity(total)
	if err != nil || t.IsZero() {
		return "-"
	}
	u, err := resource.ParseQuantity(cmp.Or(used, "0"))
	if err != nil {
		return "-"
	}
	a, b := u.AsApproximateFloat64(), t.AsApproximateFloat64()
	return fmt.Sprintf("%s of %s (%.0f%%)", text(a), text(b), 100*a/b)
}

func cores(v float64) string { return fmt.Sprintf("%.2f", v) }

func bytesText(v float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 {
			return fmt.Sprintf("%.4g %s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.4g TiB", v)
}

// age is how old a sample is; an agent's clock that runs ahead shows as now.
func age(now, t time.Time) string {
	switch d := now.Sub(t).Round(time.Second); {
	case t.IsZero():
		return "-"
	case d <= 0:
		return "now"
	default:
		return d.String() + " ago"
	}
}
