// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// establishTimeout bounds the wait for the CRDs of a work. What does not make it
	// in time is tried again later.
	establishTimeout = 30 * time.Second
	// servedTimeout bounds the wait for an APIService, and for the kind of an
	// established CRD.
	servedTimeout = 10 * time.Second
)

// send applies the tasks wave by wave. A wave waits until all manifests of the
// lower ones are applied and Current; waiting is not done here. The error is
// about the API server, not about a manifest.
func (e *Engine) send(ctx context.Context, it *item, tasks []*task) error {
	byWave := make(map[int][]*task)
	for _, t := range tasks {
		byWave[t.manifest.Wave] = append(byWave[t.manifest.Wave], t)
	}
	waves := make([]int, 0, len(byWave))
	for wave := range byWave {
		waves = append(waves, wave)
	}
	slices.Sort(waves)
	for _, wave := range waves {
		if reason := waitsFor(it.results, wave); reason != "" {
			for _, t := range byWave[wave] {
				if t.result.redo { // it is there already: this is a repair
					continue
				}
				t.result.fail(&manifest.Error{Reason: wire.ApplyWaiting, Message: reason})
				t.result.waiting, t.result.lasting = true, false
			}
			byWave[wave] = slices.DeleteFunc(byWave[wave], func(t *task) bool { return t.result.waiting })
		}
		if err := e.sendWave(ctx, it, byWave[wave]); err != nil {
			return err
		}
	}
	return nil
}

// sendWave applies tasks class by class.
func (e *Engine) sendWave(ctx context.Context, it *item, tasks []*task) error {
	for class := range manifest.ClassOther + 1 {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(parallelRequests)
		for _, t := range tasks {
			if t.manifest.ID.Class() != class {
				continue
			}
			group.Go(func() error { return t.note(gctx, e.applyOne(gctx, it, t)) })
		}
		if err := group.Wait(); err != nil {
			return apiError(err)
		}
		if class == manifest.ClassFoundation || class == manifest.ClassAdmission {
			if err := e.establish(ctx, tasks, class); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitsFor says what of the lower waves is not ready; empty for nothing.
func waitsFor(results []result, wave int) string {
	const named = 3
	first, left := 0, 0
	var names []string
	for i := range results {
		r := &results[i]
		if r.obj.Wave >= wave || (r.report.Applied && r.report.Health == wire.HealthCurrent) {
			continue
		}
		if left++; left == 1 || r.obj.Wave < first {
			first = r.obj.Wave
		}
		state := r.report.Health
		if !r.report.Applied {
			state = "not applied"
		} else if state == "" {
			state = wire.HealthUnknown
		}
		if len(names) < named {
			names = append(names, fmt.Sprintf("%s (%s)", r.obj.identity(), state))
		}
	}
	if left == 0 {
		return ""
	}
	more := ""
	if left > named {
		more = fmt.Sprintf(" and %d more", left-named)
	}
	return fmt.Sprintf("waits for wave %d: %s%s", first, strings.Join(names, ", "), more)
}

// establish waits until the CRDs and APIServices among the tasks of a class are
// served, and the kinds that other tasks await with them. Giving up is no error:
// those tasks fail by themselves.
func (e *Engine) establish(ctx context.Context, tasks []*task, class manifest.Class) error {
	served := false
	for _, t := range tasks {
		m := t.manifest
		if m.ID.Class() != class || !t.result.report.Applied || (m.Defines == nil && m.Serves.Empty()) {
			continue
		}
		awaited := m.Defines != nil || slices.ContainsFunc(tasks, func(o *task) bool { return o.awaited && o.manifest.GVK.GroupVersion() == m.Serves })
		if awaited {
			if err := e.awaitServed(ctx, t); err != nil {
				return err
			}
		}
		for gvk := range m.Defines {
			e.cluster.forgetKinds(gvk.GroupVersion())
		}
		if !m.Serves.Empty() {
			e.cluster.forgetKinds(m.Serves)
		}
		served = true
	}
	if !served {
		return nil
	}
	if err := e.awaitKinds(ctx, tasks, class); err != nil {
		return err
	}
	e.kindsChanged()
	return nil
}

// awaitServed waits until a CRD or APIService says that it is served.
func (e *Engine) awaitServed(ctx context.Context, t *task) error {
	condition, wait := "Established", establishTimeout
	if t.manifest.Defines == nil {
		condition, wait = "Available", servedTimeout // its server may be of a later class
	}
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		live, err := e.cluster.get(ctx, t.result.obj)
		if err != nil {
			return nil // the next attempt sees what is wrong
		}
		e.see(t.result, live)
		if conditionTrue(live, condition) {
			return nil
		}
		if err := pause(ctx, pollFirst); err != nil {
			return err
		}
	}
	return nil
}

func conditionTrue(live *unstructured.Unstructured, name string) bool {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == name && m["status"] == "True"
	})
}

// awaitKinds waits until discovery knows the kinds that tasks await.
func (e *Engine) awaitKinds(ctx context.Context, tasks []*task, class manifest.Class) error {
	provided := make(map[schema.GroupVersion]bool)
	for _, t := range tasks {
		if t.manifest.ID.Class() != class {
			continue
		}
		for gvk := range t.manifest.Defines {
			provided[gvk.GroupVersion()] = true
		}
		provided[t.manifest.Serves] = true
	}
	deadline := time.Now().Add(servedTimeout)
	for _, t := range tasks {
		for t.awaited && provided[t.manifest.GVK.GroupVersion()] && time.Now().Before(deadline) {
			var unknown *noMatchError
			if _, err := e.cluster.resolve(ctx, t.manifest.GVK); err == nil || !errors.As(err, &unknown) && unreachable(err) {
				break
			}
			if err := pause(ctx, pollFirst); err != nil {
				return err
			}
		}
	}
	return nil
}

// kindsChanged lets items try again that lack a kind.
func (e *Engine) kindsChanged() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, it := range e.items {
		if it.unserved {
			e.retry(it)
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
