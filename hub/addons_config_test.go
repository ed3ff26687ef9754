// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func addonConfigKinds() map[string]schema.GroupVersionResource {
	return map[string]schema.GroupVersionResource{
		"AddOnVersion": of(fleet.Group, fleet.Version, "addonversions"), "AddOnConfig": of(fleet.Group, fleet.Version, "addonconfigs"),
		"ConfigRevision":         of(fleet.Group, fleet.Version, "configrevisions"),
		"AddOnDeploymentConfig":  of(addon.Group, addon.Version, "addondeploymentconfigs"),
		"AddOnTemplate":          of(addon.Group, addon.VersionAlpha, "addontemplates"),
		"ClusterManagementAddOn": of(addon.Group, addon.Version, "clustermanagementaddons"),
		"Namespace":              of("", "v1", "namespaces"),
	}
}

func TestConfigRules(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	warned := &warnings{}
	cfg := r.config()
	cfg.WarningHandler = warned
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	c, err := dynamic.NewForConfigAndClient(cfg, hc)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) (string, error) {
		t.Helper()
		obj := object(t, text)
		_, err := c.Resource(addonConfigKinds()[obj.GetKind()]).Namespace(obj.GetNamespace()).Apply(timeout(t), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "test", Force: true})
		warned.mu.Lock()
		defer warned.mu.Unlock()
		said := strings.Join(warned.text, "\n")
		warned.text = nil
		return said, err
	}
	must := func(text string) {
		t.Helper()
		if _, err := put(text); err != nil {
			t.Fatal(err)
		}
	}
	must("{apiVersion: v1, kind: Namespace, metadata: {name: edge}}")
	must("{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ClusterManagementAddOn, metadata: {name: logging}, spec: {}}")
	must(`
apiVersion: fleet.drover.io/v1alpha1
kind: AddOnVersion
metadata: {name: logging-1.0.0}
spec:
  addOn: logging
  version: 1.0.0
  default: true
  values: {domain: example.com}
  manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}]
  configSchema:
    type: object
    required: [domain, zone]
    properties: {domain: {type: string}, zone: {type: string}, replicas: {type: integer, maximum: 5}}
    x-kubernetes-validations: [{rule: "!has(self.replicas) || self.replicas != 3", message: not three}]
`)
	const values = "{apiVersion: fleet.drover.io/v1alpha1, kind: AddOnConfig, metadata: {name: a, namespace: edge}, spec: "
	const deployment = "{apiVersion: addon.open-cluster-management.io/v1beta1, kind: AddOnDeploymentConfig, metadata: {name: a, namespace: edge}, spec: "
	const managed = "{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ClusterManagementAddOn, metadata: {name: logging}, spec: "
	const version = "{group: fleet.drover.io, resource: addonversions, name: "
	for _, c := range []struct{ name, object, refused, warning string }{
		{"fits", values + "{addOn: logging, values: {zone: a, replicas: 2}}}", "", ""},
		{"rest elsewhere", values + "{addOn: logging, values: {replicas: 2}}}", "", "logging 1.0.0 needs values.zone, which another configuration has to give"},
		{"unknown field", values + "{addOn: logging, values: {replica: 2}}}", "spec.values.replica: Forbidden: the schema of this version has no such field; did you mean replicas? (configSchema of logging 1.0.0)", ""},
		{"wrong type", values + "{addOn: logging, values: {zone: a, replicas: many}}}", "must be of type integer: \"string\" (configSchema of logging 1.0.0)", ""},
		{"rule", values + "{addOn: logging, values: {zone: a, replicas: 3}}}", "not three (configSchema of logging 1.0.0)", ""},
		{"for other versions", values + "{addOn: logging, version: '>=2', values: {replica: 2}}}", "", ""},
		{"bad range", values + "{addOn: logging, version: newest}}", "spec.version: Invalid value: \"newest\"", ""},
		{"unknown addon", values + "{addOn: metrics, values: {a: b}}}", "", "no version of the addon \"metrics\" is installed or its default"},
		{"Secret", values + "{addOn: logging, valuesFrom: [{kind: Secret, name: s}]}}", "spec.valuesFrom[0].kind: Unsupported value: \"Secret\"", ""},
		{"claim", values + "{addOn: logging, values: {zone: a}, valuesFrom: [{kind: ClusterClaim, name: s, path: replicas}]}}", "", ""},
		{"claim with a key", values + "{addOn: logging, valuesFrom: [{kind: ClusterClaim, name: s, key: a}]}}", "spec.valuesFrom[0].key", ""},
		{"deployment", deployment + "{nodePlacement: {tolerations: [{key: a, operator: Exists}]}}}", "", ""},
		{"toleration", deployment + "{nodePlacement: {tolerations: [{key: a, operator: Like}]}}}", "spec.nodePlacement.tolerations[0].operator: Unsupported value: \"Like\"", ""},
		{"node selector", deployment + "{nodePlacement: {nodeSelector: {'a b': c}}}}", "spec.nodePlacement.nodeSelector: Invalid value: \"a b\"", ""},
		{"registry", deployment + "{registries: [{mirror: 'https://m.local'}]}}", "spec.registries[0].mirror", ""},
		{"limit", deployment + "{resourceRequirements: [{containerID: '*:*:*', resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}}", "must not be more than the limit of 1", ""},
		{"built-in variable", deployment + "{customizedVariables: [{name: CLUSTER_NAME, value: x}]}}", "", "the variable CLUSTER_NAME says what is"},
		{"certificate", deployment + "{proxyConfig: {caBundle: Y2E=}}}", "", "caBundle has no certificate"},
		{"template", "{apiVersion: addon.open-cluster-management.io/v1alpha1, kind: AddOnTemplate, metadata: {name: t}, spec: {addonName: t, agentSpec: {}, registration: [{type: KubeClient}]}}", "", "spec.registration"},
		{"version", managed + "{defaultConfigs: [" + version + "logging-1.0.0}]}}", "", ""},
		{"no such version", managed + "{defaultConfigs: [" + version + "logging-2.0.0}]}}", "spec.defaultConfigs[0].name: Not found: \"logging-2.0.0\"", ""},
		{"in a placement", managed + "{installStrategy: {type: Placements, placements: [{name: p, namespace: edge, configs: [" + version + "logging-2.0.0}]}]}}}", "spec.installStrategy.placements[0].configs[0].name: Not found", ""},
		{"no namespace", managed + "{defaultConfigs: [{group: fleet.drover.io, resource: addonconfigs, name: b}]}}", "spec.defaultConfigs[0].namespace: Required value", ""},
		{"missing object", managed + "{defaultConfigs: [{group: fleet.drover.io, resource: addonconfigs, name: b, namespace: edge}]}}", "", "there is no addonconfigs edge/b yet"},
		{"missing kind", managed + "{defaultConfigs: [{group: example.com, resource: tunings, name: b, namespace: edge}]}}", "", "this hub has no kind tunings.example.com"},
		{"revision", "{apiVersion: fleet.drover.io/v1alpha1, kind: ConfigRevision, metadata: {name: a}, spec: {group: a, resource: b, name: c, revision: 1, hash: '" + strings.Repeat("0", 64) + "', content: {}}}", "a ConfigRevision is kept by the hub", ""},
	} {
		warning, err := put(c.object)
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.refused)
		}
		if !strings.Contains(warning, c.warning) || c.warning == "" && warning != "" {
			t.Errorf("%s: warned %q\nwant %q", c.name, warning, c.warning)
		}
	}
	// A version of another addon.
	must("{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ClusterManagementAddOn, metadata: {name: metrics}, spec: {}}")
	_, err = put("{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ClusterManagementAddOn, metadata: {name: metrics}, spec: {defaultConfigs: [" + version + "logging-1.0.0}]}}")
	if err == nil || !strings.Contains(err.Error(), "is a version of logging, not of metrics") {
		t.Error(err)
	}

	// All that was accepted is recorded, with who wrote it.
	var found []unstructured.Unstructured
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		list, err := c.Resource(addonConfigKinds()["ConfigRevision"]).List(timeout(t), metav1.ListOptions{FieldSelector: "spec.resource=addonconfigs,spec.name=a"})
		if err != nil {
			t.Fatal(err)
		}
		if found = list.Items; len(found) >= 4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d revisions", len(found))
		}
	}
	for _, f := range found {
		if by, _, _ := unstructured.NestedString(f.Object, "spec", "by"); by != "admin" {
			t.Errorf("revision by %q: %v", by, f.Object["spec"])
		}
	}
	err = c.Resource(addonConfigKinds()["ConfigRevision"]).Delete(timeout(t), found[0].GetName(), metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a revision can be deleted: %v", err)
	}
}

func TestConfigValidity(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	c := r.client()
	put := func(text string) {
		t.Helper()
		obj := object(t, text)
		if _, err := c.Resource(addonConfigKinds()[obj.GetKind()]).Namespace(obj.GetNamespace()).Apply(timeout(t), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	// version stores logging 1.0.0 with a bound on the replicas.
	version := func(most string) {
		t.Helper()
		put(`
apiVersion: fleet.drover.io/v1alpha1
kind: AddOnVersion
metadata: {name: logging-1.0.0}
spec:
  addOn: logging
  version: 1.0.0
  default: true
  manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}]
  configSchema: {type: object, properties: {replicas: {type: integer, maximum: ` + most + `}}}
`)
	}
	config := func(name, spec string) {
		t.Helper()
		put("{apiVersion: fleet.drover.io/v1alpha1, kind: AddOnConfig, metadata: {namespace: edge, name: " + name + "}, spec: " + spec + "}")
	}
	until := func(name, status, reason, message string) string {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			obj, err := c.Resource(addonConfigKinds()["AddOnConfig"]).Namespace("edge").Get(timeout(t), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			list, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
			for _, x := range list {
				m := x.(map[string]any)
				if said, _ := m["message"].(string); m["type"] == fleet.ConditionValid && m["status"] == status && m["reason"] == reason &&
					m["observedGeneration"] == obj.GetGeneration() && strings.Contains(said, message) {
					return obj.GetResourceVersion()
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: never %s %s %q: %v", name, status, reason, message, list)
			}
		}
	}
	put("{apiVersion: v1, kind: Namespace, metadata: {name: edge}}")
	config("a", "{addOn: logging, values: {replicas: 4}}")
	until("a", "Unknown", fleet.ReasonNotUsed, "")
	version("5")
	until("a", "True", fleet.ReasonValuesValid, "checked with logging 1.0.0")
	config("a", "{addOn: logging, values: {replicas: 5}}")
	until("a", "True", fleet.ReasonValuesValid, "checked with logging 1.0.0")
	version("3")
	until("a", "False", fleet.ReasonValuesInvalid, "spec.values.replicas: Invalid value: 5: ")
	before := until("a", "False", fleet.ReasonValuesInvalid, "(configSchema of logging 1.0.0)")

	// One that only a reference connects with the addon.
	config("b", "{values: {replicas: 4}}")
	until("b", "Unknown", fleet.ReasonNotUsed, "")
	put("{apiVersion: addon.open-cluster-management.io/v1beta1, kind: ClusterManagementAddOn, metadata: {name: logging}, spec: {defaultConfigs: [{group: fleet.drover.io, resource: addonconfigs, namespace: edge, name: b}]}}")
	until("b", "False", fleet.ReasonValuesInvalid, "spec.values.replicas: Invalid value: 4: ")
	// The other was looked at again, and is as it was.
	if after := until("a", "False", fleet.ReasonValuesInvalid, ""); after != before {
		t.Errorf("written although nothing changed: revision %s, then %s", before, after)
	}
	version("9")
	until("a", "True", fleet.ReasonValuesValid, "")
	until("b", "True", fleet.ReasonValuesValid, "")
}
