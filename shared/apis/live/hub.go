// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"time"

	"github.com/drover-io/drover/shared/wire"
)

// Facts are what an agent says of itself when it asks to join.
type Facts = wire.JoinFacts

// Identity is the answer of GET /v1/session: who asks.
type Identity struct {
	User   string              `json:"user"`
	Groups []string            `json:"groups"`
	Extra  map[string][]string `json:"extra,omitempty"`
	// Session is the name of the session, if it is one that asks.
	Session string `json:"session,omitempty"`
	// Expires is when that ends at the latest.
	Expires *time.Time `json:"expires,omitempty"`
}

// Hub is the answer of GET /v1/hub, to who may get that path.
type Hub struct {
	Version     string    `json:"version"`
	Started     time.Time `json:"started"`
	Time        time.Time `json:"time"`
	TrustDomain string    `json:"trustDomain"`
	// URLs under which agents and people reach the hub, the preferred one first.
	URLs         []string      `json:"urls"`
	Revision     uint64        `json:"revision"`
	Objects      int           `json:"objects"`
	Certificates []Certificate `json:"certificates"`
	Sessions     HubSessions   `json:"sessions"`
	Streams      []Stream      `json:"streams"`
	Watches      int           `json:"watches"`
	Dashboards   int           `json:"dashboards"` // streams to dashboards
	MemoryBytes  uint64        `json:"memoryBytes"`
	DiskBytes    uint64        `json:"diskBytes"` // of the data directory's file system that are in use
	DiskTotal    uint64        `json:"diskTotal"`
}

// Certificate is one of the hub's own.
type Certificate struct {
	Name     string    `json:"name"`
	NotAfter time.Time `json:"notAfter"`
	// Renewed certificates are replaced by the hub in time; others need a person.
	Renewed     bool   `json:"renewed"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// HubSessions counts the connections of agents.
type HubSessions struct {
	Live int `json:"live"`
	// Opened and Refused count since the hub started.
	Opened  uint64 `json:"opened"`
	Refused uint64 `json:"refused"`
}

// Stream is one of the broker's.
type Stream struct {
	Name     string    `json:"name"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	Oldest   time.Time `json:"oldest,omitzero"`
}

// Samples is the answer of GET /v1/samples/CLUSTER: the last hour, one column a
// name, the first of them the time in seconds since 1970. A value that is missing
// is null.
type Samples struct {
	Names   []string     `json:"names"`
	Columns [][]*float64 `json:"columns"`
}
