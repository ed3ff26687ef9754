// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/store"
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

// reach says whether a cluster can be reached.
type reach int

const (
	never reach = iota // its agent has not said anything yet, so nothing is there
	here
	away
)

type clusterState struct {
	digest    string // of the facts
	reach     reach
	available *metav1.Condition
	noInstall bool
	copied    map[string]string // annotations for its addons
	labels    map[string]string // feature labels
	deleting  bool
}

func (s *state) applyCluster(e store.Entry, gone bool) error {
	name := e.Key.Name
	s.relabel[name] = true
	old := s.clusters[name]
	if gone {
		delete(s.clusters, name)
	} else {
		obj, err := s.Controller.clusters.Decode(e)
		if err != nil {
			return err
		}
		s.clusters[name] = clusterStateOf(obj)
	}
	is := s.clusters[name]
	if old != nil && is != nil && old.same(is) {
		return nil
	}
	facts := old == nil || is == nil || old.digest != is.digest
	for addOn, d := range s.byCluster[name] {
		d.dirty = true
		d.stale = d.stale || facts
		if r := s.recipes[addOn]; r != nil {
			r.dirty = true
		}
	}
	for _, r := range s.recipes {
		if _, ok := r.chosen[name]; ok {
			r.dirty = true
		}
	}
	return nil
}

func (c *clusterState) same(o *clusterState) bool {
	text := func(c *metav1.Condition) string {
		if c == nil {
			return ""
		}
		return string(c.Status) + c.Reason + c.Message
	}
	return c.digest == o.digest && c.reach == o.reach && c.noInstall == o.noInstall && c.deleting == o.deleting &&
		maps.Equal(c.labels, o.labels) && maps.Equal(c.copied, o.copied) && text(c.available) == text(o.available)
}
