// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// factsDigest changes with what an addon may know of a cluster.
func factsDigest(mc *cluster.ManagedCluster) string {
	facts := []any{withoutFeatures(mc.Labels), mc.Status.ClusterClaims, mc.Status.Version, mc.Status.Allocatable}
	if a := mc.Status.Agent; a != nil {
		facts = append(facts, a.Nodes, a.Architectures, a.APIs)
	}
	return digestJSON(facts)
}

// withoutFeatures are labels but for those that say which addons there are: addons
// must not depend on their own state.
func withoutFeatures(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(k, _ string) bool { return strings.HasPrefix(k, addon.LabelFeature) })
	return out
}

// facts are what is known of a cluster, nil when there is none of that name.
func (r *Resolver) facts(name string) *catalog.Facts {
	f, err := r.cfg.Facts(name)
	if err != nil {
		return nil
	}
	f.Labels = withoutFeatures(f.Labels)
	return &f
}

func clusterStateOf(mc *cluster.ManagedCluster) *clusterState {
	c := &clusterState{
		digest: factsDigest(mc), available: meta.FindStatusCondition(mc.Status.Conditions, cluster.ConditionAvailable),
		copied: map[string]string{}, labels: map[string]string{}, deleting: mc.DeletionTimestamp != nil,
		noInstall: strings.EqualFold(mc.Annotations[addon.AnnotationNoInstall], "true"),
	}
	for k, v := range mc.Annotations {
		if strings.HasPrefix(k, addon.Group) && k != addon.AnnotationNoInstall {
			c.copied[k] = v
		}
	}
	for k, v := range mc.Labels {
		if name, ok := strings.CutPrefix(k, addon.LabelFeature); ok {
			c.labels[name] = v
		}
	}
	switch {
	case c.available == nil:
	case c.available.Status == metav1.ConditionTrue:
		c.reach = here
	default:
		c.reach = away
	}
	return c
}

// digestJSON names a value by its JSON, in which Go sorts the keys of maps.
func digestJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		text = []byte(fmt.Sprintf("%v: %v", err, v)) // of what cannot be said, nothing is the same
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
