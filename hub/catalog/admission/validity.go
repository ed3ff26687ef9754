// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	// settle is how long changes are collected before they are looked at: what comes
	// together is looked at together.
	settle     = 100 * time.Millisecond
	retryAfter = time.Second
	// maxSaid bounds the message of a condition.
	maxSaid = 4096
)

// Validity keeps the condition Valid of AddOnConfigs: the schema that values must
// fit may change after they were admitted.
type Validity struct {
	rules   *Rules
	configs store.Objects[fleet.AddOnConfig, *fleet.AddOnConfig]
	log     *zap.Logger
}

// NewValidity returns what keeps the condition while Run runs. A hub runs one.
func NewValidity(r *Rules, log *zap.Logger) *Validity {
	if log == nil {
		log = zap.NewNop()
	}
	return &Validity{rules: r, configs: store.Of[fleet.AddOnConfig](r.store, fleet.ResourceAddOnConfigs), log: log}
}

// Run acts until ctx ends. After an error it looks at everything anew.
func (v *Validity) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := v.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		v.log.Warn("checking configurations of addons failed, starting over", zap.Error(err))
		daemon.Sleep(ctx, retryAfter)
	}
	return ctx.Err()
}

// use is what one ClusterManagementAddOn or ManagedClusterAddOn says, as JSON: of
// the many of one addon most say the same.
type use string

// said is a use in full.
type said struct {
	count    int
	Versions []versionRef
	Configs  []addon.ConfigReferent
}

// version is what decides whether a version is looked at.
type version struct {
	addOn      string
	generation int64
	isDefault  bool
}

// view is what one run of follow knows. All happens in one goroutine.
type view struct {
	*Validity
	configs  map[store.Key]*fleet.AddOnConfig
	versions map[string]version
	users    map[store.Key]use
	addOns   map[string]map[use]*said
	dirty    map[store.Key]bool
}

type change struct {
	resource string
	store.Event
}

func watched() []string {
	return []string{
		fleet.ResourceAddOnConfigs, fleet.ResourceAddOnVersions, fleet.ResourceConfigRevisions,
		addon.ResourceClusterManagementAddOns, addon.ResourceManagedClusterAddOns,
	}
}

func (v *Validity) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	changes := make(chan change)
	for _, resource := range watched() {
		w, err := v.rules.store.Watch(ctx, store.WatchSelection{Resource: resource})
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
		wg.Go(func() {
			defer w.Stop()
			for {
				ev, err := w.Next(ctx)
				if err != nil {
					cancel(fmt.Errorf("watch %s: %w", resource, err))
					return
				}
				select {
				case changes <- change{resource, ev}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	x := &view{
		Validity: v, configs: map[store.Key]*fleet.AddOnConfig{}, versions: map[string]version{},
		users: map[store.Key]use{}, addOns: map[string]map[use]*said{}, dirty: map[store.Key]bool{},
	}
	missing := len(watched()) // resources of which not all was seen
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case c := <-changes:
			if c.Type == store.Bookmark {
				if c.Initial {
					missing--
				}
			} else if err := x.apply(c); err != nil {
				v.log.Warn("object cannot be read, it is left out", zap.Stringer("object", c.Entry.Key), zap.Error(err))
			}
			if due == nil && missing == 0 && len(x.dirty) > 0 {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			if err := x.judge(ctx); err != nil {
				return err
			}
		}
	}
}

func (x *view) apply(c change) error {
	key, gone := c.Entry.Key, c.Type == store.Deleted
	switch c.resource {
	case fleet.ResourceAddOnConfigs:
		delete(x.configs, key)
		if gone {
			delete(x.dirty, key)
			return nil
		}
		obj, err := x.Validity.configs.Decode(c.Entry)
		if err != nil {
			return err
		}
		x.configs[key], x.dirty[key] = obj, true
	case fleet.ResourceAddOnVersions:
		old := x.versions[key.Name]
		delete(x.versions, key.Name)
		var now version
		if !gone {
			var obj fleet.AddOnVersion
			if err := json.Unmarshal(c.Entry.Data, &obj); err != nil {
				return err
			}
			now = version{obj.Spec.AddOn, obj.Generation, obj.Spec.Default}
			x.versions[key.Name] = now
		}
		if old != now {
			x.mark(old.addOn)
			x.mark(now.addOn)
		}
	case fleet.ResourceConfigRevisions:
		// What is installed may have been waiting for its revision.
		var obj struct {
			Spec struct{ Resource, Name string } `json:"spec"`
		}
		if err := json.Unmarshal(c.Entry.Data, &obj); err != nil {
			return err
		}
		if !gone && obj.Spec.Resource == config.VersionKind().Resource {
			x.mark(x.versions[obj.Spec.Name].addOn)
		}
	default:
		var now use
		if !gone {
			var obj addonConfigs
			if err := json.Unmarshal(c.Entry.Data, &obj); err != nil {
				return err
			}
			now = obj.use()
		}
		if old := x.users[key]; old != now {
			x.mark(key.Name)
			x.count(key.Name, old, -1)
			x.count(key.Name, now, 1)
			if x.users[key] = now; now == "" {
				delete(x.users, key)
			}
			x.mark(key.Name)
		}
	}
	return nil
}

// use is empty when an addon names nothing.
func (a *addonConfigs) use() use {
	s := said{Versions: a.versions()}
	for _, ref := range a.all() {
		if ref.ConfigGroupResource == config.ValuesKind() {
			s.Configs = append(s.Configs, ref.ConfigReferent)
		}
	}
	if len(s.Versions)+len(s.Configs) == 0 {
		return ""
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "" // strings always encode
	}
	return use(data)
}

// count adds one that says u to an addon, or takes it away.
func (x *view) count(addOn string, u use, n int) {
	if u == "" {
		return
	}
	all := x.addOns[addOn]
	if all == nil {
		all = map[use]*said{}
		x.addOns[addOn] = all
	}
	s := all[u]
	if s == nil {
		s = &said{}
		if json.Unmarshal([]byte(u), s) != nil {
			return // use has made it
		}
		all[u] = s
	}
	if s.count += n; s.count > 0 {
		return
	}
	if delete(all, u); len(all) == 0 {
		delete(x.addOns, addOn)
	}
}

// mark has the configurations of an addon looked at.
func (x *view) mark(addOn string) {
	if addOn == "" {
		return
	}
	for key, c := range x.configs {
		if c.Spec.AddOn == addOn {
			x.dirty[key] = true
		}
	}
	for _, s := range x.addOns[addOn] {
		for _, ref := range s.Configs {
			key := store.Key{Resource: fleet.ResourceAddOnConfigs, Namespace: ref.Namespace, Name: ref.Name}
			if x.configs[key] != nil {
				x.dirty[key] = true
			}
		}
	}
}

// judge writes the condition of what has to be looked at, where it is another one.
func (x *view) judge(ctx context.Context) error {
	for key := range x.dirty {
		cfg := x.configs[key]
		want, err := x.condition(ctx, cfg)
		if err != nil {
			return err
		}
		status := fleet.AddOnConfigStatus{Conditions: slices.Clone(cfg.Status.Conditions)}
		meta.SetStatusCondition(&status.Conditions, want)
		if !equality.Semantic.DeepEqual(status, cfg.Status) {
			_, err := x.Validity.configs.UpdateStatus(ctx, key.Namespace, key.Name, func(c *fleet.AddOnConfig) error {
				if c.Generation == cfg.Generation { // else its event is on its way
					meta.SetStatusCondition(&c.Status.Conditions, want)
				}
				return nil
			})
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("say whether %s is valid: %w", key, err)
			}
		}
		delete(x.dirty, key)
	}
	return nil
}

// condition judges a configuration by the versions that use it or would.
func (x *view) condition(ctx context.Context, cfg *fleet.AddOnConfig) (metav1.Condition, error) {
	out := metav1.Condition{Type: fleet.ConditionValid, ObservedGeneration: cfg.Generation}
	rng, err := versions.ParseRange(cfg.Spec.Version)
	if err != nil {
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, fleet.ReasonValuesInvalid, "spec.version: "+err.Error()
		return out, nil
	}
	var remarks []string
	remark := func(text string) { remarks = append(remarks, text) }
	checked, errs := x.rules.checkUses(ctx, remark, cfg, rng, x.uses(ctx, cfg))
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	var text []string
	switch {
	case len(errs) > 0:
		out.Status, out.Reason = metav1.ConditionFalse, fleet.ReasonValuesInvalid
		for _, err := range errs {
			text = append(text, err.Error())
		}
		slices.Sort(text)
	case len(checked) == 0:
		out.Status, out.Reason = metav1.ConditionUnknown, fleet.ReasonNotUsed
		text = []string{"no version that it is for is installed or a default: the values are checked when one uses them"}
	default:
		out.Status, out.Reason = metav1.ConditionTrue, fleet.ReasonValuesValid
		slices.Sort(checked)
		text = []string{"checked with " + strings.Join(slices.Compact(checked), ", ")}
	}
	slices.Sort(remarks)
	out.Message = strings.Join(slices.Compact(append(text, remarks...)), "; ")
	if len(out.Message) > maxSaid {
		out.Message = strings.ToValidUTF8(out.Message[:maxSaid], "") + "…"
	}
	return out, nil
}

// uses are the versions that Rules.users finds, without looking at every object.
func (x *view) uses(ctx context.Context, cfg *fleet.AddOnConfig) []*fleet.AddOnVersion {
	ref := addon.ConfigReferent{Namespace: cfg.Namespace, Name: cfg.Name}
	found := map[string]*fleet.AddOnVersion{}
	names := func(all map[use]*said) bool {
		for _, s := range all {
			if slices.Contains(s.Configs, ref) {
				return true
			}
		}
		return false
	}
	ours := map[string]bool{cfg.Spec.AddOn: cfg.Spec.AddOn != ""}
	for addOn, all := range x.addOns {
		if ours[addOn] || names(all) {
			ours[addOn] = true
			for _, s := range all {
				for _, v := range s.Versions {
					x.rules.find(ctx, v, found)
				}
			}
		}
	}
	for name, v := range x.versions {
		if v.isDefault && ours[v.addOn] {
			x.rules.find(ctx, versionRef{Name: name}, found)
		}
	}
	out := make([]*fleet.AddOnVersion, 0, len(found))
	for _, key := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[key])
	}
	return out
}
