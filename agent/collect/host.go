// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package collect measures the machine and the Kubernetes cluster that an agent
// looks after. A part that cannot be measured leaves its fields zero and is
// named in the error; the rest of the sample is good and should be sent.
package collect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/net"
	"github.com/shirou/gopsutil/v3/process"

	"github.com/drover-io/drover/shared/wire"
)

// baselineWait separates the two readings of the very first sample, so that its
// rates mean something.
const baselineWait = 200 * time.Millisecond

// Host measures the machine that the agent runs on. In a container it sees what
// the container sees.
type Host struct {
	stateDir string

	mu       sync.Mutex
	previous counters
}

// NewHost returns a collector that measures the disk below stateDir.
func NewHost(stateDir string) *Host { return &Host{stateDir: stateDir} }

// counters are the readings that only rise, from which rates are made.
type counters struct {
	at       time.Time
	cpu      float64 // seconds used by the machine
	agent    float64 // seconds used by this process
	received map[string]uint64
	sent     map[string]uint64
}

// Collect takes one measurement. Rates are averages since the previous call.
func (h *Host) Collect(ctx context.Context) (wire.HostSample, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.previous.at.IsZero() {
		h.previous, _ = readCounters(ctx)
		timer := time.NewTimer(baselineWait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return wire.HostSample{}, ctx.Err()
		case <-timer.C:
		}
	}
	current, err := readCounters(ctx)
	errs := []error{err}
	sample := rates(h.previous, current)
	h.previous = current

	sample.Time = current.at
	sample.Cores = runtime.NumCPU()
	if n, err := cpu.CountsWithContext(ctx, true); err == nil && n > 0 {
		sample.Cores = n
	}
	// The kernel counts in ticks: over a short time that looks like more than
	// there is.
	sample.CPU = min(sample.CPU, float64(sample.Cores))
	sample.AgentCPU = min(sample.AgentCPU, float64(sample.Cores))
	measure := func(what string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", what, err))
		}
		return err == nil
	}
	if avg, err := load.AvgWithContext(ctx); measure("load", err) {
		sample.Load1 = avg.Load1
	}
	if vm, err := mem.VirtualMemoryWithContext(ctx); measure("memory", err) {
		sample.MemoryTotal = vm.Total
		// Cache that the kernel gives back at once is not use.
		sample.MemoryUsed = vm.Total - min(vm.Available, vm.Total)
	}
	if usage, err := disk.UsageWithContext(ctx, h.stateDir); measure("disk", err) {
		sample.DiskUsed, sample.DiskTotal = usage.Used, usage.Total
	}
	if uptime, err := host.UptimeWithContext(ctx); measure("uptime", err) {
		sample.UptimeSeconds = uptime
	}
	self, err := process.NewProcessWithContext(ctx, int32(os.Getpid()))
	if measure("own process", err) {
		if info, err := self.MemoryInfoWithContext(ctx); measure("own memory", err) {
			sample.AgentMemory = info.RSS
		}
	}
	return sample, errors.Join(errs...)
}

func readCounters(ctx context.Context) (counters, error) {
	c := counters{at: time.Now(), received: make(map[string]uint64), sent: make(map[string]uint64)}
	var errs []error
	times, err := cpu.TimesWithContext(ctx, false)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("read cpu: %w", err))
	case len(times) > 0:
		// Guest time is part of user time already.
		t := times[0]
		c.cpu = t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal
	}
	nics, err := net.IOCountersWithContext(ctx, true)
	if err != nil {
		errs = append(errs, fmt.Errorf("read network: %w", err))
	}
	for _, nic := range nics {
		if !inner(nic.Name) {
			c.received[nic.Name], c.sent[nic.Name] = nic.BytesRecv, nic.BytesSent
		}
	}
	if self, err := process.NewProcessWithContext(ctx, int32(os.Getpid())); err == nil {
		if t, err := self.TimesWithContext(ctx); err == nil {
			c.agent = t.User + t.System
		}
	}
	return c, errors.Join(errs...)
}

// rates compares two readings. A counter that went back was reset: its rate is
// unknown, and given as zero.
func rates(previous, current counters) wire.HostSample {
	seconds := current.at.Sub(previous.at).Seconds()
	if previous.at.IsZero() || seconds <= 0 {
		return wire.HostSample{}
	}
	return wire.HostSample{
		CPU:             rising(current.cpu-previous.cpu) / seconds,
		AgentCPU:        rising(current.agent-previous.agent) / seconds,
		NetworkReceive:  growth(previous.received, current.received) / seconds,
		NetworkTransmit: growth(previous.sent, current.sent) / seconds,
	}
}

func rising(delta float64) float64 {
	if math.IsNaN(delta) || delta < 0 {
		return 0
	}
	return delta
}

// growth sums over interfaces that both readings have.
func growth(previous, current map[string]uint64) float64 {
	var sum float64
	for name, now := range current {
		if before, ok := previous[name]; ok && now >= before {
			sum += float64(now - before)
		}
	}
	return sum
}

// inner says that an interface carries traffic inside the machine, or traffic
// that another interface carries too.
func inner(name string) bool {
	if name == "lo" || name == "lo0" {
		return true
	}
	for _, prefix := range []string{
		"veth", "docker", "br-", "cni", "flannel", "cali", "cilium", "lxc", "lxd", "vxlan", "dummy", "kube-", "nodelocaldns", "virbr", "ovs-", "genev_", "tunl",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
