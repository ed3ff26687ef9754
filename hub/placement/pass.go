// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// Pass brings everything that is out of date up to date, and returns when the
// next answer changes by itself; zero: never.
func (s *state) Pass(ctx context.Context, now time.Time) (next time.Time, err error) {
	if s.missing {
		if err := s.ensureSets(ctx); err != nil {
			return next, err
		}
		s.missing = false
	}
	if s.members {
		s.findMembers()
		s.members = false
	}
	if next, err = s.writeSets(ctx, now); err != nil {
		return next, err
	}
	bound := s.boundSets()
	var plans []*plan
	for _, k := range s.due(now) {
		p := s.placements[k]
		switch {
		case p.obj == nil && len(p.decisions) == 0:
			delete(s.placements, k)
		case p.obj == nil:
			plans = append(plans, &plan{key: k, placed: p})
		case p.obj.DeletionTimestamp != nil || p.obj.Annotations[cluster.AnnotationSchedulingDisabled] == "true":
		default:
			plans = append(plans, s.plan(k, p, bound[k.namespace], now))
		}
		p.dirty = false
	}
	if err := s.write(ctx, plans); err != nil {
		return next, err
	}
	for _, p := range s.placements {
		if p.dirty {
			return now, nil
		}
		next = earlier(next, p.again)
	}
	return next, nil
}

// due are the Placements to look at, in order.
func (s *state) due(now time.Time) []key {
	var out []key
	for k, p := range s.placements {
		if p.dirty || !p.again.IsZero() && !now.Before(p.again) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, compareKeys)
	return out
}

func compareKeys(a, b key) int {
	return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
}

// boundSets are the members of the sets bound to each namespace.
func (s *state) boundSets() map[string]map[string][]*Cluster {
	out := map[string]map[string][]*Cluster{}
	for k, b := range s.bindings {
		set := s.sets[b.Spec.ClusterSet]
		if set == nil {
			continue
		}
		if out[k.namespace] == nil {
			out[k.namespace] = map[string][]*Cluster{}
		}
		out[k.namespace][set.obj.Name] = set.members
	}
	return out
}

// plan is what is to be written for one Placement.
type plan struct {
	key    key
	placed *placed
	out    *Output // nil: the Placement is gone
	want   []*cluster.PlacementDecision
	groups []cluster.DecisionGroupStatus
}

// plan decides, and counts what it decided for the Placements after it.
func (s *state) plan(k key, p *placed, bound map[string][]*Cluster, now time.Time) *plan {
	out := s.scheduler.Schedule(&Input{
		Placement: p.obj, Bound: bound, Previous: p.chosen, Decided: s.decided, Scores: s.scores,
	}, now)
	p.again, p.scoresAt = out.Again, now
	pl := &plan{key: k, placed: p, out: out}
	if out.Keep {
		if len(p.decisions) > 0 {
			return pl
		}
		out.Groups = []Group{{}}
	}
	pl.want, pl.groups = decisionsOf(p.obj, out.Groups)
	before := maps.Clone(p.chosen)
	for _, g := range out.Groups {
		for _, d := range g.Decisions {
			if !before[d.ClusterName] {
				s.decided[d.ClusterName]++
				p.chosen[d.ClusterName] = true
			}
			delete(before, d.ClusterName)
		}
	}
	for name := range before {
		delete(p.chosen, name)
		if s.decided[name]--; s.decided[name] <= 0 {
			delete(s.decided, name)
		}
	}
	return pl
}

// decisionsOf are the objects for the groups of a Placement.
func decisionsOf(p *cluster.Placement, groups []Group) (want []*cluster.PlacementDecision, status []cluster.DecisionGroupStatus) {
	yes := true
	for i, g := range groups {
		st := cluster.DecisionGroupStatus{
			DecisionGroupIndex: int32(i), DecisionGroupName: g.Name, ClusterCount: int32(len(g.Decisions)), //nolint:gosec // bounded by the fleet
		}
		parts := slices.Collect(slices.Chunk(g.Decisions, cluster.MaxDecisions))
		if len(parts) == 0 {
			parts = [][]cluster.ClusterDecision{{}}
		}
		for _, part := range parts {
			d := &cluster.PlacementDecision{
				TypeMeta: metav1.TypeMeta{APIVersion: cluster.Group + "/" + cluster.VersionPlacements, Kind: cluster.KindPlacementDecision},
				ObjectMeta: metav1.ObjectMeta{
					Namespace: p.Namespace, Name: fmt.Sprintf("%s-decision-%d", p.Name, len(want)+1),
					Labels: map[string]string{
						cluster.LabelPlacement: p.Name, cluster.LabelDecisionGroupName: g.Name,
						cluster.LabelDecisionGroupIndex: strconv.Itoa(i),
					},
					OwnerReferences: []metav1.OwnerReference{{
						APIVersion: cluster.Group + "/" + cluster.VersionPlacements, Kind: cluster.KindPlacement,
						Name: p.Name, UID: p.UID, Controller: &yes, BlockOwnerDeletion: &yes,
					}},
				},
				Status: cluster.PlacementDecisionStatus{Decisions: part},
			}
			want = append(want, d)
			st.Decisions = append(st.Decisions, d.Name)
		}
		status = append(status, st)
	}
	return want, status
}

// write stores what differs: the decisions of a Placement before its status.
func (s *state) write(ctx context.Context, plans []*plan) error {
	var g errgroup.Group
	g.SetLimit(writers)
	for _, pl := range plans {
		g.Go(func() error {
			if err := s.writePlan(ctx, pl); err != nil {
				return fmt.Errorf("placement %s/%s: %w", pl.key.namespace, pl.key.name, err)
			}
			return nil
		})
	}
	err := g.Wait()
	for _, pl := range plans {
		if pl.out == nil && len(pl.placed.decisions) == 0 {
			s.recount(pl.placed)
			delete(s.placements, pl.key)
		}
	}
	return err
}

// writePlan touches only what belongs to the plan's Placement.
func (s *state) writePlan(ctx context.Context, pl *plan) error {
	p := pl.placed
	if pl.want != nil || pl.out == nil {
		keep := map[string]bool{}
		for _, want := range pl.want {
			keep[want.Name] = true
			stored, err := s.writeDecision(ctx, p.decisions[want.Name], want)
			if err != nil {
				return err
			}
			p.decisions[want.Name] = stored
		}
		for name := range p.decisions {
			if keep[name] {
				continue
			}
			if err := s.Controller.decisions.Delete(ctx, pl.key.namespace, name); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			delete(p.decisions, name)
		}
	}
	if pl.out == nil {
		return nil
	}
	change := func(obj *cluster.Placement) error {
		setConditions(&obj.Status.Conditions, pl.out.Conditions, p.obj.Generation)
		if pl.want != nil {
			obj.Status.NumberOfSelectedClusters = int32(pl.out.Selected) //nolint:gosec // bounded by the fleet
			obj.Status.DecisionGroups = pl.groups
		}
		return nil
	}
	same := *p.obj
	same.Status.Conditions = slices.Clone(same.Status.Conditions)
	if err := change(&same); err != nil || equality.Semantic.DeepEqual(&same, p.obj) {
		return err
	}
	stored, err := s.Controller.placements.UpdateStatus(ctx, pl.key.namespace, pl.key.name, change)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil // its event is on the way
	case err != nil:
		return err
	}
	// A change that came in between is still to be looked at: its event follows,
	// with an older revision than what is stored now.
	if stored.Generation != p.obj.Generation {
		p.dirty = true
	}
	p.obj, p.uses = stored, usesOf(&stored.Spec)
	return nil
}

func (s *state) writeDecision(ctx context.Context, have, want *cluster.PlacementDecision) (*cluster.PlacementDecision, error) {
	if have == nil {
		stored, err := s.Controller.decisions.Create(ctx, want)
		if !errors.Is(err, store.ErrExists) {
			return stored, err
		}
	} else if equality.Semantic.DeepEqual(have.Labels, want.Labels) && equality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences) &&
		equality.Semantic.DeepEqual(have.Status, want.Status) {
		return have, nil
	}
	return s.Controller.decisions.UpdateStatus(ctx, want.Namespace, want.Name, func(d *cluster.PlacementDecision) error {
		d.Labels, d.OwnerReferences, d.Status = want.Labels, want.OwnerReferences, want.Status
		return nil
	})
}
