// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/shared/wire"
)

func TestHost(t *testing.T) {
	t.Parallel()
	h := NewHost(t.TempDir())
	for i := range 2 {
		s, err := h.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Time.IsZero() || s.Cores < 1 || s.MemoryTotal == 0 || s.MemoryUsed == 0 || s.DiskTotal == 0 || s.UptimeSeconds == 0 || s.AgentMemory == 0 {
			t.Errorf("sample %d lacks something: %+v", i, s)
		}
		if s.CPU < 0 || s.CPU > float64(s.Cores) || s.NetworkReceive < 0 || s.AgentCPU < 0 || s.AgentCPU > float64(s.Cores) {
			t.Errorf("sample %d has an odd rate: %+v", i, s)
		}
	}
}

func TestHostDegrades(t *testing.T) {
	t.Parallel()
	s, err := NewHost(t.TempDir() + "/missing").Collect(t.Context())
	if err == nil || !strings.Contains(err.Error(), "read disk: ") || s.MemoryTotal == 0 {
		t.Errorf("got %v, %+v", err, s)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	reading := func(after time.Duration, cpu float64, received map[string]uint64) counters {
		return counters{at: start.Add(after), cpu: cpu, agent: cpu / 2, received: received, sent: received}
	}
	before := reading(0, 100, map[string]uint64{"eth0": 1000, "eth1": 500})
	for _, tt := range []struct {
		name string
		now  counters
		want wire.HostSample
	}{
		{
			"steady", reading(10*time.Second, 120, map[string]uint64{"eth0": 2000, "eth1": 500}),
			wire.HostSample{CPU: 2, AgentCPU: 1, NetworkReceive: 100, NetworkTransmit: 100},
		},
		{"counters reset", reading(10*time.Second, 20, map[string]uint64{"eth0": 10}), wire.HostSample{}},
		{"new interface", reading(10*time.Second, 100, map[string]uint64{"eth0": 1000, "eth2": 9000}), wire.HostSample{}},
		{"clock went back", reading(-time.Second, 120, nil), wire.HostSample{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, rates(before, tt.now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func container(cpu, memory string) corev1.Container {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: list}}
}

func sidecar(cpu, memory string) corev1.Container {
	c := container(cpu, memory)
	always := corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}

func TestRequestsOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		spec corev1.PodSpec
		want map[string]string
	}{
		{"nothing", corev1.PodSpec{Containers: []corev1.Container{container("", "")}}, nil},
		{
			"sum of containers",
			corev1.PodSpec{Containers: []corev1.Container{container("100m", "64Mi"), container("200m", "")}},
			map[string]string{"cpu": "300m", "memory": "64Mi"},
		},
		{
			"largest init container",
			corev1.PodSpec{
				InitContainers: []corev1.Container{container("1", "16Mi"), container("500m", "32Mi")},
				Containers:     []corev1.Container{container("100m", "64Mi")},
			},
			map[string]string{"cpu": "1", "memory": "64Mi"},
		},
		{
			"sidecar runs beside containers and later init containers",
			corev1.PodSpec{
				InitContainers: []corev1.Container{container("250m", ""), sidecar("100m", "10Mi"), container("250m", "")},
				Containers:     []corev1.Container{container("200m", "64Mi")},
			},
			map[string]string{"cpu": "350m", "memory": "74Mi"},
		},
		{
			"overhead and requests of the pod",
			corev1.PodSpec{
				Containers: []corev1.Container{container("200m", "64Mi")},
				Resources:  &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}},
				Overhead:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")},
			},
			map[string]string{"cpu": "2", "memory": "65Mi"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, requestsOf(&tt.spec).strings()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPodTotals(t *testing.T) {
	t.Parallel()
	var totals podTotals
	for _, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, ""} {
		totals.add(&corev1.Pod{
			Spec:   corev1.PodSpec{Containers: []corev1.Container{container("100m", "")}},
			Status: corev1.PodStatus{Phase: phase},
		})
	}
	want := map[string]int{"Running": 1, "Pending": 1, "Succeeded": 1, "Failed": 1, "Unknown": 1}
	if diff := cmp.Diff(want, totals.byPhase); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"cpu": "300m"}, totals.requests.strings()); diff != "" {
		t.Error(diff)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	k, err := NewKubernetes(&rest.Config{Host: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	k.last.Nodes = 3
	sample, status, err := k.Collect(t.Context())
	if err != nil || sample.Healthy || status.Healthy || sample.Time.IsZero() || status.Nodes != 3 {
		t.Errorf("got %v %+v %+v", err, sample, status)
	}
	if want := "The kube-apiserver is not ok, status code: 0, "; !strings.HasPrefix(status.HealthMessage, want) {
		t.Errorf("message: got %q, want %q", status.HealthMessage, want)
	}
}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
