// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/agent/health"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

func metaTime(t time.Time) metav1.Time { return metav1.NewTime(t) }

const readyDeployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"a":"b"}},
	"spec":{"replicas":3,"paused":false},"status":{"replicas":3,"readyReplicas":2,"ratio":0.5,"none":null,
	"conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"True"}]}}`

func paths(path string) []work.FeedbackRule {
	return []work.FeedbackRule{{Type: work.FeedbackJSONPaths, JSONPaths: []work.JSONPath{{Name: "v", Path: path}}}}
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	big := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{},"data":{"k":"` + strings.Repeat("x", 2000) + `"}}`
	wellKnown := []work.FeedbackRule{{Type: work.FeedbackWellKnown}}
	for _, tt := range []struct {
		name, body string
		rules      []work.FeedbackRule
		want, err  string
	}{
		{"deployment", readyDeployment, wellKnown, `ReadyReplicas=2 Replicas=3`, ""},
		{
			"statefulset", `{"apiVersion":"apps/v1","kind":"StatefulSet","status":{"replicas":1,"readyReplicas":1,"availableReplicas":1}}`,
			wellKnown, `ReadyReplicas=1 Replicas=1 AvailableReplicas=1`, "",
		},
		{
			"daemonset", `{"apiVersion":"apps/v1","kind":"DaemonSet","status":{"numberReady":1,"desiredNumberScheduled":2,"numberAvailable":1}}`,
			wellKnown, `NumberReady=1 DesiredNumberScheduled=2 NumberAvailable=1`, "",
		},
		{
			"job", `{"apiVersion":"batch/v1","kind":"Job","status":{"succeeded":1,"conditions":[{"type":"Complete","status":"True"}]}}`,
			wellKnown, `JobComplete="True" JobSucceeded=1`, "",
		},
		{
			"pod", `{"apiVersion":"v1","kind":"Pod","status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`,
			wellKnown, `PodReady="True" PodPhase="Running"`, "",
		},
		{"nothing well known", `{"apiVersion":"v1","kind":"ConfigMap"}`, wellKnown, "", "cannot find the wellknown statuses for resource with gvk /v1, Kind=ConfigMap"},
		{"unknown type", readyDeployment, []work.FeedbackRule{{Type: "Other"}}, "", `feedback rule type "Other" is not supported`},
		{"string", readyDeployment, paths(`.status.conditions[?(@.type=="Available")].status`), `v="True"`, ""},
		{"bool", readyDeployment, paths(".spec.paused"), `v=false`, ""},
		{"missing", readyDeployment, paths(".status.nowhere.at.all"), "", ""},
		{"null", readyDeployment, paths(".status.none"), "", ""},
		{"float", readyDeployment, paths(".status.ratio"), `v=raw:0.5`, ""},
		{"map", readyDeployment, paths(".metadata.labels"), `v=raw:{"a":"b"}`, ""},
		{"several", readyDeployment, paths(".status.conditions[*].type"), `v=raw:["Available","Progressing"]`, ""},
		{"too large", big, paths(".data"), "", "the length of returned json raw string for name v is larger than the maximum length 1024"},
		{"bad path", readyDeployment, paths(".status["), "", "failed to parse json path"},
		{"index beyond", readyDeployment, paths(".status.conditions[7].status"), "", "array index out of bounds"},
		{"empty path", readyDeployment, paths(" "), "", "path is empty"},
		{"too costly", readyDeployment, paths("..*..*..*"), "", `path has more than 2 ".."`},
		{
			"other version", readyDeployment,
			[]work.FeedbackRule{{Type: work.FeedbackJSONPaths, JSONPaths: []work.JSONPath{{Name: "v", Version: "v1beta1", Path: ".spec.replicas"}, {Name: "w", Version: "v1", Path: ".spec.replicas"}}}},
			"w=3", "version set in the path v is not matched for the related resource",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			values, err := health.Feedback(object(t, tt.body), tt.rules)
			var got []string
			for _, v := range values {
				switch v.Type {
				case "Integer":
					got = append(got, fmt.Sprintf("%s=%d", v.Name, *v.Integer))
				case "String":
					got = append(got, fmt.Sprintf("%s=%q", v.Name, *v.String))
				case "Boolean":
					got = append(got, fmt.Sprintf("%s=%v", v.Name, *v.Boolean))
				case "JsonRaw":
					got = append(got, v.Name+"=raw:"+*v.JSONRaw)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("error: %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	const job = `{"apiVersion":"batch/v1","kind":"Job","status":{"conditions":[{"type":"Failed","status":"True"}]}}`
	cel := func(r work.ConditionRule) work.ConditionRule {
		r.Type = work.RuleCEL
		if r.Condition == "" {
			r.Condition = "Active"
		}
		return r
	}
	exists := `object.status.conditions.exists(c, c.type == "Available" && c.status == "True")`
	for _, tt := range []struct {
		name, body                      string
		rule                            work.ConditionRule
		kind, status, reason, inMessage string
	}{
		{"true", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{exists}}), "Active", "True", health.ReasonEvaluated, "Manifest is Active"},
		{"all must hold", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{exists, "object.spec.replicas == 4"}}), "Active", "False", health.ReasonEvaluated, "Manifest is not Active"},
		{"message", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{exists}, Message: "up"}), "Active", "True", health.ReasonEvaluated, "up"},
		{
			"message expression", readyDeployment,
			cel(work.ConditionRule{CelExpressions: []string{exists}, Message: "no", MessageExpression: `result ? "web has " + string(object.spec.replicas) : "down"`}),
			"Active", "True", health.ReasonEvaluated, "web has 3",
		},
		{
			"bad message expression", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{exists}, MessageExpression: "badcel"}),
			"Active", "True", health.ReasonEvaluated, "undeclared reference to 'badcel'",
		},
		{
			"message of another type", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{exists}, MessageExpression: "1"}),
			"Active", "True", health.ReasonEvaluated, "expected message expression to have a string result",
		},
		{"missing field", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{"object.invalid.key == 'x'"}}), "Active", "False", health.ReasonExpressionError, "no such key: invalid"},
		{"syntax", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{"object."}}), "Active", "False", health.ReasonExpressionError, "Syntax error"},
		{"not a bool", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{"object.spec.replicas"}}), "Active", "False", health.ReasonExpressionError, "expected bool result, got int64"},
		{"quantities", readyDeployment, cel(work.ConditionRule{CelExpressions: []string{`quantity("1Gi").isGreaterThan(quantity("1M"))`}}), "Active", "True", health.ReasonEvaluated, ""},
		{"no expressions", readyDeployment, cel(work.ConditionRule{}), "Active", "Unknown", health.ReasonInvalid, "celExpressions is empty"},
		{"unknown type", readyDeployment, work.ConditionRule{Type: "X", Condition: "Active"}, "Active", "Unknown", health.ReasonInvalid, "unrecognized condition rule type X"},
		{
			"too costly", readyDeployment,
			cel(work.ConditionRule{CelExpressions: []string{`[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, true))))))`}}),
			"Active", "False", health.ReasonExpressionError, "", // for its cost, or on a slow machine its time
		},
		{
			"job complete", job,
			work.ConditionRule{Type: work.RuleWellKnown, Condition: work.ConditionComplete},
			"Complete", "True", health.ReasonEvaluated, "Job is finished",
		},
		{
			"job without status", `{"apiVersion":"batch/v1","kind":"Job"}`,
			work.ConditionRule{Type: work.RuleWellKnown, Condition: work.ConditionComplete},
			"Complete", "False", health.ReasonExpressionError, "no such key: status",
		},
		{
			"job just made", `{"apiVersion":"batch/v1","kind":"Job","status":{}}`,
			work.ConditionRule{Type: work.RuleWellKnown, Condition: work.ConditionComplete, Message: "unused"},
			"Complete", "False", health.ReasonEvaluated, "Job is not finished",
		},
		{
			"pod complete", `{"apiVersion":"v1","kind":"Pod","status":{"phase":"Succeeded"}}`,
			work.ConditionRule{Type: work.RuleWellKnown, Condition: work.ConditionComplete},
			"Complete", "True", health.ReasonEvaluated, "Pod is in phase Succeeded",
		},
		{"well known for nothing", readyDeployment, work.ConditionRule{Type: work.RuleWellKnown, Condition: work.ConditionComplete}, "", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := health.New()
			for range 2 { // compiled, and from the cache
				got := j.Conditions(object(t, tt.body), []work.ConditionRule{tt.rule})
				if tt.kind == "" {
					if len(got) != 0 {
						t.Errorf("got %+v, want nothing", got)
					}
					continue
				}
				if len(got) != 1 || got[0].Type != tt.kind || got[0].Status != tt.status || got[0].Reason != tt.reason || !strings.Contains(got[0].Message, tt.inMessage) {
					t.Errorf("got %+v, want %s %s %s %q", got, tt.kind, tt.status, tt.reason, tt.inMessage)
				}
			}
		})
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	const widget = `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"generation":2},"status":{"observedGeneration":2,"phase":"Going","n":3}}`
	const stale = `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"generation":3},"status":{"observedGeneration":2,"phase":"Going"}}`
	up := fleet.HealthRule{Name: "up", Expression: `object.status.phase == "Up"`, Message: "the widget is not up"}
	soon := up
	soon.Timeout = metav1.Duration{Duration: time.Minute}
	many := fleet.HealthRule{Name: "many", Expression: "object.status.n > 2"}
	few := fleet.HealthRule{Name: "few", Expression: "object.status.n > 5"}
	broken := fleet.HealthRule{Name: "broken", Expression: "object.status.none > 5"}
	now := time.Now()
	for _, tt := range []struct {
		name            string
		body            string
		rules           []fleet.HealthRule
		applied         time.Time
		health, message string
	}{
		{"no rules", widget, nil, now, wire.HealthCurrent, ""},
		{"met", widget, []fleet.HealthRule{many}, now, wire.HealthCurrent, ""},
		{"not met", widget, []fleet.HealthRule{many, up}, now.Add(-time.Hour), wire.HealthInProgress, "the widget is not up"},
		{"several not met", widget, []fleet.HealthRule{up, few}, now, wire.HealthInProgress, `the widget is not up: health rule "few" is not met`},
		{"in time", widget, []fleet.HealthRule{soon}, now, wire.HealthInProgress, "the widget is not up"},
		{"too late", widget, []fleet.HealthRule{few, soon}, now.Add(-time.Minute), wire.HealthFailed, "the widget is not up (for more than 1m0s)"},
		{"since when is not known", widget, []fleet.HealthRule{soon}, time.Time{}, wire.HealthInProgress, "the widget is not up"},
		{"error", widget, []fleet.HealthRule{up, broken}, now, wire.HealthUnknown, `health rule "broken": no such key: none`},
		{"error, but late", widget, []fleet.HealthRule{soon, broken}, now.Add(-time.Hour), wire.HealthFailed, "the widget is not up (for more than 1m0s)"},
		{"error on the way", stale, []fleet.HealthRule{broken}, now, wire.HealthInProgress, "LatestGenerationNotObserved"},
		{"late and not seen", stale, []fleet.HealthRule{soon}, now.Add(-time.Hour), wire.HealthFailed, "the widget is not up (for more than 1m0s): LatestGenerationNotObserved"},
		{"met on the way", stale, []fleet.HealthRule{{Name: "any", Expression: "true"}}, now, wire.HealthInProgress, "LatestGenerationNotObserved"},
		{"deleted", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}`, []fleet.HealthRule{soon}, now.Add(-time.Hour), wire.HealthTerminating, "being deleted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, j := object(t, tt.body), health.New()
			var got wire.ManifestReport
			j.Judge(u, nil, nil, &got)
			j.Hold(u, tt.rules, tt.applied, &got)
			if got.Health != tt.health || !strings.HasPrefix(got.HealthMessage, tt.message) || tt.message == "" && got.HealthMessage != "" {
				t.Errorf("got %s %q, want %s %q", got.Health, got.HealthMessage, tt.health, tt.message)
			}
		})
	}
}

// Whatever a rule says, it ends soon and nothing panics.
func FuzzConditions(f *testing.F) {
	f.Add(`object.status.conditions.exists(c, c.type == "Available")`, `"x" + string(result)`)
	f.Add(`object.a.b[0] == 1.0 / 0.0`, `object.status`)
	f.Add(`"aaaaaaaa".matches("(a+)+$")`, `[1,2].map(x, x).format("%s")`)
	j := health.New()
	u := object(f, readyDeployment)
	before, err := json.Marshal(u)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expression, message string) {
		got := j.Conditions(u, []work.ConditionRule{{Type: work.RuleCEL, Condition: "C", CelExpressions: []string{expression}, MessageExpression: message}})
		if len(got) != 1 || got[0].Reason == "" || len(got[0].Message) > 1024 {
			t.Errorf("got %+v", got)
		}
		if after, err := json.Marshal(u); err != nil || string(after) != string(before) {
			t.Errorf("the object changed: %s", after)
		}
	})
}

func FuzzFeedback(f *testing.F) {
	for _, path := range []string{".status.conditions[*].type", "..*", ".a}{range .b[*]}{.c}{end", ".status.conditions[?(@.type==\"A\")]", "[0:9:-1]", "['a','b']", ".x[-1]"} {
		f.Add(path)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(readyDeployment)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		values, _ := health.Feedback(u, paths(path))
		for _, v := range values {
			if v.JSONRaw != nil && len(*v.JSONRaw) > 1024 {
				t.Errorf("raw value of %d bytes", len(*v.JSONRaw))
			}
		}
	})
}
