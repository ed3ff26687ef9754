// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

// annotationOutputs names a further form of output of one command.
const annotationOutputs = "drover.io/output"

func (g *globals) bundleCommand() *cobra.Command {
	c := &cobra.Command{Use: "bundle", Short: "Bundles: manifests that are too many for one object of the hub", Args: cobra.NoArgs, RunE: help}
	push := &cobra.Command{
		Use: "push FILE|DIR|-", Short: "Store manifests on the hub, and print the digest by which works name them", Args: cobra.ExactArgs(1),
		Annotations: map[string]string{annotationOutputs: "digest"},
		Example:     "  drover bundle push ./manifests\n  kustomize build . | drover bundle push - -o digest",
		Long: `Stores Kubernetes objects on the hub as one bundle and prints its digest.

A directory is read with all it holds: files that end in .yaml, .yml or .json. The
same objects make the same digest, however they are spread over files. A work has a
bundle's objects after its own manifests, by the annotation ` + work.AnnotationBundle + `.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			objects, err := readBundle(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			data, err := canonical(objects)
			if err != nil {
				return err
			}
			var info struct {
				Digest  string `json:"digest"`
				Size    int64  `json:"size"`
				Objects int    `json:"objects"`
				Stored  bool   `json:"stored"`
			}
			if err := hub.Put(ctx, wire.PathContent, "application/x-ndjson", data, &info); err != nil {
				return err
			}
			switch g.output {
			case "json", "yaml":
				return g.encode(cmd.OutOrStdout(), info)
			case "table", "wide":
				done := "stored"
				if !info.Stored {
					done = "was there already"
				}
				say(cmd, "%d objects, %d bytes: %s", info.Objects, info.Size, done)
				say(cmd, "to use it, set on a work: %s: %s", work.AnnotationBundle, info.Digest)
			}
			fmt.Fprintln(cmd.OutOrStdout(), info.Digest)
			return nil
		}),
	}
	c.AddCommand(push)
	return c
}

// readBundle reads a file, a directory or standard input.
func readBundle(path string, stdin io.Reader) ([]*unstructured.Unstructured, error) {
	if path == "-" {
		return readObjects(path, stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readObjects(path, stdin)
	}
	var out []*unstructured.Unstructured
	err = filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && file != path
		if d.IsDir() {
			if hidden {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			return nil
		}
		objects, err := readObjects(file, stdin)
		if err != nil {
			return err
		}
		out = append(out, objects...)
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s: no files that end in .yaml, .yml or .json", path)
	}
	return out, err
}

// canonical makes NDJSON of objects, the same of the same ones: ordered by group,
// kind, namespace and name, with sorted keys.
func canonical(objects []*unstructured.Unstructured) ([]byte, error) {
	sorted := slices.Clone(objects)
	key := func(o *unstructured.Unstructured) []string {
		return []string{o.GroupVersionKind().Group, o.GetKind(), o.GetNamespace(), o.GetName()}
	}
	slices.SortStableFunc(sorted, func(a, b *unstructured.Unstructured) int { return slices.Compare(key(a), key(b)) })
	var out bytes.Buffer
	for i, o := range sorted {
		name := cmp.Or(o.GetName(), "without a name")
		switch {
		case strings.HasPrefix(o.GetAPIVersion(), "kustomize.config.k8s.io/"):
			return nil, daemon.Hint(fmt.Errorf("%s %s is for kustomize, not for a cluster", o.GetKind(), name), "kustomize build DIR | drover bundle push -")
		case o.GetName() == "":
			return nil, fmt.Errorf("%s %s: metadata.name is missing", o.GetAPIVersion(), o.GetKind())
		case i > 0 && slices.Equal(key(sorted[i-1]), key(o)):
			return nil, fmt.Errorf("%s %s is there twice", o.GetKind(), name)
		}
		line, err := json.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.GetKind(), name, err)
		}
		out.Write(line)
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}
