// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// prune deletes what the item had and its new content no longer names. It does
// not wait until the objects are gone.
func (e *Engine) prune(ctx context.Context, want wire.Item, objects []object, option work.DeleteOption) error {
	if len(objects) == 0 {
		return nil
	}
	elsewhere := e.claims(ctx, want.UID, objects)
	var errs []error
	for _, o := range slices.Backward(objects) {
		if _, _, err := e.giveUp(ctx, o, option, elsewhere[o.identity()]); err != nil {
			if ctx.Err() != nil || unreachable(err) {
				return apiError(err)
			}
			errs = append(errs, fmt.Errorf("prune %s: %w", o.identity(), err))
		}
	}
	return joinFirst(errs)
}

// remove takes the item's objects off the cluster, the last class first, and
// each class only when the one before is gone: controllers outlive the objects
// whose finalizers they serve.
func (e *Engine) remove(ctx context.Context, log *zap.Logger, it *item, want wire.Item) wire.Report {
	report := wire.Report{Name: want.Name, UID: want.UID, Generation: want.Generation, Digest: want.Digest}
	s := &it.state
	if s.digest != "" || it.results != nil {
		it.results, *s = nil, progress{}
	}
	if it.rec.Deleted {
		report.Deleted = true
		return report
	}
	before := len(it.rec.Inventory)
	err := e.prepareRemoval(ctx, it, want)
	var left []wire.ManifestReport
	if err == nil {
		left, err = e.removeStep(ctx, it, want)
	}
	if ctx.Err() != nil {
		return report
	}
	if err == nil && len(it.rec.Inventory) == 0 {
		rec := it.rec
		rec.Complete, rec.Manifests, rec.Deleted = false, nil, true
		if err = e.save(it, rec); err == nil {
			e.disown(want.UID, nil)
			log.Info("work removed")
			*s = progress{}
			report.Deleted = true
			return report
		}
	}
	now := time.Now()
	report.Manifests = left
	if err != nil {
		report.Error = err.Error()
		s.failures++
		s.applyAt = now.Add(jitter(retryDelay(s.failures, permanent(err))))
		log.Warn("work not removed yet", zap.Error(err))
		return fit(report)
	}
	s.failures = 0
	if len(it.rec.Inventory) < before {
		s.interval = 0
	}
	s.interval = nextInterval(s.interval, false)
	s.applyAt = now.Add(s.interval)
	return fit(report)
}

// prepareRemoval makes sure that the record has the delete option of the
// content the tombstone names: the operator may have changed it last. Without
// any record (the state dir was lost, or nothing was ever applied) the content
// also says which objects to look for.
func (e *Engine) prepareRemoval(ctx context.Context, it *item, want wire.Item) error {
	rec := it.rec
	unknown := rec.UID == ""
	if !unknown && !rec.Complete && (want.Digest == "" || rec.DeleteDigest == want.Digest) {
		return nil
	}
	rec.Name, rec.UID, rec.Generation, rec.Complete = want.Name, want.UID, want.Generation, false
	if want.Digest != "" && (unknown || rec.DeleteDigest != want.Digest) {
		c, err := e.load(ctx, want.Digest)
		if err != nil {
			return err
		}
		rec.Delete, rec.DeleteDigest = c.delete, want.Digest
		if unknown {
			rec.Digest = want.Digest
			rec.Inventory = e.unowned(want.UID, c)
		}
	}
	return e.save(it, rec)
}

// unowned lists the objects that the content names and no item owns.
func (e *Engine) unowned(uid string, c *content) []object {
	e.mu.Lock()
	defer e.mu.Unlock()
	var objects []object
	for i := range c.manifests {
		m := &c.manifests[i]
		if owner := e.owners[m.id]; m.problem != "" || (owner != "" && owner != uid) {
			continue
		}
		objects = append(objects, object{
			Group: m.gvk.Group, Version: m.gvk.Version, Kind: m.gvk.Kind, Namespace: m.id.Namespace, Name: m.id.Name,
		})
	}
	return unite(nil, objects)
}

// removeStep works on the last class of the inventory and drops from it what is
// gone or released. It returns what is left of the class.
func (e *Engine) removeStep(ctx context.Context, it *item, want wire.Item) ([]wire.ManifestReport, error) {
	elsewhere := e.claimsNow(ctx, it, want)
	var left []wire.ManifestReport
	var errs []error
	inventory := slices.Clone(it.rec.Inventory)
	sortObjects(inventory)
	for len(inventory) > 0 && len(left) == 0 {
		class := inventory[len(inventory)-1].class()
		first := slices.IndexFunc(inventory, func(o object) bool { return o.class() == class })
		var stay []object
		for _, o := range slices.Backward(inventory[first:]) {
			done, live, err := e.giveUp(ctx, o, it.rec.Delete, elsewhere[o.identity()])
			switch {
			case ctx.Err() != nil || (err != nil && unreachable(err)):
				return nil, apiError(err)
			case err != nil:
				errs = append(errs, fmt.Errorf("delete %s: %w", o.identity(), err))
			case done:
				continue
			}
			stay = append(stay, o)
			left = append(left, remaining(len(left), o, live))
		}
		inventory = append(inventory[:first], stay...)
	}
	sortObjects(inventory)
	e.mu.Lock()
	it.rec.Inventory = inventory
	e.mu.Unlock()
	return left, joinFirst(errs)
}

// giveUp removes or releases one object. done says that the item has nothing to
// do with it any more; otherwise it is on its way out.
func (e *Engine) giveUp(ctx context.Context, o object, option work.DeleteOption, owner string) (done bool, live *observation, err error) {
	k, err := e.cluster.resolve(ctx, schema.GroupVersionKind{Group: o.Group, Version: o.Version, Kind: o.Kind})
	switch {
	case gone(err):
		return true, nil, nil
	case err != nil:
		return false, nil, err
	}
	o.Resource = k.resource
	if !k.namespaced {
		o.Namespace = ""
	}
	if live, err = e.cluster.observe(ctx, o); err != nil {
		return false, nil, err
	}
	switch judge(o, live, option, owner) {
	case fateDelete:
		err := e.cluster.delete(ctx, o, live.uid)
		// A conflict means that another object has the name by now: look again.
		if err != nil && !gone(err) && !apierrors.IsConflict(err) {
			return false, live, err
		}
		return false, live, nil
	case fateWait:
		return false, live, nil
	default:
		return true, live, nil
	}
}

func remaining(ordinal int, o object, live *observation) wire.ManifestReport {
	m := wire.ManifestReport{
		Ordinal: ordinal, Group: o.Group, Version: o.Version, Kind: o.Kind,
		Resource: o.Resource, Namespace: o.Namespace, Name: o.Name,
		Applied: true, Available: true, Health: wire.HealthTerminating, HealthMessage: "being deleted",
	}
	if live != nil && len(live.finalizers) > 0 {
		m.HealthMessage = "waits for finalizers: " + strings.Join(live.finalizers, ", ")
	}
	return m
}

// claimsNow is claims for the whole inventory, computed once for each list the
// hub gives.
func (e *Engine) claimsNow(ctx context.Context, it *item, want wire.Item) map[identity]string {
	e.mu.Lock()
	list := e.list
	e.mu.Unlock()
	if s := &it.state; s.claims == nil || s.claimsList != list {
		s.claims, s.claimsList = e.claims(ctx, want.UID, it.rec.Inventory), list
	}
	return it.state.claims
}

// claims returns, for those of the objects that the content of another listed
// item names, the name of that item: they change hands instead of being deleted.
// Content that cannot be read claims nothing.
func (e *Engine) claims(ctx context.Context, uid string, objects []object) map[identity]string {
	asked := make(map[identity]bool, len(objects))
	for _, o := range objects {
		asked[o.identity()] = true
	}
	e.mu.Lock()
	var others []wire.Item
	for other, it := range e.items {
		if other != uid && it.listed && !it.want.Deleting {
			others = append(others, it.want)
		}
	}
	e.mu.Unlock()
	claims := make(map[identity]string)
	for _, other := range others {
		data, err := e.cfg.Content(ctx, other.Digest)
		if err != nil {
			e.cfg.Log.Warn("content of another work not read before removing objects",
				zap.String("work", other.Name), zap.Error(err))
			continue
		}
		for _, id := range identitiesIn(data) {
			if asked[id] {
				claims[id] = other.Name
			}
		}
	}
	return claims
}

// identitiesIn names the objects of content without decoding them whole.
func identitiesIn(data []byte) []identity {
	var spec struct {
		Workload struct {
			Manifests []struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
				Metadata   struct {
					Name      string `json:"name"`
					Namespace string `json:"namespace"`
				} `json:"metadata"`
			} `json:"manifests"`
		} `json:"workload"`
	}
	// A manifest of the wrong shape leaves the others usable.
	_ = json.Unmarshal(data, &spec)
	var ids []identity
	for _, m := range spec.Workload.Manifests {
		if gv, err := schema.ParseGroupVersion(m.APIVersion); err == nil {
			ids = append(ids, identity{Group: gv.Group, Kind: m.Kind, Namespace: m.Metadata.Namespace, Name: m.Metadata.Name})
		}
	}
	return ids
}

// joinFirst is the first error, and how many more there are.
func joinFirst(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return errors.Join(fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1))
}
