// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/addon"
)

// What Open Cluster Management calls the bundle of authorities behind a proxy.
const (
	caVolume    = "proxy-ca-bundle"
	caKey       = "ca-bundle.crt"
	caDirectory = "/managed/proxy-ca"
	caVariable  = "CA_BUNDLE_FILE_PATH"
)

// Deployment is what an AddOnDeploymentConfig does to the manifests of an addon.
type Deployment struct {
	AddOn string
	// Namespace is what objects without one get from the agent, the install namespace.
	Namespace string
	// Spec is nil when no AddOnDeploymentConfig applies.
	Spec *addon.AddOnDeploymentConfigSpec
}

// Decorate returns manifests with the settings of an AddOnDeploymentConfig in every
// Pod template. The objects given stay as they are; those without a Pod template
// are returned themselves. A bundle of authorities comes as one ConfigMap for each
// namespace that needs it, in front of the first object that does.
//
// Node selectors, tolerations and resources replace what the manifests say.
// Variables of the environment replace those of the same name. Variables for
// templates are Expand's; the namespace is the renderer's.
func Decorate(objects []*unstructured.Unstructured, d Deployment) ([]*unstructured.Unstructured, error) {
	if d.Spec == nil {
		return objects, nil
	}
	p, err := newPodSettings(d)
	if err != nil {
		return nil, err
	}
	out := make([]*unstructured.Unstructured, 0, len(objects)+1)
	bundled := map[string]bool{}
	for _, obj := range objects {
		if podPath(obj) == nil {
			out = append(out, obj)
			continue
		}
		obj = obj.DeepCopy()
		changed, err := p.apply(obj)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
		ns := obj.GetNamespace()
		if ns == "" {
			ns = d.Namespace
		}
		if changed && len(d.Spec.ProxyConfig.CABundle) > 0 && !bundled[ns] {
			bundled[ns] = true
			out = append(out, d.bundle(ns))
		}
		out = append(out, obj)
	}
	return out, nil
}

func (d Deployment) bundleName() string { return d.AddOn + "-proxy-ca" }

func (d Deployment) bundle(namespace string) *unstructured.Unstructured {
	meta := map[string]any{"name": d.bundleName()}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
		"data": map[string]any{caKey: string(d.Spec.ProxyConfig.CABundle)},
	}}
}

// podPath is where the Pod template of a kind is, with its spec; nil for a kind
// that has none.
func podPath(obj *unstructured.Unstructured) []string {
	group, _, _ := strings.Cut(obj.GetAPIVersion(), "/")
	switch group + "/" + obj.GetKind() {
	case "apps/Deployment", "apps/DaemonSet", "apps/StatefulSet", "apps/ReplicaSet", "batch/Job":
		return []string{"spec", "template", "spec"}
	case "batch/CronJob":
		return []string{"spec", "jobTemplate", "spec", "template", "spec"}
	case "v1/Pod":
		return []string{"spec"}
	}
	return nil
}

// podSettings are an AddOnDeploymentConfig as a Pod template needs it.
type podSettings struct {
	nodeSelector map[string]any
	tolerations  []any
	registries   []addon.ImageMirror
	env          []variable
	caName       string // of the ConfigMap; empty: none
	resources    []containerResources
}

type variable struct{ name, value string }

type containerResources struct {
	pattern   string
	resources map[string]any
}

func newPodSettings(d Deployment) (*podSettings, error) {
	p := &podSettings{registries: d.Spec.Registries}
	if n := d.Spec.NodePlacement; n != nil {
		if n.NodeSelector != nil {
			p.nodeSelector = map[string]any{}
			for k, v := range n.NodeSelector {
				p.nodeSelector[k] = v
			}
		}
		for i := range n.Tolerations {
			t, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&n.Tolerations[i])
			if err != nil {
				return nil, fmt.Errorf("nodePlacement.tolerations[%d]: %w", i, err)
			}
			p.tolerations = append(p.tolerations, t)
		}
	}
	proxy := &d.Spec.ProxyConfig
	for _, v := range []variable{{"HTTP_PROXY", proxy.HTTPProxy}, {"HTTPS_PROXY", proxy.HTTPSProxy}, {"NO_PROXY", proxy.NoProxy}} {
		if v.value != "" {
			p.env = append(p.env, v, variable{strings.ToLower(v.name), v.value})
		}
	}
	if len(proxy.CABundle) > 0 {
		p.caName = d.bundleName()
		p.env = append(p.env, variable{caVariable, caDirectory + "/" + caKey})
	}
	for i := range d.Spec.ResourceRequirements {
		r := &d.Spec.ResourceRequirements[i]
		resources, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&r.Resources)
		if err != nil {
			return nil, fmt.Errorf("resourceRequirements[%d]: %w", i, err)
		}
		p.resources = append(p.resources, containerResources{r.ContainerID, resources})
	}
	return p, nil
}

// apply changes the Pod template of an object, and reports whether there is one.
func (p *podSettings) apply(obj *unstructured.Unstructured) (bool, error) {
	path := podPath(obj)
	spec, found, err := unstructured.NestedFieldNoCopy(obj.Object, path...)
	if err != nil || !found {
		return false, err
	}
	pod, ok := spec.(map[string]any)
	if !ok {
		return false, fmt.Errorf("%s is not an object", strings.Join(path, "."))
	}
	if p.nodeSelector != nil {
		pod["nodeSelector"] = runtime.DeepCopyJSON(p.nodeSelector)
	}
	if p.tolerations != nil {
		pod["tolerations"] = runtime.DeepCopyJSONValue(p.tolerations)
	}
	id := strings.ToLower(obj.GetKind()) + "s:" + obj.GetName() + ":"
	for _, field := range []string{"initContainers", "containers"} {
		list, _ := pod[field].([]any)
		for i := range list {
			c, ok := list[i].(map[string]any)
			if !ok {
				return false, fmt.Errorf("%s.%s[%d] is not an object", strings.Join(path, "."), field, i)
			}
			p.container(c, id)
		}
	}
	if p.caName != "" {
		pod["volumes"] = setNamed(pod["volumes"], caVolume, map[string]any{"configMap": map[string]any{"name": p.caName}})
	}
	return true, nil
}

func (p *podSettings) container(c map[string]any, prefix string) {
	if image, ok := c["image"].(string); ok {
		c["image"] = Mirror(image, p.registries)
	}
	for _, v := range p.env {
		c["env"] = setNamed(c["env"], v.name, map[string]any{"value": v.value})
	}
	if p.caName != "" {
		c["volumeMounts"] = setNamed(c["volumeMounts"], caVolume, map[string]any{"mountPath": caDirectory})
	}
	name, _ := c["name"].(string)
	for i := len(p.resources) - 1; i >= 0; i-- {
		if matchContainer(p.resources[i].pattern, prefix+name) {
			c["resources"] = runtime.DeepCopyJSON(p.resources[i].resources)
			break
		}
	}
}

// setNamed replaces the entry of a list that has that name, or adds it.
func setNamed(list any, name string, entry map[string]any) []any {
	entry["name"] = name
	entries, _ := list.([]any)
	for i := range entries {
		if e, ok := entries[i].(map[string]any); ok && e["name"] == name {
			entries[i] = entry
			return entries
		}
	}
	return append(entries, entry)
}

// matchContainer reports whether "deployments:name:container" fits a pattern in
// which "*" is any text but none.
func matchContainer(pattern, id string) bool {
	want, have := strings.SplitN(pattern, ":", 3), strings.SplitN(id, ":", 3)
	if len(want) != 3 || len(have) != 3 {
		return false
	}
	for i := range want {
		if !glob(want[i], have[i]) {
			return false
		}
	}
	return true
}

func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		if rest == "" {
			return false
		}
		at := strings.Index(rest[1:], part)
		if at < 0 {
			return false
		}
		rest = rest[1+at+len(part):]
	}
	last := parts[len(parts)-1]
	return len(rest) > len(last) && strings.HasSuffix(rest, last)
}

// Mirror is the name of an image after registries have replaced the start of it.
// The longest source counts, of equal ones the last. A source ends at a part of the
// name: quay.io/ocm is no start of quay.io/ocm-tools/agent. An empty source is the
// start of every image, of which then only the last part stays.
func Mirror(image string, registries []addon.ImageMirror) string {
	best, longest := image, -1
	for _, r := range registries {
		source, mirror := strings.TrimSuffix(r.Source, "/"), strings.TrimSuffix(r.Mirror, "/")
		if len(source) < longest {
			continue
		}
		if source == "" {
			best, longest = join(mirror, image[strings.LastIndex(image, "/")+1:]), 0
			continue
		}
		rest, ok := strings.CutPrefix(image, source)
		if !ok || rest != "" && !strings.ContainsRune("/:@", rune(rest[0])) {
			continue
		}
		best, longest = mirror+rest, len(source)
		if mirror == "" {
			best = strings.TrimPrefix(rest, "/")
		}
	}
	return best
}

func join(mirror, name string) string {
	if mirror == "" {
		return name
	}
	return mirror + "/" + name
}
