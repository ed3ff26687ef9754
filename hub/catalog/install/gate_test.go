// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/apis/addon"
)

func TestNext(t *testing.T) {
	t.Parallel()
	m := func(name string, p Phase) Member { return Member{Cluster: name, Phase: p} }
	off := func(name string, p Phase) Member { return Member{Cluster: name, Phase: p, Offline: true} }
	fresh := func(name string, p Phase) Member { return Member{Cluster: name, Phase: p, Offline: true, Fresh: true} }
	for _, tt := range []struct {
		name    string
		members []Member
		limit   int
		want    []string
	}{
		{"none", nil, 3, nil},
		{"all by name", []Member{m("b", Waiting), m("a", Waiting)}, 3, []string{"a", "b"}},
		{"as many as fit", []Member{m("a", Waiting), m("b", Waiting), m("c", Waiting)}, 2, []string{"a", "b"}},
		{"those on the way count", []Member{m("a", Waiting), m("b", Waiting), m("c", Running)}, 2, []string{"a"}},
		{"those that are through do not", []Member{m("a", Waiting), m("b", Settled)}, 1, []string{"a"}},
		{"blocked ones neither count nor go", []Member{m("a", Blocked), m("b", Waiting)}, 1, []string{"b"}},
		{"offline ones hold nobody up", []Member{off("a", Running), m("b", Waiting)}, 1, []string{"b"}},
		{"offline ones wait", []Member{off("a", Waiting), m("b", Waiting)}, 1, []string{"b"}},
		{"fresh ones are prepared", []Member{fresh("a", Waiting), m("b", Waiting)}, 1, []string{"a", "b"}},
		{"more came back than fit", []Member{m("a", Running), m("b", Running), m("c", Waiting)}, 1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, Next(tt.members, tt.limit)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 50, "7": 7, "0": 50, "-1": 50, "many": 50} {
		if got := MaxInFlight(map[string]string{addon.AnnotationMaxInFlight: text}); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// Whatever happens to clusters, never are more on the way than may, of those that
// were there when they were let through; and when nothing more happens all of them
// get through.
func TestGateHolds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		limit := 1 + r.IntN(5)
		members := make([]Member, 1+r.IntN(30))
		for i := range members {
			members[i] = Member{Cluster: fmt.Sprintf("c%02d", i), Phase: Phase(r.IntN(4)), Offline: r.IntN(4) == 0}
			if members[i].Phase == Running {
				members[i].Phase = Waiting
			}
		}
		away := 0 // that were on the way when they went offline
		for step := 0; ; step++ {
			if step > 10_000 {
				t.Fatalf("seed %d: never at its end", seed)
			}
			for _, name := range Next(members, limit) {
				i := slices.IndexFunc(members, func(m Member) bool { return m.Cluster == name })
				if members[i].Phase != Waiting || members[i].Offline {
					t.Fatalf("seed %d: %+v was let through", seed, members[i])
				}
				members[i].Phase = Running
			}
			busy := 0
			for _, m := range members {
				if m.Phase == Running && !m.Offline {
					busy++
				}
			}
			if busy > limit+away {
				t.Fatalf("seed %d: %d on the way, %d may, %d came back", seed, busy, limit, away)
			}
			quiet := step > 500
			for i := range members {
				m := &members[i]
				switch {
				case !quiet && r.IntN(5) == 0:
					if m.Offline = !m.Offline; m.Offline && m.Phase == Running {
						away++
					}
				case quiet && m.Offline:
					m.Offline = false
				case m.Phase == Running && r.IntN(2) == 0:
					m.Phase = Settled
				case !quiet && m.Phase == Settled && r.IntN(20) == 0:
					m.Phase = Waiting // a new version
				case quiet && m.Phase == Blocked:
					m.Phase = Waiting
				}
			}
			if quiet && !slices.ContainsFunc(members, func(m Member) bool { return m.Phase != Settled }) {
				break
			}
		}
	}
}
