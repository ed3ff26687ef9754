// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// TestWorkOfAnOldAgent: a work that an agent does not get says why, until a newer
// agent has reported on it.
func TestWorkOfAnOldAgent(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	h.manage("shop-1")
	h.work("shop-1", "plain", configMap)
	h.work("shop-1", "guarded", configMap)
	_, err := h.d.works.Update(timeout(t), "shop-1", "guarded", func(w *work.ManifestWork) error {
		w.Annotations = map[string]string{work.AnnotationProtected: `[{"kind":"Widget","name":"*"}]`}
		return nil
	})
	h.must(err)
	applied := func(name string) *metav1.Condition {
		return meta.FindStatusCondition(h.get("shop-1", name).Status.Conditions, work.ConditionApplied)
	}
	var got wire.Desired
	until(t, "one work is withheld, and says so", func() bool {
		got = h.desired("shop-1", wire.DesiredRequest{Version: 2})
		c := applied("guarded")
		return c != nil && c.Status == metav1.ConditionFalse && c.Reason == work.ReasonAgentTooOld && len(got.Items) == 1
	})
	w := h.get("shop-1", "guarded")
	if c := applied("guarded"); c.Message != "the agent of this cluster is too old: it speaks protocol version 2, and protected objects need 3; upgrade it" || c.ObservedGeneration != w.Generation {
		t.Errorf("%+v", c)
	}
	if c := applied("plain"); c != nil {
		t.Errorf("a work that is not withheld: %+v", c)
	}
	// Said once: asking again writes nothing. That of another work shows that the
	// asking was noticed.
	h.work("shop-1", "later", configMap)
	_, err = h.d.works.Update(timeout(t), "shop-1", "later", func(w *work.ManifestWork) error {
		w.Annotations = map[string]string{work.AnnotationProtected: `[{"kind":"Widget","name":"*"}]`}
		return nil
	})
	h.must(err)
	until(t, "the other work says so too", func() bool {
		h.desired("shop-1", wire.DesiredRequest{Version: 2})
		return applied("later") != nil
	})
	if now := h.get("shop-1", "guarded"); now.ResourceVersion != w.ResourceVersion {
		t.Errorf("written again: %s, then %s", w.ResourceVersion, now.ResourceVersion)
	}

	if got = h.desired("shop-1", wire.DesiredRequest{Version: 3}); len(got.Items) != 3 {
		t.Fatalf("a new agent gets %d works", len(got.Items))
	}
	h.report("shop-1", wire.Report{Name: "guarded", UID: string(w.UID), Generation: w.Generation})
	until(t, "the report stands", func() bool { return applied("guarded").Status == metav1.ConditionTrue })
	if err := h.d.explainCluster(timeout(t), "shop-1"); err != nil {
		t.Fatal(err)
	}
	if c := applied("guarded"); c.Status != metav1.ConditionTrue {
		t.Errorf("%+v", c)
	}
}
