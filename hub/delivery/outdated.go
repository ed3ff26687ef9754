// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
)

// need is the protocol version from which on an agent does what a work says, and
// what the older ones do not know.
func (e *entry) need() (version int, what string) {
	switch {
	case e.protected:
		return 3, "protected objects"
	case e.bundle != "":
		return 2, "manifests in a bundle"
	case e.item.Policy.Adoption != "" || e.item.Policy.Drift != "":
		return 2, "rules for adoption and drift"
	case e.item.Complete:
		return 2, "works that have finished"
	}
	return 1, ""
}

// withheld are the works that the agent does not get, as far as that is news: one
// that has finished has nothing to do any more.
func (x *desired) withheld() []string {
	var names []string
	for name, e := range x.items {
		if v, _ := e.need(); x.version != 0 && x.version < v && !e.item.Complete {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// outdated is what to say of a work that the agent of a cluster does not get;
// empty if it does, or if no agent has asked.
func (d *Delivery) outdated(cluster, name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.clusters[cluster]
	if x == nil || x.version == 0 {
		return ""
	}
	e, ok := x.items[name]
	version, what := e.need()
	if !ok || x.version >= version {
		return ""
	}
	return fmt.Sprintf("the agent of this cluster is too old: it speaks protocol version %d, and %s need %d; upgrade it", x.version, what, version)
}

// noteOutdated has a cluster looked at that does not get all of its works. d.mu is held.
func (d *Delivery) noteOutdated(cluster string) {
	d.old[cluster] = true
	select {
	case d.anyOld <- struct{}{}:
	default:
	}
}

// explainOutdated says in the status of works that are withheld why they are.
func (d *Delivery) explainOutdated(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.anyOld:
		}
		d.mu.Lock()
		clusters := slices.Sorted(maps.Keys(d.old))
		clear(d.old)
		d.mu.Unlock()
		for _, cluster := range clusters {
			err := d.explainCluster(ctx, cluster)
			if err == nil || ctx.Err() != nil {
				continue
			}
			d.cfg.Log.Warn("works of an old agent not marked, will try again", zap.String("cluster", cluster), zap.Error(err))
			d.mu.Lock()
			d.noteOutdated(cluster)
			d.mu.Unlock()
			daemon.Sleep(ctx, retryInterval)
		}
	}
}

func (d *Delivery) explainCluster(ctx context.Context, cluster string) error {
	d.mu.Lock()
	var names []string
	if x := d.clusters[cluster]; x != nil {
		names = x.withheld()
	}
	d.mu.Unlock()
	for _, name := range names {
		_, err := d.works.UpdateStatus(ctx, cluster, name, func(w *work.ManifestWork) error {
			// Asked again for each attempt: a report of a newer agent may be faster,
			// and what it says stands.
			if message := d.outdated(cluster, name); message != "" {
				meta.SetStatusCondition(&w.Status.Conditions, metav1.Condition{
					Type: work.ConditionApplied, Status: metav1.ConditionFalse, Reason: work.ReasonAgentTooOld,
					Message: message, ObservedGeneration: w.Generation,
				})
			}
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}
