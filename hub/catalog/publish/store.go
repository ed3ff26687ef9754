// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// tries is how often a write starts over because somebody else was faster.
const tries = 10

// Create stores a new version, with its addon if there is none, and takes the
// default pointer of its channel from the version that has it: all of it or nothing.
func (p *Publisher) Create(ctx context.Context, key store.Key, data []byte) (uint64, error) {
	return p.write(ctx, store.Write{Key: key, Data: data})
}

// Update stores a version that has changed, as Create does.
func (p *Publisher) Update(ctx context.Context, key store.Key, data []byte, revision uint64) (uint64, error) {
	return p.write(ctx, store.Write{Key: key, Data: data, Revision: revision})
}

func (p *Publisher) write(ctx context.Context, w store.Write) (uint64, error) {
	var v fleet.AddOnVersion
	if err := json.Unmarshal(w.Data, &v); err != nil {
		return 0, fmt.Errorf("decode %s: %w", w.Key, err)
	}
	if v.Spec.Default {
		p.moves.Lock()
		defer p.moves.Unlock()
	}
	for try := 1; ; try++ {
		writes, err := p.besides(ctx, &v, w.Revision == 0)
		if err != nil {
			return 0, err
		}
		// The version comes last: who sees it sees the rest.
		revisions, err := p.cfg.Store.Batch(ctx, append(writes, w))
		if err == nil {
			return revisions[len(revisions)-1], nil
		}
		if try == tries || !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) || p.lost(ctx, w) {
			return 0, err
		}
	}
}

// lost says whether it is the write of the version itself that came too late.
func (p *Publisher) lost(ctx context.Context, w store.Write) bool {
	e, err := p.cfg.Store.Get(ctx, w.Key)
	if errors.Is(err, store.ErrNotFound) {
		return w.Revision != 0
	}
	return err != nil || e.Revision != w.Revision
}

// besides are the writes that go with a version.
func (p *Publisher) besides(ctx context.Context, v *fleet.AddOnVersion, created bool) ([]store.Write, error) {
	var writes []store.Write
	if created {
		key := store.Key{Resource: addon.ResourceClusterManagementAddOns, Name: v.Spec.AddOn}
		_, err := p.cfg.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			data, err := json.Marshal(newAddOn(v))
			if err != nil {
				return nil, fmt.Errorf("encode addon: %w", err)
			}
			writes = append(writes, store.Write{Key: key, Data: data})
		} else if err != nil {
			return nil, fmt.Errorf("look for addon: %w", err)
		}
	}
	if !v.Spec.Default {
		return writes, nil
	}
	page, err := p.cfg.Store.List(ctx, store.Selection{Resource: fleet.ResourceAddOnVersions})
	if err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	for _, e := range page.Entries {
		var other fleet.AddOnVersion
		if err := json.Unmarshal(e.Data, &other); err != nil {
			return nil, fmt.Errorf("decode %s: %w", e.Key, err)
		}
		if other.Name == v.Name || other.Spec.AddOn != v.Spec.AddOn || other.Spec.Channel != v.Spec.Channel || !other.Spec.Default {
			continue
		}
		data, err := withoutDefault(e.Data)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", e.Key, err)
		}
		writes = append(writes, store.Write{Key: e.Key, Data: data, Revision: e.Revision})
	}
	return writes, nil
}

// withoutDefault is a version that is not the default any more; all else stays.
func withoutDefault(data []byte) ([]byte, error) {
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(data, &obj); err != nil {
		return nil, err
	}
	var spec, meta map[string]json.RawMessage
	if err := json.Unmarshal(obj["spec"], &spec); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(obj["metadata"], &meta); err != nil {
		return nil, err
	}
	spec["default"] = json.RawMessage("false")
	var generation int64
	if len(meta["generation"]) > 0 {
		if err := json.Unmarshal(meta["generation"], &generation); err != nil {
			return nil, err
		}
	}
	var err error
	if meta["generation"], err = json.Marshal(generation + 1); err != nil {
		return nil, err
	}
	if obj["spec"], err = json.Marshal(spec); err != nil {
		return nil, err
	}
	if obj["metadata"], err = json.Marshal(meta); err != nil {
		return nil, err
	}
	return json.Marshal(obj)
}

func newAddOn(v *fleet.AddOnVersion) map[string]any {
	return map[string]any{
		"apiVersion": addon.Group + "/" + addon.Version, "kind": addon.KindClusterManagementAddOn,
		"metadata": map[string]any{
			"name": v.Spec.AddOn, "uid": uuid.NewString(), "generation": 1,
			"creationTimestamp": time.Now().UTC().Truncate(time.Second).Format(time.RFC3339),
		},
		"spec": map[string]any{
			"addOnMeta":       map[string]any{"displayName": v.Spec.AddOn, "description": v.Spec.Description},
			"installStrategy": map[string]any{"type": "Manual"},
		},
	}
}
