// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind and resource of alert rules as the store and the API name them.
const (
	KindAlertRule      = "AlertRule"
	ResourceAlertRules = "alertrules." + Group
)

// AlertRule is a rule group in the form Prometheus knows.
type AlertRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AlertRuleSpec   `json:"spec"`
	Status AlertRuleStatus `json:"status,omitempty"`
}

// AlertRuleSpec is the group.
type AlertRuleSpec struct {
	Interval metav1.Duration `json:"interval,omitzero"` // 1m by default
	Limit    int32           `json:"limit,omitempty"`
	Rules    []Rule          `json:"rules"`
	Paused   bool            `json:"paused,omitempty"`
}

// Rule has either Alert or Record. For and KeepFiringFor are durations as
// Prometheus writes them, such as "1d".
type Rule struct {
	Alert         string            `json:"alert,omitempty"`
	Record        string            `json:"record,omitempty"`
	Expr          string            `json:"expr"`
	For           string            `json:"for,omitempty"`
	KeepFiringFor string            `json:"keep_firing_for,omitempty"` // as in rule files
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// AlertRuleStatus are results of the evaluation.
type AlertRuleStatus struct {
	Conditions     []metav1.Condition `json:"conditions,omitempty"`
	Firing         int32              `json:"firing,omitempty"`
	Pending        int32              `json:"pending,omitempty"`
	LastEvaluation *metav1.Time       `json:"lastEvaluation,omitempty"`
	LastError      string             `json:"lastError,omitempty"`
}
