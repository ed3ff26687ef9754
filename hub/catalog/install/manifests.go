// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/shared/apis/addon"
)

// render makes the manifests, puts the settings into them, and names the outcome.
func (x *resolving) render() error {
	m := x.m
	m.namespace = config.InstallNamespace(x.q.MCA, x.deploy)
	var err error
	if x.template != nil {
		err = x.expand()
	} else {
		err = x.renderVersion()
	}
	if err != nil {
		return err
	}
	settings := config.Deployment{AddOn: x.q.AddOn, Namespace: m.namespace, Spec: x.deploy}
	out := &catalog.Rendered{}
	for _, list := range []struct{ from, to *[]*unstructured.Unstructured }{
		{&m.rendered.Objects, &out.Objects}, {&m.rendered.PostInstall, &out.PostInstall}, {&m.rendered.PreDelete, &out.PreDelete},
	} {
		if *list.to, err = config.Decorate(*list.from, settings); err != nil {
			return notConfigured("%s", err)
		}
	}
	if x.quota != nil && m.namespace != "" {
		out.Objects = append([]*unstructured.Unstructured{quotaObject(x.q.AddOn, m.namespace, x.quota)}, out.Objects...)
	}
	m.rendered = out
	return x.sum()
}

func quotaObject(addOn, namespace string, hard map[string]string) *unstructured.Unstructured {
	limits := map[string]any{}
	for k, v := range hard {
		limits[k] = v
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ResourceQuota",
		"metadata": map[string]any{"name": "addon-" + addOn, "namespace": namespace},
		"spec":     map[string]any{"hard": limits},
	}}
}

func (x *resolving) expand() error {
	t := config.Template{Spec: &x.template.Spec, Cluster: x.q.Cluster, Namespace: x.m.namespace}
	if x.deploy != nil {
		t.Variables = x.deploy.CustomizedVariables
	}
	objects, err := config.Expand(t)
	if err != nil {
		return notConfigured("AddOnTemplate %s: %v", x.template.Name, err)
	}
	x.m.rendered = &catalog.Rendered{}
	for _, o := range objects {
		switch a := o.GetAnnotations(); {
		case a[addon.AnnotationManifestLocation] == "none":
		case has(a, addon.AnnotationPreDelete) && runsOnce(o):
			x.m.rendered.PreDelete = append(x.m.rendered.PreDelete, o)
		case has(a, addon.AnnotationPostInstall) && runsOnce(o):
			x.m.rendered.PostInstall = append(x.m.rendered.PostInstall, o)
		default:
			x.m.rendered.Objects = append(x.m.rendered.Objects, o)
		}
	}
	return nil
}

func has(m map[string]string, key string) bool { _, ok := m[key]; return ok }

func (x *resolving) renderVersion() error {
	facts := catalog.Facts{Name: x.q.Cluster}
	if x.facts != nil {
		facts = *x.facts
	}
	schema, err := x.schema()
	if err != nil {
		return err
	}
	values, err := config.Evaluate(x.ctx, config.Evaluation{Layers: x.layers, Schema: schema, Cluster: facts})
	if err != nil {
		return notConfigured("%s", err)
	}
	x.m.values = values.Origin
	content, err := x.content()
	if err != nil {
		return notConfigured("AddOnVersion %s: %v", x.m.object, err)
	}
	namespace := x.m.namespace
	if namespace == "" {
		namespace = "default"
	}
	x.m.rendered, err = x.cfg.Renderer.Render(x.ctx, &catalog.Rendering{
		AddOn: x.q.AddOn, Version: x.m.version, Namespace: namespace, Content: content, Values: values.Values, Cluster: facts,
	})
	if err != nil {
		return notConfigured("%s %s cannot be rendered: %v", x.q.AddOn, x.m.version, err)
	}
	return nil
}

func (x *resolving) schema() (*config.Schema, error) {
	raw := x.spec.ConfigSchema
	if raw == nil || len(raw.Raw) == 0 {
		return nil, nil
	}
	return x.schemas.get(digestBytes(raw.Raw), func() (*config.Schema, error) {
		s, errs := config.Compile(x.ctx, raw.Raw, nil)
		if len(errs) > 0 {
			return nil, notConfigured("AddOnVersion %s: spec.configSchema: %v", x.m.object, errs.ToAggregate())
		}
		return s, nil
	})
}

func (x *resolving) content() (*catalog.Content, error) {
	parts := [][]byte{[]byte(x.spec.Manager), []byte(x.spec.Image)} // which is pinned to a digest
	for i := range x.spec.Manifests {
		parts = append(parts, x.spec.Manifests[i].Raw)
	}
	return x.contents.get(digestBytes(parts...), func() (*catalog.Content, error) {
		return x.cfg.Contents.Load(x.ctx, x.spec)
	})
}

// sum names what was made, and finds out about namespaces.
func (x *resolving) sum() error {
	m := x.m
	var parts [][]byte
	for _, list := range [][]*unstructured.Unstructured{m.rendered.Objects, m.rendered.PostInstall, m.rendered.PreDelete} {
		lines, _, err := encode(list)
		if err != nil {
			return err
		}
		parts = append(parts, fmt.Appendf(nil, "%d", len(lines)))
		parts = append(parts, lines...)
	}
	m.made = digestBytes(parts...)
	var template []byte
	if m.template != nil {
		spec := *m.template
		spec.Workload.Manifests = nil
		template = []byte(digestJSON(spec))
	}
	m.digest = digestBytes(append(parts, template, []byte(digestJSON([]any{m.health, m.protected, m.hashes()})))...)
	m.objects = len(m.rendered.Objects)
	if len(m.rendered.PostInstall) > 0 {
		lines, _, err := encode(m.rendered.PostInstall)
		if err != nil {
			return err
		}
		// They run again for each version, also if they are the same.
		m.hook = digestBytes(append(lines, []byte(m.version), []byte(m.hash))...)
	}
	lines, size, err := encode(m.rendered.PreDelete)
	if err != nil {
		return err
	}
	if size > maxPreDeleteHook {
		return notConfigured("the %d hooks that run before removal have %d bytes, at most %d", len(lines), size, maxPreDeleteHook)
	}
	m.namespaces = namespacesOf(m)
	return nil
}

// namespacesOf are the Namespaces that have to exist on the cluster for the addon:
// those among its objects, and the one that it is installed in if any object is there.
func namespacesOf(m *material) []string {
	var names []string
	lives := false
	for _, o := range m.rendered.Objects {
		if isNamespace(o) {
			names = append(names, o.GetName())
		}
		lives = lives || o.GetNamespace() == m.namespace && m.namespace != ""
	}
	for _, o := range slices.Concat(m.rendered.PostInstall, m.rendered.PreDelete) {
		lives = lives || o.GetNamespace() == m.namespace && m.namespace != ""
	}
	if lives && !slices.Contains(names, m.namespace) && !builtin(m.namespace) {
		names = append(names, m.namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func isNamespace(o *unstructured.Unstructured) bool {
	gvk := o.GroupVersionKind()
	return gvk.Group == "" && gvk.Kind == "Namespace"
}

// builtin are the namespaces that every cluster has, and nobody may remove.
func builtin(name string) bool {
	return name == "default" || strings.HasPrefix(name, "kube-")
}
