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
