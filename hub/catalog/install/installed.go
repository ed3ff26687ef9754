// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// versionOf is the AddOnVersion that a ManagedClusterAddOn should be of, nil when
// nothing says so or it is not in the catalog.
func (r *Resolver) versionOf(mca *addon.ManagedClusterAddOn, placement *addon.PlacementStrategy) *fleet.AddOnVersion {
	cma, err := r.recipes.Cached("", mca.Name)
	if err != nil {
		cma = nil
	}
	name := ""
	if ref, ok := config.Last(config.References(nil, nil, mca), config.VersionKind()); ok {
		name = ref.Name
	} else if c := mca.Status.Content; c != nil && placement == nil {
		name = c.AddOnVersion // a placement may have named it
	}
	if ref, ok := config.Last(config.References(cma, placement, mca), config.VersionKind()); ok && name == "" {
		name = ref.Name
	} else if c := mca.Status.Content; c != nil && name == "" {
		name = c.AddOnVersion
	}
	v, err := r.versions.Cached("", name)
	if err != nil {
		return nil
	}
	return v
}

// onCluster are the ManagedClusterAddOns of a cluster.
func (r *Resolver) onCluster(ctx context.Context, name string) ([]*addon.ManagedClusterAddOn, error) {
	list, _, err := store.Of[addon.ManagedClusterAddOn](r.cfg.Store, addon.ResourceManagedClusterAddOns).
		List(ctx, store.Selection{Namespace: name, MinRevision: store.Any})
	return list, err
}

// Installed are the addons of a cluster that are not being removed, each in the
// version that it should be of. Those of no version are left out.
func (r *Resolver) Installed(ctx context.Context, cluster string) (depend.Installed, error) {
	list, err := r.onCluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	out := depend.Installed{}
	for _, mca := range list {
		if mca.DeletionTimestamp != nil {
			continue
		}
		if v := r.versionOf(mca, nil); v != nil {
			if parsed, err := depend.Parse(&v.Spec); err == nil {
				out[mca.Name] = parsed
			}
		}
	}
	return out, nil
}

// catalogOf are all versions of the catalog.
func (r *Resolver) catalogOf(ctx context.Context) (*depend.Catalog, error) {
	page, err := r.cfg.Store.List(ctx, store.Selection{Resource: fleet.ResourceAddOnVersions, MinRevision: store.Any})
	if err != nil {
		return nil, fmt.Errorf("list versions of addons: %w", err)
	}
	all := make([]depend.Stored, len(page.Entries))
	for i, e := range page.Entries {
		all[i] = depend.Stored{Name: e.Key.Name, Revision: e.Revision, Data: e.Data}
	}
	return r.parsed.Catalog(all), nil
}

// chosen are the clusters that the placements of an addon choose, and the index of
// the placement that each obeys.
func (r *Resolver) chosen(ctx context.Context, cma *addon.ClusterManagementAddOn) (map[string]int, error) {
	out := map[string]int{}
	if cma.Spec.InstallStrategy.Type != addon.InstallPlacements {
		return out, nil
	}
	decisions := store.Of[cluster.PlacementDecision](r.cfg.Store, cluster.ResourcePlacementDecisions)
	for i, ref := range cma.Spec.InstallStrategy.Placements {
		list, _, err := decisions.List(ctx, store.Selection{
			Namespace: ref.Namespace, MinRevision: store.Any,
			Labels: labels.SelectorFromSet(labels.Set{cluster.LabelPlacement: ref.Name}),
		})
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			for _, c := range d.Status.Decisions {
				out[c.ClusterName] = i
			}
		}
	}
	return out, nil
}

// placementOf is the placement that a cluster obeys, nil if there is none.
func placementOf(cma *addon.ClusterManagementAddOn, chosen map[string]int, cluster string) *addon.PlacementStrategy {
	i, ok := chosen[cluster]
	if !ok {
		return nil
	}
	return &cma.Spec.InstallStrategy.Placements[i]
}

// AddOns are the names of all addons.
func (r *Resolver) AddOns(ctx context.Context) ([]string, error) {
	page, err := r.cfg.Store.List(ctx, store.Selection{Resource: addon.ResourceClusterManagementAddOns, MinRevision: store.Any})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range page.Entries {
		names = append(names, e.Key.Name)
	}
	slices.Sort(names)
	return names, nil
}

// listed are the versions of an addon, for people.
func (r *Resolver) listed(addOn string) string {
	list := r.Versions(addOn)
	var names []string
	for _, v := range list {
		text := v.Spec.Version
		if v.Spec.Active != nil && !*v.Spec.Active {
			text += " (inactive)"
		}
		names = append(names, text)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// Versions are the versions of an addon in the catalog.
func (r *Resolver) Versions(addOn string) []*fleet.AddOnVersion {
	// They are named after their addon.
	list, _, err := r.versions.List(context.Background(), store.Selection{Prefix: addOn + "-", MinRevision: store.Any})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(v *fleet.AddOnVersion) bool { return v.Spec.AddOn != addOn })
}

// Pin is the default version of an addon, as ManagedClusterAddOn.spec.configs names
// it, when neither addon nor placement nor mca says what it is made of; else nil. It
// is an error if there are versions and none is the default.
func (r *Resolver) Pin(cma *addon.ClusterManagementAddOn, placement *addon.PlacementStrategy, mca *addon.ManagedClusterAddOn) (*addon.Config, error) {
	refs := config.References(cma, placement, mca)
	if _, ok := config.Last(refs, config.VersionKind()); ok {
		return nil, nil
	}
	if _, ok := config.Last(refs, config.TemplateKind()); ok {
		return nil, nil
	}
	list := r.Versions(cma.Name)
	if len(list) == 0 {
		return nil, nil
	}
	var parsed []depend.Version
	for _, v := range list {
		if p, err := depend.Parse(&v.Spec); err == nil {
			parsed = append(parsed, p)
		}
	}
	v, ok := depend.NewCatalog(parsed).Default(cma.Name)
	if !ok {
		return nil, fmt.Errorf("no version of the addon %s is the default: name one of %s", cma.Name, r.listed(cma.Name))
	}
	c := versionConfig(versions.ObjectName(cma.Name, v.Version))
	return &c, nil
}

// inRange says whether a version is in a range; what cannot be read is in none. An
// addon without a version is in the empty range.
func inRange(text, version string) bool {
	if text == "" {
		return true
	}
	r, err := versions.ParseRange(text)
	if err != nil {
		return false
	}
	v, err := versions.Parse(version)
	return err == nil && r.Contains(v)
}
