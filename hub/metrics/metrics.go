// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics knows the last sample of every cluster. Samples are a stream
// of the broker with a short memory; what this package holds is a view of it,
// rebuilt at every start.
package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

const retryInterval = 2 * time.Second

// Sample is what is known of one cluster; a part that never came is nil.
type Sample struct {
	Host       *wire.HostSample
	Kubernetes *wire.KubernetesSample
}

// Metrics is the view.
type Metrics struct {
	js     jetstream.JetStream
	log    *zap.Logger
	ranges chan struct{} // those being read

	mu    sync.RWMutex
	last  map[string]Sample
	works map[string]wire.WorksSample
	warm  map[string]*warm
}

// New returns an empty view; Run fills it.
func New(js jetstream.JetStream, log *zap.Logger) *Metrics {
	return &Metrics{js: js, log: log, ranges: make(chan struct{}, maxRanges), last: map[string]Sample{}, works: map[string]wire.WorksSample{}, warm: map[string]*warm{}}
}

// Last returns the newest sample of a cluster.
func (m *Metrics) Last(cluster string) (Sample, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.last[cluster]
	return s, ok
}

// Run follows the stream until ctx ends. Trouble with metrics never ends it.
func (m *Metrics) Run(ctx context.Context) error {
	g := daemon.NewGroup(ctx)
	g.Go("samples", m.followStream)
	g.Go("works", m.followWorks)
	return g.Wait()
}

func (m *Metrics) followStream(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := m.follow(ctx); ctx.Err() == nil {
			m.log.Warn("following samples ended, starting over", zap.Error(err))
			daemon.Sleep(ctx, retryInterval)
		}
	}
	return ctx.Err()
}

func (m *Metrics) follow(ctx context.Context) error {
	c, err := m.js.OrderedConsumer(ctx, broker.MetricsStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: wire.AllMetrics(), DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return fmt.Errorf("consume %s: %w", broker.MetricsStream, err)
	}
	it, err := c.Messages()
	if err != nil {
		return fmt.Errorf("consume %s: %w", broker.MetricsStream, err)
	}
	m.mu.Lock()
	clear(m.warm) // samples may have been missed
	m.mu.Unlock()
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	defer it.Stop()
	for {
		msg, err := it.Next()
		if err != nil {
			return err
		}
		m.take(msg.Subject(), msg.Data())
	}
}

// take files one sample under the cluster its subject names. What does not
// parse is dropped: it is one agent's problem, and shows as a missing sample.
func (m *Metrics) take(subject string, data []byte) {
	cluster, ok := wire.ClusterOf(subject)
	if !ok {
		return
	}
	kind, ok := strings.CutPrefix(subject, wire.MetricsSubject(cluster, ""))
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.last[cluster]
	var err error
	switch kind {
	case wire.SampleHost:
		var h wire.HostSample
		if err = json.Unmarshal(data, &h); err == nil {
			s.Host = &h
		}
	case wire.SampleKubernetes:
		var k wire.KubernetesSample
		if err = json.Unmarshal(data, &k); err == nil {
			s.Kubernetes = &k
		}
	default:
		return // of a newer agent
	}
	if err != nil {
		m.log.Debug("sample dropped", zap.String("cluster", cluster), zap.String("kind", kind), zap.Error(err))
		return
	}
	m.last[cluster] = s
	m.keep(cluster, kind, data)
}
