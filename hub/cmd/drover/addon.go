// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func addonVersions() schema.GroupVersionResource { return fleetResource("addonversions") }

func (g *globals) addonCommand() *cobra.Command {
	c := &cobra.Command{Use: "addon", Short: "Addons: publish versions in the catalog and look at them", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.addOnInstallCommand(), g.addOnRemoveCommand(), g.addOnListCommand(), g.addOnPreviewCommand(), g.addonConfigCommand(), g.addonPushCommand(), g.addonVersionsCommand(), g.addonShowCommand(), g.addonDiffCommand(), g.addonSetCommand(), g.addonDeleteCommand())
	return c
}

// addonRef is NAME@VERSION on the command line.
type addonRef struct{ name, version string }

func parseAddonRef(text string, versioned bool) (addonRef, error) {
	name, version, ok := strings.Cut(text, "@")
	version = strings.TrimPrefix(version, "v")
	if name == "" || ok && version == "" || versioned && !ok {
		return addonRef{}, daemon.Usage("%q: want NAME@VERSION, such as cert-manager@1.14.2", text)
	}
	return addonRef{name, version}, nil
}

// object is the name of the AddOnVersion.
func (r addonRef) object() string {
	return r.name + "-" + strings.ToLower(strings.ReplaceAll(r.version, "+", "."))
}

func (r addonRef) String() string { return r.name + "@" + r.version }

// get returns the AddOnVersion, or an error that says which there are.
func (r addonRef) get(ctx context.Context, hub *client.Client) (*unstructured.Unstructured, error) {
	obj, err := hub.Resource(addonVersions()).Get(ctx, r.object(), metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return obj, err
	}
	list, lerr := hub.Resource(addonVersions()).List(ctx, metav1.ListOptions{FieldSelector: "spec.addOn=" + r.name})
	if lerr != nil || len(list.Items) == 0 {
		return nil, daemon.Hint(fmt.Errorf("addon %s is not in the catalog", r.name), "`drover addon versions` lists what is")
	}
	var known []string
	for i := range list.Items {
		v, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "version")
		known = append(known, v)
	}
	slices.Sort(known)
	return nil, fmt.Errorf("addon %s has no version %s; there are %s", r.name, r.version, strings.Join(known, ", "))
}

func (g *globals) addonVersionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "versions [NAME]", Short: "List the versions of an addon, or of all", Args: cobra.MaximumNArgs(1),
		Example: "  drover addon versions\n  drover addon versions cert-manager -o wide",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			var opts metav1.ListOptions
			if len(args) > 0 {
				opts.FieldSelector = "spec.addOn=" + args[0]
			}
			return g.list(ctx, cmd, hub, addonVersions(), "", opts)
		}),
	}
}

func (g *globals) addonShowCommand() *cobra.Command {
	var manifests bool
	c := &cobra.Command{
		Use: "show NAME[@VERSION]", Short: "Show a version of an addon, by default the default one", Args: cobra.ExactArgs(1),
		Example: "  drover addon show cert-manager\n  drover addon show cert-manager@1.14.2 --manifests",
		Long: `Shows what a version of an addon is and holds. With --manifests it prints the
manifests that it renders to with its default values; values of Secrets are masked.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			ref, err := parseAddonRef(args[0], false)
			if err != nil {
				return err
			}
			if ref.version == "" {
				if ref, err = defaultVersion(ctx, hub, ref.name); err != nil {
					return err
				}
			}
			obj, err := ref.get(ctx, hub)
			if err != nil {
				return err
			}
			if manifests {
				return showManifests(ctx, cmd, hub, obj.GetName())
			}
			if g.output != "table" && g.output != "wide" {
				return g.object(cmd, addonVersions(), obj, "")
			}
			var v fleet.AddOnVersion
			if err := into(obj.Object, &v); err != nil {
				return err
			}
			describeVersion(cmd, &v)
			return nil
		}),
	}
	c.Flags().BoolVar(&manifests, "manifests", false, "print the manifests that it renders to")
	return c
}

// defaultVersion is the default of an addon: of the channel without a name, else the
// only one there is.
func defaultVersion(ctx context.Context, hub *client.Client, name string) (addonRef, error) {
	list, err := hub.Resource(addonVersions()).List(ctx, metav1.ListOptions{FieldSelector: "spec.addOn=" + name})
	if err != nil {
		return addonRef{}, err
	}
	var defaults, all []string
	for i := range list.Items {
		var v fleet.AddOnVersion
		if err := into(list.Items[i].Object, &v); err != nil {
			return addonRef{}, err
		}
		all = append(all, v.Spec.Version)
		if v.Spec.Default && v.Spec.Channel == "" {
			return addonRef{name, v.Spec.Version}, nil
		}
		if v.Spec.Default {
			defaults = append(defaults, v.Spec.Version)
		}
	}
	slices.Sort(all)
	switch {
	case len(defaults) == 1:
		return addonRef{name, defaults[0]}, nil
	case len(all) == 1:
		return addonRef{name, all[0]}, nil
	case len(all) == 0:
		return addonRef{}, daemon.Hint(fmt.Errorf("addon %s is not in the catalog", name), "`drover addon versions` lists what is")
	}
	return addonRef{}, fmt.Errorf("addon %s has no one default: name a version with %s@VERSION, one of %s", name, name, strings.Join(all, ", "))
}

func showManifests(ctx context.Context, cmd *cobra.Command, hub *client.Client, name string) error {
	var content fleet.VersionContent
	if err := hub.Get(ctx, fleet.PathAddOnContent+"/"+url.PathEscape(name), &content); err != nil {
		return err
	}
	if content.Error != "" {
		return fmt.Errorf("%s: %s", name, content.Error)
	}
	for _, m := range content.Manifests {
		text, err := yaml.JSONToYAML(m)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "---\n%s", text)
	}
	return nil
}

func describeVersion(cmd *cobra.Command, v *fleet.AddOnVersion) {
	out := cmd.OutOrStdout()
	line := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(out, "%-14s%s\n", name+":", text)
		}
	}
	ranges := func(list []fleet.AddOnRange) string {
		var names []string
		for _, r := range list {
			names = append(names, strings.TrimSpace(r.AddOn+" "+r.VersionRange))
		}
		return strings.Join(names, ", ")
	}
	line("Addon", "%s", cell(v.Spec.AddOn))
	line("Version", "%s", cell(v.Spec.Version))
	line("Channel", "%s", cell(v.Spec.Channel))
	line("Active", "%v", v.Spec.Active == nil || *v.Spec.Active)
	line("Default", "%v", v.Spec.Default)
	line("Manager", "%s", cell(v.Spec.Manager))
	line("Description", "%s", cell(v.Spec.Description))
	line("Image", "%s", cell(v.Spec.Image))
	if v.Status.Size > 0 {
		line("Size", "%d bytes", v.Status.Size)
	}
	line("Clusters", "%d", v.Status.Clusters)
	line("Needs", "%s", cell(ranges(v.Spec.Dependencies)))
	line("Conflicts", "%s", cell(ranges(v.Spec.Conflicts)))
	for _, c := range v.Status.Conditions {
		line(c.Type, "%s: %s", c.Status, cell(c.Message))
	}
	for _, list := range []struct {
		name  string
		items []string
	}{{"Kinds", v.Status.Kinds}, {"Images", v.Status.Images}} {
		for i, item := range list.items {
			if name := list.name; i == 0 {
				line(name, "%s", cell(item))
			} else {
				fmt.Fprintf(out, "%-14s%s\n", "", cell(item))
			}
		}
	}
}

func (g *globals) addonDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff NAME@VERSION NAME@VERSION", Short: "Compare what two versions render to with their default values", Args: cobra.ExactArgs(2),
		Example: "  drover addon diff cert-manager@1.14.2 cert-manager@1.15.0",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			from, err := parseAddonRef(args[0], true)
			if err != nil {
				return err
			}
			to, err := parseAddonRef(args[1], true)
			if err != nil {
				return err
			}
			for _, ref := range []addonRef{from, to} {
				if _, err := ref.get(ctx, hub); err != nil {
					return err
				}
			}
			var d fleet.VersionDiff
			query := url.Values{"from": {from.object()}, "to": {to.object()}}
			if err := hub.Get(ctx, fleet.PathAddOnDiff+"?"+query.Encode(), &d); err != nil {
				return err
			}
			if g.output == "json" || g.output == "yaml" {
				return g.encode(cmd.OutOrStdout(), d)
			}
			if len(d.Objects) == 0 && len(d.Spec) == 0 {
				say(cmd, "%s and %s are the same", from, to)
				return nil
			}
			out := cmd.OutOrStdout()
			for _, f := range d.Spec {
				fmt.Fprintf(out, "version  %s: %s -> %s\n", cell(f.Path), cell(orNone(f.Live)), cell(orNone(f.Desired)))
			}
			for _, o := range d.Objects {
				name := o.Name
				if o.Namespace != "" {
					name = o.Namespace + "/" + o.Name
				}
				fmt.Fprintf(out, "%s  %s %s\n", map[string]string{wire.ActionCreate: "+", wire.ActionDelete: "-", wire.ActionChange: "~"}[o.Action], cell(o.Kind), cell(name))
				for _, f := range o.Fields {
					fmt.Fprintf(out, "     %s: %s -> %s\n", cell(f.Path), cell(orNone(f.Live)), cell(orNone(f.Desired)))
				}
				if more := o.Total - len(o.Fields); more > 0 {
					fmt.Fprintf(out, "     and %d more\n", more)
				}
			}
			return nil
		}),
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func (g *globals) addonSetCommand() *cobra.Command {
	var active, isDefault bool
	var channel, description string
	c := &cobra.Command{
		Use: "set NAME@VERSION", Short: "Change what is said of a version: active, default, channel, description", Args: cobra.ExactArgs(1),
		Example: "  drover addon set cert-manager@1.15.0 --default\n  drover addon set cert-manager@1.13.0 --active=false",
		Long: `Changes what is said of a version. Inactive versions are not installed any more;
what runs stays. One version in each channel is the default: the one that had it
before loses it. Nothing that is installed changes.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			ref, err := parseAddonRef(args[0], true)
			if err != nil {
				return err
			}
			spec := map[string]any{}
			for name, value := range map[string]any{"active": active, "default": isDefault, "channel": channel, "description": description} {
				if cmd.Flags().Changed(name) {
					spec[name] = value
				}
			}
			if len(spec) == 0 {
				return daemon.Usage("nothing to change: give --active, --default, --channel or --description")
			}
			if _, err := ref.get(ctx, hub); err != nil {
				return err
			}
			data, err := json.Marshal(map[string]any{"spec": spec})
			if err != nil {
				return err
			}
			obj, err := hub.Resource(addonVersions()).Patch(ctx, ref.object(), types.MergePatchType, data, metav1.PatchOptions{FieldManager: client.FieldManager})
			if err != nil {
				return err
			}
			return g.object(cmd, addonVersions(), obj, ref.String()+" changed")
		}),
	}
	f := c.Flags()
	f.BoolVar(&active, "active", true, "whether it may be installed")
	f.BoolVar(&isDefault, "default", true, "whether it is installed when nothing names a version")
	f.StringVar(&channel, "channel", "", "stream of versions it belongs to")
	f.StringVar(&description, "description", "", "what is new in it")
	return c
}

func (g *globals) addonDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME@VERSION", Short: "Remove a version that nothing uses from the catalog", Args: cobra.ExactArgs(1),
		Example: "  drover addon delete cert-manager@1.13.0",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			ref, err := parseAddonRef(args[0], true)
			if err != nil {
				return err
			}
			if _, err := ref.get(ctx, hub); err != nil {
				return err
			}
			if err := hub.Resource(addonVersions()).Delete(ctx, ref.object(), metav1.DeleteOptions{}); err != nil {
				return err
			}
			say(cmd, "%s deleted", ref)
			return nil
		}),
	}
}
