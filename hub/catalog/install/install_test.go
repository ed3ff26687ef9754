// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// An addon that is installed by hand becomes a work, and its status follows what the
// agent says, never before.
func TestInstallByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("log", "1.0.0", nil)
	r.install("c1", "log", "1.0.0", r.values("c1", "log", `{"value":"red"}`))
	r.until("a work", func() bool { return r.work("c1", "addon-log-deploy-0") != nil })
	w := r.work("c1", "addon-log-deploy-0")
	if text := r.text(w); !strings.Contains(text, "1.0.0 red") || !strings.Contains(text, `"kind":"Namespace"`) {
		t.Errorf("manifests: %s", text)
	}
	if w.Labels[addon.LabelAddonName] != "log" || !strings.Contains(w.Annotations[addon.AnnotationSpecHash], "fleet.drover.io/addonconfigs/c1/log") {
		t.Errorf("labels %v, annotations %v", w.Labels, w.Annotations)
	}
	r.until("on its way", func() bool {
		return r.condition("c1", "log", addon.ConditionProgressing) == "True/Progressing" &&
			r.condition("c1", "log", addon.ConditionAvailable) == "Unknown/WorkNotApplied"
	})
	if c := r.dish("c1", "log").Status.Content; c.LastApplied != nil {
		t.Errorf("applied before the agent said so: %+v", c)
	}
	r.report("c1", w.Name, starting)
	r.until("not ready", func() bool { return r.condition("c1", "log", addon.ConditionAvailable) == "False/ProbeUnavailable" })
	r.report("c1", w.Name, healthy)
	r.until("available", func() bool {
		return r.condition("c1", "log", addon.ConditionAvailable) == "True/ProbeAvailable" &&
			r.condition("c1", "log", addon.ConditionProgressing) == "False/Completed"
	})
	d := r.dish("c1", "log")
	if c := d.Status.Content; c.Version != "1.0.0" || c.Revision != 1 || c.LastKnownGood == nil || c.LastKnownGood.Digest != c.Digest {
		t.Errorf("content: %+v", c)
	}
	for _, ref := range d.Status.ConfigReferences {
		if ref.LastAppliedConfig == nil || *ref.LastAppliedConfig != *ref.DesiredConfig {
			t.Errorf("reference %+v", ref)
		}
	}
	r.until("a label", func() bool {
		mc, err := r.clusters.Get(ctx(t), "", "c1")
		return err == nil && mc.Labels[addon.LabelFeature+"log"] == "available"
	})

	// What changes moves, and nothing else is written.
	r.values("c1", "log", `{"value":"blue"}`)
	r.until("the new value", func() bool { return strings.Contains(r.text(r.work("c1", w.Name)), "1.0.0 blue") })
	if c := r.dish("c1", "log").Status.Content; c.LastApplied.Digest == c.Digest {
		t.Error("the new content counts as applied")
	}
	r.well("c1", "log", "1.0.0")
	before := r.store.Revision()
	r.stop()
	r.start()
	r.version("other", "1.0.0", nil)
	r.cluster("c2", true)
	r.install("c2", "other", "1.0.0")
	r.well("c2", "other", "1.0.0")
	for _, name := range []string{"addon-log-deploy-0"} {
		if got, err := strconv.ParseUint(r.work("c1", name).ResourceVersion, 10, 64); err != nil || got > before {
			t.Errorf("work %s was written again", name)
		}
	}

	// A broken version: the status says so, and what was good is known.
	r.version("log", "2.0.0", nil)
	r.install("c1", "log", "2.0.0", r.values("c1", "log", `{"value":"blue"}`))
	r.until("2.0.0", func() bool { return strings.Contains(r.text(r.work("c1", w.Name)), "2.0.0 blue") })
	r.report("c1", w.Name, broken)
	r.until("degraded", func() bool {
		return r.condition("c1", "log", addon.ConditionDegraded) == "True/Unhealthy" &&
			r.condition("c1", "log", addon.ConditionProgressing) == "False/Failed"
	})
	if c := r.dish("c1", "log").Status.Content; c.LastApplied.Version != "2.0.0" || c.LastKnownGood.Version != "1.0.0" {
		t.Errorf("content: %+v", c)
	}
	r.install("c1", "log", "1.0.0", r.values("c1", "log", `{"value":"blue"}`))
	r.well("c1", "log", "1.0.0")

	// Without a residue.
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "log"))
	r.until("gone", func() bool { r.clean(); return r.dish("c1", "log") == nil })
	if r.work("c1", w.Name) != nil {
		t.Error("the work stays")
	}
	r.until("no label", func() bool {
		mc, err := r.clusters.Get(ctx(t), "", "c1")
		_, ok := mc.Labels[addon.LabelFeature+"log"]
		return err == nil && !ok
	})
}

// The content of a version may change; what runs keeps its revision until somebody
// asks for another.
func TestRevisionIsPinned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("log", "1.0.0", nil)
	r.install("c1", "log", "1.0.0")
	r.well("c1", "log", "1.0.0")
	r.version("log", "1.0.0", func(s *fleet.AddOnVersionSpec) {
		s.Manifests = []runtime.RawExtension{configMap("$NAMESPACE", "log", "replaced")}
	})
	cfg := r.values("c1", "log", `{"value":"blue"}`)
	r.install("c1", "log", "1.0.0", cfg) // only the values move
	r.until("the value", func() bool { return strings.Contains(r.text(r.work("c1", deployName("log"))), "1.0.0 blue") })
	r.well("c1", "log", "1.0.0")
	revision := func(n string) {
		r.must(r.dishes.Update(ctx(t), "c1", "log", func(o *addon.ManagedClusterAddOn) error {
			o.Annotations = map[string]string{fleet.AnnotationAddOnRevision: n}
			return nil
		}))
	}
	revision("2")
	r.until("revision 2", func() bool { return strings.Contains(r.text(r.work("c1", deployName("log"))), "replaced") })
	r.well("c1", "log", "1.0.0")
	if c := r.dish("c1", "log").Status.Content; c.Revision != 2 {
		t.Errorf("content: %+v", c)
	}
	revision("1")
	r.until("revision 1", func() bool { return strings.Contains(r.text(r.work("c1", deployName("log"))), "1.0.0 blue") })
	r.well("c1", "log", "1.0.0")
	revision("7")
	r.until("no revision 7", func() bool {
		return strings.Contains(r.message("c1", "log", addon.ConditionConfigured), "has no revision 7")
	})
	if !strings.Contains(r.text(r.work("c1", deployName("log"))), "1.0.0 blue") {
		t.Error("what ran was touched")
	}
}

// What cannot be rendered leaves what runs alone.
func TestProblemLeavesWhatRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("log", "1.0.0", nil)
	cfg := r.values("c1", "log", `{"value":"red"}`)
	r.install("c1", "log", "1.0.0", cfg)
	r.well("c1", "log", "1.0.0")
	r.values("c1", "log", `{"broken":true}`)
	r.until("a problem", func() bool {
		return r.condition("c1", "log", addon.ConditionConfigured) == "False/ConfigurationsNotConfigured"
	})
	if m := r.message("c1", "log", addon.ConditionConfigured); !strings.Contains(m, "values say that it is broken") {
		t.Errorf("message: %s", m)
	}
	if got := r.condition("c1", "log", addon.ConditionAvailable); got != "True/ProbeAvailable" {
		t.Errorf("available: %s", got)
	}
	if !strings.Contains(r.text(r.work("c1", deployName("log"))), "1.0.0 red") {
		t.Error("what ran was touched")
	}
	// A removal needs nothing of it.
	r.must(nil, r.dishes.Delete(ctx(t), "c1", "log"))
	r.until("gone", func() bool { r.clean(); return r.dish("c1", "log") == nil })
}

// Somebody who changes a work finds it as it was.
func TestForeignChangeIsUndone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("log", "1.0.0", nil)
	r.install("c1", "log", "1.0.0")
	r.well("c1", "log", "1.0.0")
	r.must(r.works.Update(ctx(t), "c1", deployName("log"), func(w *work.ManifestWork) error {
		w.Spec.Workload.Manifests = w.Spec.Workload.Manifests[:1]
		return nil
	}))
	r.until("as it was", func() bool { return len(r.work("c1", deployName("log")).Spec.Workload.Manifests) == 2 })
	r.must(nil, r.works.Delete(ctx(t), "c1", deployName("log")))
	r.until("made again", func() bool {
		r.clean()
		w := r.work("c1", deployName("log"))
		return w != nil && w.DeletionTimestamp == nil
	})
}

// A work that the agent does not get shows as that of the addon.
func TestAgentTooOld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster("c1", true)
	r.version("log", "1.0.0", nil)
	r.install("c1", "log", "1.0.0")
	r.until("a work", func() bool { return r.work("c1", deployName("log")) != nil })
	r.must(r.works.UpdateStatus(ctx(t), "c1", deployName("log"), func(w *work.ManifestWork) error {
		w.Status.Conditions = []metav1.Condition{{
			Type: work.ConditionApplied, Status: metav1.ConditionFalse, Reason: work.ReasonAgentTooOld,
			Message: "the agent of this cluster is too old", ObservedGeneration: w.Generation, LastTransitionTime: metav1.Now(),
		}}
		return nil
	}))
	r.until("the reason", func() bool {
		return r.condition("c1", "log", addon.ConditionProgressing) == "False/Failed" &&
			strings.HasSuffix(r.message("c1", "log", addon.ConditionProgressing), "could not be applied: the agent of this cluster is too old")
	})
	r.well("c1", "log", "1.0.0") // the agent was upgraded
}
