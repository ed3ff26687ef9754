// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/drover-io/drover/hub/catalog/depend"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Evidence is what an addon should be on a cluster, and what stands in its way.
type Evidence struct {
	Foreign         bool
	Version         string
	Revision        int64
	Digest, Problem string
	Values          []fleet.LayeredValue
	Lacks           string
	Needs, Missing  []string
	Conflict        string
	Way, Limit      int
}

// Evidence finds out what a ManagedClusterAddOn should be.
func (r *Resolver) Evidence(ctx context.Context, mca *addon.ManagedClusterAddOn) (*Evidence, error) {
	q := &Query{AddOn: mca.Name, Cluster: mca.Namespace, MCA: mca}
	out := &Evidence{Limit: DefaultMaxInFlight}
	if cma, err := r.recipes.Cached("", mca.Name); err == nil {
		chosen, err := r.chosen(ctx, cma)
		if err != nil {
			return nil, err
		}
		q.CMA, q.Placement = cma, placementOf(cma, chosen, mca.Namespace)
		out.Limit = MaxInFlight(cma.Annotations)
	}
	m := r.Resolve(ctx, q)
	out.Foreign, out.Version, out.Revision, out.Digest, out.Values = m.foreign, m.version, m.revision, m.digest, m.values
	if m.problem != nil {
		out.Problem = m.problem.Message
	}
	if m.requirement != nil {
		out.Lacks = m.requirement.Message
	}
	if err := r.neighbours(ctx, mca, m, out); err != nil {
		return nil, err
	}
	return out, r.count(ctx, mca.Name, out)
}

// neighbours finds what the other addons of the cluster have to do with it.
func (r *Resolver) neighbours(ctx context.Context, mca *addon.ManagedClusterAddOn, m *material, out *Evidence) error {
	if v := r.versionOf(mca, nil); v != nil {
		if parsed, err := depend.Parse(&v.Spec); err == nil {
			installed, err := r.Installed(ctx, mca.Namespace)
			if err != nil {
				return err
			}
			for _, q := range parsed.Requires {
				out.Needs = append(out.Needs, q.AddOn+" "+q.Range.String())
			}
			for _, q := range depend.Missing(parsed, installed) {
				out.Missing = append(out.Missing, q.AddOn+" "+q.Range.String())
			}
			for _, x := range depend.Excluded(parsed, installed) {
				out.Conflict = x.String()
			}
		}
	}
	if m.rendered == nil {
		return nil
	}
	want := map[identity]bool{}
	for _, id := range identitiesOf(m.rendered) {
		want[id] = true
	}
	id, owner, err := r.Taken(ctx, mca.Namespace, mca.Name, want)
	if err == nil && owner != "" {
		out.Conflict = ownedBy(mca.Name, id, owner).Message
	}
	return err
}

// count counts the clusters on which the addon is on the way.
func (r *Resolver) count(ctx context.Context, addOn string, out *Evidence) error {
	list, _, err := store.Of[addon.ManagedClusterAddOn](r.cfg.Store, addon.ResourceManagedClusterAddOns).
		List(ctx, store.Selection{MinRevision: store.Any})
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.Name == addOn && o.DeletionTimestamp == nil && meta.IsStatusConditionTrue(o.Status.Conditions, addon.ConditionProgressing) {
			out.Way++
		}
	}
	return nil
}
