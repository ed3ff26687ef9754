// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/live"
	"github.com/drover-io/drover/shared/apis/work"
)

// definition says what a table is made of.
type definition struct {
	name string
	// resource has the objects that are its rows.
	resource      string
	clusterScoped bool
	tallies       []counting
	loads         bool // rows show samples
	// row makes what a row says of its own object; errNoRow: there is none.
	row func(store.Entry) (any, error)
	// fill returns the row with what is counted; nothing else keeps it.
	fill func(*row, []tally) any
	// guards say which columns somebody sees who may see something else too.
	guards []guard
}

// guard is on columns that show something of another resource.
type guard struct {
	columns  []string
	resource string
	// shows says by a view of that resource whether they may be seen of a row.
	shows func(view, *row) bool
}

func (d *definition) counted() []string {
	out := make([]string, len(d.tallies))
	for i, c := range d.tallies {
		out[i] = c.resource
	}
	return out
}

func definitions() map[string]*definition {
	out := map[string]*definition{}
	for _, d := range []*definition{
		clustersTable(), addonsTable(),
		plainTable(live.TableRequests, fleet.ResourceJoinRequests, true, requestRow),
		plainTable(live.TableTokens, fleet.ResourceJoinTokens, true, tokenRow),
		plainTable(live.TableWorks, work.Resource, false, workRow),
		plainTable(live.TableVersions, fleet.ResourceAddOnVersions, true, versionRow),
		plainTable(live.TableInstalled, addon.ResourceManagedClusterAddOns, false, installedRow),
		plainTable(live.TableSessions, fleet.ResourceSessions, true, sessionRow),
		plainTable(live.TableAccess, fleet.ResourceAccessTokens, true, accessRow),
	} {
		out[d.name] = d
	}
	return out
}

// plainTable is one whose rows say something of their own objects only.
func plainTable[T, R any](name, resource string, clusterScoped bool, of func(*T) R) *definition {
	return &definition{
		name: name, resource: resource, clusterScoped: clusterScoped,
		row: func(e store.Entry) (any, error) {
			obj, err := decode[T](e)
			if err != nil {
				return nil, err
			}
			r := of(obj)
			return &r, nil
		},
		fill: func(r *row, _ []tally) any { return r.base },
	}
}

func clustersTable() *definition {
	return &definition{
		name: live.TableClusters, resource: cluster.Resource, clusterScoped: true, loads: true,
		tallies: []counting{{work.Resource, workItem}, {addon.ResourceManagedClusterAddOns, installedItem}},
		row: func(e store.Entry) (any, error) {
			mc, err := decode[cluster.ManagedCluster](e)
			if err != nil {
				return nil, err
			}
			r := clusterRow(mc)
			return &r, nil
		},
		fill: func(r *row, tallies []tally) any {
			out := *r.base.(*live.ClusterRow)
			works, addons := tallies[0].of(r.key), tallies[1].of(r.key)
			out.Works, out.WorkProblems = &works.total, &works.problems
			out.AddOns, out.AddOnProblems = &addons.total, &addons.problems
			if r.load[0] >= 0 {
				out.CPU, out.Memory = &r.load[0], &r.load[1]
			}
			return &out
		},
		guards: []guard{
			{[]string{"works", "problems"}, work.Resource, func(v view, r *row) bool { return v.showsAll(r.name) }},
			{[]string{"addons", "addonProblems"}, addon.ResourceManagedClusterAddOns, func(v view, r *row) bool { return v.showsAll(r.name) }},
			{[]string{"cpu", "memory"}, fleet.ResourceClusterMetrics, func(v view, r *row) bool { return v.shows("", r.name, r.labels) }},
		},
	}
}

func addonsTable() *definition {
	return &definition{
		name: live.TableAddOns, resource: addon.ResourceClusterManagementAddOns, clusterScoped: true,
		tallies: []counting{{fleet.ResourceAddOnVersions, versionItem}, {addon.ResourceManagedClusterAddOns, addonItem}},
		row: func(e store.Entry) (any, error) {
			obj, err := decode[addon.ClusterManagementAddOn](e)
			if err != nil {
				return nil, err
			}
			r := addonRow(obj)
			return &r, nil
		},
		fill: func(r *row, tallies []tally) any {
			out := *r.base.(*live.AddOnRow)
			versions, installed := tallies[0].of(r.key), tallies[1].of(r.key)
			out.Versions, out.Default = &versions.total, versions.text
			out.Installed, out.Healthy, out.Problems = &installed.total, &installed.ok, &installed.problems
			return &out
		},
		guards: []guard{
			{[]string{"versions", "default"}, fleet.ResourceAddOnVersions, func(v view, _ *row) bool { return v.showsAll("") }},
			{[]string{"installed", "healthy", "problems"}, addon.ResourceManagedClusterAddOns, func(v view, _ *row) bool { return v.all }},
		},
	}
}

func decode[T any](e store.Entry) (*T, error) {
	var obj T
	if err := json.Unmarshal(e.Data, &obj); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	return &obj, nil
}

func groupResource(resource string) schema.GroupResource { return schema.ParseGroupResource(resource) }
