// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// establishTimeout bounds the wait for the CRDs of a work. What does not make
	// it in time is tried again later.
	establishTimeout = 30 * time.Second
	// servedTimeout bounds the wait for the kind of an established CRD.
	servedTimeout = 10 * time.Second
)

// task is one manifest on its way to the cluster.
type task struct {
	manifest *manifest
	result   *result
	strategy strategy
	awaited  bool // its kind comes from a CRD of the same work, not served yet
	exists   bool // it was on the cluster before
}

// apply brings the content of want to the cluster. What went wrong with one
// manifest is in the item's results; the error is about the item as a whole.
func (e *Engine) apply(ctx context.Context, it *item, want wire.Item) error {
	c, err := e.load(ctx, want.Digest)
	if err != nil {
		return err
	}
	if len(it.results) != len(c.manifests) {
		it.results = make([]result, len(c.manifests))
	}
	tasks, err := e.prepare(ctx, it, c)
	if err != nil {
		return err
	}
	// From here on the disk knows of every object before the cluster does.
	if tasks, err = e.plan(it, want, c, tasks); err != nil {
		return err
	}
	if err := e.send(ctx, tasks); err != nil {
		return err
	}
	for i := range it.results {
		if !it.results[i].report.Applied {
			return nil
		}
	}
	return e.finish(ctx, it, want, c)
}

// prepare finds out what each manifest that is still to be applied is on this
// cluster, and looks at the live object. It returns those that can be applied.
func (e *Engine) prepare(ctx context.Context, it *item, c *content) ([]*task, error) {
	provided := providedKinds(c)
	var tasks []*task
	for i := range c.manifests {
		m, r := &c.manifests[i], &it.results[i]
		if r.report.Applied && !it.state.repair {
			continue
		}
		r.begin(m)
		t := &task{manifest: m, result: r}
		if err := e.recognise(ctx, c, t, provided); err != nil {
			if ctx.Err() != nil || unreachable(err) {
				return nil, apiError(err)
			}
			r.fail(err)
			continue
		}
		tasks = append(tasks, t)
	}
	known := make(map[identity]object, len(it.rec.Inventory))
	for _, o := range it.rec.Inventory {
		known[o.identity()] = o
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	for _, t := range tasks {
		group.Go(func() error {
			err := e.examine(gctx, t, known)
			if err != nil && !unreachable(err) {
				t.result.fail(err)
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, apiError(err)
	}
	ready := tasks[:0]
	for _, t := range tasks {
		if t.result.report.ApplyMessage == "" {
			ready = append(ready, t)
		}
	}
	return ready, nil
}

// recognise resolves the kind of a manifest and everything that follows from it.
func (e *Engine) recognise(ctx context.Context, c *content, t *task, provided map[schema.GroupVersionKind]kind) error {
	m, r := t.manifest, t.result
	if m.problem != "" {
		return &manifestError{m.problem}
	}
	k, err := e.cluster.resolve(ctx, m.gvk)
	var unknown *noMatchError
	if promised, ok := provided[m.gvk]; ok && errors.As(err, &unknown) {
		k, err, t.awaited = promised, nil, true
	}
	if err != nil {
		return err
	}
	if err := settle(m, k); err != nil {
		return err
	}
	if t.strategy, err = strategyFor(c.configs, m.id, k.resource); err != nil {
		return &manifestError{err.Error()}
	}
	r.managed = t.strategy.kind != work.StrategyReadOnly
	r.name(m, k.resource)
	return nil
}

// settle checks the namespace of a manifest against the scope of its kind.
func settle(m *manifest, k kind) error {
	switch {
	case k.namespaced && m.id.Namespace == "":
		return &manifestError{fmt.Sprintf("metadata.namespace is missing: a %s lives in a namespace", m.id.Kind)}
	case !k.namespaced && m.id.Namespace != "":
		m.id.Namespace = ""
		unstructured.RemoveNestedField(m.object.Object, "metadata", "namespace")
	}
	return nil
}

// examine looks at the live object, so that the plan knows whether it would be
// created, kept or taken over.
func (e *Engine) examine(ctx context.Context, t *task, known map[identity]object) error {
	if t.awaited {
		return nil
	}
	o := &t.result.obj
	live, err := e.cluster.observe(ctx, *o)
	if err != nil || live == nil {
		return err
	}
	before, held := known[o.identity()]
	t.exists = true
	o.UID = live.uid
	o.Adopted = !live.ours
	if held && before.UID == live.uid {
		o.Adopted = before.Adopted
	}
	return nil
}

// plan claims the objects and writes down the union of what the item has and
// what it is about to have. It returns the tasks that no other item's claim stops.
func (e *Engine) plan(it *item, want wire.Item, c *content, tasks []*task) ([]*task, error) {
	var ids []identity
	for _, t := range tasks {
		if t.result.managed {
			ids = append(ids, t.manifest.id)
		}
	}
	refused, err := e.claim(want.UID, ids)
	if err != nil {
		return nil, err
	}
	var free []*task
	var planned []object
	for _, t := range tasks {
		if owner, taken := refused[t.manifest.id]; taken && t.result.managed {
			t.result.refused = true
			t.result.fail(&manifestError{fmt.Sprintf("%s belongs to work %q already, so work %q may not apply it: "+
				"remove it from one of the two", t.manifest.id, owner, want.Name)})
			continue
		}
		free = append(free, t)
		if t.result.managed {
			planned = append(planned, t.result.obj)
		}
	}
	rec := it.rec
	rec.Name, rec.UID, rec.Generation = want.Name, want.UID, want.Generation
	rec.Deleted = false
	if rec.Digest != want.Digest {
		rec.Complete, rec.Manifests = false, nil
	}
	rec.Digest, rec.Delete, rec.DeleteDigest = want.Digest, c.delete, want.Digest
	rec.Inventory = unite(rec.Inventory, planned)
	if reflect.DeepEqual(rec, it.rec) {
		return free, nil
	}
	return free, e.save(it, rec)
}

// send applies the tasks class by class. The error is about the API server, not
// about a manifest.
func (e *Engine) send(ctx context.Context, tasks []*task) error {
	for class := range classOther + 1 {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(parallelRequests)
		for _, t := range tasks {
			if t.manifest.class() != class {
				continue
			}
			group.Go(func() error {
				err := e.applyOne(gctx, t)
				if err != nil && (gctx.Err() != nil || unreachable(err)) {
					return err
				}
				if err != nil {
					t.result.fail(err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return apiError(err)
		}
		if class == classFoundation {
			if err := e.establish(ctx, tasks); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) applyOne(ctx context.Context, t *task) error {
	r := t.result
	if t.awaited {
		if _, err := e.cluster.resolve(ctx, t.manifest.gvk); err != nil {
			return err
		}
	}
	if t.strategy.kind == work.StrategyReadOnly || (t.strategy.kind == work.StrategyCreateOnly && t.exists) {
		r.report.Applied = true
		return nil
	}
	live, err := e.cluster.apply(ctx, r.obj, t.manifest.object, t.strategy.force || t.strategy.kind == work.StrategyCreateOnly)
	if err != nil {
		return err
	}
	if uid := string(live.GetUID()); uid != r.obj.UID {
		r.obj.UID, r.obj.Adopted = uid, false
	}
	r.report.Applied = true
	r.see(live)
	return nil
}

// establish waits until the CRDs among the tasks are served, and the kinds that
// other tasks await with them. Giving up is no error: those tasks fail by themselves.
func (e *Engine) establish(ctx context.Context, tasks []*task) error {
	deadline := time.Now().Add(establishTimeout)
	for _, t := range tasks {
		if t.manifest.id.Kind != kindCRD || t.manifest.id.Group != groupExtensions || !t.result.report.Applied {
			continue
		}
		for t.result.report.Health != wire.HealthCurrent && time.Now().Before(deadline) {
			if err := pause(ctx, pollFirst); err != nil {
				return err
			}
			live, err := e.cluster.get(ctx, t.result.obj)
			if err != nil {
				break
			}
			t.result.see(live)
		}
		for gvk := range kindsOf(t.manifest.object) {
			e.cluster.forgetKinds(gvk.GroupVersion())
		}
	}
	deadline = time.Now().Add(servedTimeout)
	for _, t := range tasks {
		for t.awaited && time.Now().Before(deadline) {
			var unknown *noMatchError
			if _, err := e.cluster.resolve(ctx, t.manifest.gvk); !errors.As(err, &unknown) {
				break
			}
			if err := pause(ctx, pollFirst); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish prunes what the content no longer names and writes the final record.
// Every manifest was applied.
func (e *Engine) finish(ctx context.Context, it *item, want wire.Item, c *content) error {
	var named, inventory []object
	for i := range it.results {
		named = append(named, it.results[i].obj)
		if it.results[i].managed {
			inventory = append(inventory, it.results[i].obj)
		}
	}
	if err := e.prune(ctx, want, dropped(it.rec.Inventory, named), c.delete); err != nil {
		return err
	}
	rec := it.rec
	rec.Complete, rec.Inventory, rec.Manifests = true, unite(nil, inventory), nil
	for i := range it.results {
		m := it.results[i].report
		m.Health, m.HealthMessage, m.Available, m.AvailableMessage = "", "", false, ""
		rec.Manifests = append(rec.Manifests, m)
	}
	if !reflect.DeepEqual(rec, it.rec) {
		if err := e.save(it, rec); err != nil {
			return err
		}
	}
	e.disown(want.UID, rec.Inventory)
	return nil
}

// begin forgets an earlier outcome.
func (r *result) begin(m *manifest) {
	*r = result{report: wire.ManifestReport{Ordinal: m.ordinal, AvailableMessage: "not applied"}}
	r.name(m, "")
}

// name writes down what the manifest is on the cluster.
func (r *result) name(m *manifest, resource string) {
	r.report.Group, r.report.Version, r.report.Kind = m.gvk.Group, m.gvk.Version, m.gvk.Kind
	r.report.Resource, r.report.Namespace, r.report.Name = resource, m.id.Namespace, m.id.Name
	r.obj.Group, r.obj.Version, r.obj.Kind = m.gvk.Group, m.gvk.Version, m.gvk.Kind
	r.obj.Resource, r.obj.Namespace, r.obj.Name = resource, m.id.Namespace, m.id.Name
}

func (r *result) fail(err error) {
	r.report.Applied = false
	r.report.ApplyMessage = err.Error()
	if apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict) {
		r.report.ApplyMessage += " (updateStrategy ServerSideApply with force: true takes the fields over)"
	}
	var own *manifestError
	r.lasting = permanent(err) || (errors.As(err, &own) && !r.refused)
}

// manifestError is found by the engine, not by the API server.
type manifestError struct{ message string }

func (e *manifestError) Error() string { return e.message }

func apiError(err error) error {
	if unreachable(err) {
		return fmt.Errorf("the kube-apiserver does not answer: %w", err)
	}
	return err
}

// providedKinds are the kinds that the CRDs among the manifests define.
func providedKinds(c *content) map[schema.GroupVersionKind]kind {
	provided := make(map[schema.GroupVersionKind]kind)
	for i := range c.manifests {
		m := &c.manifests[i]
		if m.problem == "" && m.id.Kind == kindCRD && m.id.Group == groupExtensions {
			maps.Copy(provided, kindsOf(m.object))
		}
	}
	return provided
}

func kindsOf(crd *unstructured.Unstructured) map[schema.GroupVersionKind]kind {
	var body struct {
		Spec struct {
			Group    string                        `json:"group"`
			Scope    string                        `json:"scope"`
			Names    struct{ Kind, Plural string } `json:"names"`
			Versions []struct{ Name string }       `json:"versions"`
		} `json:"spec"`
	}
	kinds := make(map[schema.GroupVersionKind]kind)
	raw, err := json.Marshal(map[string]any{"spec": crd.Object["spec"]})
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return kinds
	}
	for _, v := range body.Spec.Versions {
		gvk := schema.GroupVersionKind{Group: body.Spec.Group, Version: v.Name, Kind: body.Spec.Names.Kind}
		kinds[gvk] = kind{resource: body.Spec.Names.Plural, namespaced: body.Spec.Scope == "Namespaced"}
	}
	return kinds
}
