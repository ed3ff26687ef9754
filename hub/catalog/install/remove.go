// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// remove decides the next step of a removal, and returns what carries it out: first
// the addons go that need this one, then its hooks run, then its objects go, the
// works with them, and at last the ManagedClusterAddOn.
func (s *state) remove(ctx context.Context, d *dish) func(context.Context) error {
	if !slices.Contains(d.obj.Finalizers, addon.FinalizerRemoval) {
		return nil
	}
	step := s.removalStep(ctx, d)
	next := s.removalStatus(d, step)
	status := !sameStatus(next, &d.obj.Status)
	obj := d.obj
	if !status && step.do == nil && !step.done {
		return nil
	}
	return func(ctx context.Context) error {
		if step.done {
			_, err := s.Controller.dishes.Update(ctx, obj.Namespace, obj.Name, func(o *addon.ManagedClusterAddOn) error {
				if o.UID == obj.UID {
					o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == addon.FinalizerRemoval })
				}
				return nil
			})
			return ignoreGone(err)
		}
		if status {
			if _, err := s.writeStatus(ctx, obj, next); err != nil {
				return err
			}
		}
		if step.do != nil {
			return step.do(ctx)
		}
		return nil
	}
}

// step is one step of a removal.
type step struct {
	message string
	reason  string // of Progressing, Deleting when empty
	hook    string // why a hook failed
	done    bool
	do      func(context.Context) error // nil: wait
}

func (s *state) removalStep(ctx context.Context, d *dish) step {
	own := map[string]*workState{}
	for _, name := range []string{deployName(d.addon), postInstallName(d.addon), preDeleteName(d.addon)} {
		k := workKey(d.cluster, name)
		if s.given[k] != nil {
			d.again = time.Now().Add(gather)
			return step{message: "its works are being written"}
		}
		if w := s.works[k]; w != nil {
			own[name] = w
		}
	}
	if len(own) == 0 {
		return step{done: true}
	}
	if wait := s.dependents(d); wait != nil {
		return *wait
	}
	deploy := own[deployName(d.addon)]
	if deploy != nil && !deploy.deleting {
		if wait := s.heir(ctx, d, deploy); wait != nil {
			return *wait
		}
		if wait := s.preDelete(d, deploy, own[preDeleteName(d.addon)]); wait != nil {
			return *wait
		}
	}
	return s.dropWorks(d, own)
}

// dependents is set while other addons of the cluster need this one.
func (s *state) dependents(d *dish) *step {
	var staying, going []string
	for name, o := range s.byCluster[d.cluster] {
		switch {
		case o == d:
		case o.target == nil: // not looked at since the start
			d.again = time.Now().Add(gather)
			return &step{message: "the other addons of the cluster are being looked at"}
		case !o.target.needs(d.addon):
		case o.deleting():
			going = append(going, name)
		case s.works[workKey(d.cluster, deployName(name))] != nil:
			staying = append(staying, name)
		}
	}
	slices.Sort(staying)
	slices.Sort(going)
	switch {
	case len(staying) > 0:
		return &step{reason: addon.ReasonWaitingForDependents, message: fmt.Sprintf(
			"%s on this cluster needs it: remove that too, or take this removal back by removing the dependency", strings.Join(staying, ", "))}
	case len(going) > 0:
		return &step{reason: addon.ReasonWaitingForDependents, message: strings.Join(going, ", ") + ", which needs it, is removed first"}
	}
	return nil
}

// heir is set while another addon lives in a Namespace that the work has, and has
// not taken that over: with the Namespace all that is in it would go.
func (s *state) heir(ctx context.Context, d *dish, deploy *workState) *step {
	for _, ns := range deploy.namespaces {
		for _, name := range slices.Sorted(maps.Keys(s.byCluster[d.cluster])) {
			o := s.byCluster[d.cluster][name]
			w := s.works[workKey(d.cluster, deployName(name))]
			if o == d || o.deleting() || w == nil || w.deleting || !s.livesIn(ctx, o, ns) {
				continue
			}
			if slices.Contains(w.namespaces, ns) && w.is(work.ConditionApplied, metav1.ConditionTrue) {
				break
			}
			o.dirty = true
			d.again = time.Now().Add(retryAfter)
			message := fmt.Sprintf("namespace %s is handed over to addon %s, which is there too", ns, name)
			if o.target != nil && o.target.problem == nil && !slices.Contains(o.target.namespaces, ns) {
				message = fmt.Sprintf("addon %s has objects in namespace %s, which would go with this one: remove it first, or have it bring the namespace, too", name, ns)
			}
			if o.note != nil {
				message += "; that waits: " + o.note.Message
			}
			return &step{message: message}
		}
	}
	return nil
}

// livesIn says whether an addon has objects in a namespace, or should have; what
// cannot be read may.
func (s *state) livesIn(ctx context.Context, o *dish, ns string) bool {
	if o.target != nil && slices.Contains(o.target.namespaces, ns) {
		return true
	}
	e, ok := s.store.Cached(workKey(o.cluster, deployName(o.addon)))
	if !ok {
		return false
	}
	ids, err := s.cfg.Resolver.names.of(ctx, s.cfg.Bundles, e)
	return err != nil || slices.ContainsFunc(ids, func(id identity) bool { return id.Namespace == ns })
}

// preDelete runs the hooks that the objects were given with; nil when they are
// through or there is nobody to run them.
func (s *state) preDelete(d *dish, deploy, pre *workState) *step {
	if deploy.preDelete == "" || s.clusters[d.cluster] == nil || s.cfg.HasAgent == nil || !s.cfg.HasAgent(d.cluster) {
		return nil
	}
	if len(deploy.conditions) == 0 {
		return nil // nothing of it ever reached the cluster
	}
	if pre == nil {
		owner, text := d.obj, deploy.preDelete
		return &step{message: "the hooks that run before removal are started", do: func(ctx context.Context) error {
			var objects []*unstructured.Unstructured
			if err := json.Unmarshal([]byte(text), &objects); err != nil {
				return fmt.Errorf("read the hooks of work %s: %w", deploy.key, err)
			}
			draft, err := hooks(preDeleteName(owner.Name), digestBytes([]byte(text)), objects)
			if err != nil {
				return err
			}
			return s.put(ctx, owner, draft)
		}}
	}
	done, failure := pre.hookState()
	switch {
	case done:
		return nil
	case failure != "":
		return &step{hook: failure, message: fmt.Sprintf(
			"a hook that runs before removal failed, and nothing was removed: %s. To run it again, delete work %s; to remove without it, delete work %s",
			failure, pre.key.Name, deploy.key.Name)}
	}
	return &step{message: "the hooks that run before removal run"}
}

// dropWorks removes the works, that of the hooks before removal last.
func (s *state) dropWorks(d *dish, own map[string]*workState) step {
	var do []func(context.Context) error
	message := "its objects are being removed"
	for _, name := range []string{postInstallName(d.addon), deployName(d.addon), preDeleteName(d.addon)} {
		w := own[name]
		if w == nil || name == preDeleteName(d.addon) && len(own) > 1 {
			continue
		}
		k := w.key
		if !w.deleting {
			do = append(do, func(ctx context.Context) error {
				return ignoreGone(s.Controller.works.Delete(ctx, k.Namespace, k.Name))
			})
			continue
		}
		if w.remaining != "" {
			message = "its objects are being removed; " + w.remaining + " is still there"
		}
		if w.plan != "" {
			message = fmt.Sprintf("protected objects are never removed without a word. To see and approve: drover work approve-prune %s %s", k.Namespace, k.Name)
		}
		// Removing the addon is the word that kinds such as namespaces wait for, but
		// not for what the version protects.
		if !w.unguarded && !w.protected {
			do = append(do, func(ctx context.Context) error {
				_, err := s.Controller.works.Update(ctx, k.Namespace, k.Name, func(o *work.ManifestWork) error {
					if o.DeletionTimestamp == nil {
						return nil
					}
					if o.Annotations == nil {
						o.Annotations = map[string]string{}
					}
					o.Annotations[work.AnnotationPrune] = wire.PruneUnguarded
					return nil
				})
				return ignoreGone(err)
			})
		}
	}
	if c := s.clusters[d.cluster]; c != nil && c.reach == away {
		message = "the cluster cannot be reached: " + message + " when it is back"
	}
	st := step{message: message}
	if len(do) > 0 {
		st.do = func(ctx context.Context) error {
			for _, f := range do {
				if err := f(ctx); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return st
}
