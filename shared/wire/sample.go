// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// HostSample is one measurement of the machine the agent runs on.
type HostSample struct {
	Time time.Time `json:"time"` // agent's clock
	// CPU is used cores (not percent); Cores how many there are.
	CPU   float64 `json:"cpu"`
	Cores int     `json:"cores"`
	Load1 float64 `json:"load1"`
	// Bytes.
	MemoryUsed  uint64 `json:"memoryUsed"`
	MemoryTotal uint64 `json:"memoryTotal"`
	DiskUsed    uint64 `json:"diskUsed"` // of the file system of the state dir
	DiskTotal   uint64 `json:"diskTotal"`
	// Bytes per second since the previous sample.
	NetworkReceive  float64 `json:"networkReceive"`
	NetworkTransmit float64 `json:"networkTransmit"`
	UptimeSeconds   uint64  `json:"uptimeSeconds"`
	// Agent's own use.
	AgentMemory uint64  `json:"agentMemory"` // resident bytes
	AgentCPU    float64 `json:"agentCPU"`    // cores
}

// KubernetesSample is one measurement of the Kubernetes cluster.
type KubernetesSample struct {
	Time         time.Time         `json:"time"`
	Healthy      bool              `json:"healthy"`
	Nodes        int               `json:"nodes"`
	NodesReady   int               `json:"nodesReady"`
	PodsByPhase  map[string]int    `json:"podsByPhase,omitempty"`
	PodsCapacity int64             `json:"podsCapacity,omitempty"`
	Capacity     map[string]string `json:"capacity,omitempty"`
	Allocatable  map[string]string `json:"allocatable,omitempty"`
	Requests     map[string]string `json:"requests,omitempty"`
	// Usage comes from metrics.k8s.io; nil when the cluster does not serve it.
	Usage map[string]string `json:"usage,omitempty"`
}

// MaxWorkSamples is how many works one WorksSample has at most.
const MaxWorkSamples = 200

// WorksSample is one measurement of the pods of works.
type WorksSample struct {
	Time time.Time `json:"time"`
	// Works are those that have pods, by name; Total is how many there are, if more.
	Works []WorkSample `json:"works,omitempty"`
	Total int          `json:"total"`
}

// WorkSample is the pods that belong to one work, without those that succeeded: what
// it applied, and what Kubernetes' own controllers made of that.
type WorkSample struct {
	Name     string `json:"name"`
	Pods     int    `json:"pods"`
	Ready    int    `json:"ready"`
	Restarts int    `json:"restarts"` // of containers, since the pods exist
	// CPU in cores and Memory in bytes are of the Measured pods, from metrics.k8s.io;
	// nil when it is not served or knows none of them.
	CPU      *float64 `json:"cpu,omitempty"`
	Memory   *int64   `json:"memory,omitempty"`
	Measured int      `json:"measured,omitempty"`
}
