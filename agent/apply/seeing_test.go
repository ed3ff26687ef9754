// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/wire"
)

// An operator reads in the report what the scheduler said.
func TestStuckDeploymentSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, "why")
	r.start()
	item := r.item("web", 1, "", deployment("why", "web", `{"no-such":"node"}`))
	r.engine.Sync([]wire.Item{item})
	got := r.await(item, "failed, with the reason", func(report wire.Report) bool {
		m := report.Manifests[0]
		return m.Health == wire.HealthFailed && strings.Contains(m.HealthMessage, "node(s) didn't match Pod's node affinity/selector")
	})
	m := got.Manifests[0]
	if !strings.HasPrefix(m.HealthMessage, "ProgressDeadlineExceeded: ") || !strings.Contains(m.HealthMessage, "Unschedulable: 0/1 nodes are available") {
		t.Errorf("message %q", m.HealthMessage)
	}
	r.await(item, "the event", func(report wire.Report) bool {
		return slices.ContainsFunc(report.Manifests[0].Events, func(e wire.EventNote) bool {
			return e.Reason == "FailedScheduling" && strings.HasPrefix(e.Object, "Pod/web-") && e.Count > 0 && !e.Last.IsZero()
		})
	})
}

func TestFeedbackAndConditions(t *testing.T) {
	t.Parallel()
	r := newRig(t, "feedback")
	r.start()
	extra := `{"manifestConfigs":[
		{"resourceIdentifier":{"group":"","resource":"configmaps","namespace":"feedback","name":"a"},
		 "feedbackRules":[{"type":"JSONPaths","jsonPaths":[{"name":"level","path":".data.level"},{"name":"none","path":".data.none"}]}],
		 "conditionRules":[{"condition":"Loud","type":"CEL","celExpressions":["object.data.level == 'debug'"],"messageExpression":"'level is ' + object.data.level"}]},
		{"resourceIdentifier":{"group":"*","resource":"*","namespace":"feedback","name":"*"},"feedbackRules":[{"type":"WellKnownStatus"}]}]}`
	item := r.item("app", 1, extra, configMap("feedback", "a", "info"), deployment("feedback", "web", "{}"))
	item.Policy.Drift = wire.DriftReport
	r.engine.Sync([]wire.Item{item})
	check := func(what, status, value string) {
		t.Helper()
		began := time.Now()
		r.await(item, what, func(report wire.Report) bool {
			m := report.Manifests[0]
			return m.FeedbackSynced != nil && *m.FeedbackSynced && len(m.Feedback) == 1 && *m.Feedback[0].String == value &&
				len(m.Conditions) == 1 && m.Conditions[0].Status == status && m.Conditions[0].Message == "level is "+value
		})
		t.Logf("%s: reported after %v", what, time.Since(began))
	}
	check("first state", "False", "info")
	r.await(item, "well-known feedback", func(report wire.Report) bool {
		for _, f := range report.Manifests[1].Feedback {
			if f.Name == "ReadyReplicas" && *f.Integer == 2 {
				return true
			}
		}
		return false
	})
	r.edit(configMaps, "a", `{"data":{"level":"debug"}}`)
	check("change", "True", "debug")
	// The rules survive a restart, though the content is not applied again.
	r.stop()
	r.takeWrites()
	r.start()
	r.engine.Sync([]wire.Item{item})
	check("after a restart", "True", "debug")
}

// A change of status on the cluster is in a report well within a second.
func TestStatusIsSeenSoon(t *testing.T) {
	t.Parallel()
	r := newRig(t, "soon")
	r.start()
	item := r.item("app", 1, `{"manifestConfigs":[{"resourceIdentifier":{"group":"","resource":"configmaps","namespace":"soon","name":"a"},
		"feedbackRules":[{"type":"JSONPaths","jsonPaths":[{"name":"n","path":".data.n"}]}]}]}`, configMap("soon", "a", "info"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	var took []time.Duration
	for i := range 10 {
		time.Sleep(1100 * time.Millisecond) // within the rate of reports
		began := r.edit(configMaps, "a", fmt.Sprintf(`{"data":{"n":"%d"}}`, i))
		r.await(item, "value", func(report wire.Report) bool {
			f := report.Manifests[0].Feedback
			return len(f) == 1 && *f[0].String == strconv.Itoa(i)
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("change on the cluster to report: p50 %v, max %v", took[5], took[9])

	// A hundred changes in a row become a few reports, the last of them true.
	r.mu.Lock()
	before := len(r.reports["app"])
	r.mu.Unlock()
	began := time.Now()
	for i := range 100 {
		r.edit(configMaps, "a", fmt.Sprintf(`{"data":{"n":"b%d"}}`, i))
	}
	r.await(item, "last value", func(report wire.Report) bool { return *report.Manifests[0].Feedback[0].String == "b99" })
	elapsed := time.Since(began)
	r.mu.Lock()
	sent := len(r.reports["app"]) - before
	r.mu.Unlock()
	if limit := int(elapsed/time.Second) + 4; sent > limit {
		t.Errorf("%d reports in %v", sent, elapsed)
	}
}

// No report says of content that it is healthy before exactly that content is.
func TestReportsAreTrue(t *testing.T) {
	t.Parallel()
	r := newRig(t, "truth")
	r.start()
	var last wire.Item
	digests := make(map[string]int)
	for i := 1; i <= 12; i++ {
		// The feedback says which content the health beside it was read from, and its
		// name by which content's rules.
		extra := fmt.Sprintf(`{"manifestConfigs":[{"resourceIdentifier":{"group":"apps","resource":"deployments","namespace":"truth","name":"web"},
			"feedbackRules":[{"type":"JSONPaths","jsonPaths":[{"name":"version","path":".spec.template.metadata.labels.version"},{"name":"by-v%d","path":".kind"},
			{"name":"generation","path":".metadata.generation"},{"name":"observed","path":".status.observedGeneration"}]}]}]}`, i)
		body := strings.Replace(deployment("truth", "web", "{}"), `"labels":{"app":"web"}`, fmt.Sprintf(`"labels":{"app":"web","version":"v%d"}`, i), 1)
		last = r.item("app", int64(i), extra, body)
		digests[last.Digest] = i
		r.engine.Sync([]wire.Item{last})
		if i%3 == 0 {
			r.awaitCurrent(last)
		} else {
			time.Sleep(time.Duration(i*37%5) * 60 * time.Millisecond)
		}
	}
	r.awaitCurrent(last)
	r.mu.Lock()
	defer r.mu.Unlock()
	checked := 0
	for _, report := range r.reports["app"] {
		if len(report.Manifests) == 0 || !report.Manifests[0].Applied || report.Manifests[0].Health == "" {
			continue
		}
		values := map[string]string{}
		for _, f := range report.Manifests[0].Feedback {
			switch {
			case f.String != nil:
				values[f.Name] = *f.String
			case f.Integer != nil:
				values[f.Name] = strconv.FormatInt(*f.Integer, 10)
			}
		}
		if want := fmt.Sprint("v", digests[report.Digest]); values["version"] != want || values["by-"+want] == "" {
			t.Errorf("report of %s holds %v", want, values)
		}
		if report.Manifests[0].Health == wire.HealthCurrent && values["generation"] != values["observed"] {
			t.Errorf("Current at generation %s, observed %s", values["generation"], values["observed"])
		}
		checked++
	}
	t.Logf("%d reports checked", checked)
}

// An agent that has nothing to do writes nothing and says nothing.
func TestSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t, "silence")
	r.start()
	item := r.item("app", 1, "", configMap("silence", "a", "info"), deployment("silence", "web", "{}"))
	r.engine.Sync([]wire.Item{item})
	r.awaitCurrent(item)
	r.takeWrites()
	r.mu.Lock()
	before := len(r.reports["app"])
	r.mu.Unlock()
	for i := range 3 {
		r.edit(configMaps, "a", fmt.Sprintf(`{"metadata":{"annotations":{"example.com/tick":"%d"}}}`, i))
		time.Sleep(time.Second)
	}
	r.mu.Lock()
	after := len(r.reports["app"])
	r.mu.Unlock()
	if w := r.takeWrites(); len(w) > 0 || after != before {
		t.Errorf("%d reports, wrote %v", after-before, w)
	}
}

// A crash loop below a workload is told, with what the container said last.
func TestCrashLoopIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, "crash")
	r.start()
	// No node takes the pod, so its status is the test's to write.
	item := r.item("web", 1, "", deployment("crash", "web", `{"no-such":"node"}`))
	r.engine.Sync([]wire.Item{item})
	pods := configMaps
	pods.Resource = "pods"
	var name string
	for deadline := time.Now().Add(patience); name == ""; time.Sleep(50 * time.Millisecond) {
		list, err := r.live.Resource(pods).Namespace("crash").List(t.Context(), metav1.ListOptions{})
		if err != nil || time.Now().After(deadline) {
			t.Fatal("no pods", err)
		}
		if len(list.Items) > 0 {
			name = list.Items[0].GetName()
		}
	}
	status := `{"status":{"phase":"Running","conditions":[{"type":"PodScheduled","status":"True"},{"type":"Ready","status":"False","reason":"ContainersNotReady"}],
		"containerStatuses":[{"name":"c","image":"x","imageID":"","ready":false,"restartCount":7,"state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 5m0s"}},
		"lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled","message":"too much"}}}]}}`
	if _, err := r.live.Resource(pods).Namespace("crash").Patch(t.Context(), name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	got := r.await(item, "crash loop", func(report wire.Report) bool {
		m := report.Manifests[0]
		return m.Health == wire.HealthFailed && m.Restarts == 7 && strings.Contains(m.HealthMessage, "CrashLoopBackOff")
	})
	if m := got.Manifests[0]; !strings.Contains(m.HealthMessage, "Pod "+name+": CrashLoopBackOff: container c restarted 7 times, last: OOMKilled, exit code 137: too much") {
		t.Errorf("message %q", m.HealthMessage)
	}
}
