// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package replicate

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
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
)

// AnnotationSince of a work is when it got the newest template, RFC 3339.
const AnnotationSince = "fleet.drover.io/template-since"

// ConditionRemovalHeld of a set is true while works wait for an approval to be
// removed: the annotation fleet.drover.io/approve-prune with the id in the message.
const ConditionRemovalHeld = "RemovalHeld"

// Reasons of ConditionRemovalHeld, and of a set whose name is too long.
const (
	ReasonBudgetExceeded = "BudgetExceeded"
	ReasonUnreadable     = "PlacementNotSettled"
	ReasonNothingHeld    = "NothingHeld"
	ReasonInvalidName    = "InvalidManifestWorkName"
)

// Works that may go at once without an approval: the larger of a number and a
// share in percent.
const (
	removeFreely = 10
	removeShare  = 20
)

// reconcile brings one set up to date and returns when to look again.
func (s *state) reconcile(ctx context.Context, k key, owner *set, now time.Time) (again time.Time, err error) {
	obj := owner.obj
	if obj.DeletionTimestamp != nil {
		return again, s.finalize(ctx, k, obj)
	}
	value := k.namespace + "." + k.name
	if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
		return again, s.writeStatus(ctx, owner, func(st *work.ManifestWorkReplicaSetStatus) {
			setCondition(st, obj.Generation, work.ConditionManifestworkApplied, false, ReasonInvalidName, fmt.Sprintf(
				"ManifestWork owner reference %q (namespace.name) is not a valid label value: %s; recreate the ManifestWorkReplicaSet "+
					"with a shorter namespace and/or name so the combined length is at most 63 characters", value, strings.Join(problems, "; ")))
		})
	}
	if !slices.Contains(obj.Finalizers, work.FinalizerReplicaSet) {
		_, err := s.Controller.sets.Update(ctx, k.namespace, k.name, func(o *work.ManifestWorkReplicaSet) error {
			if o.DeletionTimestamp == nil && !slices.Contains(o.Finalizers, work.FinalizerReplicaSet) {
				o.Finalizers = append(o.Finalizers, work.FinalizerReplicaSet)
			}
			return nil
		})
		return again, ignoreGone(err) // its event comes back
	}
	r := &round{state: s, key: k, owner: owner, now: now, chosen: map[string]string{}, works: map[string]*copied{}, settled: true}
	for _, w := range s.works[k] {
		r.works[w.key.Namespace] = w
	}
	r.decide()
	r.remove()
	if err := r.write(ctx); err != nil {
		return again, err
	}
	return r.again, s.writeStatus(ctx, owner, r.status)
}

// round is one look at one set.
type round struct {
	*state
	key     key
	owner   *set
	now     time.Time
	works   map[string]*copied // by cluster
	chosen  map[string]string  // clusters, and the placement that chose each
	refs    []decided
	settled bool
	missing string // a placement that does not exist
	next    []write
	gone    []*copied
	held    *held
	again   time.Time
}

// decided is what came of one reference.
type decided struct {
	ref      *work.PlacementRef
	groups   []Group
	breached bool
}

type write struct{ cluster, placement string }

// held is a removal that waits.
type held struct{ reason, message string }

func (r *round) decide() {
	for i := range r.owner.obj.Spec.PlacementRefs {
		ref := &r.owner.obj.Spec.PlacementRefs[i]
		p := r.placements[key{r.key.namespace, ref.Name}]
		if p == nil || p.obj == nil {
			r.missing, r.settled = ref.Name, false
			continue
		}
		groups, settled := p.groupsOf()
		r.settled = r.settled && settled
		for g := range groups {
			// A cluster that several placements chose belongs to the first.
			groups[g].Members = slices.DeleteFunc(groups[g].Members, func(m Member) bool { return r.chosen[m.Cluster] != "" })
			for m := range groups[g].Members {
				member := &groups[g].Members[m]
				r.chosen[member.Cluster] = ref.Name
				r.judge(member)
			}
		}
		next, again, breached := Next(groups, &ref.RolloutStrategy, r.now)
		r.again = earlier(r.again, again)
		r.refs = append(r.refs, decided{ref, groups, breached})
		for _, name := range next {
			r.next = append(r.next, write{name, ref.Name})
		}
	}
}

// judge says how far a cluster is with the newest template. Health counts where
// no condition rule says more: Progressing and Degraded exist only through rules.
func (r *round) judge(m *Member) {
	m.Offline = r.reach[m.Cluster] != here
	w := r.works[m.Cluster]
	if w == nil || w.deleting || w.digest != r.owner.template {
		return
	}
	m.Phase, m.Since = Running, w.since
	find := func(t string) *metav1.Condition {
		c := meta.FindStatusCondition(w.conditions, t)
		if c == nil || c.ObservedGeneration != w.generation {
			return nil
		}
		return c
	}
	is := func(c *metav1.Condition, s metav1.ConditionStatus) bool { return c != nil && c.Status == s }
	applied, healthy := find(work.ConditionApplied), find(work.ConditionHealthy)
	progressing, degraded := find(work.ConditionProgressing), find(work.ConditionDegraded)
	well := healthy
	if progressing != nil {
		well = progressing
	} else if healthy == nil {
		well = find(work.ConditionAvailable)
	}
	switch {
	case is(applied, metav1.ConditionFalse):
		m.Phase = Failed
	case !is(applied, metav1.ConditionTrue):
	case is(degraded, metav1.ConditionTrue), progressing == nil && is(healthy, metav1.ConditionFalse) && healthy.Reason == work.ReasonUnhealthy:
		m.Phase = Failed
	case progressing != nil && progressing.Status == metav1.ConditionFalse, progressing == nil && is(well, metav1.ConditionTrue):
		m.Phase = Succeeded
		if t := well.LastTransitionTime.Time; t.After(m.Since) {
			m.Since = t
		}
	}
}

// remove finds the works that may go.
func (r *round) remove() {
	var names []string
	for name, w := range r.works {
		if r.chosen[name] != "" || w.deleting {
			delete(r.owner.undecided, name)
			continue
		}
		if r.reach[name] == away {
			delete(r.owner.undecided, name)
			continue // it keeps its work until it is back
		}
		since, ok := r.owner.undecided[name]
		if !ok {
			since = r.now
			r.owner.undecided[name] = since
		}
		if end := since.Add(r.cfg.Settle); r.now.Before(end) {
			r.again = earlier(r.again, end)
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	if !r.settled {
		r.held = &held{ReasonUnreadable, fmt.Sprintf("%d works stay, although no placement chooses their clusters: not all placements are settled", len(names))}
		return
	}
	id := removalID(names)
	if budget := max(removeFreely, len(r.works)*removeShare/100); len(names) > budget && r.owner.obj.Annotations[work.AnnotationApprovePrune] != id {
		r.held = &held{ReasonBudgetExceeded, fmt.Sprintf(
			"%d of %d works would be removed, %d may go at once: to go on, annotate this set with %s=%s. Clusters: %s",
			len(names), len(r.works), budget, work.AnnotationApprovePrune, id, some(names))}
		return
	}
	for _, name := range names {
		r.gone = append(r.gone, r.works[name])
	}
}

// removalID names exactly these clusters.
func removalID(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return hex.EncodeToString(sum[:6])
}

func some(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (r *round) write(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(writers)
	for _, w := range r.next {
		g.Go(func() error { return r.put(ctx, w) })
	}
	for _, w := range r.gone {
		g.Go(func() error { return ignoreGone(r.Controller.works.Delete(ctx, w.key.Namespace, w.key.Name)) })
	}
	return g.Wait()
}

// put gives a cluster the newest template.
func (r *round) put(ctx context.Context, w write) error {
	obj := r.owner.obj
	name := WorkName(obj.Namespace, obj.Name)
	if have := r.works[w.cluster]; have != nil {
		if have.deleting {
			return nil // it is made again once it is gone
		}
		name = have.key.Name
	}
	lbls := map[string]string{}
	maps.Copy(lbls, obj.Labels)
	lbls[work.LabelReplicaSet] = obj.Namespace + "." + obj.Name
	lbls[work.LabelPlacement] = w.placement
	since := r.now.UTC().Format(time.RFC3339)
	fill := func(o *work.ManifestWork) error {
		if o.Labels[work.LabelReplicaSet] != lbls[work.LabelReplicaSet] {
			return fmt.Errorf("work %s/%s exists and does not belong to this set: remove or rename it", o.Namespace, o.Name)
		}
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		maps.Copy(o.Labels, lbls)
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[AnnotationSince] = since
		o.Spec = obj.Spec.ManifestWorkTemplate
		return nil
	}
	_, err := r.Controller.works.Update(ctx, w.cluster, name, fill)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	created := &work.ManifestWork{
		TypeMeta:   metav1.TypeMeta{APIVersion: work.Group + "/" + work.Version, Kind: work.Kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: w.cluster, Name: name, Labels: lbls},
	}
	if r.cfg.HasAgent != nil && r.cfg.HasAgent(w.cluster) {
		created.Finalizers = []string{work.Finalizer}
	}
	if err := fill(created); err != nil {
		return err
	}
	if _, err = r.Controller.works.Create(ctx, created); errors.Is(err, store.ErrExists) {
		return nil // its event is on the way
	}
	return err
}

// WorkName is the name of the works of a set: the same on every cluster and at
// every try, and another one for a set of that name in another namespace.
func WorkName(namespace, name string) string {
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	if len(name) > 56 {
		name = name[:56]
	}
	return strings.TrimRight(name, "-.") + "-" + hex.EncodeToString(sum[:3])
}

// finalize removes the works of a set that is being deleted, and lets it go.
func (s *state) finalize(ctx context.Context, k key, obj *work.ManifestWorkReplicaSet) error {
	if !slices.Contains(obj.Finalizers, work.FinalizerReplicaSet) {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(writers)
	for _, w := range s.works[k] {
		if !w.deleting {
			g.Go(func() error { return ignoreGone(s.Controller.works.Delete(ctx, w.key.Namespace, w.key.Name)) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if obj.Spec.CascadeDeletionPolicy == work.CascadeForeground && len(s.works[k]) > 0 {
		return nil // the event of the last one brings us back
	}
	_, err := s.Controller.sets.Update(ctx, k.namespace, k.name, func(o *work.ManifestWorkReplicaSet) error {
		o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == work.FinalizerReplicaSet })
		return nil
	})
	return ignoreGone(err)
}

func (s *state) writeStatus(ctx context.Context, owner *set, change func(*work.ManifestWorkReplicaSetStatus)) error {
	next := owner.obj.Status
	next.Conditions = slices.Clone(next.Conditions)
	change(&next)
	if equality.Semantic.DeepEqual(next, owner.obj.Status) {
		return nil
	}
	_, err := s.Controller.sets.UpdateStatus(ctx, owner.obj.Namespace, owner.obj.Name, func(o *work.ManifestWorkReplicaSet) error {
		change(&o.Status)
		return nil
	})
	return ignoreGone(err)
}

func setCondition(st *work.ManifestWorkReplicaSetStatus, generation int64, t string, ok bool, reason, message string) {
	c := metav1.Condition{Type: t, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: generation}
	if ok {
		c.Status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&st.Conditions, c)
}

func ignoreGone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
