// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// selectSet: who may look into a set of some name must not see more by giving it
// another selector. So to select by labels needs the sight of all clusters.
func (p *permissions) selectSet(ctx context.Context, r *api.Admission) error {
	if r.Object == nil || r.Operation == api.UpdateStatus {
		return nil
	}
	selector := at(r.Object, "spec", "clusterSelector")
	kind, _ := at(r.Object, "spec", "clusterSelector", "selectorType").(string)
	if kind != cluster.SelectorLabels || r.Old != nil && equality.Semantic.DeepEqual(selector, at(r.Old, "spec", "clusterSelector")) {
		return nil
	}
	clusters := schema.GroupResource{Group: cluster.Group, Resource: "managedclusters"}
	return p.need(ctx, r.User, "list", clusters, "", "spec.clusterSelector.labelSelector")
}
