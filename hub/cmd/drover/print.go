// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/client"
)

// list prints the objects of a resource in the form asked for. Tables are laid
// out by the hub, so that they are the same everywhere.
func (g *globals) list(ctx context.Context, cmd *cobra.Command, hub *client.Client, gvr schema.GroupVersionResource, namespace string, opts metav1.ListOptions) error {
	out := cmd.OutOrStdout()
	if g.output == "table" || g.output == "wide" {
		t, err := hub.Table(ctx, gvr, namespace, "", opts)
		if err != nil {
			return err
		}
		if len(t.Rows) == 0 {
			say(cmd, "No %s found.", gvr.Resource)
			return nil
		}
		return printTable(out, t, g.output == "wide", namespace == "" && gvr == works())
	}
	all, err := hub.Resource(gvr).Namespace(namespace).List(ctx, opts)
	if err != nil {
		return err
	}
	if g.output == "name" {
		for i := range all.Items {
			fmt.Fprintln(out, resourceName(gvr, &all.Items[i]))
		}
		return nil
	}
	return g.encode(out, all.UnstructuredContent())
}

// object prints one object that a command made or changed; in the form of a
// table it is done's line on standard error.
func (g *globals) object(cmd *cobra.Command, gvr schema.GroupVersionResource, obj *unstructured.Unstructured, done string) error {
	switch g.output {
	case "json", "yaml":
		return g.encode(cmd.OutOrStdout(), obj.Object)
	case "name":
		fmt.Fprintln(cmd.OutOrStdout(), resourceName(gvr, obj))
		return nil
	}
	say(cmd, "%s", done)
	return nil
}

func resourceName(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) string {
	kind := strings.ToLower(obj.GetKind())
	if gvr.Group != "" {
		kind += "." + gvr.Group
	}
	return kind + "/" + obj.GetName()
}

func (g *globals) encode(out io.Writer, obj any) error {
	if g.output == "yaml" {
		text, err := yaml.Marshal(obj)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(obj)
}

// printTable prints a Table of the API. Columns with a priority are for wide.
func printTable(out io.Writer, t *metav1.Table, wide, namespaces bool) error {
	w := tabwriter.NewWriter(out, 0, 4, 3, ' ', 0)
	var columns []int
	var cells []string
	if namespaces {
		cells = append(cells, "CLUSTER")
	}
	for i, c := range t.ColumnDefinitions {
		if c.Priority == 0 || wide {
			columns = append(columns, i)
			cells = append(cells, strings.ToUpper(c.Name))
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
	for _, row := range t.Rows {
		cells = cells[:0]
		if namespaces {
			var m metav1.PartialObjectMetadata
			if err := json.Unmarshal(row.Object.Raw, &m); err != nil {
				return fmt.Errorf("read the hub's answer: %w", err)
			}
			cells = append(cells, cell(m.Namespace))
		}
		for _, i := range columns {
			var v any
			if i < len(row.Cells) {
				v = row.Cells[i]
			}
			cells = append(cells, cell(v))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// cell keeps a value on one line and free of what moves the cursor, turns the
// direction of writing or cannot be seen: names, messages and addresses come
// from agents.
func cell(v any) string {
	if v == nil || v == "" {
		return "-"
	}
	text := fmt.Sprint(v)
	if n, ok := v.(float64); ok { // a number of a JSON table
		text = strconv.FormatFloat(n, 'f', -1, 64)
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}
