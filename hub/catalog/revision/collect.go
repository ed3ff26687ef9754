// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

const (
	// keep is how many revisions of an object stay although nothing uses them.
	keep         = 20
	collectEvery = 10 * time.Minute
	// young revisions may be of an object that is only about to be stored.
	young = time.Hour
)

// collect removes what nothing needs from time to time, until ctx ends.
func (r *Recorder) collect(ctx context.Context) {
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.crowded:
		}
		if err := r.history.Collect(ctx, time.Now()); err != nil && ctx.Err() == nil {
			r.log.Warn("old revisions of configurations not removed, will try again", zap.Error(err))
		}
	}
}

// Collect removes revisions that nothing needs. Kept are those that an addon uses
// or names, and of an object that is there its present content and the newest 20.
func (h *History) Collect(ctx context.Context, now time.Time) error {
	page, err := h.store.List(ctx, store.Selection{Resource: fleet.ResourceConfigRevisions})
	if err != nil {
		return err
	}
	byObject := map[addon.Config][]*fleet.ConfigRevision{}
	for _, e := range page.Entries {
		r, err := h.revisions.Decode(e)
		if err != nil {
			return err
		}
		r.Spec.Content.Raw = nil // not needed, and large
		byObject[refOf(r)] = append(byObject[refOf(r)], r)
	}
	// Read after the revisions, so that what has come into use since is seen.
	used, err := h.inUse(ctx)
	if err != nil {
		return err
	}
	var failed error
	for ref, list := range byObject {
		newestFirst(list)
		for _, r := range h.unneeded(ref, list, used, now) {
			if err := h.revisions.Delete(ctx, "", r.Name); err != nil && !errors.Is(err, store.ErrNotFound) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}

func (h *History) unneeded(ref addon.Config, list []*fleet.ConfigRevision, used uses, now time.Time) []*fleet.ConfigRevision {
	list = slices.DeleteFunc(list, func(r *fleet.ConfigRevision) bool {
		return used[use{ref, r.Spec.Hash}] || used[use{ref, strconv.FormatInt(r.Spec.Revision, 10)}]
	})
	e, there := h.store.Cached(store.Key{Resource: resourceOf(ref.ConfigGroupResource), Namespace: ref.Namespace, Name: ref.Name})
	if !there {
		return slices.DeleteFunc(list, func(r *fleet.ConfigRevision) bool { return now.Sub(r.CreationTimestamp.Time) < young })
	}
	var obj map[string]any
	current := ""
	if err := kjson.Unmarshal(e.Data, &obj); err == nil {
		current, _ = config.Hash(obj) // unreadable: no revision is of it
	}
	list = list[min(len(list), keep):]
	return slices.DeleteFunc(list, func(r *fleet.ConfigRevision) bool { return r.Spec.Hash == current })
}

// use is a content of an object that something needs, by hash or by number.
type use struct {
	ref     addon.Config
	content string
}

type uses map[use]bool

func (u uses) add(kind addon.ConfigGroupResource, list ...*addon.ConfigSpecHash) {
	for _, c := range list {
		if c != nil && c.SpecHash != "" {
			u[use{addon.Config{ConfigGroupResource: kind, ConfigReferent: c.ConfigReferent}, c.SpecHash}] = true
		}
	}
}

// inUse reads what addons run, are to run, and ran last.
func (h *History) inUse(ctx context.Context) (uses, error) {
	used := uses{}
	page, err := h.store.List(ctx, store.Selection{Resource: addon.ResourceManagedClusterAddOns})
	if err != nil {
		return nil, err
	}
	for _, e := range page.Entries {
		var mca addon.ManagedClusterAddOn
		if err := json.Unmarshal(e.Data, &mca); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.Key, err)
		}
		number := mca.Annotations[fleet.AnnotationAddOnRevision]
		for _, c := range mca.Status.ConfigReferences {
			used.add(c.ConfigGroupResource, c.DesiredConfig, c.LastAppliedConfig)
			if number != "" && c.ConfigGroupResource == config.VersionKind() && c.DesiredConfig != nil {
				used[use{addon.Config{ConfigGroupResource: c.ConfigGroupResource, ConfigReferent: c.DesiredConfig.ConfigReferent}, number}] = true
			}
		}
		for _, c := range mca.Spec.Configs {
			if number != "" && c.ConfigGroupResource == config.VersionKind() {
				used[use{c, number}] = true
			}
		}
	}
	if page, err = h.store.List(ctx, store.Selection{Resource: addon.ResourceClusterManagementAddOns}); err != nil {
		return nil, err
	}
	for _, e := range page.Entries {
		var cma addon.ClusterManagementAddOn
		if err := json.Unmarshal(e.Data, &cma); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.Key, err)
		}
		for _, c := range cma.Status.DefaultConfigReferences {
			used.add(c.ConfigGroupResource, c.DesiredConfig)
		}
		for _, p := range cma.Status.InstallProgressions {
			for _, c := range p.ConfigReferences {
				used.add(c.ConfigGroupResource, c.DesiredConfig, c.LastAppliedConfig, c.LastKnownGoodConfig)
			}
		}
	}
	return used, nil
}
