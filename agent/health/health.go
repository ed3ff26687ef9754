// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package health says how a Kubernetes object is, from the object alone: its
// health, the values that feedback rules ask for, and the conditions that
// condition rules make. It asks no cluster.
//
// Health follows kstatus, the convention of kubectl and Flux. It differs where
// kstatus calls something ready that an operator would not: a Job that still
// runs, a Pod that failed, a load balancer without an address, an APIService
// whose server does not answer, a StatefulSet whose pods are too young.
//
// Feedback and condition rules mean what they mean in Open Cluster Management.
package health

import (
	"fmt"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// Judge evaluates objects. It keeps compiled rules, nothing of the objects, and
// may be used by many goroutines.
type Judge struct {
	cel *evaluator
}

// New returns a judge. It compiles nothing before the first rule.
func New() *Judge { return &Judge{cel: newEvaluator()} }

// Judge writes into report how the live object is and what the rules say of it.
// It fills Health, HealthMessage, FeedbackSynced, Feedback, FeedbackError and
// Conditions, and leaves the other fields alone.
func (j *Judge) Judge(live *unstructured.Unstructured, feedback []work.FeedbackRule, conditions []work.ConditionRule, report *wire.ManifestReport) {
	report.Health, report.HealthMessage = Of(live)
	report.FeedbackSynced, report.Feedback, report.FeedbackError = nil, nil, ""
	if len(feedback) > 0 {
		values, err := Feedback(live, feedback)
		synced := err == nil
		report.FeedbackSynced, report.Feedback = &synced, values
		if err != nil {
			report.FeedbackError = cut(err.Error())
		}
	}
	report.Conditions = nil
	if len(conditions) > 0 {
		report.Conditions = j.Conditions(live, conditions)
	}
}

// verdict is a health constant and why; undecided when the string is empty.
type verdict struct{ health, message string }

// Of is the health of an object, one of wire's Health constants, and, unless it
// is Current, why: the reason, the message, and the conditions that are not met.
//
// It judges what foreign controllers wrote: an object that makes kstatus panic
// must not take the agent down with it.
func Of(live *unstructured.Unstructured) (health, message string) {
	defer func() {
		if p := recover(); p != nil {
			health, message = wire.HealthUnknown, cut(fmt.Sprintf("status cannot be understood: %v", p))
		}
	}()
	if v := special(live); v.health != "" {
		return v.health, cut(v.message)
	}
	computed, err := status.Compute(live)
	if err != nil {
		return wire.HealthUnknown, cut(fmt.Sprintf("status cannot be understood: %v", err))
	}
	v := verdict{health: string(computed.Status)}
	if computed.Status == status.CurrentStatus {
		if v = second(live); v.health == "" || v.health == wire.HealthCurrent {
			return wire.HealthCurrent, ""
		}
	}
	var parts []string
	add := func(s string) {
		if s != "" && !strings.Contains(strings.Join(parts, ": "), s) {
			parts = append(parts, s)
		}
	}
	if v.message != "" {
		add(v.message)
	} else {
		for _, c := range computed.Conditions {
			add(c.Reason)
		}
		add(computed.Message)
	}
	for _, m := range unmetConditions(live) {
		add(m)
	}
	return v.health, cut(strings.Join(parts, ": "))
}

// maxMessage keeps one object's message readable, and a report small.
const maxMessage = 1024

func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage-3], "") + "..."
}

// condition is one entry of status.conditions.
type condition struct{ kind, status, reason, message string }

func conditionsOf(live *unstructured.Unstructured) []condition {
	list, _, err := unstructured.NestedFieldNoCopy(live.Object, "status", "conditions")
	entries, ok := list.([]any)
	if err != nil || !ok {
		return nil
	}
	var conditions []condition
	for _, entry := range entries {
		fields, ok := entry.(map[string]any)
		if !ok {
			continue
		}
		text := func(name string) string { s, _ := fields[name].(string); return s }
		conditions = append(conditions, condition{text("type"), text("status"), text("reason"), text("message")})
	}
	return conditions
}

func conditionOf(live *unstructured.Unstructured, kind string) (condition, bool) {
	for _, c := range conditionsOf(live) {
		if c.kind == kind {
			return c, true
		}
	}
	return condition{}, false
}

// unmetConditions are the messages of conditions that say what is wrong, which
// say more than kstatus does.
func unmetConditions(live *unstructured.Unstructured) []string {
	var messages []string
	for _, c := range conditionsOf(live) {
		bad := c.status == "False"
		switch c.kind {
		case "ReplicaFailure", "Degraded", "Failed", "FailureTarget":
			bad = c.status == "True"
		}
		if bad && c.message != "" {
			messages = append(messages, c.message)
		}
	}
	return messages
}
