// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math"
	"time"
)

// Reading one cluster's hour decompresses the whole stream, which grows with the
// fleet. So the hour of the clusters that were asked for last is kept, compact, and
// what comes is added to it.
const (
	maxWarm  = 32
	warmFor  = 10 * time.Minute // since it was asked for
	maxKept  = 2 * rangeMost    // samples of one cluster
	trimFrom = 256              // samples before the oldest are looked at
)

// point is one sample.
type point struct {
	at     time.Time
	values []float32 // by series, NaN where there is none
}

// warm is what is kept of one cluster.
type warm struct {
	asked  time.Time
	loaded bool // what is older was read from the stream
	points []point
}

// pointOf makes a point of a sample; ok is false when there is nothing in it.
func pointOf(kind string, came time.Time, data []byte) (p point, ok bool) {
	at, said := values(kind, data)
	if said == nil {
		return p, false
	}
	if late := came.Sub(at); late < -time.Minute || late > Memory {
		at = came
	}
	names := series()
	p = point{at: at, values: make([]float32, len(names))}
	for i, name := range names {
		p.values[i] = float32(math.NaN())
		if v, ok := said[name]; ok {
			p.values[i] = float32(v)
		}
	}
	return p, true
}

// recall returns what is kept of a cluster; ok is false when it is not loaded.
// Otherwise the caller loads it, unless somebody does: then load is false too.
func (m *Metrics) recall(cluster string, now time.Time) (points []point, ok, load bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, w := range m.warm {
		if now.Sub(w.asked) > warmFor {
			delete(m.warm, name)
		}
	}
	if w := m.warm[cluster]; w != nil {
		w.asked = now
		// Appending does not change what the caller sees, trimming copies.
		return w.points, w.loaded, false
	}
	if len(m.warm) >= maxWarm {
		oldest := ""
		for name, w := range m.warm {
			if oldest == "" || w.asked.Before(m.warm[oldest].asked) {
				oldest = name
			}
		}
		delete(m.warm, oldest)
	}
	m.warm[cluster] = &warm{asked: now}
	return nil, false, true
}

// settle keeps what was loaded, before what came meanwhile. A sample may be there
// twice: means do not mind.
func (m *Metrics) settle(cluster string, points []point, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.warm[cluster]
	switch {
	case w == nil || w.loaded:
	case err != nil:
		delete(m.warm, cluster)
	default:
		w.points, w.loaded = append(points[:len(points):len(points)], w.points...), true
	}
}

// keep adds a sample that came, if somebody asked for the cluster lately. It needs mu.
func (m *Metrics) keep(cluster, kind string, data []byte) {
	w := m.warm[cluster]
	if w == nil {
		return
	}
	now := time.Now()
	p, ok := pointOf(kind, now, data)
	if !ok {
		return
	}
	if now.Sub(w.asked) > warmFor {
		delete(m.warm, cluster)
		return
	}
	w.points = append(w.points, p)
	old := 0
	for old < len(w.points) && (now.Sub(w.points[old].at) > Memory || len(w.points)-old > maxKept) {
		old++
	}
	if old >= trimFrom {
		w.points = append([]point(nil), w.points[old:]...)
	}
}
