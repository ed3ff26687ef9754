// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// maxManifests is more than the largest work can hold.
	maxManifests = 20_000
	// parallelReports of one request are written at the same time: the store
	// writes those of a moment as one batch.
	parallelReports = 128
)

// serveReport stores what an agent reports before it answers.
func (d *Delivery) serveReport(ctx context.Context, cluster string, request []byte) *nats.Msg {
	var r wire.Report
	if err := json.Unmarshal(request, &r); err != nil {
		return broker.JSON(wire.Ack{Error: "report: " + err.Error()})
	}
	return broker.JSON(d.take1(ctx, cluster, &r))
}

// serveReports is serveReport for many at once, of different works.
func (d *Delivery) serveReports(ctx context.Context, cluster string, request []byte) *nats.Msg {
	var all wire.Reports
	if err := json.Unmarshal(request, &all); err != nil {
		return broker.JSON(wire.Acks{Error: "reports: " + err.Error()})
	}
	if len(all.Reports) > wire.MaxReports {
		return broker.JSON(wire.Acks{Error: fmt.Sprintf("reports: %d in one request, at most %d", len(all.Reports), wire.MaxReports)})
	}
	acks := make([]wire.Ack, len(all.Reports))
	var g errgroup.Group
	g.SetLimit(parallelReports)
	for i := range all.Reports {
		g.Go(func() error {
			acks[i] = d.take1(ctx, cluster, &all.Reports[i])
			return nil
		})
	}
	g.Wait() //nolint:errcheck // the functions return nil
	return broker.JSON(wire.Acks{Acks: acks})
}

func (d *Delivery) take1(ctx context.Context, cluster string, r *wire.Report) wire.Ack {
	err := d.report(ctx, cluster, r)
	if err == nil {
		return wire.Ack{}
	}
	d.cfg.Log.Warn("report not stored", zap.String("cluster", cluster), zap.String("work", r.Name), zap.Error(err))
	never := errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrInvalid)
	return wire.Ack{Error: "the hub could not store the report", Retry: !never}
}

func (d *Delivery) report(ctx context.Context, cluster string, r *wire.Report) error {
	if len(r.Manifests) > maxManifests {
		return fmt.Errorf("%w: %d manifests, at most %d", store.ErrInvalid, len(r.Manifests), maxManifests)
	}
	var err error
	if r.Deleted {
		err = d.release(ctx, cluster, r.Name, r.UID)
	} else {
		err = d.record(ctx, cluster, r)
		// A work of very many objects: better the worst of them, and what it all
		// comes to, than nothing.
		for keep := 200; errors.Is(err, store.ErrTooLarge) && keep >= 0; keep = keep/4 - 1 {
			summarize(r, max(keep, 0))
			err = d.record(ctx, cluster, r)
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil // the work is gone; there is nothing to say about it
	}
	return err
}

func (d *Delivery) record(ctx context.Context, cluster string, r *wire.Report) error {
	_, err := d.works.UpdateStatus(ctx, cluster, r.Name, func(w *work.ManifestWork) error {
		if string(w.UID) == r.UID {
			takeReport(w, r, time.Now())
		}
		return nil
	})
	return err
}

// release takes the finalizer from a deleted work, which ends it unless
// somebody else holds it too.
func (d *Delivery) release(ctx context.Context, cluster, name, uid string) error {
	_, err := d.works.Update(ctx, cluster, name, func(w *work.ManifestWork) error {
		if string(w.UID) == uid && !w.DeletionTimestamp.IsZero() {
			w.Finalizers = slices.DeleteFunc(w.Finalizers, func(f string) bool { return f == work.Finalizer })
		}
		return nil
	})
	return err
}

// summarize turns a report that lists its manifests into one that counts them and
// lists the worst, at most keep.
func summarize(r *wire.Report, keep int) {
	if r.Counts == nil {
		c := &wire.Counts{Total: len(r.Manifests), Health: map[string]int{}}
		for i := range r.Manifests {
			m := &r.Manifests[i]
			if m.Applied {
				c.Applied++
			}
			if m.Available {
				c.Available++
			}
			if drifts(m.Drift) {
				c.Drifted++
			}
			c.Health[healthOf(m)]++
		}
		r.Counts = c
	}
	slices.SortStableFunc(r.Manifests, func(a, b wire.ManifestReport) int { return badness(&b) - badness(&a) })
	for i := range r.Manifests {
		if badness(&r.Manifests[i]) == 0 {
			keep = min(keep, i)
			break
		}
	}
	r.Manifests = r.Manifests[:min(keep, len(r.Manifests))]
}

// badness orders manifests by how much they need a look; 0: not at all.
func badness(m *wire.ManifestReport) int {
	switch {
	case !m.Applied:
		return 4
	case healthOf(m) == wire.HealthFailed:
		return 3
	case !m.Available, healthOf(m) != wire.HealthCurrent:
		return 2
	case drifts(m.Drift):
		return 1
	}
	return 0
}

// drifts says whether an object differs from what was applied and is not put right.
func drifts(d *wire.Drift) bool { return d != nil && d.State != wire.DriftStateCorrected }

// healthOf is the agent's word on an object, if it is one of the known ones.
func healthOf(m *wire.ManifestReport) string {
	switch m.Health {
	case wire.HealthCurrent, wire.HealthInProgress, wire.HealthFailed, wire.HealthTerminating, wire.HealthNotFound:
		return m.Health
	}
	return wire.HealthUnknown
}
