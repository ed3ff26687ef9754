// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// An addon may be made from a template, as in Open Cluster Management.
func TestTemplate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	templates := store.Of[addon.AddOnTemplate](r.store, addon.ResourceTemplates)
	settings := store.Of[addon.AddOnDeploymentConfig](r.store, addon.ResourceDeploymentConfigs)
	r.must(templates.Create(ctx(t), &addon.AddOnTemplate{
		TypeMeta:   metav1.TypeMeta{APIVersion: addon.Group + "/" + addon.VersionAlpha, Kind: addon.KindTemplate},
		ObjectMeta: metav1.ObjectMeta{Name: "hello-v1"},
		Spec: addon.AddOnTemplateSpec{AddonName: "hello", AgentSpec: work.ManifestWorkSpec{
			Workload:        work.Workload{Manifests: []runtime.RawExtension{configMap("{{INSTALL_NAMESPACE}}", "hello", "{{CLUSTER_NAME}} {{TEXT}}")}},
			ManifestConfigs: []work.ManifestConfig{{ResourceIdentifier: work.ResourceIdentifier{Resource: "configmaps", Name: "hello", Namespace: "*"}}},
			DeleteOption:    &work.DeleteOption{PropagationPolicy: work.Foreground},
		}},
	}))
	r.must(settings.Create(ctx(t), &addon.AddOnDeploymentConfig{
		TypeMeta:   metav1.TypeMeta{APIVersion: addon.Group + "/" + addon.Version, Kind: addon.KindDeploymentConfig},
		ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "hello"},
		Spec:       addon.AddOnDeploymentConfigSpec{AgentInstallNamespace: "greetings", CustomizedVariables: []addon.Variable{{Name: "TEXT", Value: "hi"}}},
	}))
	r.must(r.recipes.Create(ctx(t), &addon.ClusterManagementAddOn{
		ObjectMeta: metav1.ObjectMeta{Name: "hello"},
		Spec: addon.ClusterManagementAddOnSpec{DefaultConfigs: []addon.Config{
			{ConfigGroupResource: config.TemplateKind(), ConfigReferent: addon.ConfigReferent{Name: "hello-v1"}},
			{ConfigGroupResource: config.DeploymentKind(), ConfigReferent: addon.ConfigReferent{Namespace: "edge", Name: "hello"}},
		}},
	}))
	r.install("c1", "hello", "")
	r.until("a work", func() bool { return r.work("c1", deployName("hello")) != nil })
	w := r.work("c1", deployName("hello"))
	text := r.text(w)
	if !strings.Contains(text, `"c1 hi"`) || !strings.Contains(text, `"namespace":"greetings"`) || !strings.Contains(text, `"kind":"Namespace"`) {
		t.Errorf("manifests: %s", text)
	}
	if len(w.Spec.ManifestConfigs) != 1 || w.Spec.DeleteOption == nil {
		t.Errorf("spec: %+v", w.Spec)
	}
	r.report("c1", w.Name, healthy)
	r.until("completed", func() bool { return r.condition("c1", "hello", addon.ConditionProgressing) == "False/Completed" })
	d := r.dish("c1", "hello")
	if d.Status.Namespace != "greetings" || len(d.Status.ConfigReferences) != 2 || d.Status.ConfigReferences[1].LastAppliedConfig == nil {
		t.Errorf("status: %+v", d.Status)
	}
	// A change of the settings moves it.
	r.must(settings.Update(ctx(t), "edge", "hello", func(o *addon.AddOnDeploymentConfig) error {
		o.Spec.CustomizedVariables[0].Value = "bye"
		return nil
	}))
	r.until("the new text", func() bool { return strings.Contains(r.text(r.work("c1", deployName("hello"))), `"c1 bye"`) })
	r.until("known at the addon", func() bool {
		o, err := r.recipes.Get(ctx(t), "", "hello")
		return err == nil && len(o.Status.DefaultConfigReferences) == 2 && o.Status.DefaultConfigReferences[0].DesiredConfig.SpecHash != ""
	})
}

// An addon that neither the catalog nor a template knows is left to its own
// controller.
func TestForeignAddOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.must(r.recipes.Create(ctx(t), &addon.ClusterManagementAddOn{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}))
	r.install("c1", "theirs", "")
	r.must(r.dishes.UpdateStatus(ctx(t), "c1", "theirs", func(o *addon.ManagedClusterAddOn) error {
		o.Status.Conditions = []metav1.Condition{{Type: addon.ConditionAvailable, Status: metav1.ConditionTrue, Reason: "Theirs"}}
		return nil
	}))
	r.until("its label", func() bool {
		mc, err := r.clusters.Get(ctx(t), "", "c1")
		return err == nil && mc.Labels[addon.LabelFeature+"theirs"] == "available"
	})
	if d := r.dish("c1", "theirs"); len(d.Status.Conditions) != 1 || len(d.Finalizers) != 0 {
		t.Errorf("touched: %+v", d)
	}
	// Until there is a version.
	r.version("theirs", "1.0.0", func(s *fleet.AddOnVersionSpec) { s.Default = true })
	r.until("ours", func() bool { return r.work("c1", deployName("theirs")) != nil })
}

// What travels with a work: many manifests as a bundle, health rules, what is
// protected, what stays, a quota.
func TestWhatTravels(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.cluster("c2", true)
	v := r.version("big", "1.0.0", func(s *fleet.AddOnVersionSpec) {
		s.Manifests = nil
		for i := range 60 {
			s.Manifests = append(s.Manifests, configMap("data", fmt.Sprintf("m%d", i), "x"))
		}
		s.Manifests = append(s.Manifests, runtime.RawExtension{Raw: []byte(
			`{"apiVersion":"example.io/v1","kind":"Policy","metadata":{"namespace":"data","name":"kept","annotations":{"` + addon.AnnotationDeletionOrphan + `":""}}}`)})
		s.Health = []fleet.HealthRule{{Name: "ready", Object: fleet.ObjectPattern{Kind: "ConfigMap", Name: "*"}, Expression: "true"}}
		s.Protected = []fleet.ObjectPattern{{Kind: "ConfigMap", Name: "m1"}}
	})
	r.must(r.versions.Update(ctx(t), "", v.Name, func(o *fleet.AddOnVersion) error {
		o.Annotations = map[string]string{addon.AnnotationResourceQuota: `{"limits.memory":"1Gi"}`}
		return nil
	}))
	for _, c := range []string{"c1", "c2"} {
		r.install(c, "big", "1.0.0")
		r.until("a work", func() bool { return r.work(c, deployName("big")) != nil })
	}
	w, other := r.work("c1", deployName("big")), r.work("c2", deployName("big"))
	digest := w.Annotations[work.AnnotationBundle]
	if digest == "" || digest != other.Annotations[work.AnnotationBundle] {
		t.Fatalf("bundles %q and %q", digest, other.Annotations[work.AnnotationBundle])
	}
	data, err := r.cfg.Bundles.Get(ctx(t), digest)
	r.must(data, err)
	if text := string(data); strings.Count(text, "\n") != 62 || !strings.Contains(text, `"limits.memory":"1Gi"`) || strings.Contains(text, `"Namespace"`) {
		t.Errorf("bundle of %d lines", strings.Count(text, "\n"))
	}
	if !strings.Contains(r.text(w), `"Namespace"`) {
		t.Error("no namespace")
	}
	if a := w.Annotations; !strings.Contains(a[work.AnnotationHealthRules], `"expression":"true"`) || !strings.Contains(a[work.AnnotationProtected], `"m1"`) {
		t.Errorf("annotations: %v", a)
	}
	if o := w.Spec.DeleteOption; o == nil || o.PropagationPolicy != work.SelectivelyOrphan || o.SelectivelyOrphans.OrphaningRules[0].Resource != "policies" {
		t.Errorf("delete option: %+v", o)
	}
	r.well("c1", "big", "1.0.0")

	// What is protected waits for a word although the addon is removed.
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "big"))
	r.until("going", func() bool { w := r.work("c1", deployName("big")); return w != nil && w.DeletionTimestamp != nil })
	if r.work("c1", deployName("big")).Annotations[work.AnnotationPrune] != "" {
		t.Error("nobody is asked about what is protected")
	}
	r.must(r.works.UpdateStatus(ctx(t), "c1", deployName("big"), func(w *work.ManifestWork) error {
		w.Status.PrunePlan = &work.PrunePlan{ID: "0123456789abcdef", Total: 1}
		return nil
	}))
	r.until("said", func() bool {
		return strings.Contains(r.message("c1", "big", addon.ConditionProgressing), "drover work approve-prune c1 addon-big-deploy-0")
	})
	// A bad quota is said.
	r.must(r.dishes.Update(ctx(t), "c2", "big", func(o *addon.ManagedClusterAddOn) error {
		o.Annotations = map[string]string{addon.AnnotationResourceQuota: `much`}
		return nil
	}))
	r.until("said", func() bool {
		return strings.Contains(r.message("c2", "big", addon.ConditionConfigured), "want the JSON of spec.hard of a ResourceQuota")
	})
}
