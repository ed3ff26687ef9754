// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// maxWorksSample is the largest sample of works in bytes that is looked at.
const maxWorksSample = 256 << 10

// followWorks hears samples of works until ctx ends. They are in no stream: only the
// newest is of use, and after a start it is there within one interval.
func (m *Metrics) followWorks(ctx context.Context) error {
	sub, err := m.js.Conn().Subscribe(wire.MetricsSubject("*", wire.SampleWorks), func(msg *nats.Msg) {
		m.takeWorks(msg.Subject, msg.Data)
	})
	if err != nil {
		return fmt.Errorf("subscribe to samples of works: %w", err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed already
	return ctx.Err()
}

// takeWorks files one sample under the cluster its subject names.
func (m *Metrics) takeWorks(subject string, data []byte) {
	cluster, ok := wire.ClusterOf(subject)
	if !ok || len(data) > maxWorksSample {
		return
	}
	var s wire.WorksSample
	if err := json.Unmarshal(data, &s); err != nil {
		m.log.Debug("sample dropped", zap.String("cluster", cluster), zap.String("kind", wire.SampleWorks), zap.Error(err))
		return
	}
	s.Works = s.Works[:min(len(s.Works), wire.MaxWorkSamples)]
	m.mu.Lock()
	m.works[cluster] = s
	m.mu.Unlock()
}

// Works returns the newest sample of the works of a cluster.
func (m *Metrics) Works(cluster string) (wire.WorksSample, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.works[cluster]
	return s, ok
}

// AddOns returns what the pods of the addons of a cluster are and use, by name. An
// addon without pods is not among them.
func (m *Metrics) AddOns(cluster string) []fleet.AddOnUsage {
	s, _ := m.Works(cluster)
	sums := map[string]*fleet.AddOnUsage{}
	for i := range s.Works {
		w := &s.Works[i]
		name, ok := addOnOf(w.Name)
		if !ok {
			continue
		}
		u := sums[name]
		if u == nil {
			u = &fleet.AddOnUsage{Name: name}
			sums[name] = u
		}
		u.Pods, u.Ready, u.Restarts, u.Measured = u.Pods+w.Pods, u.Ready+w.Ready, u.Restarts+w.Restarts, u.Measured+w.Measured
		if w.CPU != nil && w.Memory != nil {
			if u.CPU == nil {
				u.CPU, u.Memory = new(float64), new(int64)
			}
			*u.CPU += *w.CPU
			*u.Memory += *w.Memory
		}
	}
	out := make([]fleet.AddOnUsage, 0, len(sums))
	for _, u := range sums {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b fleet.AddOnUsage) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// AddOn returns the usage of one addon; ok is false when it has no pods or nothing
// was heard of the cluster.
func (m *Metrics) AddOn(cluster, name string) (usage fleet.AddOnUsage, ok bool) {
	for _, u := range m.AddOns(cluster) {
		if u.Name == name {
			return u, true
		}
	}
	return usage, false
}

// addOnOf is the addon of a work, by the names that Open Cluster Management gives
// them: addon-NAME-deploy-N, addon-NAME-post-install and addon-NAME-pre-delete.
func addOnOf(work string) (string, bool) {
	name, ok := strings.CutPrefix(work, "addon-")
	if !ok {
		return "", false
	}
	for _, suffix := range []string{"-post-install", "-pre-delete"} {
		if addon, ok := strings.CutSuffix(name, suffix); ok && addon != "" {
			return addon, true
		}
	}
	i := strings.LastIndex(name, "-deploy-")
	if i <= 0 || i+len("-deploy-") == len(name) || strings.Trim(name[i+len("-deploy-"):], "0123456789") != "" {
		return "", false
	}
	return name[:i], true
}
