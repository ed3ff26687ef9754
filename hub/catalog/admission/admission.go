// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission checks what people write about the configuration of addons:
// what cannot be used is refused with the field and the reason, and of what is only
// not there yet they are warned.
package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/revision"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Write is one write on its way into the store.
type Write struct {
	Object map[string]any
	Old    map[string]any // what is stored; nil when it is new
	Warn   func(text string)
}

// Rules are what writes are held to. They are safe for concurrent use.
type Rules struct {
	store   *store.Store
	history *revision.History
	schemas config.Schemas
}

// New returns rules that look at a store. They write nothing.
func New(s *store.Store, h *revision.History) *Rules {
	return &Rules{store: s, history: h}
}

// AddOnConfig checks the values of an AddOnConfig against the schemas of those
// versions that use it or would.
func (c *Rules) AddOnConfig(ctx context.Context, w *Write) error {
	var cfg fleet.AddOnConfig
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(w.Object, &cfg); err != nil {
		return err
	}
	spec := field.NewPath("spec")
	rng, err := versions.ParseRange(cfg.Spec.Version)
	if err != nil {
		return field.Invalid(spec.Child("version"), cfg.Spec.Version, err.Error())
	}
	var errs field.ErrorList
	for i := range cfg.Spec.ValuesFrom {
		if err := config.CheckSource(&cfg.Spec.ValuesFrom[i], spec.Child("valuesFrom").Index(i)); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	uses, err := c.users(ctx, &cfg)
	if err != nil {
		return err
	}
	_, errs = c.checkUses(ctx, w.Warn, &cfg, rng, uses)
	if cfg.Spec.AddOn != "" && len(uses) == 0 {
		w.Warn(fmt.Sprintf("no version of the addon %q is installed or its default: the values are checked when one uses them", cfg.Spec.AddOn))
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	return nil
}

// checkUses holds an AddOnConfig against those of some versions that it is for, and
// returns their names.
func (c *Rules) checkUses(ctx context.Context, warn func(string), cfg *fleet.AddOnConfig, rng versions.Range, uses []*fleet.AddOnVersion) ([]string, field.ErrorList) {
	var checked []string
	var errs field.ErrorList
	for _, v := range uses {
		if cfg.Spec.AddOn != "" && cfg.Spec.AddOn != v.Spec.AddOn {
			warn(fmt.Sprintf("the addon %s names this configuration, which is for %s: it cannot use it", v.Spec.AddOn, cfg.Spec.AddOn))
			continue
		}
		version, err := versions.Parse(v.Spec.Version)
		if err != nil || !rng.Contains(version) {
			continue
		}
		checked = append(checked, fmt.Sprintf("%s %s", v.Spec.AddOn, version))
		errs = append(errs, c.checkValues(ctx, warn, cfg, v, version)...)
	}
	return checked, errs
}

// checkValues holds an AddOnConfig, over what the version itself says, against the
// schema of one version.
func (c *Rules) checkValues(ctx context.Context, warn func(string), cfg *fleet.AddOnConfig, v *fleet.AddOnVersion, version versions.Version) field.ErrorList {
	if v.Spec.ConfigSchema == nil {
		return nil
	}
	schema, errs := c.schemas.Compile(ctx, v.Spec.ConfigSchema.Raw, field.NewPath("spec", "configSchema"))
	if len(errs) > 0 {
		warn(fmt.Sprintf("the values are not checked, as the configSchema of %s %s cannot be used: %v", v.Spec.AddOn, version, errs.ToAggregate()))
		return nil
	}
	below, err := config.VersionLayer(v.Name, &v.Spec)
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec"), "", err.Error())}
	}
	layer, err := config.ConfigLayer(fleet.LayerAddOn, cfg, v.Spec.AddOn, version)
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec"), "", err.Error())}
	}
	layer.Sources = nil // of a cluster
	merged, err := config.Merge(config.Evaluation{Layers: []config.Layer{below, layer}})
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec"), "", err.Error())}
	}
	missing, errs := schema.CheckLayer(ctx, merged.Values, len(cfg.Spec.ValuesFrom) == 0)
	if len(missing) > 0 {
		warn(fmt.Sprintf("%s %s needs %s, which another configuration has to give", v.Spec.AddOn, version, strings.Join(missing, ", ")))
	}
	for _, err := range errs {
		err.Field = "spec." + err.Field
		err.Detail = strings.TrimSpace(err.Detail + fmt.Sprintf(" (configSchema of %s %s)", v.Spec.AddOn, version))
	}
	return errs
}

// users are the versions that an AddOnConfig is used by or would be: of its addon,
// and of those that name it, the versions that are installed and the defaults. What
// is installed counts as it was then.
func (c *Rules) users(ctx context.Context, cfg *fleet.AddOnConfig) ([]*fleet.AddOnVersion, error) {
	addOns := map[string]bool{}
	if cfg.Spec.AddOn != "" {
		addOns[cfg.Spec.AddOn] = true
	}
	name, err := json.Marshal(cfg.Name)
	if err != nil {
		return nil, err
	}
	found := map[string]*fleet.AddOnVersion{}
	for _, resource := range []string{addon.ResourceClusterManagementAddOns, addon.ResourceManagedClusterAddOns} {
		page, err := c.store.List(ctx, store.Selection{Resource: resource, MinRevision: store.Any, Match: func(e store.Entry) bool {
			return e.Key.Name == cfg.Spec.AddOn || bytes.Contains(e.Data, name)
		}})
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			var obj addonConfigs
			if err := json.Unmarshal(e.Data, &obj); err != nil {
				return nil, fmt.Errorf("read %s: %w", e.Key, err)
			}
			if obj.names(config.ValuesKind(), cfg.Namespace, cfg.Name) {
				addOns[e.Key.Name] = true
			}
			if addOns[e.Key.Name] {
				c.installed(ctx, &obj, found)
			}
		}
	}
	page, err := c.store.List(ctx, store.Selection{Resource: fleet.ResourceAddOnVersions, MinRevision: store.Any, Match: func(e store.Entry) bool {
		return bytes.Contains(e.Data, []byte(`"default":true`))
	}})
	if err != nil {
		return nil, err
	}
	objects := store.Of[fleet.AddOnVersion](c.store, fleet.ResourceAddOnVersions)
	for _, e := range page.Entries {
		if v, err := objects.Decode(e); err == nil && v.Spec.Default && addOns[v.Spec.AddOn] {
			found[v.Name] = v
		}
	}
	out := make([]*fleet.AddOnVersion, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out, nil
}

// addonConfigs is what a ClusterManagementAddOn or a ManagedClusterAddOn says
// about configurations.
type addonConfigs struct {
	Spec struct {
		Configs         []addon.Config        `json:"configs"`
		DefaultConfigs  []addon.Config        `json:"defaultConfigs"`
		InstallStrategy addon.InstallStrategy `json:"installStrategy"`
	} `json:"spec"`
	Status struct {
		ConfigReferences []addon.ConfigReference `json:"configReferences"`
	} `json:"status"`
}

func (a *addonConfigs) all() []addon.Config {
	out := slices.Concat(a.Spec.Configs, a.Spec.DefaultConfigs)
	for _, p := range a.Spec.InstallStrategy.Placements {
		out = append(out, p.Configs...)
	}
	return out
}

func (a *addonConfigs) names(kind addon.ConfigGroupResource, namespace, name string) bool {
	return slices.Contains(a.all(), addon.Config{ConfigGroupResource: kind, ConfigReferent: addon.ConfigReferent{Namespace: namespace, Name: name}})
}

// installed adds the versions that an addon names or runs.
func (c *Rules) installed(ctx context.Context, a *addonConfigs, found map[string]*fleet.AddOnVersion) {
	for _, ref := range a.versions() {
		c.find(ctx, ref, found)
	}
}

// versionRef names a version, or a state that it had.
type versionRef struct{ Name, Hash string }

// versions are what an addon names or runs.
func (a *addonConfigs) versions() []versionRef {
	var out []versionRef
	for _, ref := range a.all() {
		if ref.ConfigGroupResource == config.VersionKind() {
			out = append(out, versionRef{Name: ref.Name})
		}
	}
	for _, ref := range a.Status.ConfigReferences {
		if d := ref.DesiredConfig; ref.ConfigGroupResource == config.VersionKind() && d != nil {
			out = append(out, versionRef{d.Name, d.SpecHash})
		}
	}
	return out
}

// find adds a version; one that is gone, or about to be recorded, it leaves out.
func (c *Rules) find(ctx context.Context, ref versionRef, found map[string]*fleet.AddOnVersion) {
	key := ref.Name
	if ref.Hash != "" {
		key += "\x00" + ref.Hash
	}
	if found[key] != nil {
		return
	}
	if ref.Hash == "" {
		if v, err := store.Of[fleet.AddOnVersion](c.store, fleet.ResourceAddOnVersions).Cached("", ref.Name); err == nil {
			found[key] = v
		}
		return
	}
	r, err := c.history.ByHash(ctx, addon.Config{ConfigGroupResource: config.VersionKind(), ConfigReferent: addon.ConfigReferent{Name: ref.Name}}, ref.Hash)
	if err != nil {
		return
	}
	v := &fleet.AddOnVersion{}
	if revision.Read(r, v) == nil {
		v.Name = ref.Name
		found[key] = v
	}
}

// AddOn checks what a ClusterManagementAddOn newly names: versions must be
// there, and be the addon's; of anything else that is missing it warns.
func (c *Rules) AddOn(ctx context.Context, w *Write) error {
	var cma, old addon.ClusterManagementAddOn
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(w.Object, &cma); err != nil {
		return err
	}
	if w.Old != nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(w.Old, &old); err != nil {
			return err
		}
	}
	known := slices.Clone(old.Spec.DefaultConfigs)
	for _, p := range old.Spec.InstallStrategy.Placements {
		known = append(known, p.Configs...)
	}
	errs, err := c.References(ctx, w, cma.Name, cma.Spec.DefaultConfigs, known, field.NewPath("spec", "defaultConfigs"))
	if err != nil {
		return err
	}
	for i, p := range cma.Spec.InstallStrategy.Placements {
		more, err := c.References(ctx, w, cma.Name, p.Configs, known, field.NewPath("spec", "installStrategy", "placements").Index(i).Child("configs"))
		if err != nil {
			return err
		}
		errs = append(errs, more...)
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	return nil
}

// References checks the references of an addon to configurations, but for
// those that were there before.
func (c *Rules) References(ctx context.Context, w *Write, addOn string, refs, known []addon.Config, path *field.Path) (field.ErrorList, error) {
	var errs field.ErrorList
	for i, ref := range refs {
		if slices.Contains(known, ref) {
			continue
		}
		err, failed := c.checkReference(ctx, w, addOn, ref, path.Index(i))
		if failed != nil {
			return nil, failed
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs, nil
}

func (c *Rules) checkReference(ctx context.Context, w *Write, addOn string, ref addon.Config, path *field.Path) (*field.Error, error) {
	resource := ref.Resource + "." + ref.Group
	switch ref.ConfigGroupResource {
	case config.ValuesKind(), config.DeploymentKind():
		if ref.Namespace == "" {
			return field.Required(path.Child("namespace"), "objects of "+resource+" are in a namespace"), nil
		}
	case config.VersionKind(), config.TemplateKind():
		if ref.Namespace != "" {
			return field.Invalid(path.Child("namespace"), ref.Namespace, "objects of "+resource+" are in no namespace"), nil
		}
	default:
		if _, ok := c.store.Cached(store.Key{Resource: resourceDefinitions, Name: resource}); !ok {
			w.Warn(fmt.Sprintf("%s: this hub has no kind %s: make it with a CustomResourceDefinition", path, resource))
			return nil, nil
		}
	}
	e, err := c.store.Get(ctx, store.Key{Resource: resource, Namespace: ref.Namespace, Name: ref.Name})
	missing := errors.Is(err, store.ErrNotFound)
	if err != nil && !missing {
		return nil, fmt.Errorf("look for %s: %w", revision.Name(ref), err)
	}
	if ref.ConfigGroupResource != config.VersionKind() {
		if missing {
			w.Warn(fmt.Sprintf("%s: there is no %s yet", path, revision.Name(ref)))
		}
		return nil, nil
	}
	if missing {
		return field.NotFound(path.Child("name"), ref.Name), nil
	}
	v, err := store.Of[fleet.AddOnVersion](c.store, fleet.ResourceAddOnVersions).Decode(e)
	if err != nil {
		return nil, err
	}
	if v.Spec.AddOn != addOn {
		return field.Invalid(path.Child("name"), ref.Name, "is a version of "+v.Spec.AddOn+", not of "+addOn), nil
	}
	return nil, nil
}

// resourceDefinitions are the kinds that users have added.
const resourceDefinitions = "customresourcedefinitions.apiextensions.k8s.io"
