// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/wire"
)

const (
	maxPods     = 100 // looked at below one workload
	maxTroubled = 2   // pods whose events are read
	maxMessage  = 1024
)

// Explain finds out why an object is not Current: what its pods wait for, how
// often they restarted, and the newest warnings about it and what it owns. It
// adds that to report: Events and Restarts, the reason to HealthMessage, and
// Health Failed when the pods will hardly come up by themselves. It does
// nothing for an object that is Current, missing or being deleted.
//
// It asks the cluster at most a handful of questions, at a bounded rate. On an
// error report is as complete as was possible.
func (o *Observer) Explain(ctx context.Context, live *unstructured.Unstructured, report *wire.ManifestReport) error {
	report.Events, report.Restarts = nil, 0
	switch report.Health {
	case wire.HealthInProgress, wire.HealthFailed:
	default:
		return nil
	}
	subjects := []subject{{live.GetKind(), live.GetName(), string(live.GetUID())}}
	pods, owners, err := o.podsBelow(ctx, live)
	subjects = append(subjects, owners...)
	if err == nil && len(pods) > 0 {
		worst := blame(pods, time.Now(), report)
		subjects = append(subjects, worst...)
	}
	if err == nil && live.GetKind() == "PersistentVolumeClaim" && live.GroupVersionKind().Group == "" {
		err = o.explainClaim(ctx, live, report)
	}
	if report.Health == wire.HealthCurrent {
		return nil
	}
	events, eventsErr := o.warnings(ctx, live.GetNamespace(), subjects)
	report.Events = events
	if err == nil {
		err = eventsErr
	}
	if err != nil {
		return fmt.Errorf("explain %s %s/%s: %w", live.GetKind(), live.GetNamespace(), live.GetName(), err)
	}
	return nil
}

// subject is an object that events may speak of.
type subject struct{ kind, name, uid string }

func (s subject) String() string { return s.kind + "/" + s.name }

// podsBelow returns the pods of a workload, and what stands between.
func (o *Observer) podsBelow(ctx context.Context, live *unstructured.Unstructured) ([]pod, []subject, error) {
	gvk, uid := live.GroupVersionKind(), string(live.GetUID())
	switch gvk.Group + "/" + gvk.Kind {
	case "/Pod":
		raw, err := live.MarshalJSON()
		if err != nil {
			return nil, nil, err
		}
		var p pod
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, nil, fmt.Errorf("decode a pod: %w", err)
		}
		return []pod{p}, nil, nil
	case "apps/Deployment":
	case "apps/ReplicaSet", "apps/StatefulSet", "apps/DaemonSet", "batch/Job", "/ReplicationController":
	default:
		return nil, nil, nil
	}
	selector := selectorOf(live)
	if selector == "" {
		return nil, nil, nil
	}
	owners := map[string]bool{uid: true}
	var between []subject
	if gvk.Kind == "Deployment" {
		var sets struct {
			Items []struct {
				Metadata meta `json:"metadata"`
			} `json:"items"`
		}
		resource := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
		if err := o.selected(ctx, resource, live.GetNamespace(), selector, "", &sets); err != nil {
			return nil, nil, err
		}
		var newest meta
		for _, set := range sets.Items {
			if !set.Metadata.ownedBy(map[string]bool{uid: true}) {
				continue
			}
			owners[set.Metadata.UID] = true
			if newest.UID == "" || set.Metadata.revision() > newest.revision() {
				newest = set.Metadata
			}
		}
		if newest.UID != "" {
			between = append(between, subject{"ReplicaSet", newest.Name, newest.UID})
		}
	}
	var list struct {
		Items []pod `json:"items"`
	}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	if err := o.selected(ctx, resource, live.GetNamespace(), selector, "", &list); err != nil {
		return nil, between, err
	}
	pods := slices.DeleteFunc(list.Items, func(p pod) bool { return !p.Metadata.ownedBy(owners) })
	return pods, between, nil
}

// selectorOf is the pod selector of a workload, as the API takes it.
func selectorOf(live *unstructured.Unstructured) string {
	raw, found, err := unstructured.NestedMap(live.Object, "spec", "selector")
	if err != nil || !found {
		return ""
	}
	encoded, err := json.Marshal(raw)
	if err != nil {
		return ""
	}
	var selector metav1.LabelSelector
	if live.GetKind() == "ReplicationController" {
		err = json.Unmarshal(encoded, &selector.MatchLabels)
	} else {
		err = json.Unmarshal(encoded, &selector)
	}
	if err != nil || (len(selector.MatchLabels) == 0 && len(selector.MatchExpressions) == 0) {
		return ""
	}
	parsed, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		return ""
	}
	return parsed.String()
}

// selected lists at most maxPods objects into out.
func (o *Observer) selected(ctx context.Context, resource schema.GroupVersionResource, namespace, labels, fields string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := o.ask.Get().AbsPath(resourcePath(resource, namespace)...).Param("limit", strconv.Itoa(maxPods))
	if labels != "" {
		req.Param("labelSelector", labels)
	}
	if fields != "" {
		req.Param("fieldSelector", fields)
	}
	raw, err := req.Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("list %s: %w", resource.Resource, err)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("decode list of %s: %w", resource.Resource, err)
	}
	return nil
}

// explainClaim calls a claim Current that waits for a pod, as its storage class
// says: nothing is wrong with it.
func (o *Observer) explainClaim(ctx context.Context, live *unstructured.Unstructured, report *wire.ManifestReport) error {
	class, _, _ := unstructured.NestedString(live.Object, "spec", "storageClassName")
	phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
	_, chosen := live.GetAnnotations()["volume.kubernetes.io/selected-node"]
	if class == "" || phase != "Pending" || chosen {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := o.ask.Get().AbsPath("apis", "storage.k8s.io", "v1", "storageclasses", class).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		report.HealthMessage = addReason(report.HealthMessage, fmt.Sprintf("StorageClass %q does not exist", class))
		return nil
	}
	if err != nil {
		return fmt.Errorf("get storage class %s: %w", class, err)
	}
	var storageClass struct {
		VolumeBindingMode string `json:"volumeBindingMode"`
	}
	if err := json.Unmarshal(raw, &storageClass); err != nil {
		return fmt.Errorf("decode storage class %s: %w", class, err)
	}
	if storageClass.VolumeBindingMode == "WaitForFirstConsumer" {
		report.Health, report.HealthMessage = wire.HealthCurrent, ""
	}
	return nil
}

// addReason puts what was found out behind what the object itself says.
func addReason(message, reason string) string {
	switch {
	case reason == "" || strings.Contains(message, reason):
		return message
	case message == "":
		return cut(reason, maxMessage)
	}
	return cut(message, maxMessage/2) + "; " + cut(reason, maxMessage/2)
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-3], "") + "..."
}
