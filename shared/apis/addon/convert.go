// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"encoding/json"
	"fmt"
	"reflect"

	certificatesv1 "k8s.io/api/certificates/v1"
	kjson "sigs.k8s.io/json"
)

// Annotations that hold, as JSON, what the other version cannot say. Each is
// there only in the version that cannot say it.
const (
	AnnotationAlphaFields = Group + "/v1alpha1-fields"
	AnnotationBetaFields  = Group + "/v1beta1-fields"
)

// noDefault is how Open Cluster Management marks, in v1beta1, a supported
// configuration without a default. It is understood and never written.
const noDefault = "__reserved_no_default__"

// Convert returns a ClusterManagementAddOn or ManagedClusterAddOn in another
// version. Nothing is lost: what a version cannot say is in an annotation. obj is
// of the types that the schemas of the kinds demand, with integers as int64, and
// becomes part of the result.
func Convert(obj map[string]any, version string) (map[string]any, error) {
	c := &conversion{obj: obj, toBeta: version == Version}
	if !c.toBeta && version != VersionAlpha {
		return nil, fmt.Errorf("there is no version %q of %s", version, Group)
	}
	if obj["apiVersion"] == Group+"/"+version {
		return obj, nil
	}
	c.recall()
	switch obj["kind"] {
	case KindClusterManagementAddOn:
		c.recipe()
	case KindManagedClusterAddOn:
		c.dish()
	default:
		return nil, fmt.Errorf("the versions of kind %v are the same", obj["kind"])
	}
	if err := c.remember(); err != nil {
		return nil, err
	}
	obj["apiVersion"] = Group + "/" + version
	return obj, nil
}

// memory is the content of an annotation.
type memory struct {
	// Fields that the version has not, by path.
	Fields map[string]any `json:"fields,omitempty"`
	// Without are supported configurations without a default.
	Without []unset `json:"without,omitempty"`
	// Inexact are fields that do not come back as they were: as long as Was is
	// what they have become, Value is what they were.
	Inexact map[string]inexact `json:"inexact,omitempty"`
}

type unset struct {
	At     int            `json:"at"` // its place in the list
	Config map[string]any `json:"config"`
}

type inexact struct {
	Was   any `json:"was"`
	Value any `json:"value"`
}

func (m *memory) empty() bool {
	return len(m.Fields) == 0 && len(m.Without) == 0 && len(m.Inexact) == 0
}

// conversion is one object on its way.
type conversion struct {
	obj    map[string]any
	toBeta bool
	known  memory // what the object's version could not say, and the wanted one can
	lost   memory // what the wanted version cannot say
}

// recall reads the annotation for the wanted version and takes it away. One that
// nobody can read stays.
func (c *conversion) recall() {
	name := AnnotationAlphaFields
	if c.toBeta {
		name = AnnotationBetaFields
	}
	text, ok := c.annotation(name)
	if !ok || kjson.UnmarshalCaseSensitivePreserveInts([]byte(text), &c.known) != nil || c.known.empty() {
		c.known = memory{}
		return
	}
	c.annotate(name, "")
}

// remember writes the annotation for the way back.
func (c *conversion) remember() error {
	if c.lost.empty() {
		return nil
	}
	data, err := json.Marshal(c.lost)
	if err != nil {
		return fmt.Errorf("encode annotation: %w", err)
	}
	name := AnnotationBetaFields
	if c.toBeta {
		name = AnnotationAlphaFields
	}
	c.annotate(name, string(data))
	return nil
}

func (c *conversion) annotation(name string) (string, bool) {
	m, _ := c.obj["metadata"].(map[string]any)
	all, _ := m["annotations"].(map[string]any)
	text, ok := all[name].(string)
	return text, ok
}

// annotate sets an annotation, or takes it away when text is empty.
func (c *conversion) annotate(name, text string) {
	m := child(c.obj, "metadata")
	all := child(m, "annotations")
	if all[name] = text; text == "" {
		delete(all, name)
	}
	if len(all) == 0 {
		delete(m, "annotations")
	}
}

// child returns the object in a field, which it makes when there is none.
func child(obj map[string]any, field string) map[string]any {
	m, ok := obj[field].(map[string]any)
	if !ok {
		m = map[string]any{}
		obj[field] = m
	}
	return m
}

// alphaOnly moves a field that v1beta1 has not.
func (c *conversion) alphaOnly(parent, field string) {
	path := parent + "." + field
	if c.toBeta {
		m, _ := c.obj[parent].(map[string]any)
		if v, ok := m[field]; ok {
			c.lost.Fields = with(c.lost.Fields, path, v)
			delete(m, field)
		}
		return
	}
	if v, ok := c.known.Fields[path].(map[string]any); ok {
		child(c.obj, parent)[field] = v
	}
}

// section converts fields of one object together, with a pair of functions for
// the two directions. Both leave their argument alone.
func (c *conversion) section(parent, key string, fields []string, toBeta, toAlpha func(map[string]any) map[string]any) {
	m, ok := c.obj[parent].(map[string]any)
	if !ok {
		return
	}
	there, back := toAlpha, toBeta
	if c.toBeta {
		there, back = toBeta, toAlpha
	}
	from := map[string]any{}
	for _, f := range fields {
		if v, ok := m[f]; ok {
			from[f] = v
			delete(m, f)
		}
	}
	to := there(from)
	if k, ok := c.known.Inexact[key]; ok && equal(k.Was, from) {
		if v, ok := k.Value.(map[string]any); ok {
			to = v
		}
	}
	if !equal(back(to), from) {
		c.lost.Inexact = with(c.lost.Inexact, key, inexact{Was: to, Value: from})
	}
	for _, f := range fields {
		if v, ok := to[f]; ok {
			m[f] = v
		}
	}
}

// equal compares values as JSON has them.
func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

func with[V any](m map[string]V, key string, v V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = v
	return m
}

func (c *conversion) recipe() {
	c.alphaOnly("spec", "addOnConfiguration")
	if spec, ok := c.obj["spec"].(map[string]any); ok {
		if c.toBeta {
			c.defaultConfigs(spec)
		} else {
			c.supportedConfigs(spec)
		}
	}
	if status, ok := c.obj["status"].(map[string]any); ok {
		from, to := "defaultConfigReferences", "defaultconfigReferences"
		if c.toBeta {
			from, to = to, from
		}
		if v, ok := status[from]; ok {
			status[to] = v
			delete(status, from)
		}
	}
}

// defaultConfigs turns v1alpha1's list of what is supported into that of defaults.
func (c *conversion) defaultConfigs(spec map[string]any) {
	list, ok := spec["supportedConfigs"].([]any)
	if !ok {
		return
	}
	out := []any{}
	for i, e := range list {
		from, _ := e.(map[string]any)
		config := pick(from, "group", "resource")
		def, ok := from["defaultConfig"].(map[string]any)
		if !ok {
			c.lost.Without = append(c.lost.Without, unset{At: i, Config: config})
			continue
		}
		out = append(out, merge(config, pick(def, "namespace", "name")))
	}
	delete(spec, "supportedConfigs")
	spec["defaultConfigs"] = out
}

func (c *conversion) supportedConfigs(spec map[string]any) {
	list, ok := spec["defaultConfigs"].([]any)
	if !ok && len(c.known.Without) == 0 {
		return
	}
	out := []any{}
	seen := map[string]bool{}
	for _, e := range list {
		from, _ := e.(map[string]any)
		config := pick(from, "group", "resource")
		seen[groupResource(config)] = true
		if from["name"] != noDefault {
			config["defaultConfig"] = pick(from, "namespace", "name")
		}
		out = append(out, config)
	}
	for _, u := range c.known.Without {
		// somebody may have given it a default since
		if u.Config == nil || seen[groupResource(u.Config)] {
			continue
		}
		at := max(0, min(u.At, len(out)))
		out = append(out[:at], append([]any{u.Config}, out[at:]...)...)
	}
	delete(spec, "defaultConfigs")
	spec["supportedConfigs"] = out
}

func groupResource(m map[string]any) string { return fmt.Sprint(m["group"], "/", m["resource"]) }

func (c *conversion) dish() {
	c.alphaOnly("status", "addOnConfiguration")
	c.installNamespace()
	c.section("status", "registrations", []string{"registrations", "kubeClientDriver"}, betaRegistrations, alphaRegistrations)
	c.section("status", "configReferences", []string{"configReferences"}, betaReferences, alphaReferences)
}

// installNamespace is an annotation in v1beta1, as in Open Cluster Management.
func (c *conversion) installNamespace() {
	spec, _ := c.obj["spec"].(map[string]any)
	if c.toBeta {
		if ns, _ := spec["installNamespace"].(string); ns != "" {
			c.annotate(AnnotationInstallNamespace, ns)
		}
		delete(spec, "installNamespace")
		return
	}
	if ns, _ := c.annotation(AnnotationInstallNamespace); ns != "" {
		child(c.obj, "spec")["installNamespace"] = ns
		c.annotate(AnnotationInstallNamespace, "")
	}
}

func betaRegistrations(in map[string]any) map[string]any {
	list, ok := in["registrations"].([]any)
	if !ok {
		return map[string]any{}
	}
	out := []any{}
	for _, e := range list {
		from, _ := e.(map[string]any)
		subject, _ := from["subject"].(map[string]any)
		if from["signerName"] == certificatesv1.KubeAPIServerClientSignerName {
			client := map[string]any{}
			if subject != nil {
				client["subject"] = pick(subject, "user", "groups")
			}
			if driver, ok := in["kubeClientDriver"]; ok {
				client["driver"] = driver
			}
			out = append(out, map[string]any{"type": RegistrationKubeClient, "kubeClient": client})
			continue
		}
		signer := pick(from, "signerName")
		if subject != nil {
			signer["subject"] = rename(subject, "organizationUnit", "organizationUnits")
		}
		out = append(out, map[string]any{"type": RegistrationCustomSigner, "customSigner": signer})
	}
	return map[string]any{"registrations": out}
}

func alphaRegistrations(in map[string]any) map[string]any {
	list, ok := in["registrations"].([]any)
	if !ok {
		return map[string]any{}
	}
	out := map[string]any{}
	registrations := []any{}
	for _, e := range list {
		from, _ := e.(map[string]any)
		if from["type"] == RegistrationKubeClient {
			r := map[string]any{"signerName": certificatesv1.KubeAPIServerClientSignerName}
			client, _ := from["kubeClient"].(map[string]any)
			if subject, ok := client["subject"].(map[string]any); ok {
				r["subject"] = pick(subject, "user", "groups")
			}
			if driver, ok := client["driver"]; ok && out["kubeClientDriver"] == nil {
				out["kubeClientDriver"] = driver
			}
			registrations = append(registrations, r)
			continue
		}
		signer, _ := from["customSigner"].(map[string]any)
		r := pick(signer, "signerName")
		if subject, ok := signer["subject"].(map[string]any); ok {
			r["subject"] = rename(subject, "organizationUnits", "organizationUnit")
		}
		registrations = append(registrations, r)
	}
	out["registrations"] = registrations
	return out
}

// betaReferences drops the name beside the desired configuration, which says it.
func betaReferences(in map[string]any) map[string]any {
	return eachReference(in, func(r map[string]any) {
		delete(r, "name")
		delete(r, "namespace")
	})
}

func alphaReferences(in map[string]any) map[string]any {
	return eachReference(in, func(r map[string]any) {
		if desired, ok := r["desiredConfig"].(map[string]any); ok {
			for k, v := range pick(desired, "namespace", "name") {
				r[k] = v
			}
		}
	})
}

func eachReference(in map[string]any, change func(map[string]any)) map[string]any {
	list, ok := in["configReferences"].([]any)
	if !ok {
		return map[string]any{}
	}
	out := []any{}
	for _, e := range list {
		from, _ := e.(map[string]any)
		r := merge(from, nil)
		change(r)
		out = append(out, r)
	}
	return map[string]any{"configReferences": out}
}

func pick(m map[string]any, fields ...string) map[string]any {
	out := map[string]any{}
	for _, f := range fields {
		if v, ok := m[f]; ok {
			out[f] = v
		}
	}
	return out
}

func merge(a, b map[string]any) map[string]any {
	out := make(map[string]any, len(a)+len(b))
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}

func rename(m map[string]any, from, to string) map[string]any {
	out := merge(m, nil)
	if v, ok := out[from]; ok {
		delete(out, from)
		out[to] = v
	}
	return out
}
