// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/words"
)

func (g *globals) clustersCommand() *cobra.Command {
	var selector, set string
	c := &cobra.Command{
		Use: "clusters", Short: "The fleet: every cluster, and whether its agent is connected", Args: cobra.NoArgs,
		Example: "  drover clusters -o wide\n  drover clusters -l env=prod",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			if set != "" {
				inSet, err := setSelector(ctx, hub, set)
				if err != nil {
					return err
				}
				selector = strings.Trim(selector+","+inSet, ",")
			}
			opts := metav1.ListOptions{LabelSelector: selector}
			if g.output != "table" && g.output != "wide" {
				return g.list(ctx, cmd, hub, clusters(), "", opts)
			}
			t, err := hub.TableOfObjects(ctx, clusters(), opts)
			if err != nil {
				return err
			}
			if len(t.Rows) == 0 {
				say(cmd, "No %s found.", clusters().Resource)
				return nil
			}
			if err := addPhases(t); err != nil {
				return err
			}
			return printTable(cmd.OutOrStdout(), t, g.output == "wide", false)
		}),
	}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label selector, as in kubectl")
	c.Flags().StringVar(&set, "set", "", "only the members of this ManagedClusterSet")
	c.AddCommand(g.kubeconfigCommand())
	return c
}

// addPhases puts the phase of each cluster, and why, into a table of the hub before
// its last column, the age.
func addPhases(t *metav1.Table) error {
	last := max(len(t.ColumnDefinitions)-1, 0)
	t.ColumnDefinitions = slices.Insert(t.ColumnDefinitions, last,
		metav1.TableColumnDefinition{Name: "Phase"}, metav1.TableColumnDefinition{Name: "Reason", Priority: 1})
	for i := range t.Rows {
		row := &t.Rows[i]
		var mc cluster.ManagedCluster
		if err := json.Unmarshal(row.Object.Raw, &mc); err != nil {
			return fmt.Errorf("read the hub's answer: %w", err)
		}
		s := words.Cluster(&mc)
		for len(row.Cells) < last {
			row.Cells = append(row.Cells, nil)
		}
		row.Cells = slices.Insert(row.Cells, last, any(s.Phase), any(s.Reason))
	}
	return nil
}

// setSelector is the label selector of a set's members.
func setSelector(ctx context.Context, hub *client.Client, name string) (string, error) {
	gvr := schema.GroupVersionResource{Group: cluster.Group, Version: cluster.VersionSets, Resource: "managedclustersets"}
	obj, err := hub.Resource(gvr).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	var set cluster.ManagedClusterSet
	if err := into(obj.Object, &set); err != nil {
		return "", fmt.Errorf("set %s: %w", name, err)
	}
	if set.Spec.ClusterSelector.SelectorType != cluster.SelectorLabels {
		return cluster.LabelSet + "=" + name, nil
	}
	if set.Spec.ClusterSelector.LabelSelector == nil {
		return "", daemon.Hint(fmt.Errorf("set %s: spec.clusterSelector.labelSelector: missing, so it has no members", name), "labelSelector: {} takes all clusters")
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.ClusterSelector.LabelSelector)
	if err != nil {
		return "", fmt.Errorf("set %s: spec.clusterSelector.labelSelector: %w", name, err)
	}
	return selector.String(), nil
}

func (g *globals) clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Change one cluster", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.clusterRemoveCommand(), g.clusterRevokeCommand(), &cobra.Command{
		Use: "label NAME KEY=VALUE|KEY- ...", Short: "Set labels, or remove them with a dash", Args: cobra.MinimumNArgs(2),
		Example: "  drover cluster label shop-1 env=prod tier-",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			set, unset, err := parseLabels(args[1:], true)
			if err != nil {
				return err
			}
			labels := map[string]any{}
			for k, v := range set {
				labels[k] = v
			}
			for _, k := range unset {
				labels[k] = nil
			}
			obj, err := patch(ctx, hub, clusters(), args[0], map[string]any{"metadata": map[string]any{"labels": labels}})
			if err != nil {
				return err
			}
			return g.object(cmd, clusters(), obj, "cluster "+args[0]+" is labelled")
		}),
	})
	return c
}

func (g *globals) clusterRemoveCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Forget a cluster and end its agent's access; what was applied there stays", Args: cobra.ExactArgs(1),
		Example: "  drover cluster remove shop-1",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if _, err := hub.Resource(clusters()).Get(ctx, args[0], metav1.GetOptions{}); err != nil {
				return err
			}
			if err := confirm(cmd, yes, args[0], "%s", words.Consequence(words.ActionRemoveCluster, args[0])); err != nil {
				return err
			}
			if err := hub.Resource(clusters()).Delete(ctx, args[0], metav1.DeleteOptions{}); err != nil {
				return err
			}
			say(cmd, "cluster %s is removed", args[0])
			return nil
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (g *globals) clusterRevokeCommand() *cobra.Command {
	var yes bool
	var reason string
	c := &cobra.Command{
		Use: "revoke NAME", Short: "Ban the agent of a cluster at once, for a lost or stolen key", Args: cobra.ExactArgs(1),
		Example: "  drover cluster revoke shop-1 --reason 'stolen laptop'",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if err := confirm(cmd, yes, args[0], "%s", words.Consequence(words.ActionRevokeCluster, args[0])); err != nil {
				return err
			}
			obj, err := patch(ctx, hub, identities(), args[0], map[string]any{"spec": map[string]any{"revoked": true, "reason": reason}})
			if err != nil {
				return err
			}
			return g.object(cmd, identities(), obj, "the agent of cluster "+args[0]+" is revoked")
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVar(&reason, "reason", "", "for the record")
	return c
}

// confirm lets a person type the name before something that cannot be undone.
func confirm(cmd *cobra.Command, yes bool, name, format string, args ...any) error {
	if yes {
		return nil
	}
	say(cmd, format, args...)
	fmt.Fprintf(cmd.ErrOrStderr(), "Type %s to go on: ", name)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != name {
		return daemon.Hint(errors.New("not confirmed; nothing was changed"), "in a script, use --yes")
	}
	return nil
}

// parseLabels reads key=value, and with removals also key-.
func parseLabels(list []string, removals bool) (set map[string]string, unset []string, err error) {
	set = map[string]string{}
	for _, l := range list {
		k, v, ok := strings.Cut(l, "=")
		switch {
		case ok && k != "":
			set[k] = v
		case removals && !ok && strings.HasSuffix(l, "-") && len(l) > 1:
			unset = append(unset, strings.TrimSuffix(l, "-"))
		default:
			return nil, nil, daemon.Usage("label %q: want key=value", l)
		}
	}
	return set, unset, nil
}

func (g *globals) applyCommand() *cobra.Command {
	var files []string
	var namespace string
	var force bool
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Store objects on the hub: works, clusters, tokens, any kind it serves", Args: cobra.NoArgs,
		Example: "  drover apply -f work.yaml",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			if len(files) == 0 {
				return &daemon.Error{Err: errors.New("filename: missing"), Code: daemon.ExitUsage, Hint: "add -f FILE, or -f - for standard input"}
			}
			var objects []*unstructured.Unstructured
			for _, f := range files {
				more, err := readObjects(f, cmd.InOrStdin())
				if err != nil {
					return err
				}
				objects = append(objects, more...)
			}
			return hub.Apply(ctx, objects, namespace, force, func(o *unstructured.Unstructured) {
				if g.output == "json" || g.output == "yaml" {
					g.encode(cmd.OutOrStdout(), o.Object) //nolint:errcheck // standard output is gone
					return
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s/%s applied\n", strings.ToLower(o.GetKind()), o.GetName())
			})
		}),
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "YAML or JSON file; - reads standard input; repeatable")
	c.Flags().StringVarP(&namespace, "cluster", "n", "", "cluster for works that name none")
	c.Flags().BoolVar(&force, "force", false, "take over fields that somebody else set")
	return c
}

// readObjects reads all documents of a file before anything is stored, so that
// a broken one stores nothing.
func readObjects(file string, stdin io.Reader) ([]*unstructured.Unstructured, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for n := 1; ; n++ {
		var obj map[string]any
		err := dec.Decode(&obj)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, n, err)
		}
		if len(obj) == 0 {
			continue
		}
		u := &unstructured.Unstructured{Object: obj}
		if u.GetAPIVersion() == "" || u.GetKind() == "" {
			return nil, fmt.Errorf("%s: document %d: apiVersion and kind are needed", file, n)
		}
		if !u.IsList() {
			out = append(out, u)
			continue
		}
		err = u.EachListItem(func(o runtime.Object) error {
			item := o.(*unstructured.Unstructured)
			if item.GetAPIVersion() == "" || item.GetKind() == "" {
				return errors.New("items: apiVersion and kind are needed in each")
			}
			out = append(out, item)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, n, err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no objects in it", file)
	}
	return out, nil
}
