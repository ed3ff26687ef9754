// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/daemon"
)

// finishedEvery is how often finished works are looked for. Their lives are
// counted in seconds, so this is soon enough.
const finishedEvery = time.Second

func zapCluster(name string) zap.Field { return zap.String("cluster", name) }
func zapError(err error) zap.Field     { return zap.Error(err) }

// removeFinished deletes works whose ttlSecondsAfterFinished is over, as their
// author has asked.
func (d *Delivery) removeFinished(ctx context.Context) error {
	for daemon.Sleep(ctx, finishedEvery) {
		for _, key := range d.finished(time.Now()) {
			err := d.removeOne(ctx, key, time.Now())
			if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
				d.cfg.Log.Warn("finished work not deleted, will try again", zap.String("cluster", key.Namespace), zap.String("work", key.Name), zap.Error(err))
			}
		}
	}
	return ctx.Err()
}

// finished are the works whose time is over.
func (d *Delivery) finished(now time.Time) []store.Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	var due []store.Key
	for cluster, x := range d.clusters {
		for name, e := range x.items {
			if e.expires != 0 && now.Unix() >= e.expires {
				due = append(due, store.Key{Resource: work.Resource, Namespace: cluster, Name: name})
			}
		}
	}
	return due
}

// removeOne deletes a work unless it is not finished any more.
func (d *Delivery) removeOne(ctx context.Context, key store.Key, now time.Time) error {
	e, err := d.cfg.Store.Get(ctx, key)
	if err != nil {
		return err
	}
	var w stored
	if err := json.Unmarshal(e.Data, &w); err != nil {
		return err
	}
	done, since := complete(w.Status.Conditions)
	end := expiry(w.Spec, since)
	if !done || end == 0 || now.Unix() < end || !e.Header.DeletionTimestamp.IsZero() {
		return nil
	}
	if err := d.works.Delete(ctx, key.Namespace, key.Name); err != nil {
		return err
	}
	d.cfg.Log.Info("finished work deleted after its time", zap.String("cluster", key.Namespace), zap.String("work", key.Name), zap.Time("finished", since))
	return nil
}
