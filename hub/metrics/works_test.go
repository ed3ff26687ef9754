// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

func TestAddOnOf(t *testing.T) {
	t.Parallel()
	for work, want := range map[string]string{
		"addon-cert-manager-deploy-0": "cert-manager", "addon-a-deploy-12": "a", "addon-a-deploy-b-deploy-0": "a-deploy-b",
		"addon-a-post-install": "a", "addon-a-pre-delete": "a",
		"web": "", "addon-": "", "addon-a": "", "addon-deploy-0": "", "addon--deploy-0": "", "addon-a-deploy-x": "",
	} {
		if got, ok := addOnOf(work); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", work, got, ok, want)
		}
	}
}

// Samples of works are heard while the agent sends them, and summed up by addon;
// nothing is made up of what was not measured.
func TestAddOns(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.EnsureMetricsStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := New(b.JetStream(), zap.NewNop())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() { cancel(); <-done }()
	cpu, memory := 0.25, int64(100)
	data, err := json.Marshal(wire.WorksSample{Time: time.Now(), Total: 4, Works: []wire.WorkSample{
		{Name: "addon-a-deploy-0", Pods: 2, Ready: 1, Restarts: 3, CPU: &cpu, Memory: &memory, Measured: 1},
		{Name: "addon-a-deploy-1", Pods: 1, Ready: 1, CPU: &cpu, Memory: &memory, Measured: 1},
		{Name: "addon-b-deploy-0", Pods: 1},
		{Name: "web", Pods: 7},
	}})
	if err != nil {
		t.Fatal(err)
	}
	subject := wire.MetricsSubject("shop-1", wire.SampleWorks)
	for deadline := time.Now().Add(time.Minute); len(m.AddOns("shop-1")) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the sample is never heard")
		}
		if err := b.JetStream().Conn().Publish(subject, data); err != nil {
			t.Fatal(err)
		}
	}
	twice, much := 0.5, int64(200)
	want := []fleet.AddOnUsage{
		{Name: "a", Pods: 3, Ready: 2, Restarts: 3, CPU: &twice, Memory: &much, Measured: 2},
		{Name: "b", Pods: 1},
	}
	if diff := cmp.Diff(want, m.AddOns("shop-1")); diff != "" {
		t.Error(diff)
	}
	if u, ok := m.AddOn("shop-1", "b"); !ok || u.CPU != nil || u.Pods != 1 {
		t.Errorf("b: %+v %v", u, ok)
	}
	if _, ok := m.AddOn("shop-2", "a"); ok {
		t.Error("an addon of another cluster")
	}
	for _, bad := range []string{"", "{", "[]", string(make([]byte, maxWorksSample+1))} {
		m.takeWorks(subject, []byte(bad))
	}
	m.takeWorks("other", data)
	if s, ok := m.Works("shop-1"); !ok || s.Total != 4 {
		t.Errorf("the last sample: %+v %v", s, ok)
	}
}
