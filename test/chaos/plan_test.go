// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A plan is what one seed does: steps over three works whose objects overlap,
// so that two of them want the same object now and then.
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
}

type action string

const (
	put           action = "put"            // create or change a work
	remove        action = "remove"         // delete a work
	foreignEdit   action = "foreign edit"   // somebody changes an applied field
	foreignDelete action = "foreign delete" // somebody deletes an object
	foreignCreate action = "foreign create" // somebody makes an object first
)

// wants are the objects that each work may name. Every neighbour shares two.
var wants = map[string][]string{
	"a": {"o0", "o1", "o2", "o3"},
	"b": {"o2", "o3", "o4", "o5"},
	"c": {"o4", "o5", "o6", "o7"},
}

// newPlan derives a plan from its seed and nothing else.
func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed}
	works := []string{"a", "b", "c"}
	edits := map[string]int{} // a third would be a fight, which the agent gives up
	for range 10 + r.IntN(8) {
		s := step{pause: time.Duration(r.IntN(250)) * time.Millisecond, work: works[r.IntN(len(works))]}
		all := wants[s.work]
		s.name = all[r.IntN(len(all))]
		switch n := r.IntN(20); {
		case n < 11:
			s.do = put
			s.names = slices.DeleteFunc(slices.Clone(all), func(string) bool { return r.IntN(4) == 0 })
			s.orphan = r.IntN(8) == 0
		case n < 14:
			s.do = remove
		case n < 17 && edits[s.name] < 2:
			s.do = foreignEdit
			edits[s.name]++
		case n < 19:
			s.do = foreignDelete
		default:
			s.do = foreignCreate
		}
		p.steps = append(p.steps, s)
	}
	return p
}

func (s step) String() string {
	switch s.do {
	case put:
		return fmt.Sprintf("put %s %v orphan=%v", s.work, s.names, s.orphan)
	case remove:
		return "remove " + s.work
	}
	return fmt.Sprintf("%s %s", s.do, s.name)
}
