// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/daemon"
)

// countEvery is how often at most clusters are counted.
const countEvery = 2 * time.Second

// Run counts the clusters of versions until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.follow(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("counting clusters of versions failed, starting over", zap.Error(err))
			daemon.Sleep(ctx, countEvery)
		}
	}
	return ctx.Err()
}

func (p *Publisher) follow(ctx context.Context) error {
	w, err := p.cfg.Store.Watch(ctx, store.WatchSelection{Resource: addon.ResourceManagedClusterAddOns})
	if err != nil {
		return fmt.Errorf("watch installed addons: %w", err)
	}
	defer w.Stop()
	for {
		if err := p.count(ctx); err != nil {
			return err
		}
		if _, err := w.Next(ctx); err != nil {
			return err
		}
		// What comes together is counted together.
		if !daemon.Sleep(ctx, countEvery) {
			return ctx.Err()
		}
		for drained := false; !drained; {
			short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			_, err := w.Next(short)
			cancel()
			if drained = short.Err() != nil; !drained && err != nil {
				return err
			}
		}
	}
}

// count writes status.clusters where it has changed.
func (p *Publisher) count(ctx context.Context) error {
	page, err := p.cfg.Store.List(ctx, store.Selection{Resource: addon.ResourceManagedClusterAddOns, MinRevision: store.Any})
	if err != nil {
		return fmt.Errorf("list installed addons: %w", err)
	}
	clusters := map[string]int32{}
	for _, e := range page.Entries {
		var a addon.ManagedClusterAddOn
		if err := json.Unmarshal(e.Data, &a); err != nil {
			continue // the API keeps out what is not one
		}
		for _, r := range a.Status.ConfigReferences {
			if isVersion(r.ConfigGroupResource) && r.LastAppliedConfig != nil {
				clusters[r.LastAppliedConfig.Name]++
			}
		}
	}
	all, _, err := store.Of[fleet.AddOnVersion](p.cfg.Store, fleet.ResourceAddOnVersions).List(ctx, store.Selection{MinRevision: store.Any})
	if err != nil {
		return fmt.Errorf("list versions: %w", err)
	}
	for _, v := range all {
		n := clusters[v.Name]
		if v.Status.Clusters == n {
			continue
		}
		_, err := store.Of[fleet.AddOnVersion](p.cfg.Store, fleet.ResourceAddOnVersions).UpdateStatus(ctx, "", v.Name, func(v *fleet.AddOnVersion) error {
			v.Status.Clusters = n
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("count clusters of %s: %w", v.Name, err)
		}
	}
	return nil
}

// InUse adds the digests of content that versions and their revisions name.
func (p *Publisher) InUse(ctx context.Context, used map[string]bool) error {
	for _, resource := range []string{fleet.ResourceAddOnVersions, "configrevisions." + fleet.Group} {
		page, err := p.cfg.Store.List(ctx, store.Selection{Resource: resource})
		if err != nil {
			return fmt.Errorf("list %s: %w", resource, err)
		}
		for _, e := range page.Entries {
			var obj any
			if err := json.Unmarshal(e.Data, &obj); err != nil {
				return fmt.Errorf("read %s %s: %w", e.Key.Resource, e.Key.Name, err)
			}
			var images []string
			imagesIn(obj, &images)
			for _, image := range images {
				if err := p.use(ctx, image, used); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// imagesIn collects what the field image of a spec says, however deep the spec is: a
// revision has it within its own.
func imagesIn(v any, out *[]string) {
	m, _ := v.(map[string]any)
	for k, x := range m {
		switch k {
		case "image", "digest":
			if s, ok := x.(string); ok {
				*out = append(*out, s)
			}
		case "spec", "status", "content", "object":
			imagesIn(x, out)
		}
	}
}

// use marks a digest, and of an OCI artifact its layer too.
func (p *Publisher) use(ctx context.Context, image string, used map[string]bool) error {
	digest := source.Digest(&fleet.AddOnVersionSpec{Image: image})
	if digest == "" || used[digest] {
		return nil
	}
	used[digest] = true
	if !strings.Contains(image, "@") {
		return nil
	}
	manifest, err := p.cfg.Bundles.Bundle(ctx, digest)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", image, err)
	}
	if layer, err := archive.Layer(manifest); err == nil {
		used[layer.Digest] = true
	}
	return nil
}
