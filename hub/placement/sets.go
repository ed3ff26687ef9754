// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// ensureSets makes the sets that always exist, if they are missing.
func (c *Controller) ensureSets(ctx context.Context) error {
	for name, selector := range map[string]cluster.ClusterSetSelector{
		cluster.SetDefault: {SelectorType: cluster.SelectorExclusive},
		cluster.SetGlobal:  {SelectorType: cluster.SelectorLabels, LabelSelector: &metav1.LabelSelector{}},
	} {
		if _, err := c.sets.Get(ctx, "", name); err == nil {
			continue
		} else if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read set %s: %w", name, err)
		}
		_, err := c.sets.Create(ctx, &cluster.ManagedClusterSet{
			TypeMeta:   metav1.TypeMeta{APIVersion: cluster.Group + "/" + cluster.VersionSets, Kind: cluster.KindSet},
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       cluster.ManagedClusterSetSpec{ClusterSelector: selector},
		})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("make set %s: %w", name, err)
		}
	}
	return nil
}

// findMembers gives every set its members, by name.
func (s *state) findMembers() {
	all := slices.SortedFunc(maps.Values(s.clusters), func(a, b *Cluster) int { return strings.Compare(a.Name, b.Name) })
	for _, set := range s.sets {
		set.members = nil
		for _, c := range all {
			if set.selector.Matches(c.Labels) {
				set.members = append(set.members, c)
			}
		}
	}
}

// countEvery is how often the number of members in a set's condition is written
// while clusters come and go. Whether there are any is written at once.
const countEvery = time.Second

// writeSets stores the conditions of sets and bindings that changed, and puts
// clusters without a set into the default one. It returns when there is more to
// write; zero: when something changes.
func (s *state) writeSets(ctx context.Context, now time.Time) (next time.Time, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for name, set := range s.sets {
		want := emptyCondition(len(set.members), set.obj.Generation)
		if holdsCondition(set.obj.Status.Conditions, want) {
			continue
		}
		have := meta.FindStatusCondition(set.obj.Status.Conditions, want.Type)
		onlyCount := have != nil && have.Status == want.Status && have.ObservedGeneration == want.ObservedGeneration
		if due := s.counted[name].Add(countEvery); onlyCount && now.Before(due) {
			next = earlier(next, due)
			continue
		}
		s.counted[name] = now
		g.Go(func() error {
			stored, err := s.Controller.sets.UpdateStatus(ctx, "", name, func(obj *cluster.ManagedClusterSet) error {
				meta.SetStatusCondition(&obj.Status.Conditions, want)
				return nil
			})
			if err == nil {
				set.obj.Status = stored.Status
			}
			return ignoreGone(err)
		})
	}
	for k, b := range s.bindings {
		want := boundCondition(s.sets[b.Spec.ClusterSet] != nil, b.Spec.ClusterSet, b.Generation)
		if holdsCondition(b.Status.Conditions, want) {
			continue
		}
		g.Go(func() error {
			stored, err := s.Controller.bindings.UpdateStatus(ctx, k.namespace, k.name, func(obj *cluster.ManagedClusterSetBinding) error {
				meta.SetStatusCondition(&obj.Status.Conditions, want)
				return nil
			})
			if err == nil {
				b.Status = stored.Status
			}
			return ignoreGone(err)
		})
	}
	for name := range s.homeless {
		g.Go(func() error {
			_, err := s.Controller.clusters.Update(ctx, "", name, func(mc *cluster.ManagedCluster) error {
				if mc.Labels[cluster.LabelSet] == "" {
					if mc.Labels == nil {
						mc.Labels = map[string]string{}
					}
					mc.Labels[cluster.LabelSet] = cluster.SetDefault
				}
				return nil
			})
			return ignoreGone(err)
		})
	}
	if err := g.Wait(); err != nil {
		return next, fmt.Errorf("write sets: %w", err)
	}
	clear(s.homeless)
	return next, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func emptyCondition(members int, generation int64) metav1.Condition {
	if members == 0 {
		return metav1.Condition{
			Type: cluster.ConditionSetEmpty, Status: metav1.ConditionTrue, ObservedGeneration: generation,
			Reason: cluster.ReasonNoClusterMatched, Message: "No ManagedCluster selected",
		}
	}
	return metav1.Condition{
		Type: cluster.ConditionSetEmpty, Status: metav1.ConditionFalse, ObservedGeneration: generation,
		Reason: cluster.ReasonClustersSelected, Message: fmt.Sprintf("%d ManagedClusters selected", members),
	}
}

func boundCondition(found bool, set string, generation int64) metav1.Condition {
	if found {
		return metav1.Condition{
			Type: cluster.ConditionBound, Status: metav1.ConditionTrue, ObservedGeneration: generation, Reason: cluster.ReasonClusterSetBound,
		}
	}
	return metav1.Condition{
		Type: cluster.ConditionBound, Status: metav1.ConditionFalse, ObservedGeneration: generation, Reason: cluster.ReasonClusterSetNotFound,
		Message: fmt.Sprintf("there is no ManagedClusterSet %q", set),
	}
}

// holdsCondition reports whether a condition is told already.
func holdsCondition(list []metav1.Condition, want metav1.Condition) bool {
	have := meta.FindStatusCondition(list, want.Type)
	if have == nil {
		return false
	}
	want.LastTransitionTime = have.LastTransitionTime
	return equality.Semantic.DeepEqual(*have, want)
}
