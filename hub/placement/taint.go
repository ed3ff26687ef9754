// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"time"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// Effects of taints, and operators of tolerations.
const (
	effectPreferNoSelect = "PreferNoSelect"
	effectNoSelectIfNew  = "NoSelectIfNew"

	operatorEqual  = "Equal"
	operatorExists = "Exists"
)

// documented is an error whose text is Open Cluster Management's.
type documented string

func (d documented) Error() string { return string(d) }

// checkTolerations refuses what a schema cannot; the texts are those of Open
// Cluster Management.
func checkTolerations(list []cluster.Toleration) error {
	for _, t := range list {
		if t.Key == "" && t.Operator != operatorExists {
			return documented("If the key is empty, operator must be Exists.")
		}
		if t.Operator == operatorExists && t.Value != "" {
			return documented("If the operator is Exists, the value should be empty.")
		}
	}
	return nil
}

// tolerated reports whether all taints of a cluster are put up with, and until
// when; zero: for ever. Decided is set for a cluster that is chosen already.
func tolerated(taints []cluster.Taint, tolerations []cluster.Toleration, decided bool, now time.Time) (ok bool, until time.Time) {
	for i := range taints {
		ok, end := toleratedTaint(&taints[i], tolerations, decided, now)
		if !ok {
			return false, time.Time{}
		}
		until = earlier(until, end)
	}
	return true, until
}

func toleratedTaint(taint *cluster.Taint, tolerations []cluster.Toleration, decided bool, now time.Time) (ok bool, until time.Time) {
	if taint.Effect == effectPreferNoSelect || taint.Effect == effectNoSelectIfNew && decided {
		return true, time.Time{}
	}
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		if t.Operator != operatorExists && t.Value != taint.Value {
			continue
		}
		if t.TolerationSeconds == nil {
			return true, time.Time{}
		}
		if end := taint.TimeAdded.Add(time.Duration(*t.TolerationSeconds) * time.Second); now.Before(end) {
			return true, end
		}
	}
	return false, time.Time{}
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
