// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// Subresources of managedclustersets that stand for a right: to put clusters into
// a set or take them out, and to let the placements of a namespace use a set.
// They are those of Open Cluster Management, with the verb create.
const (
	rightJoin = "join"
	rightBind = "bind"
)

func clusterSets() schema.GroupResource {
	return schema.GroupResource{Group: cluster.Group, Resource: "managedclustersets"}
}

// needOnSet refuses with 403 unless the user may create a subresource of a set.
func (p *permissions) needOnSet(ctx context.Context, u user.Info, right, set, what string) error {
	ok, err := p.may(ctx, u, "create", clusterSets(), right, set)
	if err != nil || ok {
		return err
	}
	return apierrors.NewForbidden(clusterSets(), set, fmt.Errorf(
		"%s needs the verb %q on %q of the set: User %q cannot create resource %q in API group %q at the cluster scope",
		what, "create", right, u.GetName(), clusterSets().Resource+"/"+right, cluster.Group))
}

// setOf is the exclusive set that labels put a cluster into.
func setOf(obj map[string]any, path ...string) string {
	labels, _ := at(obj, path...).(map[string]any)
	set, _ := labels[cluster.LabelSet].(string)
	return set
}

// joinSet: who moves a cluster needs a right on both sets. Every cluster without
// a set belongs to the default one, which needs none.
func (p *permissions) joinSet(ctx context.Context, r *api.Admission) error {
	if r.Object == nil || r.Operation == api.UpdateStatus {
		return nil
	}
	before, after := setOf(r.Old, "metadata", "labels"), setOf(r.Object, "metadata", "labels")
	if after == "" && before == cluster.SetDefault {
		return nil // the hub puts it back
	}
	if before == after || after == "" && before == "" || before == "" && after == cluster.SetDefault {
		return nil
	}
	for _, set := range []string{before, after} {
		if set == "" {
			continue
		}
		if err := p.needOnSet(ctx, r.User, rightJoin, set, "metadata.labels["+cluster.LabelSet+"]"); err != nil {
			return err
		}
	}
	return nil
}

// tokenSet: a token that puts clusters into a set needs the right to do so.
func (p *permissions) tokenSet(ctx context.Context, r *api.Admission) error {
	if r.Object == nil || r.Operation == api.UpdateStatus {
		return nil
	}
	set := setOf(r.Object, "spec", "labels")
	if set == "" || set == setOf(r.Old, "spec", "labels") || set == cluster.SetDefault {
		return nil
	}
	return p.needOnSet(ctx, r.User, rightJoin, set, "spec.labels["+cluster.LabelSet+"]")
}

// bindSet: who binds a set lets everybody who may write placements there use it.
func (p *permissions) bindSet(ctx context.Context, r *api.Admission) error {
	if r.Operation != api.Create {
		return nil // spec.clusterSet cannot be changed
	}
	set, _ := at(r.Object, "spec", "clusterSet").(string)
	if set == "" {
		return nil // the schema's to refuse
	}
	return p.needOnSet(ctx, r.User, rightBind, set, "spec.clusterSet")
}

// stampTaints says of each taint when it was added: a client cannot.
func stampTaints(r *api.Admission, now time.Time) {
	list, _ := at(r.Object, "spec", "taints").([]any)
	old, _ := at(r.Old, "spec", "taints").([]any)
	for _, entry := range list {
		taint, ok := entry.(map[string]any)
		if !ok {
			continue
		}
		taint["timeAdded"] = now.UTC().Format(time.RFC3339)
		for _, before := range old {
			b, ok := before.(map[string]any)
			if ok && b["key"] == taint["key"] && b["value"] == taint["value"] && b["effect"] == taint["effect"] && b["timeAdded"] != nil {
				taint["timeAdded"] = b["timeAdded"]
			}
		}
	}
}

// place puts a new cluster without a set into the default one. hub/placement would
// do so a moment later, with a write of its own.
func place(obj map[string]any) {
	meta, _ := obj["metadata"].(map[string]any)
	if meta == nil || setOf(obj, "metadata", "labels") != "" {
		return
	}
	labels, _ := meta["labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
		meta["labels"] = labels
	}
	labels[cluster.LabelSet] = cluster.SetDefault
}

// taintNew puts the taint on a new cluster that one has whose agent was never
// here. hub/fleet would do so a moment later, and does when the agent goes.
func taintNew(obj map[string]any) {
	spec, ok := obj["spec"].(map[string]any)
	if !ok {
		return // the schema's to refuse, or the hub's to write later
	}
	list, _ := spec["taints"].([]any)
	for _, entry := range list {
		taint, _ := entry.(map[string]any)
		if taint["key"] == cluster.TaintUnreachable || taint["key"] == cluster.TaintUnavailable {
			return // hub/fleet puts right what is wrong with it
		}
	}
	spec["taints"] = append(list, map[string]any{"key": cluster.TaintUnreachable, "effect": "NoSelect"})
}

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
