// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/agent/apply"
	"github.com/drover-io/drover/agent/health"
	"github.com/drover-io/drover/agent/observe"
)

// newEngine makes the engine and the eyes it sees the cluster with.
func (s *session) newEngine() error {
	observer, err := observe.New(observe.Config{
		Kubernetes: s.agent.kube, Log: s.log,
		// Nothing changes before the engine is there: it says what to follow.
		Changed: func(resource schema.GroupVersionResource, name types.NamespacedName, live *unstructured.Unstructured) {
			s.engine.Changed(resource, name, live)
		},
	})
	if err != nil {
		return err
	}
	s.observer = observer
	s.engine, err = apply.New(apply.Config{
		Kubernetes: s.agent.kube, Records: s.dir, Content: s.content, Bundle: s.bundles.bundle, Report: s.report,
		Judge: health.New(), Observer: observer, Log: s.log,
	})
	return err
}
