// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/wire"
)

// special decides before kstatus, where that is wrong whatever it says. The
// zero verdict leaves the decision to kstatus.
func special(live *unstructured.Unstructured) verdict {
	if live.GetDeletionTimestamp() != nil {
		return verdict{wire.HealthTerminating, terminating(live)}
	}
	switch groupKind(live) {
	case "/Pod":
		return pod(live)
	case "/PersistentVolumeClaim":
		if text(live, "status", "phase") == "Lost" {
			return verdict{wire.HealthFailed, "Lost: its volume does not exist any more"}
		}
	case "/PersistentVolume":
		if text(live, "status", "phase") == "Failed" {
			return verdict{wire.HealthFailed, joined(text(live, "status", "reason"), text(live, "status", "message"), "Failed")}
		}
	case "batch/Job":
		return job(live)
	case "apps/DaemonSet":
		return daemonSet(live)
	case "apiregistration.k8s.io/APIService":
		return apiService(live)
	}
	return verdict{}
}

// second looks again at what kstatus calls Current.
func second(live *unstructured.Unstructured) verdict {
	switch groupKind(live) {
	case "apps/StatefulSet":
		return statefulSet(live)
	case "/Service":
		return service(live)
	}
	return verdict{}
}

func groupKind(live *unstructured.Unstructured) string {
	gvk := live.GroupVersionKind()
	return gvk.Group + "/" + gvk.Kind
}

func terminating(live *unstructured.Unstructured) string {
	if f := live.GetFinalizers(); len(f) > 0 {
		return "waits for finalizers: " + strings.Join(f, ", ")
	}
	return "being deleted"
}

// kstatus calls a failed Pod Current.
func pod(live *unstructured.Unstructured) verdict {
	if text(live, "status", "phase") != "Failed" {
		return verdict{}
	}
	return verdict{wire.HealthFailed, joined(text(live, "status", "reason"), text(live, "status", "message"), "PodFailed")}
}

// kstatus calls a Job Current as soon as it runs.
func job(live *unstructured.Unstructured) verdict {
	if suspended, _, _ := unstructured.NestedBool(live.Object, "spec", "suspend"); suspended {
		return verdict{wire.HealthCurrent, ""}
	}
	for _, c := range conditionsOf(live) {
		if c.status != "True" {
			continue
		}
		switch c.kind {
		case "Complete", "SuccessCriteriaMet":
			return verdict{wire.HealthCurrent, ""}
		case "Failed", "FailureTarget":
			return verdict{wire.HealthFailed, joined("JobFailed", c.reason, c.message)}
		}
	}
	wanted := number(live, number(live, 1, "spec", "parallelism"), "spec", "completions")
	message := fmt.Sprintf("JobRunning: succeeded: %d/%d", number(live, 0, "status", "succeeded"), wanted)
	if failed := number(live, 0, "status", "failed"); failed > 0 {
		message += fmt.Sprintf(", failed: %d", failed)
	}
	return verdict{wire.HealthInProgress, message}
}

// kstatus waits for ever for a DaemonSet that replaces its pods only when
// somebody deletes them.
func daemonSet(live *unstructured.Unstructured) verdict {
	if text(live, "spec", "updateStrategy", "type") != "OnDelete" || !observed(live) {
		return verdict{}
	}
	wanted := number(live, -1, "status", "desiredNumberScheduled")
	available := number(live, 0, "status", "numberAvailable")
	switch {
	case wanted < 0:
		return verdict{}
	case available < wanted:
		return verdict{wire.HealthInProgress, fmt.Sprintf("LessAvailable: Available: %d/%d", available, wanted)}
	}
	return verdict{wire.HealthCurrent, ""}
}

// kstatus does not look at minReadySeconds, nor at a set that is updated by hand.
func statefulSet(live *unstructured.Unstructured) verdict {
	wanted := number(live, 1, "spec", "replicas")
	ready := number(live, 0, "status", "readyReplicas")
	available := number(live, ready, "status", "availableReplicas")
	switch {
	case !observed(live):
		return verdict{wire.HealthInProgress, "LatestGenerationNotObserved"}
	case ready < wanted:
		return verdict{wire.HealthInProgress, fmt.Sprintf("LessReady: Ready: %d/%d", ready, wanted)}
	case available < wanted:
		return verdict{wire.HealthInProgress, fmt.Sprintf("LessAvailable: Available: %d/%d", available, wanted)}
	}
	return verdict{}
}

// kstatus calls a load balancer Current before it has an address.
func service(live *unstructured.Unstructured) verdict {
	if text(live, "spec", "type") != "LoadBalancer" {
		return verdict{}
	}
	ingress, _, _ := unstructured.NestedFieldNoCopy(live.Object, "status", "loadBalancer", "ingress")
	if list, _ := ingress.([]any); len(list) == 0 {
		return verdict{wire.HealthInProgress, "NoAddress: no load balancer has given the Service an address"}
	}
	return verdict{}
}

// kstatus does not know APIServices.
func apiService(live *unstructured.Unstructured) verdict {
	c, found := conditionOf(live, "Available")
	switch {
	case !found:
		return verdict{wire.HealthInProgress, "the API server has not looked at it yet"}
	case c.status == "True":
		return verdict{wire.HealthCurrent, ""}
	}
	return verdict{wire.HealthInProgress, joined(c.reason, c.message)}
}

// observed says that the controller has seen the newest spec.
func observed(live *unstructured.Unstructured) bool {
	return number(live, -1, "status", "observedGeneration") >= live.GetGeneration()
}

func text(live *unstructured.Unstructured, path ...string) string {
	value, _, _ := unstructured.NestedString(live.Object, path...)
	return value
}

func number(live *unstructured.Unstructured, missing int64, path ...string) int64 {
	value, found, err := unstructured.NestedInt64(live.Object, path...)
	if !found || err != nil {
		return missing
	}
	return value
}

// joined puts the parts that say something behind each other.
func joined(parts ...string) string {
	var said []string
	for _, p := range parts {
		if p != "" && !strings.Contains(strings.Join(said, ": "), p) {
			said = append(said, p)
		}
	}
	return strings.Join(said, ": ")
}
