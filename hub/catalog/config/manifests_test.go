// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/shared/apis/addon"
)

func documents(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "---\n") {
		out = append(out, &unstructured.Unstructured{Object: object(t, doc)})
	}
	return out
}

func text(t *testing.T, list []*unstructured.Unstructured) string {
	t.Helper()
	var parts []string
	for _, obj := range list {
		data, err := yaml.Marshal(obj.Object)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(data))
	}
	return strings.Join(parts, "---\n")
}

func deployment(t *testing.T, spec string) *addon.AddOnDeploymentConfigSpec {
	t.Helper()
	var out addon.AddOnDeploymentConfigSpec
	if err := yaml.UnmarshalStrict([]byte(spec), &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

const workloads = `apiVersion: v1
kind: ServiceAccount
metadata: {name: agent}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent, namespace: edge}
spec:
  replicas: 2
  template:
    spec:
      nodeSelector: {old: "yes"}
      initContainers:
      - {name: init, image: quay.io/ocm/init:v1}
      containers:
      - name: main
        image: quay.io/ocm/agent:v1
        env:
        - {name: HTTP_PROXY, value: old}
        - {name: KEEP, value: this}
        resources: {limits: {cpu: "1"}}
      - {name: side, image: docker.io/library/side}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tidy}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          containers:
          - {name: tidy, image: quay.io/ocm/tidy:v1}
`

func TestDecorate(t *testing.T) {
	t.Parallel()
	objects := documents(t, workloads)
	before := text(t, objects)
	got, err := config.Decorate(objects, config.Deployment{AddOn: "logging", Namespace: "install", Spec: deployment(t, `
agentInstallNamespace: install
nodePlacement:
  nodeSelector: {disk: ssd}
  tolerations: [{key: edge, operator: Exists}]
registries:
- {source: quay.io/ocm, mirror: mirror.local/ocm/}
proxyConfig: {httpProxy: "http://p:1", noProxy: .local, caBundle: Y2E=}
resourceRequirements:
- {containerID: "*:*:*", resources: {requests: {cpu: 10m}}}
- {containerID: "deployments:agent:main", resources: {requests: {memory: 1Gi}}}
`)})
	if err != nil {
		t.Fatal(err)
	}
	const proxy = `        - {name: http_proxy, value: "http://p:1"}
        - {name: NO_PROXY, value: .local}
        - {name: no_proxy, value: .local}
        - {name: CA_BUNDLE_FILE_PATH, value: /managed/proxy-ca/ca-bundle.crt}
        volumeMounts: [{name: proxy-ca-bundle, mountPath: /managed/proxy-ca}]
`
	all := "        env:\n        - {name: HTTP_PROXY, value: \"http://p:1\"}\n" + proxy + "        resources: {requests: {cpu: 10m}}\n"
	want := documents(t, `apiVersion: v1
kind: ServiceAccount
metadata: {name: agent}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: logging-proxy-ca, namespace: edge}
data: {ca-bundle.crt: ca}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent, namespace: edge}
spec:
  replicas: 2
  template:
    spec:
      nodeSelector: {disk: ssd}
      tolerations: [{key: edge, operator: Exists}]
      initContainers:
      - name: init
        image: mirror.local/ocm/init:v1
`+all+`      containers:
      - name: main
        image: mirror.local/ocm/agent:v1
        env:
        - {name: HTTP_PROXY, value: "http://p:1"}
        - {name: KEEP, value: this}
`+proxy+`        resources: {requests: {memory: 1Gi}}
      - name: side
        image: docker.io/library/side
`+all+`      volumes: [{name: proxy-ca-bundle, configMap: {name: logging-proxy-ca}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: logging-proxy-ca, namespace: install}
data: {ca-bundle.crt: ca}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tidy}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          nodeSelector: {disk: ssd}
          tolerations: [{key: edge, operator: Exists}]
          containers:
          - name: tidy
            image: mirror.local/ocm/tidy:v1
`+strings.ReplaceAll(all, "        ", "            ")+`          volumes: [{name: proxy-ca-bundle, configMap: {name: logging-proxy-ca}}]
`)
	if diff := cmp.Diff(text(t, want), text(t, got)); diff != "" {
		t.Error(diff)
	}
	if after := text(t, objects); after != before {
		t.Error("the objects given were changed")
	}
	same, err := config.Decorate(objects, config.Deployment{AddOn: "logging"})
	if err != nil || text(t, same) != before {
		t.Errorf("without a config: %v", err)
	}
	bad := documents(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [x]}\n")
	if _, err := config.Decorate(bad, config.Deployment{Spec: &addon.AddOnDeploymentConfigSpec{}}); err == nil || !strings.Contains(err.Error(), "Pod p: spec.containers[0] is not an object") {
		t.Error(err)
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	ocm := addon.ImageMirror{Source: "quay.io/ocm", Mirror: "m.local/a"}
	agent := addon.ImageMirror{Source: "quay.io/ocm/agent", Mirror: "m.local/b"}
	every := addon.ImageMirror{Mirror: "m.local/all/"}
	for _, c := range []struct {
		image      string
		registries []addon.ImageMirror
		want       string
	}{
		{"quay.io/ocm/agent:v1", nil, "quay.io/ocm/agent:v1"},
		{"quay.io/ocm/agent:v1", []addon.ImageMirror{ocm}, "m.local/a/agent:v1"},
		{"quay.io/ocm/agent:v1", []addon.ImageMirror{agent, ocm}, "m.local/b:v1"},
		{"quay.io/ocm/agent@sha256:1", []addon.ImageMirror{ocm, agent}, "m.local/b@sha256:1"},
		{"quay.io/ocm/agents:v1", []addon.ImageMirror{agent}, "quay.io/ocm/agents:v1"},
		{"quay.io/ocm-tools/x", []addon.ImageMirror{ocm}, "quay.io/ocm-tools/x"},
		{"quay.io/ocm/x", []addon.ImageMirror{every}, "m.local/all/x"},
		{"quay.io/ocm/x", []addon.ImageMirror{ocm, every}, "m.local/a/x"},
		{"x:v1", []addon.ImageMirror{every}, "m.local/all/x:v1"},
		{"quay.io/ocm/x", []addon.ImageMirror{{Source: "quay.io/", Mirror: "m.local"}}, "m.local/ocm/x"},
		{"quay.io/ocm/x", []addon.ImageMirror{{Source: "quay.io", Mirror: "one"}, {Source: "quay.io", Mirror: "two"}}, "two/ocm/x"},
	} {
		if got := config.Mirror(c.image, c.registries); got != c.want {
			t.Errorf("%s by %v is %s, want %s", c.image, c.registries, got, c.want)
		}
	}
}

func TestContainerPatterns(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{
		"deployments:agent:main": true, "*:agent:main": true, "deployments:*:*": true, "deployments:a*t:m*": true, "deployments:*gent:main": true,
		"daemonsets:*:*": false, "deployments:agent:side": false, "deployments:agent*:main": false, "deployments:a.*:main": false, "deployments:agent": false,
	} {
		objects := documents(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: agent}\nspec: {template: {spec: {containers: [{name: main}]}}}\n")
		got, err := config.Decorate(objects, config.Deployment{Spec: deployment(t, "resourceRequirements: [{containerID: \""+pattern+"\", resources: {limits: {cpu: 1m}}}]")})
		if err != nil {
			t.Fatal(err)
		}
		if matched := strings.Contains(text(t, got), "1m"); matched != want {
			t.Errorf("%s: %v", pattern, matched)
		}
	}
}

func template(t *testing.T, manifests string) *addon.AddOnTemplateSpec {
	t.Helper()
	spec := &addon.AddOnTemplateSpec{AddonName: "hello"}
	for _, obj := range documents(t, manifests) {
		data, err := obj.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		spec.AgentSpec.Workload.Manifests = append(spec.AgentSpec.Workload.Manifests, runtime.RawExtension{Raw: data})
	}
	return spec
}

func TestExpand(t *testing.T) {
	t.Parallel()
	spec := template(t, `apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{NAME}}", namespace: default}
spec: {template: {spec: {containers: [{name: a, image: "{{IMAGE}}:{{TAG}}", args: ["{{CLUSTER_NAME}}.{{INSTALL_NAMESPACE}}", "{{ $labels.x }}", "{{QUOTE}}", "{{HUB_KUBECONFIG}}"]}]}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: b}
subjects: [{kind: ServiceAccount, name: a, namespace: default}, {kind: User, name: u}]
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {"{{NAME}}": "1"}}
`)
	in := config.Template{Spec: spec, Cluster: "c1", Namespace: "agents", Variables: []addon.Variable{
		{Name: "NAME", Value: "hello"}, {Name: "IMAGE", Value: "example/{{TAG}}"}, {Name: "TAG", Value: "v1"}, {Name: "QUOTE", Value: `","x":"`}, {Name: "INSTALL_NAMESPACE", Value: "mine"},
	}}
	want := documents(t, `apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: agents}
spec:
  template:
    spec:
      containers:
      - name: a
        image: "example/{{TAG}}:v1"
        args: [c1.agents, "{{ $labels.x }}", '","x":"', /managed/hub-kubeconfig/kubeconfig]
        env:
        - {name: NAME, value: hello}
        - {name: IMAGE, value: "example/{{TAG}}"}
        - {name: TAG, value: v1}
        - {name: QUOTE, value: '","x":"'}
        - {name: CLUSTER_NAME, value: c1}
        - {name: INSTALL_NAMESPACE, value: agents}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: b}
subjects: [{kind: ServiceAccount, name: a, namespace: agents}, {kind: User, name: u}]
---
apiVersion: v1
kind: Namespace
metadata: {name: agents, labels: {hello: "1"}}
`)
	for range 2 { // the same twice: nothing of the input was changed
		got, err := config.Expand(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text(t, want), text(t, got)); diff != "" {
			t.Error(diff)
		}
	}
	in.Namespace = ""
	got, err := config.Expand(in)
	if err != nil || got[0].GetNamespace() != "default" || got[2].GetName() != "default" {
		t.Errorf("without a namespace things moved: %v, %v", got, err)
	}
}

func TestExpandErrors(t *testing.T) {
	t.Parallel()
	for manifest, want := range map[string]string{
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: '{{MISSING}}'}}":          "spec.agentSpec.workload.manifests[0].data.b: there is no variable MISSING: give it in customizedVariables of an AddOnDeploymentConfig; known are CLUSTER_NAME, GIVEN, HUB_KUBECONFIG, INSTALL_NAMESPACE",
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: 'x {{ GIVEN }}'}}":        "write {{GIVEN}}, without blanks",
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {'{{MISSING}}': b}}":          "no variable MISSING",
		"{apiVersion: v1, kind: List, metadata: {name: a}, list: [{a: 1}, {a: '{{GIVEN}}{{NO}}'}]}": "manifests[0].list[1].a: there is no variable NO",
	} {
		_, err := config.Expand(config.Template{Spec: template(t, manifest), Variables: []addon.Variable{{Name: "GIVEN", Value: "x"}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	spec := template(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
	spec.Registration = []addon.TemplateRegistration{{Type: "KubeClient"}}
	if _, err := config.Expand(config.Template{Spec: spec}); err == nil || !strings.Contains(err.Error(), "spec.registration") {
		t.Error(err)
	}
}
