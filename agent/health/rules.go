// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// Reasons of the conditions that rules make, as in Open Cluster Management.
const (
	ReasonEvaluated       = "ConditionRuleEvaluated"
	ReasonInvalid         = "ConditionRuleInvalid"
	ReasonExpressionError = "ConditionRuleExpressionError"
	ReasonInternalError   = "ConditionRuleInternalError"
)

const (
	statusTrue    = "True"
	statusFalse   = "False"
	statusUnknown = "Unknown"
)

// Conditions evaluates condition rules, all within one budget. A rule that
// fails means False; a well-known rule for a kind that has none is left out.
// Of several rules for one condition the last counts.
func (j *Judge) Conditions(live *unstructured.Unstructured, rules []work.ConditionRule) []wire.RuleCondition {
	spend := newBudget()
	var conditions []wire.RuleCondition
	place := make(map[string]int, len(rules))
	for _, rule := range rules {
		c, ok := j.condition(live, rule, spend)
		if !ok {
			continue
		}
		c.Message = cut(c.Message)
		if i, again := place[c.Type]; again {
			conditions[i] = c
			continue
		}
		place[c.Type] = len(conditions)
		conditions = append(conditions, c)
	}
	return conditions
}

func (j *Judge) condition(live *unstructured.Unstructured, rule work.ConditionRule, spend *budget) (wire.RuleCondition, bool) {
	switch {
	case rule.Condition == "":
		return wire.RuleCondition{}, false
	case rule.Type == work.RuleCEL:
		return j.celCondition(live, rule, spend), true
	case rule.Type != work.RuleWellKnown:
		return wire.RuleCondition{
			Type: rule.Condition, Status: statusUnknown, Reason: ReasonInvalid,
			Message: fmt.Sprintf("unrecognized condition rule type %s", rule.Type),
		}, true
	}
	known, ok := wellKnownRule(live.GroupVersionKind(), rule.Condition)
	if !ok {
		return wire.RuleCondition{}, false
	}
	if rule.Message != "" {
		known.Message = rule.Message
	}
	if rule.MessageExpression != "" {
		known.MessageExpression = rule.MessageExpression
	}
	return j.celCondition(live, known, spend), true
}

// wellKnownRule is what WellKnownConditions means.
func wellKnownRule(gvk schema.GroupVersionKind, condition string) (work.ConditionRule, bool) {
	if condition != work.ConditionComplete {
		return work.ConditionRule{}, false
	}
	rule := work.ConditionRule{Condition: condition, Type: work.RuleCEL}
	switch gvk {
	case schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}:
		rule.CelExpressions = []string{`hasConditions(object.status) ` +
			`? object.status.conditions.filter(c, c.type == 'Complete' || c.type == 'Failed').exists(c, c.status == 'True') : false`}
		rule.MessageExpression = `result ? "Job is finished" : "Job is not finished"`
	case schema.GroupVersionKind{Version: "v1", Kind: "Pod"}:
		rule.CelExpressions = []string{`object.status.phase in ['Succeeded', 'Failed']`}
		rule.MessageExpression = `"Pod is in phase " + object.status.phase`
	default:
		return work.ConditionRule{}, false
	}
	return rule, true
}

func (j *Judge) celCondition(live *unstructured.Unstructured, rule work.ConditionRule, spend *budget) wire.RuleCondition {
	c := wire.RuleCondition{Type: rule.Condition, Status: statusTrue, Reason: ReasonEvaluated}
	if len(rule.CelExpressions) == 0 {
		return wire.RuleCondition{
			Type: rule.Condition, Status: statusUnknown, Reason: ReasonInvalid,
			Message: "celExpressions is empty",
		}
	}
	for _, expression := range rule.CelExpressions {
		met, err := j.cel.truth(expression, live.Object, spend)
		if err != nil {
			c.Status, c.Reason, c.Message = statusFalse, ReasonExpressionError, err.Error()
			if isInternal(err) {
				c.Status, c.Reason = statusUnknown, ReasonInternalError
			}
			return c
		}
		if !met {
			c.Status = statusFalse
			break
		}
	}
	c.Message = j.message(live, rule, c.Status == statusTrue, spend)
	return c
}

// message is that of the rule. An error in it takes the message's place and
// changes nothing else.
func (j *Judge) message(live *unstructured.Unstructured, rule work.ConditionRule, result bool, spend *budget) string {
	if rule.MessageExpression != "" {
		message, err := j.cel.text(rule.MessageExpression, live.Object, result, spend)
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n | ")
			return first
		}
		if message != "" {
			return message
		}
	}
	switch {
	case rule.Message != "":
		return rule.Message
	case result:
		return "Manifest is " + rule.Condition
	}
	return "Manifest is not " + rule.Condition
}
