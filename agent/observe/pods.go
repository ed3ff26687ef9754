// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

const (
	// startTolerance is how long a pod may fail to start before it counts as
	// Failed, and scheduleTolerance how long it may wait for a node: an
	// autoscaler needs a moment.
	startTolerance    = 30 * time.Second
	scheduleTolerance = time.Minute
	// crashTolerance is how often a container may crash before it counts as
	// Failed: many wait for something else in this way.
	crashTolerance = 3
)

// meta is what is read of an object's metadata.
type meta struct {
	Name              string            `json:"name"`
	UID               string            `json:"uid"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	Annotations       map[string]string `json:"annotations"`
	OwnerReferences   []struct {
		UID string `json:"uid"`
	} `json:"ownerReferences"`
}

func (m meta) ownedBy(uids map[string]bool) bool {
	for _, o := range m.OwnerReferences {
		if uids[o.UID] {
			return true
		}
	}
	return false
}

// revision is that of a Deployment's ReplicaSet.
func (m meta) revision() int {
	n, _ := strconv.Atoi(m.Annotations["deployment.kubernetes.io/revision"])
	return n
}

// pod is what is read of a Pod.
type pod struct {
	Metadata meta `json:"metadata"`
	Status   struct {
		Phase      string `json:"phase"`
		Reason     string `json:"reason"`
		Message    string `json:"message"`
		Conditions []struct {
			Type               string    `json:"type"`
			Status             string    `json:"status"`
			Reason             string    `json:"reason"`
			Message            string    `json:"message"`
			LastTransitionTime time.Time `json:"lastTransitionTime"`
		} `json:"conditions"`
		InitContainerStatuses []containerStatus `json:"initContainerStatuses"`
		ContainerStatuses     []containerStatus `json:"containerStatuses"`
	} `json:"status"`
}

type containerStatus struct {
	Name         string `json:"name"`
	RestartCount int    `json:"restartCount"`
	Ready        bool   `json:"ready"`
	State        struct {
		Waiting *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"waiting"`
		Terminated *termination `json:"terminated"`
	} `json:"state"`
	LastState struct {
		Terminated *termination `json:"terminated"`
	} `json:"lastState"`
}

type termination struct {
	ExitCode int    `json:"exitCode"`
	Signal   int    `json:"signal"`
	Reason   string `json:"reason"`
	Message  string `json:"message"`
}

func (t *termination) String() string {
	if t == nil {
		return ""
	}
	said := cmp.Or(t.Reason, "ended") + ", exit code " + strconv.Itoa(t.ExitCode)
	if t.Message != "" {
		said += ": " + t.Message
	}
	return said
}

// trouble is what is wrong with one pod.
type trouble struct {
	reason, message string
	lasting         bool // will hardly end by itself
}

// weight orders troubles: what a person must repair comes first.
func (t trouble) weight() int {
	switch {
	case t.reason == "":
		return 0
	case t.lasting:
		return 2
	}
	return 1
}

func (p *pod) restarts() int {
	n := 0
	for _, c := range p.Status.InitContainerStatuses {
		n += c.RestartCount
	}
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// ready says that the pod does what it should, or did.
func (p *pod) ready() bool {
	if p.Status.Phase == "Succeeded" {
		return true
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// trouble is what keeps the pod from being ready; the zero trouble when it is
// ready, is being deleted, or just starts.
func (p *pod) trouble(now time.Time) trouble {
	if p.Metadata.DeletionTimestamp != nil || p.ready() {
		return trouble{}
	}
	if p.Status.Phase == "Failed" {
		return trouble{reason: cmp.Or(p.Status.Reason, "PodFailed"), message: p.Status.Message, lasting: true}
	}
	since := p.Metadata.CreationTimestamp
	for _, c := range p.Status.Conditions {
		switch {
		case c.Type == "PodScheduled" && c.Status == "False":
			return trouble{
				reason: cmp.Or(c.Reason, "NotScheduled"), message: c.Message,
				lasting: c.Reason == "Unschedulable" && now.Sub(c.LastTransitionTime) >= scheduleTolerance,
			}
		case c.Type == "Ready" && c.LastTransitionTime.After(since):
			since = c.LastTransitionTime
		}
	}
	old := now.Sub(since) >= startTolerance
	for _, containers := range [][]containerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range containers {
			if t := c.trouble(old); t.reason != "" {
				return t
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && old {
			return trouble{reason: c.Reason, message: c.Message}
		}
	}
	return trouble{}
}

func (c *containerStatus) trouble(old bool) trouble {
	name := "container " + c.Name
	last := c.LastState.Terminated
	if w := c.State.Waiting; w != nil {
		switch w.Reason {
		case "", "ContainerCreating", "PodInitializing":
			return trouble{}
		case "CrashLoopBackOff":
			message := fmt.Sprintf("%s restarted %d times", name, c.RestartCount)
			if last != nil {
				message += ", last: " + last.String()
			}
			return trouble{reason: w.Reason, message: message, lasting: c.RestartCount >= crashTolerance}
		}
		return trouble{reason: w.Reason, message: name + ": " + cmp.Or(w.Message, "waits"), lasting: old}
	}
	if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
		return trouble{reason: cmp.Or(t.Reason, "Error"), message: name + ": " + t.String(), lasting: c.RestartCount >= crashTolerance}
	}
	if !c.Ready && last != nil && last.ExitCode != 0 && c.RestartCount > 0 {
		return trouble{
			reason:  cmp.Or(last.Reason, "Error"),
			message: fmt.Sprintf("%s restarted %d times, last: %s", name, c.RestartCount, last), lasting: c.RestartCount >= crashTolerance,
		}
	}
	return trouble{}
}

// blame writes into report what the pods suffer from, and returns the pods that
// are worth asking events about.
func blame(pods []pod, now time.Time, report *wire.ManifestReport) []subject {
	type patient struct {
		pod     *pod
		trouble trouble
	}
	var patients []patient
	for i := range pods {
		report.Restarts += pods[i].restarts()
		if t := pods[i].trouble(now); t.reason != "" {
			patients = append(patients, patient{&pods[i], t})
		}
	}
	if len(patients) == 0 {
		return nil
	}
	// The worst first; of equals the newest, which belongs to the newest content.
	slices.SortFunc(patients, func(a, b patient) int {
		return cmp.Or(cmp.Compare(b.trouble.weight(), a.trouble.weight()),
			b.pod.Metadata.CreationTimestamp.Compare(a.pod.Metadata.CreationTimestamp),
			cmp.Compare(a.pod.Metadata.Name, b.pod.Metadata.Name))
	})
	worst, same := patients[0], 0
	for _, p := range patients {
		if p.trouble.reason == worst.trouble.reason {
			same++
		}
	}
	reason := worst.trouble.reason
	if worst.trouble.message != "" {
		reason += ": " + worst.trouble.message
	}
	if report.Kind != "Pod" {
		reason = "Pod " + worst.pod.Metadata.Name + ": " + reason
	}
	if same > 1 {
		reason += fmt.Sprintf(" (and %d more)", same-1)
	}
	report.HealthMessage = addReason(report.HealthMessage, reason)
	if worst.trouble.lasting {
		report.Health = wire.HealthFailed
	}
	var subjects []subject
	for _, p := range patients[:min(len(patients), maxTroubled)] {
		if report.Kind != "Pod" {
			subjects = append(subjects, subject{"Pod", p.pod.Metadata.Name, p.pod.Metadata.UID})
		}
	}
	return subjects
}
