// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/addon"
)

// Variables of AddOnTemplates that are there without being given. The first two
// cannot be given at all.
const (
	VariableCluster    = "CLUSTER_NAME"
	VariableNamespace  = "INSTALL_NAMESPACE"
	VariableKubeconfig = "HUB_KUBECONFIG"

	kubeconfigPath = "/managed/hub-kubeconfig/kubeconfig"
)

// Template asks for the manifests of an AddOnTemplate on one cluster.
type Template struct {
	Spec    *addon.AddOnTemplateSpec
	Cluster string
	// Namespace is where the agent runs; empty for what the manifests say.
	Namespace string
	// Variables are those of the AddOnDeploymentConfig.
	Variables []addon.Variable
}

// Expand replaces {{NAME}} in the manifests of an AddOnTemplate, and gives the
// variables to the containers of Deployments and DaemonSets. With a namespace,
// everything that is in one moves there, as in Open Cluster Management: objects,
// the subjects of bindings, and Namespaces themselves.
//
// Unlike in Open Cluster Management a variable that nobody gave is an error, a value
// cannot break out of the string that it stands in, and braces around anything but
// a name stay as they are.
func Expand(t Template) ([]*unstructured.Unstructured, error) {
	if len(t.Spec.Registration) > 0 {
		return nil, errors.New("spec.registration: this hub issues no credentials to the agents of addons; an addon that needs none can leave it out")
	}
	v := t.variables()
	var out []*unstructured.Unstructured
	for i := range t.Spec.AgentSpec.Workload.Manifests {
		path := fmt.Sprintf("spec.agentSpec.workload.manifests[%d]", i)
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(t.Spec.AgentSpec.Workload.Manifests[i].Raw); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		expanded, err := v.expand(obj.Object, path)
		if err != nil {
			return nil, err
		}
		obj.Object, _ = expanded.(map[string]any)
		if t.Namespace != "" {
			relocate(obj, t.Namespace)
		}
		v.environment(obj)
		out = append(out, obj)
	}
	return out, nil
}

type variables struct {
	values map[string]string
	env    []variable
}

func (t *Template) variables() *variables {
	v := &variables{values: map[string]string{VariableKubeconfig: kubeconfigPath}}
	for _, c := range t.Variables {
		v.values[c.Name] = c.Value
		if c.Name != VariableCluster && c.Name != VariableNamespace {
			v.env = append(v.env, variable{c.Name, c.Value})
		}
	}
	v.values[VariableCluster] = t.Cluster
	v.values[VariableNamespace] = cmp.Or(t.Namespace, addon.DefaultInstallNamespace)
	for _, name := range []string{VariableCluster, VariableNamespace} {
		v.env = append(v.env, variable{name, v.values[name]})
	}
	return v
}

var (
	nameRE   = regexp.MustCompile(`\{\{([a-zA-Z_][_a-zA-Z0-9]*)\}\}`)
	spacedRE = regexp.MustCompile(`\{\{\s+([a-zA-Z_][_a-zA-Z0-9]*)\s*\}\}|\{\{([a-zA-Z_][_a-zA-Z0-9]*)\s+\}\}`)
)

// expand returns a value with the names in its strings replaced.
func (v *variables) expand(value any, path string) (any, error) {
	switch value := value.(type) {
	case string:
		return v.text(value, path)
	case []any:
		for i := range value {
			item, err := v.expand(value[i], fmt.Sprintf("%s[%d]", path, i))
			if err != nil {
				return nil, err
			}
			value[i] = item
		}
	case map[string]any:
		out := make(map[string]any, len(value))
		for _, k := range slices.Sorted(maps.Keys(value)) {
			name, err := v.text(k, path)
			if err != nil {
				return nil, err
			}
			if out[name], err = v.expand(value[k], path+"."+k); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return value, nil
}

func (v *variables) text(s, path string) (string, error) {
	if !strings.Contains(s, "{{") {
		return s, nil
	}
	var problem error
	if m := spacedRE.FindStringSubmatch(s); m != nil {
		if name := cmp.Or(m[1], m[2]); v.known(name) {
			problem = fmt.Errorf("%s: write {{%s}}, without blanks", path, name)
		}
	}
	out := nameRE.ReplaceAllStringFunc(s, func(match string) string {
		name := match[2 : len(match)-2]
		if !v.known(name) && problem == nil {
			problem = fmt.Errorf("%s: there is no variable %s: give it in customizedVariables of an AddOnDeploymentConfig; known are %s",
				path, name, strings.Join(slices.Sorted(maps.Keys(v.values)), ", "))
		}
		return v.values[name]
	})
	return out, problem
}

func (v *variables) known(name string) bool {
	_, ok := v.values[name]
	return ok
}

// relocate moves an object to a namespace.
func relocate(obj *unstructured.Unstructured, namespace string) {
	if obj.GetNamespace() != "" {
		obj.SetNamespace(namespace)
	}
	switch obj.GetKind() {
	case "Namespace":
		obj.SetName(namespace)
	case "ClusterRoleBinding", "RoleBinding":
		subjects, _ := obj.Object["subjects"].([]any)
		for i := range subjects {
			// Users and groups are in no namespace, and the API server refuses
			// one; Open Cluster Management writes it there all the same.
			if s, ok := subjects[i].(map[string]any); ok && s["kind"] == "ServiceAccount" {
				s["namespace"] = namespace
			}
		}
	}
}

// environment gives the variables to the containers of what runs for long.
func (v *variables) environment(obj *unstructured.Unstructured) {
	if kind := obj.GetKind(); kind != "Deployment" && kind != "DaemonSet" {
		return
	}
	path := podPath(obj)
	if path == nil {
		return
	}
	containers, _, _ := unstructured.NestedFieldNoCopy(obj.Object, append(path, "containers")...)
	list, _ := containers.([]any)
	for i := range list {
		c, ok := list[i].(map[string]any)
		if !ok {
			continue
		}
		for _, e := range v.env {
			c["env"] = setNamed(c["env"], e.name, map[string]any{"value": e.value})
		}
	}
}
