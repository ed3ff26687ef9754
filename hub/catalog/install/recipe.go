// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
)

// ConditionRemovalHeld of the first install progression is true while addons stay
// that no placement chooses; the message says why, and how to let them go.
const ConditionRemovalHeld = "RemovalHeld"

// Reasons of ConditionRemovalHeld.
const (
	ReasonBudgetExceeded = "BudgetExceeded"
	ReasonNotSettled     = "PlacementNotSettled"
	ReasonNothingHeld    = "NothingHeld"
)

// ManagedClusterAddOns that may go at once without an approval: the larger of a
// number and a share in percent.
const (
	removeFreely = 10
	removeShare  = 20
)

// tellEvery is how often the status of an addon is written at most.
const tellEvery = time.Second

// strategy is the placement that a cluster obeys, nil if there is none.
func (r *recipe) strategy(cluster string) *addon.PlacementStrategy {
	i, ok := r.chosen[cluster]
	if !ok || i >= len(r.obj.Spec.InstallStrategy.Placements) {
		return nil
	}
	return &r.obj.Spec.InstallStrategy.Placements[i]
}

// cook brings the ManagedClusterAddOns of an addon up to date, and the addon's
// status, and returns when to look again.
func (s *state) cook(ctx context.Context, r *recipe, now time.Time) (again time.Time, err error) {
	obj := r.obj
	if obj.DeletionTimestamp != nil {
		return again, s.clear(ctx, r)
	}
	if !slices.Contains(obj.Finalizers, addon.FinalizerRemoval) {
		_, err := s.Controller.recipes.Update(ctx, "", obj.Name, func(o *addon.ClusterManagementAddOn) error {
			if o.DeletionTimestamp == nil && !slices.Contains(o.Finalizers, addon.FinalizerRemoval) {
				o.Finalizers = append(o.Finalizers, addon.FinalizerRemoval)
			}
			return nil
		})
		if err != nil {
			return again, ignoreGone(err)
		}
	}
	c := &cooking{state: s, r: r, now: now, settled: true}
	c.choose()
	var g errgroup.Group
	g.SetLimit(writers)
	if obj.Spec.InstallStrategy.Type == addon.InstallPlacements {
		for _, name := range c.missing() {
			g.Go(func() error { return s.create(ctx, r, name) })
		}
		for _, d := range c.superfluous() {
			g.Go(func() error { return ignoreGone(s.Controller.dishes.Delete(ctx, d.cluster, d.addon)) })
		}
	}
	if err := g.Wait(); err != nil {
		return again, err
	}
	if due := r.told.Add(tellEvery); now.Before(due) {
		return earlier(c.again, due), nil
	}
	return c.again, c.tell(ctx)
}

// cooking is one look at one addon.
type cooking struct {
	*state
	r       *recipe
	now     time.Time
	settled bool
	held    *Problem
	again   time.Time
}

// choose finds the clusters that placements chose: one in several obeys the last.
func (c *cooking) choose() {
	chosen := map[string]int{}
	if c.r.obj.Spec.InstallStrategy.Type == addon.InstallPlacements {
		for i, ref := range c.r.obj.Spec.InstallStrategy.Placements {
			p := c.sets[store.Key{Resource: cluster.ResourcePlacements, Namespace: ref.Namespace, Name: ref.Name}]
			if p == nil || p.obj == nil {
				c.settled = false
				continue
			}
			names, settled := p.decided()
			c.settled = c.settled && settled
			for _, name := range names {
				chosen[name] = i
			}
		}
	}
	for name, d := range c.byAddon[c.r.obj.Name] {
		was, had := c.r.chosen[name]
		is, has := chosen[name]
		if had != has || was != is {
			d.stale, d.dirty = true, true
		}
	}
	c.r.chosen = chosen
}

// decided are the clusters of a placement. Settled is set when they are complete
// and meant so: only then somebody may be missing on purpose.
func (p *placement) decided() (names []string, settled bool) {
	for _, d := range p.decisions {
		for _, c := range d.Status.Decisions {
			names = append(names, c.ClusterName)
		}
	}
	st := &p.obj.Status
	satisfied := meta.FindStatusCondition(st.Conditions, cluster.ConditionPlacementSatisfied)
	settled = len(p.decisions) > 0 && len(names) == int(st.NumberOfSelectedClusters) && p.obj.DeletionTimestamp == nil &&
		satisfied != nil && (satisfied.ObservedGeneration == 0 || satisfied.ObservedGeneration == p.obj.Generation) &&
		!meta.IsStatusConditionTrue(st.Conditions, cluster.ConditionPlacementMisconfigured)
	return names, settled
}

// missing are chosen clusters without the addon.
func (c *cooking) missing() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.r.chosen)) {
		x := c.clusters[name]
		if x != nil && !x.deleting && !x.noInstall && c.dishes[place{name, c.r.obj.Name}] == nil {
			names = append(names, name)
		}
	}
	return names
}

// superfluous are addons made by a placement that may go. One on a cluster that
// cannot be reached stays until that is back.
func (c *cooking) superfluous() []*dish {
	all := c.byAddon[c.r.obj.Name]
	var names []string
	for name, d := range all {
		_, chosen := c.r.chosen[name]
		x := c.clusters[name]
		if chosen || d.deleting() || d.obj.Annotations[addon.AnnotationPlacement] == "" || x != nil && x.reach == away {
			delete(c.r.undecided, name)
			continue
		}
		since, ok := c.r.undecided[name]
		if !ok {
			since = c.now
			c.r.undecided[name] = since
		}
		if end := since.Add(c.cfg.Settle); c.now.Before(end) {
			c.again = earlier(c.again, end)
			continue
		}
		names = append(names, name)
	}
	for name := range c.r.undecided {
		if all[name] == nil {
			delete(c.r.undecided, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	if !c.settled {
		c.held = &Problem{Reason: ReasonNotSettled, Message: fmt.Sprintf(
			"%d addons stay, although no placement chooses their clusters: not all placements are there and settled", len(names))}
		return nil
	}
	id := removalID(names)
	if budget := max(removeFreely, len(all)*removeShare/100); len(names) > budget && c.r.obj.Annotations[work.AnnotationApprovePrune] != id {
		c.held = &Problem{Reason: ReasonBudgetExceeded, Message: fmt.Sprintf(
			"%d of %d addons would be removed, %d may go at once: to go on, annotate the ClusterManagementAddOn with %s=%s. Clusters: %s",
			len(names), len(all), budget, work.AnnotationApprovePrune, id, some(names))}
		return nil
	}
	var out []*dish
	for _, name := range names {
		out = append(out, all[name])
	}
	return out
}

// removalID names exactly these clusters.
func removalID(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return hex.EncodeToString(sum[:8])
}

func some(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// create installs an addon on a cluster that a placement chose. Its version is not
// written into it: it follows the addon's and the placement's.
func (s *state) create(ctx context.Context, r *recipe, name string) error {
	ref := r.obj.Spec.InstallStrategy.Placements[r.chosen[name]]
	o := &addon.ManagedClusterAddOn{
		TypeMeta: metav1.TypeMeta{APIVersion: addon.Group + "/" + addon.Version, Kind: addon.KindManagedClusterAddOn},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: name, Name: r.obj.Name, Annotations: map[string]string{}, Finalizers: []string{addon.FinalizerRemoval},
			OwnerReferences: []metav1.OwnerReference{OwnerOf(r.obj)},
		},
	}
	maps.Copy(o.Annotations, s.clusters[name].copied)
	delete(o.Annotations, addon.AnnotationHostingCluster)
	o.Annotations[addon.AnnotationPlacement] = ref.Namespace + "/" + ref.Name
	if version, err := s.cfg.Resolver.Pin(r.obj, &ref, nil); err == nil && version != nil {
		o.Spec.Configs = append(o.Spec.Configs, *version)
	}
	_, err := s.Controller.dishes.Create(ctx, o)
	if errors.Is(err, store.ErrExists) {
		return nil // its event is on the way
	}
	return err
}

// OwnerOf is how a ManagedClusterAddOn names its addon.
func OwnerOf(cma *addon.ClusterManagementAddOn) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{
		APIVersion: addon.Group + "/" + addon.Version, Kind: addon.KindClusterManagementAddOn, Name: cma.Name, UID: cma.UID,
		Controller: &yes, BlockOwnerDeletion: &yes,
	}
}

// clear removes an addon from all clusters, and then lets it go itself.
func (s *state) clear(ctx context.Context, r *recipe) error {
	name := r.obj.Name
	if !slices.Contains(r.obj.Finalizers, addon.FinalizerRemoval) {
		return nil
	}
	if len(s.byAddon[name]) > 0 {
		var g errgroup.Group
		g.SetLimit(writers)
		for _, d := range s.byAddon[name] {
			if !d.deleting() {
				g.Go(func() error { return ignoreGone(s.Controller.dishes.Delete(ctx, d.cluster, d.addon)) })
			}
		}
		return g.Wait() // the event of the last one brings us back
	}
	_, err := s.Controller.recipes.Update(ctx, "", name, func(o *addon.ClusterManagementAddOn) error {
		if o.UID == r.obj.UID {
			o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == addon.FinalizerRemoval })
		}
		return nil
	})
	return ignoreGone(err)
}

// tell writes the status of an addon: the hashes of its defaults, and how far each
// placement is.
func (c *cooking) tell(ctx context.Context) error {
	obj := c.r.obj
	next := addon.ClusterManagementAddOnStatus{}
	for _, ref := range c.cfg.Resolver.Hashes(obj.Spec.DefaultConfigs) {
		next.DefaultConfigReferences = append(next.DefaultConfigReferences, addon.DefaultConfigReference{
			ConfigGroupResource: ref.ConfigGroupResource, DesiredConfig: ref.DesiredConfig,
		})
	}
	if obj.Spec.InstallStrategy.Type == addon.InstallPlacements {
		for i, ref := range obj.Spec.InstallStrategy.Placements {
			next.InstallProgressions = append(next.InstallProgressions, c.progression(i, &ref))
		}
	}
	c.r.told = c.now
	if equality.Semantic.DeepEqual(next, obj.Status) {
		return nil
	}
	_, err := c.Controller.recipes.UpdateStatus(ctx, "", obj.Name, func(o *addon.ClusterManagementAddOn) error {
		if o.UID == obj.UID {
			o.Status = next
		}
		return nil
	})
	return ignoreGone(err)
}

// progression says how far a placement is. An applied configuration is named when
// every chosen cluster has it, a known good one when all are well with it.
func (c *cooking) progression(i int, ref *addon.PlacementStrategy) addon.InstallProgression {
	obj := c.r.obj
	p := addon.InstallProgression{PlacementRef: ref.PlacementRef}
	var old *addon.InstallProgression
	for j := range obj.Status.InstallProgressions {
		if o := &obj.Status.InstallProgressions[j]; o.PlacementRef == ref.PlacementRef {
			old = o
			p.Conditions = slices.Clone(o.Conditions)
		}
	}
	total, done, failed, well := 0, 0, 0, 0
	for name, at := range c.r.chosen {
		if at != i {
			continue
		}
		total++
		d := c.dishes[place{name, obj.Name}]
		if d == nil {
			continue
		}
		switch progress := meta.FindStatusCondition(d.obj.Status.Conditions, addon.ConditionProgressing); {
		case progress == nil:
		case progress.Reason == addon.ReasonCompleted:
			done++
		case progress.Reason == addon.ReasonFailed || progress.Reason == addon.ReasonConfigurationUnsupported:
			failed++
		}
		if meta.IsStatusConditionTrue(d.obj.Status.Conditions, addon.ConditionAvailable) {
			well++
		}
	}
	cond := metav1.Condition{Type: addon.ConditionProgressing, Status: metav1.ConditionTrue, Reason: addon.ReasonProgressing, Message: fmt.Sprintf(
		"selected clusters %d. configured addons %d/%d progressing..., %d failed 0 timeout.", total, done, total, failed)}
	complete := done == total && total > 0
	if complete {
		cond = metav1.Condition{Type: addon.ConditionProgressing, Status: metav1.ConditionFalse, Reason: addon.ReasonCompleted, Message: fmt.Sprintf(
			"selected clusters %d. configured addons %d/%d completed with no errors, 0 failed 0 timeout.", total, done, total)}
	}
	meta.SetStatusCondition(&p.Conditions, cond)
	if i == 0 {
		c.tellHeld(&p)
	}
	for _, r := range c.cfg.Resolver.Hashes(c.cfg.Resolver.ConfigsOf(obj, ref)) {
		in := addon.InstallConfigReference{ConfigGroupResource: r.ConfigGroupResource, DesiredConfig: r.DesiredConfig}
		if old != nil {
			for _, o := range old.ConfigReferences {
				if o.ConfigGroupResource == r.ConfigGroupResource {
					in.LastAppliedConfig, in.LastKnownGoodConfig = o.LastAppliedConfig, o.LastKnownGoodConfig
				}
			}
		}
		if complete {
			in.LastAppliedConfig = in.DesiredConfig
			if well == total {
				in.LastKnownGoodConfig = in.DesiredConfig
			}
		}
		p.ConfigReferences = append(p.ConfigReferences, in)
	}
	return p
}

func (c *cooking) tellHeld(p *addon.InstallProgression) {
	switch {
	case c.held != nil:
		meta.SetStatusCondition(&p.Conditions, metav1.Condition{Type: ConditionRemovalHeld, Status: metav1.ConditionTrue, Reason: c.held.Reason, Message: c.held.Message})
	case meta.FindStatusCondition(p.Conditions, ConditionRemovalHeld) != nil:
		meta.SetStatusCondition(&p.Conditions, metav1.Condition{Type: ConditionRemovalHeld, Status: metav1.ConditionFalse, Reason: ReasonNothingHeld})
	}
}
