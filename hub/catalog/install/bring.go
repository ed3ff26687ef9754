// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/work"
)

// bring decides what is to be written for a dish, and returns what writes it; nil:
// nothing is. passed is set when the gate let it through now.
func (s *state) bring(ctx context.Context, d *dish, passed bool, m *material) func(context.Context) error {
	t := d.target
	if t == nil || t.foreign {
		return nil
	}
	admitted := t.problem == nil && d.obj.Status.Content != nil && d.obj.Status.Content.Digest == t.digest
	w := s.works[workKey(d.cluster, deployName(d.addon))]
	var put *installation
	if t.problem == nil && (passed || admitted) && (w == nil || !w.deleting) {
		namespaces, from := s.namespacesFor(ctx, d)
		if w == nil || w.content != t.digest || !w.intact || !slices.Equal(w.namespaces, namespaces) {
			if m = s.remake(ctx, d, m); m == nil {
				return nil // what it is made of changed meanwhile
			}
			put = &installation{m: m, namespaces: namespaces, from: from}
		}
	}
	if put != nil && passed {
		ids := identitiesOf(put.m.rendered)
		if d.note = s.conflict(ctx, d, ids); d.note != nil {
			d.phase, put, passed = Blocked, nil, false
			s.reopen[d.addon] = true
		} else {
			s.given[workKey(d.cluster, deployName(d.addon))] = &written{addOn: d.addon, content: t.digest, objects: ids, namespaces: put.namespaces}
		}
	}
	if passed {
		d.phase = Running
	}
	next := s.statusOf(d, passed)
	status := !sameStatus(next, &d.obj.Status) || !slices.Contains(d.obj.Finalizers, addon.FinalizerRemoval)
	hook := s.hookStep(ctx, d, w, m)
	if !status && put == nil && hook == nil {
		return nil
	}
	obj := d.obj
	return func(ctx context.Context) error {
		// The status first: it is the record of who may change.
		if status {
			fresh, err := s.writeStatus(ctx, obj, next)
			if err != nil || fresh == nil {
				return err
			}
		}
		if put != nil {
			draft, err := put.m.deploy(ctx, s.cfg.Bundles, put.namespaces, put.from)
			if err != nil {
				return err
			}
			if err := s.put(ctx, obj, draft); err != nil {
				return err
			}
		}
		if hook != nil {
			return hook(ctx)
		}
		return nil
	}
}

// installation is a work that is to be written.
type installation struct {
	m          *material
	namespaces []string
	from       string
}

// remake returns what the target of a dish is made of, nil when that is another
// target by now.
func (s *state) remake(ctx context.Context, d *dish, m *material) *material {
	if m == nil {
		m = s.cfg.Resolver.Resolve(ctx, s.query(d))
	}
	if m.problem != nil || m.digest != d.target.digest {
		d.stale, d.again = true, time.Now()
		return nil
	}
	return m
}

// namespacesFor are the Namespaces of a dish that belong into its work: each is in
// the work of one of the addons that share it, and in none if another work has it.
// from are the works that they come from, of addons that are being removed.
func (s *state) namespacesFor(ctx context.Context, d *dish) (names []string, from string) {
	mine := s.works[workKey(d.cluster, deployName(d.addon))]
	var givers []string
	for _, ns := range d.target.namespaces {
		have := mine != nil && slices.Contains(mine.namespaces, ns)
		take := true
		for name, o := range s.byCluster[d.cluster] {
			if o == d {
				continue
			}
			holds, leaving := s.holds(o, ns)
			switch {
			case holds && leaving:
				givers = append(givers, deployName(name))
			case holds && (!have || name < d.addon):
				take = false
			}
		}
		if take && !have {
			// An error is the agent's to find: it refuses what another work has.
			_, owner, _ := s.cfg.Resolver.Taken(ctx, d.cluster, d.addon, map[identity]bool{{Kind: "Namespace", Name: ns}: true})
			take = owner == ""
		}
		if take {
			names = append(names, ns)
		}
	}
	slices.Sort(givers)
	return names, strings.Join(slices.Compact(givers), ",")
}

// holds says whether a Namespace is in the work of a dish, and whether that is on its
// way out.
func (s *state) holds(d *dish, ns string) (holds, leaving bool) {
	k := workKey(d.cluster, deployName(d.addon))
	w := s.works[k]
	if g := s.given[k]; g != nil {
		return slices.Contains(g.namespaces, ns), d.deleting()
	}
	if w == nil || !slices.Contains(w.namespaces, ns) {
		return false, false
	}
	return true, d.deleting() || w.deleting
}

// hookStep is what is to be done about the hooks of a dish, nil for nothing.
func (s *state) hookStep(ctx context.Context, d *dish, w *workState, m *material) func(context.Context) error {
	t := d.target
	drop := func(k store.Key) func(context.Context) error {
		return func(ctx context.Context) error {
			return ignoreGone(s.Controller.works.Delete(ctx, k.Namespace, k.Name))
		}
	}
	if pre := s.works[workKey(d.cluster, preDeleteName(d.addon))]; pre != nil && !pre.deleting {
		return drop(pre.key) // of a removal that was followed by another installation
	}
	k := workKey(d.cluster, postInstallName(d.addon))
	post := s.works[k]
	switch {
	case t.problem != nil:
		return nil
	case post != nil && !post.deleting && post.hook != t.hook && (t.hook == "" || ready(d, w)):
		return drop(k) // and the new one is made when it is gone
	case t.hook == "" || post != nil || !ready(d, w):
		return nil
	}
	if m = s.remake(ctx, d, m); m == nil {
		return nil
	}
	owner := d.obj
	return func(ctx context.Context) error {
		draft, err := hooks(k.Name, m.hook, m.rendered.PostInstall)
		if err != nil {
			return err
		}
		return s.put(ctx, owner, draft)
	}
}

// ready says whether the objects of the target are there and healthy.
func ready(d *dish, w *workState) bool {
	return w != nil && w.content == d.target.digest && w.intact && !w.deleting &&
		w.is(work.ConditionApplied, metav1.ConditionTrue) && w.is(work.ConditionHealthy, metav1.ConditionTrue)
}

// put writes a work as it should be.
func (s *state) put(ctx context.Context, owner *addon.ManagedClusterAddOn, d *draft) error {
	ns := owner.Namespace
	_, err := s.Controller.works.Update(ctx, ns, d.name, func(o *work.ManifestWork) error {
		if o.Labels[addon.LabelAddonName] != owner.Name {
			return fmt.Errorf("work %s/%s exists and does not belong to this addon: remove or rename it", ns, d.name)
		}
		if o.DeletionTimestamp != nil {
			return nil
		}
		generation, before := o.Generation, work.BesideSpec(o.Annotations)
		d.fill(o, owner)
		if work.BesideSpec(o.Annotations) != before {
			// The store counts what changes outside the metadata only.
			o.Generation = generation + 1
		}
		return nil
	})
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	o := &work.ManifestWork{
		TypeMeta:   metav1.TypeMeta{APIVersion: work.Group + "/" + work.Version, Kind: work.Kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: d.name},
	}
	if s.cfg.HasAgent != nil && s.cfg.HasAgent(ns) {
		o.Finalizers = []string{work.Finalizer}
	}
	d.fill(o, owner)
	if _, err = s.Controller.works.Create(ctx, o); errors.Is(err, store.ErrExists) {
		return nil // its event is on the way
	}
	return err
}

// writeStatus returns nil when the object is another one by now.
func (s *state) writeStatus(ctx context.Context, obj *addon.ManagedClusterAddOn, next *addon.ManagedClusterAddOnStatus) (*addon.ManagedClusterAddOn, error) {
	same := false
	fresh, err := s.Controller.dishes.UpdateStatus(ctx, obj.Namespace, obj.Name, func(o *addon.ManagedClusterAddOn) error {
		if same = o.UID == obj.UID; !same {
			return nil
		}
		if o.DeletionTimestamp == nil && !slices.Contains(o.Finalizers, addon.FinalizerRemoval) {
			o.Finalizers = append(o.Finalizers, addon.FinalizerRemoval)
		}
		mergeStatus(&o.Status, next)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && !same {
		return nil, nil
	}
	return fresh, err
}

// written is a work whose event has not come back yet.
type written struct {
	addOn      string
	content    string // digest of the target
	objects    []identity
	namespaces []string
}

// identitiesOf are the objects that an addon wants on a cluster.
func identitiesOf(r *catalog.Rendered) []identity {
	var ids []identity
	for _, o := range r.Objects {
		if isNamespace(o) {
			continue // addons share them
		}
		gvk := o.GroupVersionKind()
		ids = append(ids, identity{gvk.Group, gvk.Kind, o.GetNamespace(), o.GetName()})
	}
	return ids
}
