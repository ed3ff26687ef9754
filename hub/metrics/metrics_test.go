// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestTake(t *testing.T) {
	t.Parallel()
	m := New(nil, zap.NewNop())
	host, kube := wire.MetricsSubject("shop-1", wire.SampleHost), wire.MetricsSubject("shop-1", wire.SampleKubernetes)
	for _, bad := range []struct{ subject, data string }{
		{"", `{}`},
		{"fm.shop-1", `{}`},
		{"other.shop-1.up.metrics.host", `{}`},
		{wire.ServiceSubject("shop-1", wire.ServiceHello), `{}`},
		{wire.MetricsSubject("shop-1", "future"), `{}`},
		{host, `{`},
		{host, `{"cpu":"much"}`},
		{kube, ``},
	} {
		m.take(bad.subject, []byte(bad.data))
		if s, ok := m.Last("shop-1"); ok {
			t.Errorf("%s %s made %+v", bad.subject, bad.data, s)
		}
	}
	m.take(host, []byte(`{"cpu":1,"later":"field"}`))
	m.take(kube, []byte(`{"nodes":3}`))
	m.take(host, []byte(`{"cpu":2}`))
	m.take(host, []byte(`garbage`))
	s, ok := m.Last("shop-1")
	if !ok || s.Host == nil || s.Host.CPU != 2 || s.Kubernetes == nil || s.Kubernetes.Nodes != 3 {
		t.Errorf("last %+v", s)
	}
	if _, ok := m.Last("shop-2"); ok {
		t.Error("another cluster has a sample")
	}
}

func FuzzTake(f *testing.F) {
	f.Add("fm.a.up.metrics.host", []byte(`{"cpu":1}`))
	f.Add("fm.a.up.metrics.kubernetes", []byte(`null`))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		m := New(nil, zap.NewNop())
		m.take(subject, data)
		for name, s := range m.last {
			if name == "" || (s.Host == nil && s.Kubernetes == nil) {
				t.Errorf("%q %q filed %+v under %q", subject, data, s, name)
			}
		}
	})
}

// TestFollow: samples arrive live, and the last of each kind is there again
// after a restart.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	session := func(test func(b *broker.Broker, m *Metrics)) {
		b, err := broker.Open(broker.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		ctx, cancel := context.WithCancel(context.Background())
		m := New(b.JetStream(), zap.NewNop())
		done := make(chan error, 1)
		// The stream comes only afterwards: following starts over until it is there.
		go func() { done <- m.Run(ctx) }()
		if _, err := b.EnsureMetricsStream(ctx); err != nil {
			t.Fatal(err)
		}
		test(b, m)
		cancel()
		<-done
	}
	has := func(m *Metrics, cpu float64, nodes int) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			s, _ := m.Last("shop-1")
			if s.Host != nil && s.Host.CPU == cpu && s.Kubernetes != nil && s.Kubernetes.Nodes == nodes {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("last sample %+v", s)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	session(func(b *broker.Broker, m *Metrics) {
		// The stream acknowledges nothing: a sample is not worth an answer.
		publish := func(kind, data string) {
			if err := b.JetStream().Conn().Publish(wire.MetricsSubject("shop-1", kind), []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
		publish(wire.SampleKubernetes, `{"nodes":1}`)
		for _, data := range []string{`{"cpu":1}`, `garbage`, `{"cpu":2}`} {
			publish(wire.SampleHost, data)
		}
		has(m, 2, 1)
		publish(wire.SampleKubernetes, `{"nodes":5}`)
		has(m, 2, 5)
	})
	session(func(_ *broker.Broker, m *Metrics) { has(m, 2, 5) })
}
