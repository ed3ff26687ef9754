// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// Annotations of a work of an addon, for this package alone.
const (
	// annotationContent is the digest of the target that the work was made for, and
	// annotationWritten that of the work as it was written: whether somebody else
	// changed it.
	annotationContent = "fleet.drover.io/addon-content"
	annotationWritten = "fleet.drover.io/addon-written"
	// annotationHook names what the hooks of a work are.
	annotationHook = "fleet.drover.io/addon-hook"
	// annotationNamespaces are the Namespaces among the objects of the work, divided
	// by commas: of addons that share one only one has it.
	annotationNamespaces = "fleet.drover.io/addon-namespaces"
	// annotationPreDelete is a JSON list of the hooks to run before the objects are
	// removed. They are kept with the work, since what they were made from may be
	// gone by then.
	annotationPreDelete = "fleet.drover.io/addon-pre-delete-hooks"
)

// Limits above which manifests travel as a bundle, so that content that is the same
// for many clusters is stored once, and the limit of the hooks.
const (
	maxInline        = 50
	maxInlineBytes   = 32 << 10
	maxPreDeleteHook = 64 << 10
)

// Names of the works of an addon.
func deployName(addOn string) string      { return "addon-" + addOn + "-deploy-0" }
func postInstallName(addOn string) string { return "addon-" + addOn + "-post-install" }
func preDeleteName(addOn string) string   { return "addon-" + addOn + "-pre-delete" }

func workKey(cluster, name string) store.Key {
	return store.Key{Resource: work.Resource, Namespace: cluster, Name: name}
}

// draft is a work as it should be.
type draft struct {
	name        string
	annotations map[string]string
	spec        work.ManifestWorkSpec
	digest      string
}

// ours are the annotations that this package keeps on works.
func ours() []string {
	return []string{
		annotationContent, annotationHook, annotationNamespaces, annotationPreDelete, addon.AnnotationSpecHash,
		work.AnnotationBundle, work.AnnotationHealthRules, work.AnnotationProtected, work.AnnotationTakeFrom,
	}
}

// digestOf names what a work is, whatever the order of its fields: the spec and the
// annotations that this package keeps.
func digestOf(spec *work.ManifestWorkSpec, annotations map[string]string) (string, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("encode spec: %w", err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return "", fmt.Errorf("decode spec: %w", err)
	}
	kept := map[string]string{}
	for _, key := range ours() {
		if text, ok := annotations[key]; ok {
			kept[key] = text
		}
	}
	return digestJSON([]any{v, kept}), nil
}

// finish gives a draft its digest.
func (d *draft) finish() error {
	digest, err := digestOf(&d.spec, d.annotations)
	if err != nil {
		return err
	}
	d.digest = digest
	d.annotations[annotationWritten] = digest
	return nil
}

// fill writes a draft into a work.
func (d *draft) fill(o *work.ManifestWork, owner *addon.ManagedClusterAddOn) {
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[addon.LabelAddonName] = owner.Name
	if o.Annotations == nil {
		o.Annotations = map[string]string{}
	}
	for _, key := range ours() {
		delete(o.Annotations, key)
	}
	maps.Copy(o.Annotations, d.annotations)
	o.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: addon.Group + "/" + addon.Version, Kind: addon.KindManagedClusterAddOn, Name: owner.Name, UID: owner.UID,
	}}
	o.Spec = d.spec
}

// deploy drafts the work of an addon's objects. namespaces are the Namespaces that
// belong into it, takeFrom the works of other addons that those come from.
func (m *material) deploy(ctx context.Context, bundles Bundles, namespaces []string, takeFrom string) (*draft, error) {
	d := &draft{name: deployName(m.addOn), annotations: map[string]string{annotationContent: m.digest}}
	set := func(key string, v any, empty bool) error {
		if empty {
			return nil
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode %s: %w", key, err)
		}
		d.annotations[key] = string(text)
		return nil
	}
	if err := set(addon.AnnotationSpecHash, m.hashes(), len(m.refs) == 0); err != nil {
		return nil, err
	}
	if err := set(annotationPreDelete, m.rendered.PreDelete, len(m.rendered.PreDelete) == 0); err != nil {
		return nil, err
	}
	if err := set(work.AnnotationHealthRules, m.health, len(m.health) == 0); err != nil {
		return nil, err
	}
	if err := set(work.AnnotationProtected, m.protected, len(m.protected) == 0); err != nil {
		return nil, err
	}
	if takeFrom != "" {
		d.annotations[work.AnnotationTakeFrom] = takeFrom
	}
	if m.template != nil {
		d.spec.DeleteOption, d.spec.Executor = m.template.DeleteOption, m.template.Executor
		d.spec.ManifestConfigs = slices.Clone(m.template.ManifestConfigs)
	}
	if rules := orphans(m.rendered.Objects); len(rules) > 0 && (d.spec.DeleteOption == nil || d.spec.DeleteOption.PropagationPolicy != work.Orphan) {
		o := work.DeleteOption{}
		if d.spec.DeleteOption != nil {
			o = *d.spec.DeleteOption
		}
		if o.SelectivelyOrphans != nil {
			rules = append(slices.Clone(o.SelectivelyOrphans.OrphaningRules), rules...)
		}
		o.PropagationPolicy, o.SelectivelyOrphans = work.SelectivelyOrphan, &work.SelectiveOrphans{OrphaningRules: rules}
		d.spec.DeleteOption = &o
	}
	var first, rest []*unstructured.Unstructured
	missing := slices.Clone(namespaces)
	for _, o := range m.rendered.Objects {
		if !isNamespace(o) {
			rest = append(rest, o)
		} else if i := slices.Index(missing, o.GetName()); i >= 0 {
			first = append(first, o)
			missing = slices.Delete(missing, i, i+1)
		}
	}
	for _, name := range missing {
		first = append(first, namespaceObject(name))
	}
	if len(namespaces) > 0 {
		d.annotations[annotationNamespaces] = strings.Join(namespaces, ",")
	}
	lines, size, err := encode(rest)
	if err != nil {
		return nil, err
	}
	if len(lines) > maxInline || size > maxInlineBytes {
		digest, err := bundles.Put(ctx, append(bytes.Join(lines, []byte("\n")), '\n'))
		if err != nil {
			return nil, fmt.Errorf("store the manifests: %w", err)
		}
		d.annotations[work.AnnotationBundle] = digest
		lines = nil
	}
	head, _, err := encode(first)
	if err != nil {
		return nil, err
	}
	for _, line := range slices.Concat(head, lines) {
		d.spec.Workload.Manifests = append(d.spec.Workload.Manifests, runtime.RawExtension{Raw: line})
	}
	return d, d.finish()
}

// hooks drafts a work of Jobs and Pods that run once.
func hooks(name, digest string, objects []*unstructured.Unstructured) (*draft, error) {
	d := &draft{name: name, annotations: map[string]string{annotationHook: digest}}
	lines, _, err := encode(objects)
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		d.spec.Workload.Manifests = append(d.spec.Workload.Manifests, runtime.RawExtension{Raw: line})
		o := objects[i]
		gvr, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		if !runsOnce(o) {
			continue
		}
		d.spec.ManifestConfigs = append(d.spec.ManifestConfigs, work.ManifestConfig{
			ResourceIdentifier: work.ResourceIdentifier{Group: gvr.Group, Resource: gvr.Resource, Namespace: o.GetNamespace(), Name: o.GetName()},
			ConditionRules:     []work.ConditionRule{{Condition: work.ConditionComplete, Type: work.RuleWellKnown}},
		})
	}
	return d, d.finish()
}

// runsOnce says whether an object is a Job or a Pod.
func runsOnce(o *unstructured.Unstructured) bool {
	gvk := o.GroupVersionKind()
	return gvk.Group == "batch" && gvk.Kind == "Job" || gvk.Group == "" && gvk.Kind == "Pod"
}

// hookState says how far the hooks of a work are: the second result is what went
// wrong. An object that is no Job or Pod is through when it is there.
func (w *workState) hookState() (done bool, failure string) {
	if w == nil || w.deleting {
		return false, ""
	}
	if c := w.find(work.ConditionApplied); c != nil && c.Status == metav1.ConditionFalse {
		return false, c.Message
	}
	healthy := w.find(work.ConditionHealthy)
	complete := w.find(work.ConditionComplete)
	if healthy != nil && healthy.Status == metav1.ConditionFalse && healthy.Reason == work.ReasonUnhealthy {
		return false, firstOf(w.failing, healthy.Message)
	}
	return complete != nil && complete.Status == metav1.ConditionTrue && healthy != nil && healthy.Status == metav1.ConditionTrue, ""
}

// failing is what an object says of itself when it is not well.
func failing(m *work.ManifestCondition) string {
	if m.Health != wire.HealthFailed {
		return ""
	}
	name := strings.TrimPrefix(m.ResourceMeta.Namespace+"/"+m.ResourceMeta.Name, "/")
	text := m.ResourceMeta.Kind + " " + name + ": " + firstOf(m.HealthMessage, m.Health)
	if len(m.Warnings) > 0 {
		text += "; " + m.Warnings[0].Object + " " + m.Warnings[0].Reason + ": " + m.Warnings[0].Message
	}
	return text
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// orphans are the rules for objects that stay when the addon is removed.
func orphans(objects []*unstructured.Unstructured) []work.ResourceIdentifier {
	var rules []work.ResourceIdentifier
	for _, o := range objects {
		if _, ok := o.GetAnnotations()[addon.AnnotationDeletionOrphan]; !ok {
			continue
		}
		gvr, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		rules = append(rules, work.ResourceIdentifier{Group: gvr.Group, Resource: gvr.Resource, Namespace: o.GetNamespace(), Name: o.GetName()})
	}
	return rules
}

func namespaceObject(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
}

// encode makes JSON, one text an object.
func encode(objects []*unstructured.Unstructured) (lines [][]byte, size int, err error) {
	for _, o := range objects {
		text, err := json.Marshal(o.Object)
		if err != nil {
			return nil, 0, fmt.Errorf("encode %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		lines = append(lines, text)
		size += len(text) + 1
	}
	return lines, size, nil
}

func digestBytes(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d\n", len(p))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
