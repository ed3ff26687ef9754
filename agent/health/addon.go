// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"cmp"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// Hold holds an object to the health rules of its addon, all within one budget,
// after Judge wrote how it is by itself. A rule only makes worse: an object is
// Current when it is so by kstatus and every rule is true. One that is not true
// makes it InProgress and, when the timeout has passed since the content was
// applied, Failed. A rule that cannot be evaluated makes what would be Current
// Unknown, with the error; of what is still on its way nothing can be expected yet.
func (j *Judge) Hold(live *unstructured.Unstructured, rules []fleet.HealthRule, applied time.Time, report *wire.ManifestReport) {
	switch report.Health {
	case wire.HealthCurrent, wire.HealthInProgress:
	default:
		return
	}
	spend := newBudget()
	var message string
	health := report.Health
	for i := range rules {
		verdict, why := j.hold(live, &rules[i], applied, spend)
		if verdict == wire.HealthUnknown && report.Health != wire.HealthCurrent {
			continue
		}
		if graver(verdict, health) {
			health = verdict
			message = why
		} else if verdict == health && verdict != wire.HealthCurrent {
			message = joined(message, why)
		}
	}
	report.Health, report.HealthMessage = health, cut(joined(message, report.HealthMessage))
}

// graver orders what rules can make of an object.
func graver(a, b string) bool {
	rank := map[string]int{wire.HealthCurrent: 0, wire.HealthInProgress: 1, wire.HealthUnknown: 2, wire.HealthFailed: 3}
	return rank[a] > rank[b]
}

func (j *Judge) hold(live *unstructured.Unstructured, rule *fleet.HealthRule, applied time.Time, spend *budget) (health, message string) {
	if rule.Expression == "" {
		return wire.HealthCurrent, ""
	}
	met, err := j.cel.truth(rule.Expression, live.Object, spend)
	if err != nil {
		return wire.HealthUnknown, fmt.Sprintf("health rule %q: %v", rule.Name, err)
	}
	if met {
		return wire.HealthCurrent, ""
	}
	message = cmp.Or(rule.Message, fmt.Sprintf("health rule %q is not met", rule.Name))
	if t := rule.Timeout.Duration; t > 0 && !applied.IsZero() && time.Since(applied) >= t {
		return wire.HealthFailed, message + fmt.Sprintf(" (for more than %s)", t)
	}
	return wire.HealthInProgress, message
}
