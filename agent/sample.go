// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/agent/collect"
	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/shared/wire"
)

const (
	defaultSampleEvery = 10 * time.Second
	defaultStatusEvery = time.Minute
	collectTimeout     = 20 * time.Second
	// ringSize is how many samples of each kind wait while the hub is away.
	ringSize = 360
)

// sample is one measurement on its way to the hub.
type sample struct {
	kind string
	data []byte
}

// runSamples measures at the hub's pace, publishes, and keeps the hub informed
// of the cluster's state. While the hub is away samples wait in a ring and are
// sent oldest first, with their own time, when it is back.
func (s *session) runSamples(ctx context.Context) error {
	var ring []sample
	var sent wire.Status
	var sentAt time.Time
	session := 0
	for {
		began := time.Now()
		batch, status := s.measure(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ring = s.flush(append(ring, batch...))
		if n := s.link.State().Sessions; n != session {
			session, sentAt = n, time.Time{} // a new session knows nothing
		}
		if due := time.Since(sentAt) >= s.statusEvery(); due || !sameStatus(sent, status) {
			if err := s.sendStatus(ctx, status); err == nil {
				sent, sentAt = status, time.Now()
			}
		}
		// A collection that takes long is made less often: it costs the API
		// server at most a fifth of the time.
		took := time.Since(began)
		pause := max(s.sampleEvery()-took, 4*took)
		if !s.pauseOrConnected(ctx, pause, session) {
			return ctx.Err()
		}
	}
}

// pauseOrConnected waits, but not for longer than until a new session begins.
func (s *session) pauseOrConnected(ctx context.Context, d time.Duration, session int) bool {
	changed, cancel := s.link.Subscribe()
	defer cancel()
	t := time.NewTimer(d - d/20 + rand.N(d/10+1))
	defer t.Stop()
	for {
		if st := s.link.State(); st.Connected && st.Sessions != session {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case <-changed:
		}
	}
}

func (s *session) sampleEvery() time.Duration {
	if n := s.link.Welcome().SampleSeconds; n > 0 {
		return time.Duration(n) * time.Second
	}
	return defaultSampleEvery
}

func (s *session) statusEvery() time.Duration {
	if n := s.link.Welcome().StatusSeconds; n > 0 {
		return time.Duration(n) * time.Second
	}
	return defaultStatusEvery
}

// measure takes one sample of each kind. What cannot be measured is left out.
func (s *session) measure(ctx context.Context) ([]sample, wire.Status) {
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	var out []sample
	add := func(kind string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			s.log.Error("encoding a sample failed", zap.String("kind", kind), zap.Error(err))
			return
		}
		out = append(out, sample{kind, data})
	}
	if h, err := s.host.Collect(ctx); err != nil {
		s.log.Debug("host sample is incomplete", zap.Error(err))
		add(wire.SampleHost, h)
	} else {
		add(wire.SampleHost, h)
	}
	s.mu.Lock()
	status := wire.Status{
		ObservedAt: time.Now().UTC(), Epoch: s.desired.Epoch, Generation: s.desired.Generation,
		CertificateNotAfter: s.creds.current.Load().Leaf().NotAfter,
	}
	s.mu.Unlock()
	if s.kube != nil {
		k, st, err := s.kube.Collect(ctx)
		if err != nil {
			s.log.Debug("cluster sample is incomplete", zap.Error(err))
		}
		add(wire.SampleKubernetes, k)
		s.publishWorks()
		status.Kubernetes = &st
		s.mu.Lock()
		s.last = st
		s.mu.Unlock()
	}
	return out, status
}

// publishWorks sends what the pods of works are and use. Nobody keeps more than the
// newest, so it does not wait for a hub that is away.
func (s *session) publishWorks() {
	works, ok := s.kube.Works()
	if !ok || s.link.State().Version < 3 {
		return
	}
	data, err := json.Marshal(works)
	if err == nil {
		err = s.link.Publish(wire.SampleWorks, data)
	}
	if err != nil && !errors.Is(err, link.ErrOffline) {
		s.log.Warn("sample dropped", zap.String("kind", wire.SampleWorks), zap.Error(err))
	}
}

// flush publishes oldest first and returns what could not be sent, bounded.
func (s *session) flush(ring []sample) []sample {
	for len(ring) > 0 {
		err := s.link.Publish(ring[0].kind, ring[0].data)
		if errors.Is(err, link.ErrOffline) {
			break
		}
		if err != nil {
			s.log.Warn("sample dropped", zap.String("kind", ring[0].kind), zap.Error(err))
		}
		ring = ring[1:]
	}
	if extra := len(ring) - 2*ringSize; extra > 0 {
		ring = ring[extra:]
	}
	return append([]sample(nil), ring...)
}

func (s *session) sendStatus(ctx context.Context, status wire.Status) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var ack wire.Ack
	err := s.link.Request(ctx, wire.ServiceStatus, status, &ack)
	if err == nil && ack.Error != "" {
		err = errors.New(ack.Error)
	}
	if err == nil && ack.APIs && s.kube != nil {
		err = s.sendAPIs(ctx)
	}
	if err != nil && !errors.Is(err, link.ErrOffline) && ctx.Err() == nil {
		s.log.Warn("status not delivered, will try again", zap.Error(err))
	}
	return err
}

// sendAPIs tells the hub what the cluster serves.
func (s *session) sendAPIs(ctx context.Context) error {
	digest, apis := s.kube.APIs()
	var ack wire.Ack
	err := s.link.Request(ctx, wire.ServiceAPIs, wire.APIs{Digest: digest, APIs: apis}, &ack)
	if err == nil && ack.Error != "" {
		err = fmt.Errorf("list of APIs: %s", ack.Error)
	}
	return err
}

// sameStatus ignores what changes with every look and tells nobody anything.
func sameStatus(a, b wire.Status) bool {
	a.ObservedAt, b.ObservedAt = time.Time{}, time.Time{}
	a.Epoch, a.Generation, b.Epoch, b.Generation = "", 0, "", 0
	return reflect.DeepEqual(a, b)
}

// facts is what a joining agent tells about itself; what cannot be found out in
// a few seconds is left out.
func (c Config) facts(ctx context.Context) wire.JoinFacts {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	f := hostFacts()
	cfg, err := c.kubernetes()
	if err != nil || cfg == nil {
		return f
	}
	k, err := collect.NewKubernetes(cfg)
	if err != nil {
		return f
	}
	if _, st, err := k.Collect(ctx); err == nil {
		f.KubernetesVersion, f.ClusterUID = st.Version, st.ClusterUID
	}
	return f
}
