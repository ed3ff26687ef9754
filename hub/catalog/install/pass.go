// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"context"
	"maps"
	"runtime"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/work"
)

// Pass looks at everything that may be out of date, and returns when to look again;
// zero: when something changes.
func (s *state) Pass(ctx context.Context, now time.Time) (next time.Time, _ error) {
	for _, name := range slices.Sorted(maps.Keys(s.recipes)) {
		r := s.recipes[name]
		if r.dirty || !r.again.IsZero() && !now.Before(r.again) {
			r.dirty = false
			again, err := s.cook(ctx, r, now)
			if err != nil && ctx.Err() == nil {
				s.log.Warn("installing an addon by placement failed, will try again", zap.String("addon", name), zap.Error(err))
				again = now.Add(retryAfter)
			}
			r.again = again
		}
		next = earlier(next, r.again)
	}
	due, more := s.due(now)
	if more {
		next = now
	}
	fresh := s.resolveAll(ctx, due)
	touched := s.reopen
	s.reopen = map[string]bool{}
	for _, d := range due {
		s.judge(d)
		touched[d.addon] = true
		if end := d.held(); d.phase == Running && now.Before(end) {
			d.again = earlier(d.again, end)
		}
	}
	passed := s.open(touched, now)
	for d := range passed {
		if !slices.Contains(due, d) {
			due = append(due, d)
		}
	}
	s.serve(ctx, due, passed, fresh, now)
	for name := range s.relabel {
		if err := s.labelCluster(ctx, name); err != nil && ctx.Err() == nil {
			s.log.Warn("labels of a cluster not written, will try again", zap.String("cluster", name), zap.Error(err))
			next = earlier(next, now.Add(retryAfter))
			continue
		}
		delete(s.relabel, name)
	}
	for _, d := range s.dishes {
		next = earlier(next, d.again)
	}
	if len(s.reopen) > 0 {
		next = now
	}
	return next, nil
}

// due are the addons to look at now, those that came first before the others, and
// whether there are more.
func (s *state) due(now time.Time) (due []*dish, more bool) {
	for _, d := range s.dishes {
		if d.dirty || d.stale || !d.again.IsZero() && !now.Before(d.again) {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, inOrder)
	if len(due) > perPass {
		due, more = due[:perPass], true
	}
	for _, d := range due {
		d.dirty, d.again = false, time.Time{}
	}
	return due, more
}

// inOrder puts what was there first before the rest.
func inOrder(a, b *dish) int {
	return cmp.Or(
		a.obj.CreationTimestamp.Compare(b.obj.CreationTimestamp.Time),
		cmp.Compare(a.addon, b.addon), cmp.Compare(a.cluster, b.cluster),
	)
}

// resolveAll brings the targets of these up to date, and returns what those are made
// of.
func (s *state) resolveAll(ctx context.Context, due []*dish) map[*dish]*material {
	fresh := map[*dish]*material{}
	var stale []*dish
	for _, d := range due {
		if d.stale || d.target == nil {
			stale = append(stale, d)
		}
	}
	made := make([]*material, len(stale))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, d := range stale {
		q := s.query(d)
		g.Go(func() error {
			made[i] = s.cfg.Resolver.Resolve(ctx, q)
			return nil
		})
	}
	g.Wait() //nolint:errcheck // the functions return nil
	for i, d := range stale {
		if ctx.Err() != nil {
			return fresh
		}
		s.take(d, made[i])
		fresh[d] = made[i]
	}
	return fresh
}

// query asks for a dish.
func (s *state) query(d *dish) *Query {
	q := &Query{MCA: d.obj, AddOn: d.addon, Cluster: d.cluster}
	if r := s.recipes[d.addon]; r != nil {
		q.CMA = r.obj
		q.Placement = r.strategy(d.cluster)
	}
	return q
}

// take makes a target that of a dish.
func (s *state) take(d *dish, m *material) {
	t := m.target
	s.uses(d, t.inputs)
	if d.target != nil && (!slices.Equal(d.target.requires, t.requires) || !slices.Equal(d.target.namespaces, t.namespaces)) || d.target == nil {
		s.dirtyCluster(d.cluster)
	}
	d.target, d.stale = &t, false
	for _, k := range t.inputs {
		if err := s.watch(k.Resource); err != nil {
			s.log.Warn("configuration is not followed, will try again", zap.Stringer("object", k), zap.Error(err))
			d.stale = true
			d.again = time.Now().Add(retryAfter)
		}
	}
}

// judge says how far a dish is, and what it waits for besides the gate.
func (s *state) judge(d *dish) {
	d.phase, d.note = Blocked, nil
	t := d.target
	switch {
	case d.deleting() || t == nil || t.foreign:
		return
	case t.problem != nil:
		d.note = t.problem
		return
	}
	w := s.works[workKey(d.cluster, deployName(d.addon))]
	switch {
	case w != nil && w.deleting: // it is made again once it is gone
		d.phase = Blocked
		d.note = &Problem{addon.ConditionProgressing, addon.ReasonProgressing, "what ran before is being removed"}
	case w != nil && w.content == t.digest && w.intact:
		d.phase = s.progress(d, w)
	case d.obj.Status.Content != nil && d.obj.Status.Content.Digest == t.digest:
		d.phase = Running
	default:
		if d.note = s.obstacle(d, w); d.note == nil {
			d.phase = Waiting
		}
	}
}

// progress says how far a dish is whose work is as it should be.
func (s *state) progress(d *dish, w *workState) Phase {
	if w.is(work.ConditionApplied, metav1.ConditionFalse) {
		return Settled
	}
	healthy := w.find(work.ConditionHealthy)
	switch {
	case healthy == nil || healthy.Status == metav1.ConditionUnknown:
		return Running
	case healthy.Status == metav1.ConditionTrue:
		if d.target.hook == "" {
			return Settled
		}
		post := s.works[workKey(d.cluster, postInstallName(d.addon))]
		if post == nil || post.hook != d.target.hook {
			return Running
		}
		if done, failure := post.hookState(); !done && failure == "" {
			return Running
		}
		return Settled
	case healthy.Reason == work.ReasonUnhealthy:
		return Settled
	}
	// What was well once and is not for the moment holds nobody up.
	if c := d.obj.Status.Content; c != nil && c.LastKnownGood != nil && c.LastKnownGood.Digest == d.target.digest {
		return Settled
	}
	return Running
}

// open asks the gate, for each of these addons, who may change now.
func (s *state) open(addons map[string]bool, now time.Time) map[*dish]bool {
	passed := map[*dish]bool{}
	for name := range addons {
		r := s.recipes[name]
		if r == nil {
			continue
		}
		var members []Member
		for c, d := range s.byAddon[name] {
			m := Member{Cluster: c, Phase: d.phase, Offline: true}
			if c := s.clusters[c]; c != nil {
				m.Offline, m.Fresh = c.reach != here, c.reach == never
			} else {
				m.Fresh = true
			}
			if d.target == nil && underWay(d.obj) {
				m.Phase = Running // not looked at since the start
			}
			if end := d.held(); m.Phase == Running && !end.IsZero() && !now.Before(end) {
				m.Phase = Settled
			}
			members = append(members, m)
		}
		for _, c := range Next(members, MaxInFlight(r.obj.Annotations)) {
			passed[s.byAddon[name][c]] = true
		}
	}
	return passed
}

// held is until when a dish counts as being on its way, if it is.
func (d *dish) held() time.Time {
	c := d.obj.Status.Content
	if c == nil || c.Since == nil {
		return time.Time{}
	}
	return c.Since.Add(holdFor)
}

// underWay says whether the status speaks of a change that is not through.
func underWay(o *addon.ManagedClusterAddOn) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == addon.ConditionProgressing {
			return c.Status == metav1.ConditionTrue
		}
	}
	return false
}

// serve acts on what was decided.
func (s *state) serve(ctx context.Context, due []*dish, passed map[*dish]bool, fresh map[*dish]*material, now time.Time) {
	slices.SortFunc(due, inOrder)
	var jobs []func() error
	var owners []*dish
	for _, d := range due {
		if ctx.Err() != nil {
			return
		}
		var job func(context.Context) error
		if d.deleting() {
			job = s.remove(ctx, d)
		} else {
			job = s.bring(ctx, d, passed[d], fresh[d])
		}
		if job != nil {
			jobs = append(jobs, func() error { return job(ctx) })
			owners = append(owners, d)
		}
	}
	failed := make([]error, len(jobs))
	var g errgroup.Group
	g.SetLimit(writers)
	for i, job := range jobs {
		g.Go(func() error { failed[i] = job(); return nil })
	}
	g.Wait() //nolint:errcheck // the functions return nil
	for i, err := range failed {
		if err != nil && ctx.Err() == nil {
			d := owners[i]
			s.log.Warn("bringing an addon up to date failed, will try again", zap.String("cluster", d.cluster), zap.String("addon", d.addon), zap.Error(err))
			d.dirty = true
			d.again = now.Add(retryAfter)
			delete(s.given, workKey(d.cluster, deployName(d.addon)))
		}
	}
}
