// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/oci"
	"github.com/drover-io/drover/shared/wire"
)

// pushFlags are the options of addon push.
type pushFlags struct {
	manager, channel, description string
	values, schema, kubernetes    string
	depends, conflicts            []string
	isDefault, replace, dryRun    bool
}

func (g *globals) addonPushCommand() *cobra.Command {
	var f pushFlags
	c := &cobra.Command{
		Use: "push NAME@VERSION PATH|oci://REFERENCE", Short: "Publish a version of an addon in the catalog", Args: cobra.ExactArgs(2),
		Example: "  drover addon push hello@1.0.0 ./manifests --default\n" +
			"  drover addon push cert-manager@1.14.2 ./cert-manager-v1.14.2.tgz --values values.yaml\n" +
			"  drover addon push podinfo@6.7.0 oci://registry.example.com/charts/podinfo:6.7.0",
		Long: `Publishes a version of an addon: a file or folder of YAML, a kustomization, a Helm
chart (folder or archive), or an OCI artifact, which is fetched with the credentials
that docker has on this machine.

Nothing enters the catalog unless the hub can read and render it with its default
values. The same content can be pushed again; other content for a version that
exists needs --replace, and makes a new revision of it. What is installed keeps the
content that it has.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseAddonRef(args[0], true)
			if err != nil {
				return err
			}
			spec, err := f.spec(ref)
			if err != nil {
				return err
			}
			data, err := readContent(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			return g.run(f.push(g, ref, spec, data))(cmd, args)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.manager, "manager", "", "manifests, kustomize or helm (default what fits the files)")
	fs.StringVar(&f.channel, "channel", "", "stream of versions it belongs to, such as stable")
	fs.StringVar(&f.description, "description", "", "what is new in it")
	fs.StringVar(&f.values, "values", "", "`FILE` of default values")
	fs.StringVar(&f.schema, "schema", "", "`FILE` with the OpenAPI v3 schema of the values")
	fs.StringVar(&f.kubernetes, "kubernetes", "", "`RANGE` of versions of Kubernetes that it needs")
	fs.StringArrayVar(&f.depends, "depends", nil, "`ADDON` that must be there first, with a range if need be: 'cert-manager >=1.14.0'")
	fs.StringArrayVar(&f.conflicts, "conflicts", nil, "`ADDON` that must not be there, with a range if need be")
	fs.BoolVar(&f.isDefault, "default", false, "make it the version that is installed when nothing names one")
	fs.BoolVar(&f.replace, "replace", false, "replace the content of a version that exists")
	fs.BoolVar(&f.dryRun, "dry-run", false, "let the hub check everything and publish nothing")
	return c
}

// push sends content and publishes it.
func (f *pushFlags) push(g *globals, ref addonRef, spec map[string]any, data []byte) func(context.Context, *cobra.Command, *client.Client, []string) error {
	return func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
		say(cmd, "sending %d bytes", len(data))
		var info struct {
			Digest  string `json:"digest"`
			Size    int64  `json:"size"`
			Objects int    `json:"objects"`
			Stored  bool   `json:"stored"`
		}
		if err := hub.Put(ctx, wire.PathContent, archive.MediaType, data, &info); err != nil {
			return err
		}
		spec["image"] = info.Digest
		obj, done, err := f.publish(ctx, hub, ref, spec)
		if err != nil {
			return err
		}
		var v fleet.AddOnVersion
		if err := into(obj.Object, &v); err != nil {
			return err
		}
		return g.object(cmd, addonVersions(), obj, fmt.Sprintf("%s %s: %s, %d objects, %s", ref, done, v.Spec.Manager, v.Status.Objects, info.Digest))
	}
}

// spec is the AddOnVersion's, without the content.
func (f *pushFlags) spec(ref addonRef) (map[string]any, error) {
	spec := map[string]any{"addOn": ref.name, "version": ref.version}
	for name, value := range map[string]string{"manager": f.manager, "channel": f.channel, "description": f.description} {
		if value != "" {
			spec[name] = value
		}
	}
	for name, file := range map[string]string{"values": f.values, "configSchema": f.schema} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m := map[string]any{}
		if err := yaml.UnmarshalStrict(text, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		spec[name] = m
	}
	for name, list := range map[string][]string{"dependencies": f.depends, "conflicts": f.conflicts} {
		var ranges []any
		for _, text := range list {
			addOn, r, _ := strings.Cut(strings.TrimSpace(text), " ")
			one := map[string]any{"addOn": addOn}
			if r = strings.TrimSpace(r); r != "" {
				one["versionRange"] = r
			}
			ranges = append(ranges, one)
		}
		if ranges != nil {
			spec[name] = ranges
		}
	}
	if f.kubernetes != "" {
		spec["requirements"] = map[string]any{"kubernetes": f.kubernetes}
	}
	if f.isDefault {
		spec["default"] = true
	}
	return spec, nil
}

// publish creates the version, or takes over what has changed of one that exists,
// and says in a word what it did.
func (f *pushFlags) publish(ctx context.Context, hub *client.Client, ref addonRef, spec map[string]any) (*unstructured.Unstructured, string, error) {
	var dry []string
	suffix := ""
	if f.dryRun {
		dry, suffix = []string{metav1.DryRunAll}, " (dry run)"
	}
	versions := hub.Resource(addonVersions())
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": fleet.Group + "/" + fleet.Version, "kind": fleet.KindAddOnVersion,
		"metadata": map[string]any{"name": ref.object()}, "spec": spec,
	}}
	created, err := versions.Create(ctx, obj, metav1.CreateOptions{FieldManager: client.FieldManager, DryRun: dry})
	if !apierrors.IsAlreadyExists(err) {
		return created, "published" + suffix, err
	}
	live, err := versions.Get(ctx, ref.object(), metav1.GetOptions{})
	if err != nil {
		return nil, "", err
	}
	next := live.DeepCopy()
	now, _ := next.Object["spec"].(map[string]any)
	var differs []string
	changed := false
	for _, name := range []string{"image", "manager", "manifests", "values", "configSchema", "dependencies", "conflicts", "requirements", "channel", "description", "default"} {
		content := name != "channel" && name != "description" && name != "default"
		value, given := spec[name]
		if !given && (!content || name == "manager") || same(now[name], value) {
			continue
		}
		changed = true
		if content {
			differs = append(differs, name)
		}
		if !given {
			delete(now, name)
			continue
		}
		now[name] = value
	}
	switch {
	case !changed:
		return live, "is there already, unchanged" + suffix, nil
	case len(differs) > 0 && !f.replace:
		slices.Sort(differs)
		return nil, "", daemon.Hint(fmt.Errorf("%s exists with other content (%s)", ref, strings.Join(differs, ", ")),
			"push another version, or use --replace to make a new revision of this one; what is installed keeps what it has")
	}
	updated, err := versions.Update(ctx, next, metav1.UpdateOptions{FieldManager: client.FieldManager, DryRun: dry})
	return updated, "changed" + suffix, err
}

// same compares values of JSON, whatever types their numbers have.
func same(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, err := yaml.Marshal(a)
	y, err2 := yaml.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}

// readContent reads what is to be published as one canonical archive.
func readContent(ctx context.Context, path string) ([]byte, error) {
	files, err := contentFiles(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return archive.Pack(files, archive.Limits{})
}

func contentFiles(ctx context.Context, path string) (archive.Files, error) {
	if strings.HasPrefix(path, "oci://") {
		a, err := oci.Fetch(ctx, path, oci.Options{Docker: true})
		if err != nil {
			return nil, err
		}
		files, err := archive.Read(a.Data, archive.Limits{})
		return archive.Unwrap(files), err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if info.IsDir() {
		return archive.Folder(path, archive.Limits{})
	}
	if info.Size() > maxContent {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", info.Size(), maxContent)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	switch ext := filepath.Ext(path); {
	case archive.IsGzip(data) || archive.IsTar(data):
		files, err := archive.Read(data, archive.Limits{})
		return archive.Unwrap(files), err
	case ext == ".yaml" || ext == ".yml" || ext == ".json" || ext == ".tmpl":
		return archive.Files{filepath.Base(path): data}, nil
	}
	return nil, errors.New("want a folder, an archive (.tgz), or a file of YAML, JSON or a template (.tmpl)")
}

// maxContent is the largest file that is read.
const maxContent = 32 << 20
