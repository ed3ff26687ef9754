// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	retryAfter = time.Second
	// resourceDefinitions are the kinds that users have added.
	resourceDefinitions = "customresourcedefinitions." + apiextensionsv1.GroupName
	// maxKinds bounds the kinds of users that are followed.
	maxKinds = 256
)

// Recorder records every content of the objects that configure addons, whoever
// wrote it, and removes revisions that nothing needs. Of the kinds that users have
// added only the objects count that an addon names; the hub's own kinds that do not
// configure addons never do, whoever names them.
type Recorder struct {
	history *History
	log     *zap.Logger
	crowded chan struct{} // an object has many revisions
}

// NewRecorder returns a recorder; it acts while Run runs. A hub runs one.
func NewRecorder(h *History, log *zap.Logger) *Recorder {
	if log == nil {
		log = zap.NewNop()
	}
	return &Recorder{history: h, log: log, crowded: make(chan struct{}, 1)}
}

// Run records until ctx ends. After an error it looks at everything anew.
func (r *Recorder) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.collect(ctx) })
	for ctx.Err() == nil {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		r.log.Warn("recording configurations failed, starting over", zap.Error(err))
		daemon.Sleep(ctx, retryAfter)
	}
	return ctx.Err()
}

func own() []addon.ConfigGroupResource {
	return []addon.ConfigGroupResource{config.VersionKind(), config.ValuesKind(), config.DeploymentKind(), config.TemplateKind()}
}

func resourceOf(kind addon.ConfigGroupResource) string { return kind.Resource + "." + kind.Group }

// follower is one run of follow. All but watch happens in one goroutine.
type follower struct {
	*Recorder
	wg     sync.WaitGroup
	events chan event
	cancel context.CancelCauseFunc

	kinds map[string]addon.ConfigGroupResource // that are watched, by resource
	named map[addon.Config]bool                // objects of users' kinds
}

type event struct {
	resource string
	store.Event
}

// follow watches and records until something fails.
func (r *Recorder) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &follower{
		Recorder: r, events: make(chan event), cancel: cancel,
		kinds: map[string]addon.ConfigGroupResource{}, named: map[addon.Config]bool{},
	}
	defer f.wg.Wait()
	defer cancel(nil)
	for _, kind := range own() {
		f.kinds[resourceOf(kind)] = kind
		if err := f.watch(ctx, resourceOf(kind)); err != nil {
			return err
		}
	}
	for _, resource := range []string{addon.ResourceClusterManagementAddOns, addon.ResourceManagedClusterAddOns, resourceDefinitions} {
		if err := f.watch(ctx, resource); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case ev := <-f.events:
			if err := f.handle(ctx, ev); err != nil {
				return err
			}
		}
	}
}

func (f *follower) watch(ctx context.Context, resource string) error {
	w, err := f.history.store.Watch(ctx, store.WatchSelection{Resource: resource})
	if err != nil {
		return err
	}
	f.wg.Go(func() {
		defer w.Stop()
		for {
			ev, err := w.Next(ctx)
			if err != nil {
				f.cancel(fmt.Errorf("watch %s: %w", resource, err))
				return
			}
			if ev.Type != store.Added && ev.Type != store.Modified {
				continue
			}
			select {
			case f.events <- event{resource, ev}:
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

func (f *follower) handle(ctx context.Context, ev event) error {
	key := ev.Entry.Key
	switch ev.resource {
	case addon.ResourceClusterManagementAddOns, addon.ResourceManagedClusterAddOns:
		return f.names(ctx, ev.Entry)
	case resourceDefinitions:
		for ref := range f.named {
			if resourceOf(ref.ConfigGroupResource) == key.Name {
				if err := f.name(ctx, ref); err != nil {
					return err
				}
			}
		}
		return nil
	}
	ref := addon.Config{
		ConfigGroupResource: f.kinds[ev.resource],
		ConfigReferent:      addon.ConfigReferent{Namespace: key.Namespace, Name: key.Name},
	}
	if !isOwn(ref.ConfigGroupResource) && !f.named[ref] {
		return nil
	}
	return f.record(ctx, ref, ev.Entry)
}

func isOwn(kind addon.ConfigGroupResource) bool {
	for _, k := range own() {
		if k == kind {
			return true
		}
	}
	return false
}

// names takes note of the objects that an addon names.
func (f *follower) names(ctx context.Context, e store.Entry) error {
	var obj struct {
		Spec struct {
			Configs         []addon.Config        `json:"configs"`
			DefaultConfigs  []addon.Config        `json:"defaultConfigs"`
			InstallStrategy addon.InstallStrategy `json:"installStrategy"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(e.Data, &obj); err != nil {
		f.log.Warn("addon cannot be read", zap.Stringer("object", e.Key), zap.Error(err))
		return nil
	}
	lists := [][]addon.Config{obj.Spec.Configs, obj.Spec.DefaultConfigs}
	for _, p := range obj.Spec.InstallStrategy.Placements {
		lists = append(lists, p.Configs)
	}
	for _, list := range lists {
		for _, ref := range list {
			if isOwn(ref.ConfigGroupResource) || f.named[ref] {
				continue
			}
			f.named[ref] = true
			if err := f.name(ctx, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// name follows the kind of an object of which users have added the kind, and
// records what is there.
func (f *follower) name(ctx context.Context, ref addon.Config) error {
	resource := resourceOf(ref.ConfigGroupResource)
	if _, ok := f.history.store.Cached(store.Key{Resource: resourceDefinitions, Name: resource}); !ok {
		return nil // not yet, or a kind of the hub
	}
	if _, ok := f.kinds[resource]; !ok {
		if len(f.kinds) >= maxKinds {
			f.log.Warn("too many kinds of configuration, revisions of this one are not kept", zap.String("kind", resource))
			return nil
		}
		f.kinds[resource] = ref.ConfigGroupResource
		if err := f.watch(ctx, resource); err != nil {
			return err
		}
	}
	e, ok := f.history.store.Cached(store.Key{Resource: resource, Namespace: ref.Namespace, Name: ref.Name})
	if !ok {
		return nil
	}
	return f.record(ctx, ref, e)
}

func (f *follower) record(ctx context.Context, ref addon.Config, e store.Entry) error {
	var obj map[string]any
	if err := kjson.Unmarshal(e.Data, &obj); err != nil {
		f.log.Warn("configuration cannot be read", zap.Stringer("object", e.Key), zap.Error(err))
		return nil
	}
	r, err := f.history.Record(ctx, ref, obj, "")
	if errors.Is(err, store.ErrTooLarge) {
		f.log.Warn("configuration is too large to keep revisions of", zap.Stringer("object", e.Key))
		return nil
	}
	if err == nil && r.Spec.Revision%keep == 0 {
		select {
		case f.crowded <- struct{}{}:
		default:
		}
	}
	return err
}
