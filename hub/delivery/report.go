// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// serveReport stores what an agent reports before it answers.
func (d *Delivery) serveReport(ctx context.Context, cluster string, request []byte) *nats.Msg {
	var r wire.Report
	if err := json.Unmarshal(request, &r); err != nil {
		return broker.JSON(wire.Ack{Error: "report: " + err.Error()})
	}
	if err := d.report(ctx, cluster, &r); err != nil {
		d.cfg.Log.Warn("report not stored", zap.String("cluster", cluster), zap.String("work", r.Name), zap.Error(err))
		never := errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrInvalid)
		return broker.JSON(wire.Ack{Error: "the hub could not store the report", Retry: !never})
	}
	return broker.JSON(wire.Ack{})
}

// maxManifests is more than the largest work can hold.
const maxManifests = 20_000

func (d *Delivery) report(ctx context.Context, cluster string, r *wire.Report) error {
	if len(r.Manifests) > maxManifests {
		return fmt.Errorf("%w: %d manifests, at most %d", store.ErrInvalid, len(r.Manifests), maxManifests)
	}
	var err error
	if r.Deleted {
		err = d.release(ctx, cluster, r.Name, r.UID)
	} else {
		err = d.record(ctx, cluster, r, true)
		if errors.Is(err, store.ErrTooLarge) {
			// A work of very many objects: better what it comes to than nothing.
			err = d.record(ctx, cluster, r, false)
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil // the work is gone; there is nothing to say about it
	}
	return err
}

func (d *Delivery) record(ctx context.Context, cluster string, r *wire.Report, manifests bool) error {
	_, err := d.works.UpdateStatus(ctx, cluster, r.Name, func(w *work.ManifestWork) error {
		if string(w.UID) == r.UID && takeReport(&w.Status, r, w.Generation) && !manifests {
			w.Status.ResourceStatus.Manifests = nil
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

// takeReport writes a report into the status of a work whose generation is
// given. A report about an older generation than the status speaks of, or about
// one that does not exist yet, changes nothing. Pure but for the time that
// SetStatusCondition stamps.
func takeReport(s *work.ManifestWorkStatus, r *wire.Report, generation int64) (taken bool) {
	if r.Generation > generation || r.Generation < observed(s) {
		return false
	}
	s.AppliedDigest = r.Digest
	old := s.ResourceStatus.Manifests
	s.ResourceStatus.Manifests = nil
	var applied, available, healthy tally
	for i := range r.Manifests {
		m := &r.Manifests[i]
		c := manifestCondition(m, r.Generation, find(old, m))
		s.ResourceStatus.Manifests = append(s.ResourceStatus.Manifests, c)
		applied.add(m.Applied, m, m.ApplyMessage)
		available.add(m.Available, m, m.AvailableMessage)
		healthy.add(m.Health == wire.HealthCurrent, m, m.HealthMessage)
		healthy.failed = healthy.failed || m.Health == wire.HealthFailed
	}
	for _, c := range workConditions(r, &applied, &available, &healthy) {
		c.ObservedGeneration = r.Generation
		c.Message = clip(c.Message)
		meta.SetStatusCondition(&s.Conditions, c)
	}
	return true
}

// maxMessage bounds what an agent says of one object, in bytes.
const maxMessage = 1024

// clip shortens a message, at the edge of a character.
func clip(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	n := maxMessage
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// healthOf is the agent's word on an object, if it is one of the known ones.
func healthOf(m *wire.ManifestReport) string {
	switch m.Health {
	case wire.HealthCurrent, wire.HealthInProgress, wire.HealthFailed, wire.HealthTerminating, wire.HealthNotFound:
		return m.Health
	}
	return wire.HealthUnknown
}

func observed(s *work.ManifestWorkStatus) int64 {
	if c := meta.FindStatusCondition(s.Conditions, work.ConditionApplied); c != nil {
		return c.ObservedGeneration
	}
	return 0
}

// tally counts manifests and keeps the first that is not right.
type tally struct {
	total, wrong int
	first        string
	failed       bool
}

func (t *tally) add(ok bool, m *wire.ManifestReport, message string) {
	t.total++
	if ok {
		return
	}
	t.wrong++
	if t.first == "" {
		name := m.Name
		if m.Namespace != "" {
			name = m.Namespace + "/" + m.Name
		}
		t.first = fmt.Sprintf("%s %s: %s", m.Kind, name, message)
	}
}

func (t *tally) message(format string) string {
	return fmt.Sprintf(format, t.wrong, t.total) + "; " + t.first
}

func workConditions(r *wire.Report, applied, available, healthy *tally) []metav1.Condition {
	a := metav1.Condition{
		Type: work.ConditionApplied, Status: metav1.ConditionTrue,
		Reason: work.ReasonWorkComplete, Message: "Apply manifest work complete",
	}
	switch {
	case r.Error != "":
		a.Status, a.Reason, a.Message = metav1.ConditionFalse, work.ReasonWorkFailed, r.Error
	case applied.wrong > 0:
		a.Status, a.Reason = metav1.ConditionFalse, work.ReasonWorkFailed
		a.Message = applied.message("%d of %d manifests could not be applied")
	}
	v := metav1.Condition{
		Type: work.ConditionAvailable, Status: metav1.ConditionTrue,
		Reason: work.ReasonAvailable, Message: "All resources are available",
	}
	h := metav1.Condition{
		Type: work.ConditionHealthy, Status: metav1.ConditionTrue,
		Reason: work.ReasonHealthy, Message: "All resources are as desired and ready",
	}
	switch {
	case r.Error != "" && available.total == 0:
		v.Status, v.Reason, v.Message = metav1.ConditionUnknown, work.ReasonStatusUnknown, r.Error
		h.Status, h.Reason, h.Message = metav1.ConditionUnknown, work.ReasonStatusUnknown, r.Error
		return []metav1.Condition{a, v, h}
	}
	if available.wrong > 0 {
		v.Status, v.Reason = metav1.ConditionFalse, work.ReasonNotAvailable
		v.Message = available.message("%d of %d resources are not available")
	}
	if healthy.wrong > 0 {
		h.Status, h.Reason = metav1.ConditionFalse, work.ReasonProgressing
		if healthy.failed {
			h.Reason = work.ReasonUnhealthy
		}
		h.Message = healthy.message("%d of %d resources are not ready")
	}
	return []metav1.Condition{a, v, h}
}

func find(old []work.ManifestCondition, m *wire.ManifestReport) []metav1.Condition {
	for _, o := range old {
		x := o.ResourceMeta
		if x.Group == m.Group && x.Kind == m.Kind && x.Namespace == m.Namespace && x.Name == m.Name {
			return o.Conditions
		}
	}
	return nil
}

// manifestCondition keeps the transition times of old where the status stayed.
func manifestCondition(m *wire.ManifestReport, generation int64, old []metav1.Condition) work.ManifestCondition {
	c := work.ManifestCondition{
		ResourceMeta: work.ResourceMeta{
			Ordinal: int32(m.Ordinal), Group: m.Group, Version: m.Version, Kind: m.Kind,
			Resource: m.Resource, Namespace: m.Namespace, Name: m.Name,
		},
		Conditions: slices.Clone(old),
	}
	set := func(typ string, ok bool, yes, no, message, good string) {
		x := metav1.Condition{Type: typ, Status: metav1.ConditionTrue, Reason: yes, Message: clip(good), ObservedGeneration: generation}
		if !ok {
			x.Status, x.Reason, x.Message = metav1.ConditionFalse, no, clip(message)
		}
		meta.SetStatusCondition(&c.Conditions, x)
	}
	set(work.ConditionApplied, m.Applied, work.ReasonManifestComplete, work.ReasonManifestFailed, m.ApplyMessage, "Apply manifest complete")
	set(work.ConditionAvailable, m.Available, work.ReasonResourceAvailable, work.ReasonResourceNotAvailable, m.AvailableMessage, "Resource is available")
	set(work.ConditionHealthy, m.Health == wire.HealthCurrent, wire.HealthCurrent, healthOf(m), m.HealthMessage, m.HealthMessage)
	return c
}
