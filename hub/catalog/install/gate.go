// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/drover-io/drover/shared/apis/addon"
)

// DefaultMaxInFlight is on how many clusters an addon may be on the way at the same
// time, unless its annotation says otherwise.
const DefaultMaxInFlight = 50

// holdFor is how long a cluster that does not get well counts as being on the way:
// one that hangs does not hold all others up.
const holdFor = 10 * time.Minute

// Phase is how far an addon is on one cluster.
type Phase int

// The phases.
const (
	// Blocked: it cannot change now, whatever the gate says.
	Blocked Phase = iota
	// Waiting: what should run is not let through yet.
	Waiting
	// Running: it was let through and is not through.
	Running
	// Settled: it runs, or has failed to, what it was let through for.
	Settled
)

// Member is an addon on one cluster.
type Member struct {
	Cluster string
	Phase   Phase
	// Offline clusters hold nobody up. They get nothing new before they are back,
	// so that the bound holds when many come back at once.
	Offline bool
	// Fresh clusters were never here: what they should run is prepared for the
	// moment at which they join, and until then they count as offline.
	Fresh bool
}

// Next says which clusters may move to what should run there now, in order, when at
// most limit may be on the way. It is the one place where that is decided.
func Next(members []Member, limit int) []string {
	sorted := slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.Cluster, b.Cluster) })
	for _, m := range sorted {
		if m.Phase == Running && !m.Offline && !m.Fresh {
			limit--
		}
	}
	var next []string
	for _, m := range sorted {
		switch {
		case m.Phase != Waiting:
		case m.Fresh:
			next = append(next, m.Cluster)
		case !m.Offline && limit > 0:
			next = append(next, m.Cluster)
			limit--
		}
	}
	return next
}

// MaxInFlight is what the annotations of a ClusterManagementAddOn say. What is not a
// positive number counts as the default.
func MaxInFlight(annotations map[string]string) int {
	if n, err := strconv.Atoi(annotations[addon.AnnotationMaxInFlight]); err == nil && n > 0 {
		return n
	}
	return DefaultMaxInFlight
}
