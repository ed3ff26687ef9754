// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/shared/wire"
)

// MetricsStream is the name of the stream of samples.
const MetricsStream = "METRICS"

// maxSample is the largest sample in bytes the stream takes.
const maxSample = 64 << 10

// EnsureMetricsStream creates the stream that buffers the agents' samples, or
// brings an older one up to date. The stream answers no publisher, keeps at most
// an hour and 720 samples per cluster and kind, and may lose its last moments in
// a power cut, which spares one fsync per sample.
func (b *Broker) EnsureMetricsStream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        MetricsStream,
		Description: "samples of the agents",
		Subjects:    wire.AllMetrics(),

		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxAge:            time.Hour,
		MaxBytes:          b.cfg.MaxMetrics,
		MaxMsgsPerSubject: 720,
		MaxMsgSize:        maxSample,

		Storage:     jetstream.FileStorage,
		Compression: jetstream.S2Compression,
		PersistMode: jetstream.AsyncPersistMode,
		Replicas:    1,

		// An acknowledgement would go wherever the agent's reply subject points.
		NoAck:       true,
		Duplicates:  100 * time.Millisecond,
		AllowRollup: false,
		AllowDirect: false,
		// No DenyPurge: PurgeMetrics needs it.
		DenyDelete: true,
	})
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", MetricsStream, err)
	}
	return stream, nil
}

// PurgeMetrics forgets the samples of cluster, so that a new cluster of the same
// name does not inherit them.
func (b *Broker) PurgeMetrics(ctx context.Context, cluster string) error {
	stream, err := b.js.Stream(ctx, MetricsStream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", MetricsStream, err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(wire.MetricsSubject(cluster, ">"))); err != nil {
		return fmt.Errorf("purge samples of %s: %w", cluster, err)
	}
	return nil
}
