// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/wire"
)

// poll looks at the applied objects: all of them from time to time, and those
// that are not Current more often.
func (e *Engine) poll(ctx context.Context, log *zap.Logger, it *item) {
	s, now := &it.state, time.Now()
	full := !now.Before(s.fullPollAt)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	for i := range it.results {
		r := &it.results[i]
		if !r.report.Applied || (!full && r.report.Health == wire.HealthCurrent) {
			continue
		}
		group.Go(func() error { return e.look(gctx, r) })
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		for i := range it.results {
			if it.results[i].report.Applied {
				it.results[i].unknown(apiError(err))
			}
		}
	}

	settled, missing := true, 0
	for i := range it.results {
		r := &it.results[i]
		if r.report.Applied && r.report.Health != wire.HealthCurrent {
			settled = false
			if r.managed && r.report.Health == wire.HealthNotFound {
				missing++
			}
		}
	}
	if full {
		s.fullPollAt = now.Add(jitter(pollSteady))
	}
	s.interval = nextInterval(s.interval, settled)
	s.pollAt = now.Add(jitter(s.interval))

	switch {
	case missing > 0 && s.applyAt.IsZero():
		e.scheduleRepair(log, s, now, missing)
	case settled && s.repairs > 0 && now.Sub(s.repairedAt) > repairsForgotten:
		s.repairs = 0
	}
	if settled && it.rec.Complete && it.rec.LastGood != it.rec.Digest {
		rec := it.rec
		rec.LastGood = rec.Digest
		e.saveOrWarn(log, it, rec)
	}
}

// scheduleRepair plans to apply everything again because objects are missing.
// Somebody who deletes them again and again meets growing pauses.
func (e *Engine) scheduleRepair(log *zap.Logger, s *progress, now time.Time, missing int) {
	s.repairs++
	s.repair, s.repairedAt = true, now
	delay := jitter(retryDelay(s.repairs, false))
	s.applyAt = now.Add(delay)
	log.Warn("applied objects are missing from the cluster, applying the work again",
		zap.Int("missing", missing), zap.Int("repairs", s.repairs), zap.Duration("after", delay))
}

// look reads one object and writes down how it is. The error says that the API
// server does not answer.
func (e *Engine) look(ctx context.Context, r *result) error {
	if existenceOnly(r.obj.Group, r.obj.Kind) {
		live, err := e.cluster.observe(ctx, r.obj)
		switch {
		case err != nil:
			return r.unread(err)
		case live == nil:
			r.missing("does not exist")
		case r.replaced(live.uid):
		case live.terminating:
			r.set(wire.HealthTerminating, "being deleted")
		default:
			r.set(wire.HealthCurrent, "")
		}
		return nil
	}
	live, err := e.cluster.get(ctx, r.obj)
	switch {
	case gone(err):
		r.missing("does not exist")
	case err != nil:
		return r.unread(err)
	case r.replaced(string(live.GetUID())):
	default:
		r.see(live)
	}
	return nil
}

// see derives health from the live object.
func (r *result) see(live *unstructured.Unstructured) {
	if existenceOnly(r.obj.Group, r.obj.Kind) {
		r.set(wire.HealthCurrent, "")
		return
	}
	health, message := healthOf(live)
	r.set(health, message)
}

func (r *result) set(health, message string) {
	r.report.Available, r.report.AvailableMessage = true, ""
	r.report.Health, r.report.HealthMessage = health, message
}

func (r *result) missing(message string) {
	r.report.Available, r.report.AvailableMessage = false, message
	r.report.Health, r.report.HealthMessage = wire.HealthNotFound, message
}

// replaced notices that somebody deleted our object and made another one.
func (r *result) replaced(uid string) bool {
	if !r.managed || r.obj.UID == "" || r.obj.UID == uid {
		return false
	}
	r.missing("was deleted, and somebody else created an object of the same name")
	return true
}

// unread keeps what is known of existence: not being able to look is no change.
func (r *result) unread(err error) error {
	if unreachable(err) {
		return err
	}
	r.unknown(err)
	return nil
}

func (r *result) unknown(err error) {
	r.report.Health, r.report.HealthMessage = wire.HealthUnknown, fmt.Sprintf("cannot be read: %v", err)
	if !r.report.Available && r.report.AvailableMessage == "" {
		r.report.AvailableMessage = "not looked at yet since the agent started"
	}
}

// healthOf is the kstatus of an object and, unless it is Current, why: the
// reason, the message, and the conditions of the object that are not met.
//
// It judges what foreign controllers wrote: an object that makes kstatus panic
// must not take the agent down with it.
func healthOf(live *unstructured.Unstructured) (health, message string) {
	defer func() {
		if p := recover(); p != nil {
			health, message = wire.HealthUnknown, fmt.Sprintf("status cannot be understood: %v", p)
		}
	}()
	computed, err := status.Compute(live)
	if err != nil {
		return wire.HealthUnknown, fmt.Sprintf("status cannot be understood: %v", err)
	}
	if computed.Status == status.CurrentStatus {
		return wire.HealthCurrent, ""
	}
	var parts []string
	add := func(s string) {
		if s != "" && !strings.Contains(strings.Join(parts, ": "), s) {
			parts = append(parts, s)
		}
	}
	for _, c := range computed.Conditions {
		add(c.Reason)
	}
	add(computed.Message)
	for _, m := range unmetConditions(live) {
		add(m)
	}
	return string(computed.Status), strings.Join(parts, ": ")
}

// unmetConditions are the messages of conditions with status False, which say
// more than kstatus does.
func unmetConditions(live *unstructured.Unstructured) []string {
	conditions, _, err := unstructured.NestedSlice(live.Object, "status", "conditions")
	if err != nil {
		return nil
	}
	var messages []string
	for _, c := range conditions {
		fields, ok := c.(map[string]any)
		if !ok || fields["status"] != "False" {
			continue
		}
		if m, ok := fields["message"].(string); ok && m != "" {
			messages = append(messages, m)
		}
	}
	return messages
}
