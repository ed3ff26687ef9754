// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func configRevisions() schema.GroupVersionResource { return fleetResource("configrevisions") }

func (g *globals) addonConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "What configures addons: what it was before, and back to it", Args: cobra.NoArgs, RunE: help,
		Long: `Shows and brings back what objects that configure addons have said: AddOnConfigs,
AddOnDeploymentConfigs, AddOnTemplates, AddOnVersions, and objects of kinds of your
own that an addon names. The hub keeps the newest 20 revisions of each, and those
that a cluster still uses.`,
	}
	c.AddCommand(g.configHistoryCommand(), g.configDiffCommand(), g.configRollbackCommand())
	return c
}

func (g *globals) configHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history KIND/[NAMESPACE/]NAME", Short: "Revisions of a configuration, the newest first", Args: cobra.ExactArgs(1),
		Example: "  drover addon config history AddOnConfig/edge/logging",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			o, err := readConfigured(ctx, hub, args[0])
			if err != nil {
				return err
			}
			if g.output == "json" || g.output == "yaml" {
				return g.encode(cmd.OutOrStdout(), map[string]any{"revisions": o.revisions})
			}
			now, current := time.Now(), o.current()
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 3, ' ', 0)
			fmt.Fprintln(w, "REVISION\tHASH\tBY\tAGE\tCURRENT")
			for i := range o.revisions {
				r := &o.revisions[i]
				mark := ""
				if r == current {
					mark = "*"
				}
				fmt.Fprintf(w, "%d\t%.12s\t%s\t%s\t%s\n", r.Spec.Revision, r.Spec.Hash, cell(r.Spec.By), duration.HumanDuration(now.Sub(r.CreationTimestamp.Time)), mark)
			}
			return w.Flush()
		}),
	}
}

func (g *globals) configDiffCommand() *cobra.Command {
	var to int64
	c := &cobra.Command{
		Use: "diff KIND/[NAMESPACE/]NAME", Short: "What a roll back would change in a configuration", Args: cobra.ExactArgs(1),
		Example: "  drover addon config diff AddOnConfig/edge/logging\n  drover addon config diff AddOnVersion/logging-1.2.0 --to 3",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			o, err := readConfigured(ctx, hub, args[0])
			if err != nil {
				return err
			}
			r, err := o.choose(to)
			if err != nil {
				return err
			}
			d, err := o.diff(r)
			if err != nil {
				return err
			}
			if g.output == "json" || g.output == "yaml" {
				return g.encode(cmd.OutOrStdout(), d)
			}
			if d.Action == wire.ActionNone {
				say(cmd, "%s says what it said at revision %d", o.name, r.Spec.Revision)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "back to revision %d\n", r.Spec.Revision)
			printObjectDiff(cmd.OutOrStdout(), d)
			return nil
		}),
	}
	toFlag(c, &to)
	return c
}

func (g *globals) configRollbackCommand() *cobra.Command {
	var to int64
	var yes bool
	c := &cobra.Command{
		Use: "rollback KIND/[NAMESPACE/]NAME", Short: "Make a configuration say again what it said at a revision", Args: cobra.ExactArgs(1),
		Long: `Writes into an object that configures addons what it said at a former revision.
All clusters that use it follow. Of an AddOnVersion that is the content: who runs
it keeps what is there until it is installed again.`,
		Example: "  drover addon config rollback AddOnConfig/edge/logging\n  drover addon config rollback AddOnDeploymentConfig/edge/proxy --to 3",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			o, err := readConfigured(ctx, hub, args[0])
			if err != nil {
				return err
			}
			r, err := o.choose(to)
			if err != nil {
				return err
			}
			if r == o.current() {
				say(cmd, "%s says what it said at revision %d; nothing was changed", o.name, r.Spec.Revision)
				return nil
			}
			if err := confirm(cmd, yes, o.ref.Name, "%s will say what it said at revision %d, of %s (%s).", o.name, r.Spec.Revision,
				r.CreationTimestamp.UTC().Format(time.RFC3339), cmp.Or(r.Spec.By, "unknown")); err != nil {
				return err
			}
			next, err := o.restored(r)
			if err != nil {
				return err
			}
			if o.live == nil {
				next, err = o.objects.Create(ctx, next, metav1.CreateOptions{FieldManager: client.FieldManager})
			} else {
				next, err = o.objects.Update(ctx, next, metav1.UpdateOptions{FieldManager: client.FieldManager})
			}
			if err != nil {
				return err
			}
			return g.object(cmd, o.gvr, next, fmt.Sprintf("%s says what it said at revision %d", o.name, r.Spec.Revision))
		}),
	}
	toFlag(c, &to)
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func toFlag(c *cobra.Command, to *int64) {
	c.Flags().Int64Var(to, "to", 0, "`REVISION` of drover addon config history (default the newest that it does not say now)")
}

// configured is an object that configures addons, with its revisions.
type configured struct {
	name      string // as people write it
	gvr       schema.GroupVersionResource
	ref       addon.ConfigReferent
	kind      string
	objects   dynamic.ResourceInterface
	live      *unstructured.Unstructured // nil: deleted
	revisions []fleet.ConfigRevision     // the newest first
}

// configKinds are the kinds that need not be written as plural.group.
func configKinds() map[string]schema.GroupVersionResource {
	ocm := func(version, resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: addon.Group, Version: version, Resource: resource}
	}
	return map[string]schema.GroupVersionResource{
		fleet.KindAddOnVersion: fleetResource("addonversions"), fleet.KindAddOnConfig: fleetResource("addonconfigs"),
		addon.KindDeploymentConfig: ocm(addon.Version, "addondeploymentconfigs"), addon.KindTemplate: ocm(addon.VersionAlpha, "addontemplates"),
	}
}

// parseConfigured reads KIND/NAMESPACE/NAME or KIND/NAME. The version of a kind of
// the user's own stays empty.
func parseConfigured(text string) (*configured, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return nil, daemon.Usage("%q: want KIND/NAMESPACE/NAME, such as AddOnConfig/edge/logging, or KIND/NAME of what is in no namespace", text)
	}
	o := &configured{name: text, ref: addon.ConfigReferent{Name: parts[len(parts)-1]}}
	if len(parts) == 3 {
		o.ref.Namespace = parts[1]
	}
	word := strings.ToLower(parts[0])
	for kind, gvr := range configKinds() {
		if word == strings.ToLower(kind) || word == gvr.Resource || word == gvr.GroupResource().String() {
			o.gvr, o.kind = gvr, kind
			if namespaced := kind == fleet.KindAddOnConfig || kind == addon.KindDeploymentConfig; namespaced != (len(parts) == 3) {
				return nil, daemon.Usage("%q: %s", text, map[bool]string{true: "want " + kind + "/NAMESPACE/NAME", false: "want " + kind + "/NAME, as it is in no namespace"}[namespaced])
			}
			return o, nil
		}
	}
	resource, group, ok := strings.Cut(word, ".")
	if !ok || group == "" {
		return nil, daemon.Usage("kind %q: want %s, or a kind of your own as PLURAL.GROUP", parts[0], strings.Join(slices.Sorted(maps.Keys(configKinds())), ", "))
	}
	o.gvr = schema.GroupVersionResource{Group: group, Resource: resource}
	return o, nil
}

// readConfigured reads an object and its revisions.
func readConfigured(ctx context.Context, hub *client.Client, text string) (*configured, error) {
	o, err := parseConfigured(text)
	if err != nil {
		return nil, err
	}
	if o.gvr.Version == "" {
		var group metav1.APIGroup
		if err := hub.Get(ctx, "/apis/"+o.gvr.Group, &group); err != nil {
			return nil, err
		}
		o.gvr.Version = group.PreferredVersion.Version
	}
	o.objects = hub.Resource(o.gvr)
	if o.ref.Namespace != "" {
		o.objects = hub.Resource(o.gvr).Namespace(o.ref.Namespace)
	}
	live, err := o.objects.Get(ctx, o.ref.Name, metav1.GetOptions{})
	switch {
	case err == nil:
		o.live, o.kind = live, live.GetKind()
	case !apierrors.IsNotFound(err):
		return nil, err
	}
	list, err := hub.Resource(configRevisions()).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"spec.resource": o.gvr.Resource, "spec.name": o.ref.Name,
	}.String()})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		var r fleet.ConfigRevision
		if err := into(list.Items[i].Object, &r); err != nil {
			return nil, err
		}
		if r.Spec.Group == o.gvr.Group && r.Spec.Namespace == o.ref.Namespace {
			o.revisions = append(o.revisions, r)
		}
	}
	slices.SortFunc(o.revisions, func(a, b fleet.ConfigRevision) int { return cmp.Compare(b.Spec.Revision, a.Spec.Revision) })
	if len(o.revisions) == 0 {
		if o.live == nil {
			return nil, fmt.Errorf("there is no %s, and nothing is known of what it said", text)
		}
		return nil, daemon.Hint(fmt.Errorf("the hub keeps no revisions of %s", text), "of kinds of your own it keeps those of objects that an addon names")
	}
	return o, nil
}

// content is what a revision of the object as it is would hold; nil if that cannot
// be said.
func (o *configured) content() map[string]any {
	if o.live == nil {
		return nil
	}
	out := maps.Clone(o.live.Object)
	for _, k := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(out, k)
	}
	if o.kind != fleet.KindAddOnVersion {
		return out
	}
	spec, _, err := versionFields(o.live)
	if err != nil {
		return nil
	}
	return map[string]any{"spec": spec}
}

// versionFields are the fields of an AddOnVersion that are its content, and those
// that are not.
func versionFields(obj *unstructured.Unstructured) (content, about map[string]any, err error) {
	var v fleet.AddOnVersion
	if err := into(obj.Object, &v); err != nil {
		return nil, nil, err
	}
	for to, spec := range map[*map[string]any]*fleet.AddOnVersionSpec{&content: v.Spec.Content(), &about: &v.Spec} {
		data, err := json.Marshal(spec)
		if err != nil {
			return nil, nil, err
		}
		if err := kjson.Unmarshal(data, to); err != nil {
			return nil, nil, err
		}
	}
	for k := range content {
		delete(about, k)
	}
	return content, about, nil
}

func contentOf(r *fleet.ConfigRevision) (map[string]any, error) {
	var out map[string]any
	if err := kjson.Unmarshal(r.Spec.Content.Raw, &out); err != nil {
		return nil, fmt.Errorf("read revision %d: %w", r.Spec.Revision, err)
	}
	return out, nil
}

// current is the revision that the object has now; nil if none has been recorded.
func (o *configured) current() *fleet.ConfigRevision {
	now := o.content()
	for i := range o.revisions {
		if c, err := contentOf(&o.revisions[i]); now != nil && err == nil && len(fieldChanges(nil, now, c)) == 0 {
			return &o.revisions[i]
		}
	}
	return nil
}

// choose picks a revision by number, for 0 the newest that is not current.
func (o *configured) choose(to int64) (*fleet.ConfigRevision, error) {
	current := o.current()
	for i := range o.revisions {
		if r := &o.revisions[i]; r.Spec.Revision == to || to == 0 && r != current {
			return r, nil
		}
	}
	if to == 0 {
		return nil, fmt.Errorf("%s has never said anything else", o.name)
	}
	return nil, daemon.Hint(fmt.Errorf("%s has no revision %s", o.name, strconv.FormatInt(to, 10)), "`drover addon config history %s` lists them", o.name)
}

// diff is what changes when the object says again what it said at a revision.
func (o *configured) diff(r *fleet.ConfigRevision) (*wire.ObjectDiff, error) {
	c, err := contentOf(r)
	if err != nil {
		return nil, err
	}
	d := &wire.ObjectDiff{Group: o.gvr.Group, Kind: cmp.Or(o.kind, o.gvr.Resource), Namespace: o.ref.Namespace, Name: o.ref.Name, Action: wire.ActionChange}
	if o.live == nil {
		d.Action = wire.ActionCreate
		return d, nil
	}
	d.Fields = fieldChanges(nil, o.content(), c)
	if d.Total = len(d.Fields); d.Total == 0 {
		d.Action = wire.ActionNone
	}
	return d, nil
}

// restored is the object with the content of a revision.
func (o *configured) restored(r *fleet.ConfigRevision) (*unstructured.Unstructured, error) {
	c, err := contentOf(r)
	if err != nil {
		return nil, err
	}
	if o.live == nil {
		if o.kind == "" {
			return nil, errors.New("the object was deleted: make it again first, and then roll back")
		}
		next := &unstructured.Unstructured{Object: c}
		next.SetGroupVersionKind(o.gvr.GroupVersion().WithKind(o.kind))
		next.SetNamespace(o.ref.Namespace)
		next.SetName(o.ref.Name)
		return next, nil
	}
	next := &unstructured.Unstructured{Object: map[string]any{}}
	for _, k := range []string{"apiVersion", "kind", "metadata", "status"} {
		if v, ok := o.live.Object[k]; ok {
			next.Object[k] = v
		}
	}
	for k, v := range c {
		next.Object[k] = v
	}
	if spec, ok := next.Object["spec"].(map[string]any); ok && o.kind == fleet.KindAddOnVersion {
		_, about, err := versionFields(o.live)
		if err != nil {
			return nil, err
		}
		maps.Copy(spec, about)
	}
	return next, nil
}

// fieldChanges are the places in which two JSON values differ, objects by their
// fields and everything else as a whole.
func fieldChanges(path []string, from, to any) []wire.FieldDrift {
	a, isMap := from.(map[string]any)
	b, bothMaps := to.(map[string]any)
	if !isMap || !bothMaps {
		if reflect.DeepEqual(from, to) {
			return nil
		}
		return []wire.FieldDrift{{Path: strings.Join(path, "."), Live: jsonText(from), Desired: jsonText(to)}}
	}
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	var out []wire.FieldDrift
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, fieldChanges(append(slices.Clone(path), k), a[k], b[k])...)
	}
	return out
}

func jsonText(v any) string {
	if v == nil {
		return ""
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
