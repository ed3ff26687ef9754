// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/drover-io/drover/shared/wire"
)

// A plan is what one seed does: steps over three works whose objects overlap,
// so that two of them want the same object now and then, and one large work whose
// removals need a word.
type plan struct {
	seed  uint64
	steps []step
}

type step struct {
	pause time.Duration // before it
	do    action
	work  string
	names []string // of objects, for put
	name  string   // of an object, for what others do
	// orphan: the work leaves its objects when it is deleted.
	orphan bool
	// waves: objects with a higher number wait for those with a lower one.
	waves    bool
	adoption string // policy; empty for Always
	executor string // writer may write, nobody may not; empty for the agent itself
	takeFrom string // work whose objects this one takes over
	bundle   bool   // the objects come as a bundle
}

type action string

const (
	put           action = "put"            // create or change a work
	remove        action = "remove"         // delete a work
	approve       action = "approve"        // say the word for the removal that waits for it
	foreignEdit   action = "foreign edit"   // somebody changes an applied field
	foreignDelete action = "foreign delete" // somebody deletes an object
	foreignCreate action = "foreign create" // somebody makes an object first
	foreignTwin   action = "foreign twin"   // somebody makes just the object that a work wants
)

const (
	writer = "writer"
	nobody = "nobody"
	// large is a work whose content has all of its objects or two: the step from one
	// to the other is beyond what a change may remove without a word.
	large = "d"
	free  = 10
)

// wants are the objects that each work may name. Every neighbour shares two.
var wants = map[string][]string{
	"a":   {"o0", "o1", "o2", "o3"},
	"b":   {"o2", "o3", "o4", "o5"},
	"c":   {"o4", "o5", "o6", "o7"},
	large: {"d00", "d01", "d02", "d03", "d04", "d05", "d06", "d07", "d08", "d09", "d10", "d11", "d12", "d13"},
}

// few is what the small content of the large work names.
func few() []string { return wants[large][:2] }

// waveOf is the wave in which an object is applied where there are waves.
func waveOf(object string) int { return int(object[len(object)-1]-'0') % 3 }

// newPlan derives a plan from its seed and nothing else.
func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed}
	works := []string{"a", "b", "c"}
	edits := map[string]int{} // a third would be a fight, which the agent gives up
	full := false             // the content of the large work
	for range 14 + r.IntN(8) {
		s := step{pause: time.Duration(r.IntN(250)) * time.Millisecond, work: works[r.IntN(len(works))]}
		all := wants[s.work]
		s.name = all[r.IntN(len(all))]
		switch n := r.IntN(26); {
		case n < 11:
			s.do = put
			s.names = slices.DeleteFunc(slices.Clone(all), func(string) bool { return r.IntN(4) == 0 })
			s.orphan, s.waves = r.IntN(8) == 0, r.IntN(4) == 0
			s.adoption = []string{"", "", "", "", wire.AdoptNever, wire.AdoptIfNoDiff}[r.IntN(6)]
			s.executor = []string{"", "", "", "", "", "", "", "", writer, writer, writer, nobody}[r.IntN(12)]
			if other := works[r.IntN(len(works))]; other != s.work && r.IntN(6) == 0 {
				s.takeFrom = other
			}
		case n < 14:
			s.do = remove
		case n < 16 && edits[s.name] < 2:
			s.do = foreignEdit
			edits[s.name]++
		case n < 18:
			s.do = foreignDelete
		case n < 19:
			s.do = foreignCreate
		case n < 20:
			s.do = foreignTwin
		case n < 25:
			s.do, s.work, s.bundle = put, large, r.IntN(2) == 0
			full = !full || r.IntN(4) == 0
			if s.names = few(); full {
				s.names = wants[large]
			} else if r.IntN(2) == 0 {
				p.steps = append(p.steps, s)
				s = step{do: approve, work: large}
			}
		default:
			s.do, s.work = remove, large
			full = false
		}
		p.steps = append(p.steps, s)
	}
	return p
}

func (s step) String() string {
	switch s.do {
	case put:
		return fmt.Sprintf("put %s %v orphan=%v waves=%v adoption=%s executor=%s takeFrom=%s bundle=%v",
			s.work, s.names, s.orphan, s.waves, s.adoption, s.executor, s.takeFrom, s.bundle)
	case remove, approve:
		return fmt.Sprintf("%s %s", s.do, s.work)
	}
	return fmt.Sprintf("%s %s", s.do, s.name)
}
