// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"time"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/wire"
)

// Evidence is how a work stands in the list of its cluster, as this replica knows.
type Evidence struct {
	// Generation of the list, and since when it is the present one here.
	Generation uint64
	Changed    time.Time
	Item       *wire.Item // nil: not in the list
	// Asked is when the agent asked last, Held the generation it held, Given the
	// one it was answered with; zero: not since this process started.
	Asked       time.Time
	Held, Given uint64
}

// Evidence returns what is known of one work.
func (d *Delivery) Evidence(cluster, name string) Evidence {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.clusters[cluster]
	if x == nil {
		return Evidence{}
	}
	e := Evidence{Generation: x.generation, Changed: x.changed, Asked: x.asked, Held: x.held, Given: x.given}
	if listed, ok := x.items[name]; ok {
		item := listed.item
		e.Item = &item
	}
	return e
}

// Revisions counts what undo of a work could go back to.
func (d *Delivery) Revisions(ctx context.Context, cluster, name string) int {
	all, err := d.history(ctx, cluster, name, store.Any)
	if err != nil {
		return 0
	}
	return len(all)
}
