// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// Memory is how far back samples go, and MaxPoints how many points one range has
	// at most.
	Memory    = time.Hour
	MaxPoints = 720

	// rangeFetch is how many samples are fetched at once, rangeMost how many of one
	// range are read, and rangeTime for how long.
	rangeFetch = 256
	rangeMost  = 4 * 720
	rangeTime  = 20 * time.Second
	// maxRanges are read at the same time: the stream decompresses blocks for each.
	maxRanges = 2
)

// Columns are samples over time: one list a name, all of one length. The first is
// "t", the start of each step in Unix seconds; in the others a gap is a null.
type Columns struct {
	Names   []string `json:"names"`
	Columns [][]Cell `json:"columns"`
}

// Cell is a number, or nothing: NaN, which JSON shows as null.
type Cell float64

// MarshalJSON writes numbers without exponents of no need, and gaps as null.
func (c Cell) MarshalJSON() ([]byte, error) {
	f := float64(c)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.AppendInt(nil, int64(f), 10), nil
	}
	if math.Abs(f) < math.MaxFloat32 {
		return strconv.AppendFloat(nil, f, 'g', 7, 32), nil // enough digits of a measurement
	}
	return json.Marshal(f)
}

// series are the names of columns, after "t", in this order.
func series() []string {
	return []string{
		"cpu", "cores", "load1", "memoryUsed", "memoryTotal", "diskUsed", "diskTotal", "networkReceive", "networkTransmit",
		"agentCPU", "agentMemory",
		"healthy", "nodes", "nodesReady", "pods", "podsRunning", "podsPending", "podsFailed", "podsCapacity",
		"kubernetesCPU", "kubernetesMemory", "requestsCPU", "requestsMemory", "allocatableCPU", "allocatableMemory",
	}
}

// values are what one sample says, by series; what it does not say is missing.
func values(kind string, data []byte) (time.Time, map[string]float64) {
	switch kind {
	case wire.SampleHost:
		var h wire.HostSample
		if json.Unmarshal(data, &h) != nil {
			return time.Time{}, nil
		}
		return h.Time, map[string]float64{
			"cpu": h.CPU, "cores": float64(h.Cores), "load1": h.Load1,
			"memoryUsed": float64(h.MemoryUsed), "memoryTotal": float64(h.MemoryTotal),
			"diskUsed": float64(h.DiskUsed), "diskTotal": float64(h.DiskTotal),
			"networkReceive": h.NetworkReceive, "networkTransmit": h.NetworkTransmit,
			"agentCPU": h.AgentCPU, "agentMemory": float64(h.AgentMemory),
		}
	case wire.SampleKubernetes:
		var k wire.KubernetesSample
		if json.Unmarshal(data, &k) != nil {
			return time.Time{}, nil
		}
		v := map[string]float64{"healthy": 0}
		if k.Healthy {
			v["healthy"] = 1
		}
		if k.Nodes == 0 && len(k.PodsByPhase) == 0 { // the API server did not answer
			return k.Time, v
		}
		v["nodes"], v["nodesReady"], v["podsCapacity"] = float64(k.Nodes), float64(k.NodesReady), float64(k.PodsCapacity)
		all := 0
		for _, n := range k.PodsByPhase {
			all += n
		}
		v["pods"] = float64(all)
		for _, phase := range []string{"Running", "Pending", "Failed"} {
			v["pods"+phase] = float64(k.PodsByPhase[phase])
		}
		for prefix, amounts := range map[string]map[string]string{"kubernetes": k.Usage, "requests": k.Requests, "allocatable": k.Allocatable} {
			for name, column := range map[string]string{"cpu": "CPU", "memory": "Memory"} {
				if q, err := resource.ParseQuantity(amounts[name]); err == nil {
					v[prefix+column] = q.AsApproximateFloat64()
				}
			}
		}
		return k.Time, v
	}
	return time.Time{}, nil
}

// grid sums samples up in steps.
type grid struct {
	from   time.Time
	step   time.Duration
	points int
	sums   [][]float64 // by series; nil for one without a sample
	counts [][]int
}

// newGrid makes steps from from to to. Too many become fewer, longer ones.
func newGrid(from, to time.Time, step time.Duration) *grid {
	step = max(step.Truncate(time.Second), time.Second)
	if span := to.Sub(from); span/step >= MaxPoints {
		step = (span/MaxPoints + time.Second).Truncate(time.Second)
	}
	from = time.Unix(from.Unix()-from.Unix()%int64(step/time.Second), 0)
	points := int(to.Sub(from)/step) + 1
	return &grid{from: from, step: step, points: points, sums: make([][]float64, len(series())), counts: make([][]int, len(series()))}
}

// add takes a sample: values by series, NaN where there is none.
func (g *grid) add(at time.Time, values []float32) {
	i := int(at.Sub(g.from) / g.step)
	if at.Before(g.from) || i >= g.points {
		return
	}
	for n, v := range values {
		if math.IsNaN(float64(v)) {
			continue
		}
		if g.sums[n] == nil {
			g.sums[n], g.counts[n] = make([]float64, g.points), make([]int, g.points)
		}
		g.sums[n][i] += float64(v)
		g.counts[n][i]++
	}
}

// columns are the means of each step. A series without a sample has no column.
func (g *grid) columns() Columns {
	t := make([]Cell, g.points)
	for i := range t {
		t[i] = Cell(g.from.Add(time.Duration(i) * g.step).Unix())
	}
	out := Columns{Names: []string{"t"}, Columns: [][]Cell{t}}
	for n, name := range series() {
		if g.sums[n] == nil {
			continue
		}
		column := make([]Cell, g.points)
		for i := range column {
			column[i] = Cell(math.NaN())
			if count := g.counts[n][i]; count > 0 {
				column[i] = Cell(g.sums[n][i] / float64(count))
			}
		}
		out.Names, out.Columns = append(out.Names, name), append(out.Columns, column)
	}
	return out
}

// Range returns the samples of a cluster since from, which is at most Memory ago,
// as means of steps. The time of a sample is its agent's, unless that clock is wrong
// for sure: then it is when the sample came.
func (m *Metrics) Range(ctx context.Context, cluster string, from time.Time, step time.Duration) (Columns, error) {
	now := time.Now()
	if oldest := now.Add(-Memory); from.Before(oldest) {
		from = oldest
	}
	if from.After(now) {
		from = now
	}
	points, ok, load := m.recall(cluster, now)
	if !ok {
		var err error
		points, err = m.load(ctx, cluster, now)
		if load {
			m.settle(cluster, points, err)
		}
		if err != nil {
			return Columns{}, fmt.Errorf("read samples of %s: %w", cluster, err)
		}
	}
	g := newGrid(from, now, step)
	for _, p := range points {
		g.add(p.at, p.values)
	}
	return g.columns(), nil
}

// load reads all that the stream has of a cluster.
func (m *Metrics) load(ctx context.Context, cluster string, now time.Time) ([]point, error) {
	ctx, cancel := context.WithTimeout(ctx, rangeTime)
	defer cancel()
	select {
	case m.ranges <- struct{}{}:
		defer func() { <-m.ranges }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var points []point
	err := m.read(ctx, cluster, now.Add(-Memory), func(kind string, came time.Time, data []byte) {
		if p, ok := pointOf(kind, came, data); ok {
			points = append(points, p)
		}
	})
	return points, err
}

// read calls each with the samples of a cluster that came since from.
func (m *Metrics) read(ctx context.Context, cluster string, from time.Time, each func(kind string, came time.Time, data []byte)) error {
	prefix := wire.MetricsSubject(cluster, "")
	c, err := m.js.CreateConsumer(ctx, broker.MetricsStream, jetstream.ConsumerConfig{
		FilterSubjects: []string{prefix + wire.SampleHost, prefix + wire.SampleKubernetes},
		DeliverPolicy:  jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, InactiveThreshold: rangeTime,
	})
	if err != nil {
		return err
	}
	defer m.js.DeleteConsumer(context.WithoutCancel(ctx), broker.MetricsStream, c.CachedInfo().Name) //nolint:errcheck // it goes by itself
	for left := min(c.CachedInfo().NumPending, rangeMost); left > 0; {
		batch, err := c.FetchNoWait(int(min(left, rangeFetch))) //nolint:gosec // small
		if err != nil {
			return err
		}
		got := uint64(0)
		for msg := range batch.Messages() {
			got++
			kind, _ := strings.CutPrefix(msg.Subject(), prefix)
			if meta, err := msg.Metadata(); err == nil {
				each(kind, meta.Timestamp, msg.Data())
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return err
		}
		if got == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		left -= min(got, left)
	}
	return nil
}
