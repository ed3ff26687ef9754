// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/wire"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func decodePod(t testing.TB, body string) pod {
	t.Helper()
	body = strings.NewReplacer(
		"FRESH", noon.Add(-5*time.Second).Format(time.RFC3339), "OLD", noon.Add(-time.Hour).Format(time.RFC3339)).Replace(body)
	var p pod
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	waiting := func(at, reason, message string) string {
		return fmt.Sprintf(`{"metadata":{"creationTimestamp":%q},"status":{"phase":"Pending","conditions":[{"type":"Ready","status":"False","lastTransitionTime":%q}],
			"containerStatuses":[{"name":"c","restartCount":0,"state":{"waiting":{"reason":%q,"message":%q}}}]}}`, at, at, reason, message)
	}
	crash := func(restarts int) string {
		return fmt.Sprintf(`{"metadata":{"creationTimestamp":"OLD"},"status":{"phase":"Running","containerStatuses":[{"name":"c","restartCount":%d,
			"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":1,"reason":"Error","message":"no database"}}}]}}`, restarts)
	}
	for _, tt := range []struct {
		name, pod string
		want      trouble
	}{
		{"ready", `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`, trouble{}},
		{"done", `{"status":{"phase":"Succeeded"}}`, trouble{}},
		{"being deleted", `{"metadata":{"deletionTimestamp":"OLD"},"status":{"phase":"Failed"}}`, trouble{}},
		{"evicted", `{"status":{"phase":"Failed","reason":"Evicted","message":"low on memory"}}`, trouble{"Evicted", "low on memory", true}},
		{"starting", waiting("FRESH", "ContainerCreating", ""), trouble{}},
		{"image, fresh", waiting("FRESH", "ErrImagePull", "no such image"), trouble{"ErrImagePull", "container c: no such image", false}},
		{"image, old", waiting("OLD", "ImagePullBackOff", "no such image"), trouble{"ImagePullBackOff", "container c: no such image", true}},
		{"config, old", waiting("OLD", "CreateContainerConfigError", `secret "s" not found`), trouble{"CreateContainerConfigError", `container c: secret "s" not found`, true}},
		{"first crash", crash(1), trouble{"CrashLoopBackOff", "container c restarted 1 times, last: Error, exit code 1: no database", false}},
		{"crash loop", crash(3), trouble{"CrashLoopBackOff", "container c restarted 3 times, last: Error, exit code 1: no database", true}},
		{
			"no node, fresh", `{"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes","lastTransitionTime":"FRESH"}]}}`,
			trouble{"Unschedulable", "0/1 nodes", false},
		},
		{
			"no node, old", `{"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes","lastTransitionTime":"OLD"}]}}`,
			trouble{"Unschedulable", "0/1 nodes", true},
		},
		{
			"gated", `{"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated","lastTransitionTime":"OLD"}]}}`,
			trouble{"SchedulingGated", "", false},
		},
		{
			"init container", `{"metadata":{"creationTimestamp":"OLD"},"status":{"phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":5,"state":{"terminated":{"exitCode":2,"reason":"Error"}}}],
			"containerStatuses":[{"name":"c","state":{"waiting":{"reason":"PodInitializing"}}}]}}`,
			trouble{"Error", "container i: Error, exit code 2", true},
		},
		{
			"probe fails", `{"metadata":{"creationTimestamp":"OLD"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"False","reason":"ContainersNotReady","message":"containers with unready status: [c]","lastTransitionTime":"OLD"}],
			"containerStatuses":[{"name":"c","state":{}}]}}`,
			trouble{"ContainersNotReady", "containers with unready status: [c]", false},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := decodePod(t, tt.pod)
			if diff := cmp.Diff(tt.want, p.trouble(noon), cmp.AllowUnexported(trouble{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBlame(t *testing.T) {
	t.Parallel()
	var pods []pod
	for i := range 3 {
		pods = append(pods, decodePod(t, fmt.Sprintf(`{"metadata":{"name":"web-%d","uid":"%d","creationTimestamp":"OLD"},"status":{"phase":"Pending",
			"containerStatuses":[{"name":"c","restartCount":%d,"state":{"waiting":{"reason":"ImagePullBackOff","message":"no such image"}}}]}}`, i, i, i)))
	}
	pods = append(pods, decodePod(t, `{"metadata":{"name":"web-9"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"restartCount":4}]}}`))
	report := wire.ManifestReport{Kind: "Deployment", Health: wire.HealthInProgress, HealthMessage: "LessReady: Ready: 1/4"}
	subjects := blame(pods, noon, &report)
	want := "LessReady: Ready: 1/4; Pod web-0: ImagePullBackOff: container c: no such image (and 2 more)"
	if report.Health != wire.HealthFailed || report.HealthMessage != want || report.Restarts != 7 || len(subjects) != maxTroubled {
		t.Errorf("got %+v, %d subjects", report, len(subjects))
	}
}

func TestNewestEvents(t *testing.T) {
	t.Parallel()
	var notes []wire.EventNote
	for i := range 9 {
		notes = append(notes, wire.EventNote{Object: "Pod/a", Reason: "R", Message: fmt.Sprint(i % 7), Count: 1, Last: noon.Add(time.Duration(i) * time.Minute)})
	}
	var got []string
	for _, n := range newest(notes) {
		got = append(got, fmt.Sprintf("%s*%d", n.Message, n.Count))
	}
	if diff := cmp.Diff("1*2 0*2 6*1 5*1 4*1", strings.Join(got, " ")); diff != "" {
		t.Error(diff)
	}
}

func TestNotAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, version, than string
		want                bool
	}{
		{"older", "9", "10", true},
		{"same", "10", "10", true},
		{"newer", "11", "10", false},
		{"first", "1", "", false},
		{"same words", "x", "x", true},
		{"other words", "x", "y", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := notAfter(tt.version, tt.than); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func FuzzPod(f *testing.F) {
	f.Add(`{"metadata":{"creationTimestamp":null},"status":{"containerStatuses":[{"state":{"waiting":{}}},{"lastState":{"terminated":{"exitCode":1}},"restartCount":1}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		var p pod
		if json.Unmarshal([]byte(body), &p) != nil {
			return
		}
		report := wire.ManifestReport{Kind: "Deployment", Health: wire.HealthInProgress}
		blame([]pod{p}, noon, &report)
		if len(report.HealthMessage) > maxMessage+8 {
			t.Errorf("message of %d bytes", len(report.HealthMessage))
		}
	})
}
