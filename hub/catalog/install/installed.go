// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/depend"
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
	if ref, ok := config.Last(config.References(cma, placement, mca), config.VersionKind()); ok {
		name = ref.Name
	} else if c := mca.Status.Content; c != nil {
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
	list, _, err := r.versions.List(ctx, store.Selection{MinRevision: store.Any})
	if err != nil {
		return nil, err
	}
	var parsed []depend.Version
	for _, v := range list {
		if p, err := depend.Parse(&v.Spec); err == nil {
			parsed = append(parsed, p)
		}
	}
	return depend.NewCatalog(parsed), nil
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
