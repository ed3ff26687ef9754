// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// Bounds of what an agent says, so that a wrong one cannot make an object that
// nobody can read.
const (
	maxMessage    = 1024 // bytes, of one object
	maxShort      = 256
	maxWarnings   = 10 // of one object
	maxFields     = 20
	maxValues     = 64
	maxConditions = 32
	maxJSONRaw    = 1024
)

// takeReport writes a report into the status of its work. A report about an older
// generation than the status speaks of, or about one that does not exist yet,
// changes nothing. All that the status says of the cluster comes from one report,
// so no part of it is newer than the applied digest beside it. Pure.
func takeReport(w *work.ManifestWork, r *wire.Report, now time.Time) (taken bool) {
	s := &w.Status
	if r.Generation > w.Generation || r.Generation < observed(s) {
		return false
	}
	s.AppliedDigest = clip(r.Digest, maxShort)
	old := s.ResourceStatus.Manifests
	s.ResourceStatus.Manifests = nil
	for i := range r.Manifests {
		m := &r.Manifests[i]
		s.ResourceStatus.Manifests = append(s.ResourceStatus.Manifests, manifestCondition(m, r.Generation, find(old, m), now))
	}
	s.Summary = summaryOf(r.Counts)
	s.PrunePlan = planOf(r.Prune)
	s.Remaining = nil
	if len(r.Remaining) > 0 || r.RemainingTotal > 0 {
		s.Remaining = &work.Remaining{Total: count(max(r.RemainingTotal, len(r.Remaining))), Objects: notes(r.Remaining)}
	}
	setConditions(w, r, now)
	return true
}

// clip shortens a message to n bytes, at the edge of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func count(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) } //nolint:gosec // bounded

func observed(s *work.ManifestWorkStatus) int64 {
	if c := meta.FindStatusCondition(s.Conditions, work.ConditionApplied); c != nil {
		return c.ObservedGeneration
	}
	return 0
}

func summaryOf(c *wire.Counts) *work.Summary {
	if c == nil {
		return nil
	}
	s := &work.Summary{Total: count(c.Total), Applied: count(c.Applied), Available: count(c.Available), Drifted: count(c.Drifted)}
	for _, h := range []string{wire.HealthCurrent, wire.HealthInProgress, wire.HealthFailed, wire.HealthTerminating, wire.HealthNotFound, wire.HealthUnknown} {
		if n := c.Health[h]; n > 0 {
			if s.Health == nil {
				s.Health = map[string]int32{}
			}
			s.Health[h] = count(n)
		}
	}
	return s
}

func planOf(p *wire.PrunePlan) *work.PrunePlan {
	if p == nil || p.ID == "" {
		return nil
	}
	reason := wire.PlanReasonBudget
	if p.Reason == wire.PlanReasonProtected {
		reason = p.Reason
	}
	return &work.PrunePlan{ID: clip(p.ID, maxShort), Reason: reason, Total: count(max(p.Total, len(p.Objects))), Objects: notes(p.Objects)}
}

func notes(list []wire.ObjectNote) []work.ObjectNote {
	list = list[:min(len(list), wire.MaxNamed)]
	out := make([]work.ObjectNote, 0, len(list))
	for _, o := range list {
		out = append(out, work.ObjectNote{
			Group: clip(o.Group, maxShort), Kind: clip(o.Kind, maxShort), Namespace: clip(o.Namespace, maxShort),
			Name: clip(o.Name, maxShort), Message: clip(o.Message, maxMessage),
		})
	}
	return out
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

var reasonRE = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]{0,126}[A-Za-z0-9_])?$`)

// reasonOr is a reason that an agent gave, or fallback when it is none.
func reasonOr(reason, fallback string) string {
	if reasonRE.MatchString(reason) {
		return reason
	}
	return fallback
}

// manifestCondition keeps the transition times of old where the status stayed.
func manifestCondition(m *wire.ManifestReport, generation int64, old []metav1.Condition, now time.Time) work.ManifestCondition {
	c := work.ManifestCondition{
		ResourceMeta: work.ResourceMeta{
			Ordinal: count(m.Ordinal), Group: m.Group, Version: m.Version, Kind: m.Kind,
			Resource: m.Resource, Namespace: m.Namespace, Name: m.Name,
		},
		Health: healthOf(m), HealthMessage: clip(m.HealthMessage, maxMessage), Restarts: count(m.Restarts),
		Drift: driftOf(m.Drift),
	}
	set := func(typ string, status metav1.ConditionStatus, reason, message string) {
		if len(c.Conditions) < maxConditions {
			c.Conditions = append(c.Conditions, metav1.Condition{
				Type: typ, Status: status, Reason: reason, Message: clip(message, maxMessage), ObservedGeneration: generation,
				LastTransitionTime: transition(old, typ, status, now),
			})
		}
	}
	if m.Applied {
		set(work.ConditionApplied, metav1.ConditionTrue, reasonOr(m.ApplyReason, work.ReasonManifestComplete), or(m.ApplyMessage, "Apply manifest complete"))
	} else {
		set(work.ConditionApplied, metav1.ConditionFalse, reasonOr(m.ApplyReason, work.ReasonManifestFailed), m.ApplyMessage)
	}
	if m.Available {
		set(work.ConditionAvailable, metav1.ConditionTrue, work.ReasonResourceAvailable, "Resource is available")
	} else {
		set(work.ConditionAvailable, metav1.ConditionFalse, work.ReasonResourceNotAvailable, m.AvailableMessage)
	}
	set(work.ConditionHealthy, boolStatus(m.Health == wire.HealthCurrent), healthOf(m), m.HealthMessage)
	if m.FeedbackSynced != nil {
		reason, message := reasonFeedbackSynced, ""
		switch {
		case !*m.FeedbackSynced:
			reason, message = reasonFeedbackFailed, m.FeedbackError
		case len(m.Feedback) == 0:
			reason = reasonNoFeedback
		}
		set(work.ConditionFeedbackSynced, boolStatus(*m.FeedbackSynced), reason, message)
		c.StatusFeedback.Values = feedbackOf(m.Feedback)
	}
	for _, rule := range m.Conditions {
		if validRule(&rule) && !slices.ContainsFunc(c.Conditions, func(x metav1.Condition) bool { return x.Type == rule.Type }) {
			set(rule.Type, metav1.ConditionStatus(rule.Status), reasonOr(rule.Reason, reasonRuleEvaluated), rule.Message)
		}
	}
	for _, e := range m.Events[:min(len(m.Events), maxWarnings)] {
		w := work.Warning{Object: clip(e.Object, maxShort), Reason: clip(e.Reason, maxShort), Message: clip(e.Message, maxMessage), Count: count(e.Count)}
		if !e.Last.IsZero() {
			w.LastSeen = &metav1.Time{Time: e.Last.UTC().Truncate(time.Second)}
		}
		c.Warnings = append(c.Warnings, w)
	}
	return c
}

// Reasons of OCM that have no name in package work.
const (
	reasonFeedbackSynced  = "StatusFeedbackSynced"
	reasonFeedbackFailed  = "StatusFeedbackSyncFailed"
	reasonNoFeedback      = "NoStatusFeedbackSynced"
	reasonRuleEvaluated   = "ConditionRuleEvaluated"
	reasonRulesAggregated = "ConditionRulesAggregated"
)

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func boolStatus(ok bool) metav1.ConditionStatus {
	if ok {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// transition is when a condition took its status: kept while the status stays.
func transition(old []metav1.Condition, typ string, status metav1.ConditionStatus, now time.Time) metav1.Time {
	if c := meta.FindStatusCondition(old, typ); c != nil && c.Status == status && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime
	}
	return metav1.Time{Time: now.UTC().Truncate(time.Second)}
}

// ownConditions are those that no rule can set.
func ownConditions() []string {
	return []string{
		work.ConditionApplied, work.ConditionAvailable, work.ConditionHealthy, work.ConditionDeleting,
		work.ConditionFeedbackSynced, ConditionPruneBlocked, ConditionDrifted,
	}
}

var typeRE = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

func validRule(r *wire.RuleCondition) bool {
	status := metav1.ConditionStatus(r.Status)
	known := status == metav1.ConditionTrue || status == metav1.ConditionFalse || status == metav1.ConditionUnknown
	return known && len(r.Type) <= 316 && typeRE.MatchString(r.Type) && !slices.Contains(ownConditions(), r.Type)
}

func driftOf(d *wire.Drift) *work.Drift {
	if d == nil {
		return nil
	}
	switch d.State {
	case wire.DriftStatePresent, wire.DriftStateCorrected, wire.DriftStateFighting, wire.DriftStateMissing:
	default:
		return nil
	}
	out := &work.Drift{State: d.State, Total: count(max(d.Total, len(d.Diffs))), Manager: clip(d.Manager, maxShort), Corrections: count(d.Corrections)}
	if !d.Since.IsZero() {
		out.Since = &metav1.Time{Time: d.Since.UTC().Truncate(time.Second)}
	}
	for _, f := range d.Diffs[:min(len(d.Diffs), maxFields)] {
		out.Fields = append(out.Fields, work.FieldDrift{Path: clip(f.Path, maxMessage), Desired: clip(f.Desired, maxShort), Live: clip(f.Live, maxShort)})
	}
	return out
}

func feedbackOf(list []wire.Feedback) []work.FeedbackValue {
	var out []work.FeedbackValue
	for _, f := range list {
		v := work.FeedbackValue{Name: clip(f.Name, maxShort), FieldValue: work.FieldValue{Type: f.Type}}
		switch {
		case len(out) == maxValues || f.Name == "":
			continue
		case f.Type == "Integer" && f.Integer != nil:
			v.FieldValue.Integer = f.Integer
		case f.Type == "Boolean" && f.Boolean != nil:
			v.FieldValue.Boolean = f.Boolean
		case f.Type == "String" && f.String != nil:
			text := clip(strings.ToValidUTF8(*f.String, ""), maxMessage)
			v.FieldValue.String = &text
		case f.Type == "JsonRaw" && f.JSONRaw != nil && len(*f.JSONRaw) <= maxJSONRaw:
			v.FieldValue.JSONRaw = f.JSONRaw
		default:
			continue
		}
		if !slices.ContainsFunc(out, func(x work.FeedbackValue) bool { return x.Name == v.Name }) {
			out = append(out, v)
		}
	}
	return out
}
