// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

func addOnConfigs() schema.GroupVersionResource { return fleetResource("addonconfigs") }

// targets are the clusters that a command is about.
type targets struct {
	names    []string
	selector string
}

func (t *targets) flags(c *cobra.Command) {
	c.Flags().StringSliceVarP(&t.names, "cluster", "n", nil, "a cluster; repeatable")
	c.Flags().StringVar(&t.selector, "clusters", "", "the clusters of this label selector, such as env=prod")
	c.MarkFlagsMutuallyExclusive("cluster", "clusters")
}

func (t *targets) check() error {
	if len(t.names) == 0 && t.selector == "" {
		return &daemon.Error{Err: errors.New("clusters: missing"), Code: daemon.ExitUsage, Hint: "say where: --cluster NAME, or --clusters SELECTOR"}
	}
	return nil
}

// installing is one run of install.
type installing struct {
	*globals
	targets
	cmd              *cobra.Command
	hub              *client.Client
	addOn, version   string
	namespace        string // empty for no word about it
	values           map[string]any
	withDependencies bool
	failed           int
	touched          []string // clusters, to be waited for
	// written are the generations of the AddOnConfigs that were written, by cluster.
	written map[string]int64
}

func (g *globals) addOnInstallCommand() *cobra.Command {
	i := &installing{globals: g, written: map[string]int64{}}
	var file string
	var sets []string
	var dryRun, wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "install NAME[@VERSION]", Short: "Install an addon on clusters, or bring it to another version there", Args: cobra.ExactArgs(1),
		Long: `Installs an addon on clusters, or brings it to another version there; without a
version the one that is there, or else the default. Values go into an AddOnConfig of
the addon's name in the namespace of each cluster.

What it needs of other addons is installed before it with --with-dependencies.`,
		Example: "  drover addon install cert-manager@1.14.2 --clusters env=prod --wait\n" +
			"  drover addon install logging --cluster shop-1 --namespace logging --set level=debug",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) (err error) {
			if err := i.check(); err != nil {
				return err
			}
			i.cmd, i.hub = cmd, hub
			i.addOn, i.version, _ = strings.Cut(args[0], "@")
			if i.values, err = readValues(file, sets); err != nil {
				return err
			}
			preview, err := i.preview(ctx)
			if err != nil {
				return err
			}
			if dryRun {
				return g.showPreview(cmd, preview)
			}
			for _, o := range preview.Outcomes {
				for _, name := range o.Clusters {
					i.install(ctx, name, &o)
				}
			}
			if wait {
				i.wait(ctx, timeout)
			}
			if i.failed > 0 {
				return fmt.Errorf("%d of the clusters failed", i.failed)
			}
			return ctx.Err()
		}),
	}
	i.flags(c)
	c.Flags().StringVarP(&file, "values", "f", "", "YAML file with values")
	c.Flags().StringArrayVar(&sets, "set", nil, "one value, such as image.tag=v2; repeatable")
	c.Flags().StringVar(&i.namespace, "namespace", "", "namespace on the cluster, at the first installation (default "+addon.DefaultInstallNamespace+")")
	c.Flags().BoolVar(&i.withDependencies, "with-dependencies", false, "install and upgrade what it needs, too")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is available")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long --wait waits")
	return c
}

func (i *installing) preview(ctx context.Context) (*fleet.Preview, error) {
	var out fleet.Preview
	err := i.hub.Post(ctx, fleet.PathAddOnPreview, fleet.PreviewRequest{
		AddOn: i.addOn, Version: i.version, Clusters: i.names, Selector: i.selector, Values: i.values, Namespace: i.namespace,
	}, &out)
	return &out, err
}

// install does one cluster, and says what happened.
func (i *installing) install(ctx context.Context, name string, o *fleet.PreviewOutcome) {
	line := func(format string, args ...any) {
		fmt.Fprintf(i.cmd.OutOrStdout(), "%s: %s\n", name, cell(fmt.Sprintf(format, args...)))
	}
	if ctx.Err() != nil {
		return
	}
	if o.Error != "" {
		i.failed++
		line("not installed: %s", o.Error)
		return
	}
	if i.withDependencies {
		for _, required := range o.Requires {
			addOn, version, _ := strings.Cut(required, "@")
			done, err := i.put(ctx, name, addOn, version, nil)
			if err != nil {
				i.failed++
				line("%s is needed and not installed: %s", required, err)
				return
			}
			line("%s %s", required, done)
		}
	}
	done, err := i.put(ctx, name, i.addOn, o.Version, i.values)
	if err != nil {
		i.failed++
		line("not installed: %s", err)
		return
	}
	text := strings.TrimSuffix(i.addOn+"@"+o.Version, "@") + " " + done
	if len(o.Requires) > 0 && !i.withDependencies {
		text += "; it waits for " + strings.Join(o.Requires, ", ") + ": install that, or use --with-dependencies"
	}
	line("%s", text)
	i.touched = append(i.touched, name)
}

// put makes or changes a ManagedClusterAddOn.
func (i *installing) put(ctx context.Context, cluster, addOn, version string, values map[string]any) (string, error) {
	if len(values) > 0 {
		if err := i.putValues(ctx, cluster, addOn, values); err != nil {
			return "", fmt.Errorf("values: %w", err)
		}
	}
	resource := i.hub.Resource(addons()).Namespace(cluster)
	for {
		have, err := resource.Get(ctx, addOn, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			obj := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": addon.Group + "/" + addon.Version, "kind": addon.KindManagedClusterAddOn,
				"metadata": map[string]any{"name": addOn, "namespace": cluster}, "spec": map[string]any{},
			}}
			chooseConfigs(obj, addOn, version, len(values) > 0)
			if i.namespace != "" && addOn == i.addOn {
				obj.SetAnnotations(map[string]string{addon.AnnotationInstallNamespace: i.namespace})
			}
			_, err = resource.Create(ctx, obj, metav1.CreateOptions{})
			return "installed", err
		}
		if err != nil {
			return "", err
		}
		if ns := have.GetAnnotations()[addon.AnnotationInstallNamespace]; i.namespace != "" && addOn == i.addOn && ns != i.namespace {
			return "", fmt.Errorf("namespace: %s is installed in %s already, and moving would delete what is there: remove it first", addOn, cmp.Or(ns, addon.DefaultInstallNamespace))
		}
		before, _ := json.Marshal(have.Object["spec"]) //nolint:errcheck // as decoded
		was, _, _ := unstructured.NestedString(have.Object, "status", "content", "version")
		same := chooseConfigs(have, addOn, version, len(values) > 0)
		after, _ := json.Marshal(have.Object["spec"]) //nolint:errcheck // as decoded
		if same && version != "" {
			// Asked for again: its newest content, if that was replaced.
			annotations := have.GetAnnotations()
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[fleet.AnnotationAddOnRevision] = "newest"
			have.SetAnnotations(annotations)
		}
		_, err = resource.Update(ctx, have, metav1.UpdateOptions{})
		switch {
		case apierrors.IsConflict(err) && strings.Contains(err.Error(), "the object has been modified") && ctx.Err() == nil:
			continue
		case err != nil:
			return "", err
		case string(before) == string(after) && len(values) > 0:
			return "configured", nil
		case string(before) == string(after):
			return "unchanged", nil
		case was != "" && was != version:
			return "instead of " + was, nil
		}
		return "configured", nil
	}
}

// chooseConfigs writes version and values into spec.configs, and says whether the version
// was there already.
func chooseConfigs(obj *unstructured.Unstructured, addOn, version string, values bool) (same bool) {
	configs, _, _ := unstructured.NestedSlice(obj.Object, "spec", "configs")
	set := func(resource, namespace, name string) bool {
		ref := map[string]any{"group": fleet.Group, "resource": resource, "name": name}
		if namespace != "" {
			ref["namespace"] = namespace
		}
		for n, c := range configs {
			have, _ := c.(map[string]any)
			if have["group"] != fleet.Group || have["resource"] != resource {
				continue
			}
			if have["name"] == name && cmp.Or(text(have["namespace"]), "") == namespace {
				return true
			}
			if resource == "addonversions" {
				configs[n] = ref
				return false
			}
		}
		configs = append(configs, ref)
		return false
	}
	if version != "" {
		same = set("addonversions", "", addOn+"-"+strings.ToLower(strings.ReplaceAll(version, "+", ".")))
	}
	if values {
		set("addonconfigs", obj.GetNamespace(), addOn)
	}
	if len(configs) > 0 {
		_ = unstructured.SetNestedSlice(obj.Object, configs, "spec", "configs") // of maps and strings
	}
	return same
}

func text(v any) string { s, _ := v.(string); return s }

// putValues merges values into the AddOnConfig of an addon on a cluster.
func (i *installing) putValues(ctx context.Context, cluster, addOn string, values map[string]any) error {
	resource := i.hub.Resource(addOnConfigs()).Namespace(cluster)
	for {
		have, err := resource.Get(ctx, addOn, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			have, err = resource.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": fleet.Group + "/" + fleet.Version, "kind": fleet.KindAddOnConfig,
				"metadata": map[string]any{"name": addOn, "namespace": cluster},
				"spec":     map[string]any{"addOn": addOn, "values": values},
			}}, metav1.CreateOptions{})
			if err == nil {
				i.written[cluster] = have.GetGeneration()
			}
			return err
		}
		if err != nil {
			return err
		}
		spec, _ := have.Object["spec"].(map[string]any)
		if spec == nil {
			spec = map[string]any{}
			have.Object["spec"] = spec
		}
		old, _ := spec["values"].(map[string]any)
		spec["values"] = merge(old, values)
		have, err = resource.Update(ctx, have, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue
		}
		if err == nil {
			i.written[cluster] = have.GetGeneration()
		}
		return err
	}
}

// merge puts over into base.
func merge(base, over map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		a, isMap := out[k].(map[string]any)
		b, wasMap := v.(map[string]any)
		if isMap && wasMap {
			v = merge(a, b)
		}
		out[k] = v
	}
	return out
}

// readValues reads a file and what is set over it.
func readValues(file string, sets []string) (map[string]any, error) {
	values := map[string]any{}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("values: %w", err)
		}
		if err := unmarshalYAML(data, &values); err != nil {
			return nil, fmt.Errorf("values: %s: want an object of values: %w", file, err)
		}
	}
	for _, set := range sets {
		path, value, ok := strings.Cut(set, "=")
		keys := splitPath(path)
		if !ok || slices.Contains(keys, "") {
			return nil, daemon.Usage("set %q: want PATH=VALUE, such as image.tag=v2", set)
		}
		var v any
		if err := unmarshalYAML([]byte(value), &v); err != nil || value == "" {
			v = value
		}
		for _, k := range slices.Backward(keys) {
			v = map[string]any{k: v}
		}
		values = merge(values, v.(map[string]any))
	}
	return values, nil
}

// unmarshalYAML keeps integers.
func unmarshalYAML(data []byte, into any) error {
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// splitPath splits at dots; "\." is a dot of a key.
func splitPath(path string) []string {
	const mark = "\x00"
	keys := strings.Split(strings.ReplaceAll(path, `\.`, mark), ".")
	for n := range keys {
		keys[n] = strings.ReplaceAll(keys[n], mark, ".")
	}
	return keys
}

const waitInterval = 250 * time.Millisecond

// stand is how far an addon is on a cluster.
type stand struct {
	text         string
	done, failed bool
}

// standOf reads the status, which speaks of the present generation, and of at least
// that generation of the AddOnConfig of the addon's name, or not at all.
func standOf(a *addon.ManagedClusterAddOn, config int64) stand {
	progressing := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionProgressing)
	if progressing == nil || progressing.ObservedGeneration < a.Generation {
		return stand{text: "the hub has not looked at it yet"}
	}
	if config > 0 && !slices.ContainsFunc(a.Status.ConfigReferences, func(r addon.ConfigReference) bool {
		return r.Resource == addOnConfigs().Resource && r.DesiredConfig != nil && r.DesiredConfig.Namespace == a.Namespace &&
			r.DesiredConfig.Name == a.Name && r.LastObservedGeneration >= config
	}) {
		text := "the new values are not let through yet"
		if c := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionConfigured); c != nil && c.Status == metav1.ConditionFalse {
			text += ": " + c.Message
		}
		return stand{text: text}
	}
	if c := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionConfigured); c != nil && c.Status == metav1.ConditionFalse {
		return stand{text: c.Message, failed: true}
	}
	available := meta.FindStatusCondition(a.Status.Conditions, addon.ConditionAvailable)
	switch {
	case progressing.Reason == addon.ReasonFailed || progressing.Reason == addon.ReasonConfigurationUnsupported:
		return stand{text: progressing.Message, failed: true}
	case progressing.Reason != addon.ReasonCompleted:
		return stand{text: progressing.Message}
	case available == nil || available.Status != metav1.ConditionTrue:
		text := "not available"
		if available != nil {
			text = available.Message
		}
		return stand{text: text}
	}
	text := "available"
	if c := a.Status.Content; c != nil && c.Version != "" {
		text = "version " + c.Version + " is available"
	}
	return stand{text: text, done: true}
}

// wait follows an addon on the clusters where it was installed until it is available
// or has failed on each, and says what changes.
func (i *installing) wait(ctx context.Context, timeout time.Duration) {
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	open := map[string]stand{}
	for _, name := range i.touched {
		open[name] = stand{}
	}
	err := client.Poll(wait, waitInterval, func() (bool, error) {
		for _, name := range i.touched {
			was, waiting := open[name]
			if !waiting {
				continue
			}
			is, err := i.stand(wait, name)
			if err != nil {
				return false, err
			}
			if is != was {
				open[name] = is
				fmt.Fprintf(i.cmd.OutOrStdout(), "%s: %s\n", name, cell(is.text))
			}
			if is.failed {
				i.failed++
			}
			if is.done || is.failed {
				delete(open, name)
			}
		}
		return len(open) == 0, nil
	})
	if err == nil {
		return
	}
	for name, is := range open {
		i.failed++
		text := is.text
		if wait.Err() == nil {
			text = err.Error()
		}
		fmt.Fprintf(i.cmd.OutOrStdout(), "%s: not available after %s: %s\n", name, timeout, cell(text))
	}
}

func (i *installing) stand(ctx context.Context, cluster string) (stand, error) {
	obj, err := i.hub.Resource(addons()).Namespace(cluster).Get(ctx, i.addOn, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return stand{text: "it was removed", failed: true}, nil
	}
	if err != nil {
		return stand{}, err
	}
	var a addon.ManagedClusterAddOn
	if err := into(obj.Object, &a); err != nil {
		return stand{}, err
	}
	return standOf(&a, i.written[cluster]), nil
}
