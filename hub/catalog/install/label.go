// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"maps"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// Values of the label that a ManagedCluster has for each of its addons.
const (
	featureAvailable   = "available"
	featureUnhealthy   = "unhealthy"
	featureUnreachable = "unreachable"
)

// labelCluster has a cluster say which addons it has, and how they are, so that
// placements can choose by it.
func (s *state) labelCluster(ctx context.Context, name string) error {
	c := s.clusters[name]
	if c == nil {
		return nil
	}
	want := map[string]string{}
	for addOn, d := range s.byCluster[name] {
		if len(validation.IsQualifiedName(addon.LabelFeature+addOn)) > 0 {
			continue // too long
		}
		switch available := meta.FindStatusCondition(d.obj.Status.Conditions, addon.ConditionAvailable); {
		case available == nil:
		case available.Status == metav1.ConditionTrue:
			want[addOn] = featureAvailable
		case available.Status == metav1.ConditionFalse:
			want[addOn] = featureUnhealthy
		default:
			want[addOn] = featureUnreachable
		}
	}
	if maps.Equal(want, c.labels) {
		return nil
	}
	_, err := s.Controller.clusters.Update(ctx, "", name, func(o *cluster.ManagedCluster) error {
		for addOn := range c.labels {
			if _, ok := want[addOn]; !ok {
				delete(o.Labels, addon.LabelFeature+addOn)
			}
		}
		for addOn, value := range want {
			if o.Labels == nil {
				o.Labels = map[string]string{}
			}
			o.Labels[addon.LabelFeature+addOn] = value
		}
		return nil
	})
	return ignoreGone(err)
}
