// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/clusterregistry"
)

const (
	annotationLastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	anyClient             = "0.0.0.0/0"
)

// record is the content of AnnotationRecord.
type record struct {
	Endpoints     []endpoint `json:"endpoints,omitempty"`
	CABundle      string     `json:"caBundle,omitempty"` // while there is no address to keep it with
	AuthInfo      any        `json:"authInfo,omitempty"`
	Conditions    []any      `json:"conditions,omitempty"`
	ManagedFields any        `json:"managedFields,omitempty"`
	LastApplied   string     `json:"lastApplied,omitempty"` // of kubectl, for the view
}

type endpoint struct {
	ClientCIDR    string `json:"clientCIDR,omitempty"`
	ServerAddress string `json:"serverAddress,omitempty"`
}

// shared are the fields of metadata that both objects have alike.
func shared() []string {
	return []string{
		"name", "generateName", "uid", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
		"labels", "finalizers", "ownerReferences",
	}
}

// view shows a stored ManagedCluster as a Cluster.
func view(e store.Entry) (store.Entry, error) {
	mc, err := decode(e.Data)
	if err != nil {
		return e, err
	}
	data, err := json.Marshal(clusterOf(mc))
	if err != nil {
		return e, fmt.Errorf("encode cluster %s: %w", e.Key.Name, err)
	}
	e.Key, e.Data = store.Key{Resource: clusterregistry.Resource, Name: e.Key.Name}, data
	return e, nil
}

func clusterOf(mc map[string]any) map[string]any {
	from := object(mc, "metadata")
	rec, annotations := recordOf(from)
	meta := map[string]any{}
	for _, f := range shared() {
		if v, ok := from[f]; ok {
			meta[f] = v
		}
	}
	delete(annotations, annotationLastApplied)
	if rec.LastApplied != "" {
		annotations[annotationLastApplied] = rec.LastApplied
	}
	if len(annotations) > 0 {
		meta["annotations"] = annotations
	}
	if rec.ManagedFields != nil {
		meta["managedFields"] = rec.ManagedFields
	}
	spec := map[string]any{}
	if e := endpointsOf(mc, rec); len(e) > 0 {
		spec["kubernetesApiEndpoints"] = e
	}
	if rec.AuthInfo != nil {
		spec["authInfo"] = rec.AuthInfo
	}
	out := map[string]any{
		"apiVersion": clusterregistry.Group + "/" + clusterregistry.Version, "kind": clusterregistry.Kind, "metadata": meta, "spec": spec,
	}
	if list := conditionsOf(mc, rec); len(list) > 0 {
		out["status"] = map[string]any{"conditions": list}
	}
	return out
}

// recordOf returns the record and a copy of the other annotations.
func recordOf(meta map[string]any) (rec record, annotations map[string]any) {
	annotations = map[string]any{}
	for k, v := range object(meta, "annotations") {
		annotations[k] = v
	}
	text, _ := annotations[AnnotationRecord].(string)
	delete(annotations, AnnotationRecord)
	if json.Unmarshal([]byte(text), &rec) != nil {
		return record{}, annotations // somebody wrote it who should not have
	}
	return rec, annotations
}

func endpointsOf(mc map[string]any, rec record) map[string]any {
	known := map[string]bool{}
	ca := rec.CABundle
	for _, c := range clientConfigs(mc) {
		if at, ok := addressOf(c); ok {
			known[urlOf(at)] = true
			if text, _ := c["caBundle"].(string); text != "" && (ca == "" || ca == rec.CABundle) {
				ca = text
			}
		}
	}
	var list []any
	shown := map[string]bool{}
	for _, e := range rec.Endpoints {
		if e.ServerAddress == "" || known[urlOf(e.ServerAddress)] {
			list = append(list, e.object())
			shown[urlOf(e.ServerAddress)] = true
		}
	}
	for _, c := range clientConfigs(mc) {
		if at, ok := addressOf(c); ok && !shown[urlOf(at)] {
			list = append(list, endpoint{anyClient, at}.object())
			shown[urlOf(at)] = true
		}
	}
	out := map[string]any{}
	if len(list) > 0 {
		out["serverEndpoints"] = list
	}
	if ca != "" {
		out["caBundle"] = ca
	}
	return out
}

func (e endpoint) object() map[string]any {
	out := map[string]any{}
	if e.ClientCIDR != "" {
		out["clientCIDR"] = e.ClientCIDR
	}
	if e.ServerAddress != "" {
		out["serverAddress"] = e.ServerAddress
	}
	return out
}

// urlOf is the URL of an address: a host, or an IP address, with or without port.
func urlOf(address string) string {
	if strings.Count(address, ":") > 1 && !strings.HasPrefix(address, "[") {
		address = "[" + address + "]"
	}
	return "https://" + address
}

// addressOf is the address of a client config; false for a URL that is more than
// an address, which the registry cannot show.
func addressOf(config map[string]any) (string, bool) {
	text, _ := config["url"].(string)
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return "", false
	}
	return u.Host, true
}

func clientConfigs(mc map[string]any) []map[string]any {
	list, _ := object(mc, "spec")["managedClusterClientConfigs"].([]any)
	out := make([]map[string]any, 0, len(list))
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// conditionsOf are the conditions that others wrote, with OK from the agent's
// reports where there is an agent.
func conditionsOf(mc map[string]any, rec record) []any {
	ok := okOf(mc)
	if ok == nil {
		return rec.Conditions
	}
	out := slices.DeleteFunc(slices.Clone(rec.Conditions), isOK)
	return append([]any{ok}, out...)
}

func isOK(c any) bool {
	m, _ := c.(map[string]any)
	return m["type"] == clusterregistry.ConditionOK
}

// okOf is the condition OK of a cluster with an agent, or nil.
func okOf(mc map[string]any) map[string]any {
	status := object(mc, "status")
	list, _ := status["conditions"].([]any)
	for _, entry := range list {
		c, _ := entry.(map[string]any)
		if c["type"] != cluster.ConditionAvailable {
			continue
		}
		out := map[string]any{"type": clusterregistry.ConditionOK}
		for _, f := range []string{"status", "reason", "message", "lastTransitionTime"} {
			if v, ok := c[f]; ok && v != nil {
				out[f] = v
			}
		}
		out["lastHeartbeatTime"] = out["lastTransitionTime"]
		if seen := object(status, "agent")["lastSeen"]; seen != nil {
			out["lastHeartbeatTime"] = seen
		}
		return out
	}
	return nil
}

// merge puts a Cluster into a ManagedCluster, or into a new one when old is nil.
func merge(old, data []byte) ([]byte, error) {
	c, err := decode(data)
	if err != nil {
		return nil, err
	}
	mc := map[string]any{
		"apiVersion": cluster.Group + "/" + cluster.Version, "kind": cluster.Kind,
		"spec": map[string]any{
			"hubAcceptsClient": false, "leaseDurationSeconds": int64(60),
			// As a ManagedCluster that is made directly: its agent was never here.
			"taints": []any{map[string]any{
				"key": cluster.TaintUnreachable, "effect": "NoSelect", "timeAdded": time.Now().UTC().Format(time.RFC3339),
			}},
		},
	}
	if old != nil {
		if mc, err = decode(old); err != nil {
			return nil, err
		}
	}
	before := clusterOf(runtime.DeepCopyJSON(mc))
	meta, from := object(mc, "metadata"), object(c, "metadata")
	rec, own := recordOf(meta)
	for _, f := range shared() {
		if v, ok := from[f]; ok {
			meta[f] = v
		} else {
			delete(meta, f)
		}
	}
	annotations := map[string]any{}
	for k, v := range object(from, "annotations") {
		annotations[k] = v
	}
	rec.LastApplied, _ = annotations[annotationLastApplied].(string)
	delete(annotations, annotationLastApplied)
	delete(annotations, AnnotationRecord)
	if text, ok := own[annotationLastApplied]; ok {
		annotations[annotationLastApplied] = text
	}
	rec.ManagedFields = from["managedFields"]
	spec := object(c, "spec")
	rec.AuthInfo = spec["authInfo"]
	rec.Conditions, _ = object(c, "status")["conditions"].([]any)
	if okOf(mc) != nil {
		rec.Conditions = slices.DeleteFunc(rec.Conditions, isOK)
	}
	mergeEndpoints(mc, &rec, object(spec, "kubernetesApiEndpoints"), object(object(before, "spec"), "kubernetesApiEndpoints"))
	text, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	annotations[AnnotationRecord] = string(text)
	meta["annotations"] = annotations
	mc["metadata"] = meta
	out, err := json.Marshal(mc)
	if err != nil {
		return nil, fmt.Errorf("encode cluster: %w", err)
	}
	return out, nil
}

// mergeEndpoints writes the addresses into the client configs. Those that the
// view cannot show stay. An authority that did not change leaves those of the
// single addresses as they are.
func mergeEndpoints(mc map[string]any, rec *record, want, had map[string]any) {
	ca, _ := want["caBundle"].(string)
	same := had["caBundle"] == want["caBundle"]
	have := map[string]map[string]any{}
	var configs, hidden []any
	for _, c := range clientConfigs(mc) {
		if at, ok := addressOf(c); ok {
			have[urlOf(at)] = c
		} else {
			hidden = append(hidden, c)
		}
	}
	rec.Endpoints, rec.CABundle = nil, ""
	list, _ := want["serverEndpoints"].([]any)
	done := map[string]bool{}
	for _, entry := range list {
		m, _ := entry.(map[string]any)
		var e endpoint
		e.ClientCIDR, _ = m["clientCIDR"].(string)
		e.ServerAddress, _ = m["serverAddress"].(string)
		rec.Endpoints = append(rec.Endpoints, e)
		u := urlOf(e.ServerAddress)
		if e.ServerAddress == "" || done[u] {
			continue
		}
		done[u] = true
		c := have[u]
		switch {
		case c != nil && same:
		case c == nil:
			c = map[string]any{"url": u}
			fallthrough
		default:
			delete(c, "caBundle")
			if ca != "" {
				c["caBundle"] = ca
			}
		}
		configs = append(configs, c)
	}
	if len(configs) == 0 {
		rec.CABundle = ca
	}
	spec := object(mc, "spec")
	if configs = append(configs, hidden...); len(configs) > 0 {
		spec["managedClusterClientConfigs"] = configs
	} else {
		delete(spec, "managedClusterClientConfigs")
	}
	mc["spec"] = spec
}

// object is the object at a field, or an empty one that is not part of m.
func object(m map[string]any, field string) map[string]any {
	if o, ok := m[field].(map[string]any); ok {
		return o
	}
	return map[string]any{}
}
