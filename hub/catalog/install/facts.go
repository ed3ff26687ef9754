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

// factsOf is what an addon may know of a cluster. What addons are on it is not among
// the labels: they must not depend on their own state.
func factsOf(mc *cluster.ManagedCluster) *catalog.Facts {
	f := &catalog.Facts{
		Name: mc.Name, Labels: maps.Clone(mc.Labels), Claims: map[string]string{},
		Kubernetes: mc.Status.Version.Kubernetes, Allocatable: mc.Status.Allocatable,
	}
	maps.DeleteFunc(f.Labels, func(k, _ string) bool { return strings.HasPrefix(k, addon.LabelFeature) })
	for _, c := range mc.Status.ClusterClaims {
		f.Claims[c.Name] = c.Value
	}
	if a := mc.Status.Agent; a != nil {
		f.Nodes = int(a.Nodes)
	}
	return f
}

func clusterStateOf(mc *cluster.ManagedCluster) *clusterState {
	c := &clusterState{
		facts: factsOf(mc), available: meta.FindStatusCondition(mc.Status.Conditions, cluster.ConditionAvailable),
		copied: map[string]string{}, labels: map[string]string{}, deleting: mc.DeletionTimestamp != nil,
		noInstall: mc.Annotations[addon.AnnotationNoInstall] == "true",
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
	c.digest = digestJSON(c.facts)
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
