// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// world is a small random catalog and a cluster.
type world struct {
	addOns    []string
	list      []Version
	catalog   *Catalog
	installed Installed
	want      Want
}

func randomWorld(t *testing.T, r *rand.Rand) *world {
	t.Helper()
	w := &world{addOns: []string{"a", "b", "c", "d"}, installed: Installed{}}
	ranges := []string{"", ">=2", "<2", "<3", "2.x", "3.0.0", ">=2 <4"}
	for _, name := range w.addOns {
		for n := range 1 + r.IntN(3) {
			spec := fleet.AddOnVersionSpec{AddOn: name, Version: fmt.Sprintf("%d.0.0", n+1)}
			active := r.IntN(6) > 0
			spec.Active, spec.Default = &active, r.IntN(4) == 0
			for _, other := range w.addOns {
				if other == name {
					continue
				}
				some := fleet.AddOnRange{AddOn: other, VersionRange: ranges[r.IntN(len(ranges))]}
				switch r.IntN(8) {
				case 0, 1:
					spec.Dependencies = append(spec.Dependencies, some)
				case 2:
					if r.IntN(2) == 0 {
						spec.Conflicts = append(spec.Conflicts, some)
					}
				}
			}
			if r.IntN(4) == 0 {
				spec.Upgrade = &fleet.Upgrade{From: ranges[1+r.IntN(3)], Downgrade: r.IntN(2) == 0}
			}
			v, err := Parse(&spec)
			if err != nil {
				t.Fatal(err)
			}
			w.list = append(w.list, v)
		}
	}
	w.catalog = NewCatalog(w.list)
	for _, name := range w.addOns {
		if of := w.catalog.Versions(name); r.IntN(3) == 0 {
			w.installed[name] = of[r.IntN(len(of))]
		}
	}
	w.want = Want{AddOn: w.addOns[r.IntN(len(w.addOns))]}
	switch of := w.catalog.Versions(w.want.AddOn); r.IntN(3) {
	case 0:
		w.want.Version = of[r.IntN(len(of))].Version
	case 1:
		w.want.Range, _ = versions.ParseRange(ranges[r.IntN(len(ranges))])
	}
	return w
}

// assignments are all ways to put at most one version of each addon on a cluster.
func (w *world) assignments() []Installed {
	out := []Installed{{}}
	for _, name := range w.addOns {
		for _, base := range out {
			for _, v := range w.catalog.Versions(name) {
				next := Installed{name: v}
				for k, o := range base {
					next[k] = o
				}
				out = append(out, next)
			}
		}
	}
	return out
}

// valid is the definition of a good outcome, read plainly.
func (w *world) valid(s Installed) bool {
	main, ok := s[w.want.AddOn]
	if !ok || !w.want.Version.IsZero() && main.Version.Compare(w.want.Version) != 0 ||
		w.want.Version.IsZero() && !w.want.Range.Contains(main.Version) {
		return false
	}
	reached := map[string]bool{}
	for queue := []string{w.want.AddOn}; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		v, ok := s[name]
		if !ok {
			return false
		}
		if reached[name] {
			continue
		}
		reached[name] = true
		for _, need := range v.Requires {
			if !need.Contains(s[need.AddOn].Version) {
				return false
			}
			queue = append(queue, need.AddOn)
		}
	}
	changed := func(name string) bool {
		was, had := w.installed[name]
		return !had || was.Version.Compare(s[name].Version) != 0
	}
	for _, name := range w.addOns {
		v, now := s[name]
		was, had := w.installed[name]
		if had && !now || !reached[name] && now && changed(name) {
			return false
		}
		if !reached[name] || !changed(name) {
			continue
		}
		if !v.Active || had && versions.CheckChange(was.Version, was.Upgrade, v.Version, v.Upgrade) != nil {
			return false
		}
		for other, stays := range s {
			if reached[other] || other == name {
				continue
			}
			if excludes(v, stays) || excludes(stays, v) {
				return false
			}
			for _, need := range stays.Requires {
				if need.AddOn == name && had && need.Contains(was.Version) && !need.Contains(v.Version) {
					return false
				}
			}
		}
	}
	chosen := Installed{}
	for name := range reached {
		chosen[name] = s[name]
		for other := range reached {
			if other != name && excludes(s[name], s[other]) {
				return false
			}
		}
	}
	// Whoever has nothing left to wait for goes first; in a cycle nobody does.
	for len(chosen) > 0 {
		before := len(chosen)
		for name, v := range chosen {
			if !slices.ContainsFunc(v.Requires, func(r Range) bool { _, ok := chosen[r.AddOn]; return ok }) {
				delete(chosen, name)
			}
		}
		if len(chosen) == before {
			return false
		}
	}
	return true
}

// TestResolveAgainstAllChoices compares Resolve with trying everything.
func TestResolveAgainstAllChoices(t *testing.T) {
	t.Parallel()
	found, refused := 0, 0
	for seed := range uint64(600) {
		w := randomWorld(t, rand.New(rand.NewPCG(seed, 1)))
		possible := slices.ContainsFunc(w.assignments(), w.valid)
		steps, err := w.catalog.Resolve([]Want{w.want}, w.installed)
		if (err == nil) != possible {
			t.Fatalf("seed %d: possible is %v, Resolve says %v, %v\nwant %+v on %v", seed, possible, steps, err, w.want, w.installed)
		}
		if err != nil {
			refused++
			if err.Error() == "" {
				t.Fatalf("seed %d: refused without a reason", seed)
			}
			continue
		}
		found++
		after := Installed{}
		for name, v := range w.installed {
			after[name] = v
		}
		for i, s := range steps {
			for _, need := range s.To.Requires {
				// What changes too has to have changed before.
				at := slices.IndexFunc(steps, func(o Step) bool { return o.AddOn == need.AddOn })
				if at > i {
					t.Fatalf("seed %d: %s comes before %s, which it needs: %v", seed, s.To, need.AddOn, steps)
				}
			}
			after[s.AddOn] = s.To
		}
		if !w.valid(after) {
			t.Fatalf("seed %d: the outcome %v of %v is not valid\nwant %+v on %v", seed, after, steps, w.want, w.installed)
		}
	}
	if found < 100 || refused < 100 {
		t.Errorf("%d resolved, %d refused: the worlds are not varied enough", found, refused)
	}
}

// TestCycleAgainstClosure compares Cycle with the closure of all edges.
func TestCycleAgainstClosure(t *testing.T) {
	t.Parallel()
	with := 0
	for seed := range uint64(400) {
		w := randomWorld(t, rand.New(rand.NewPCG(seed, 2)))
		reach := map[[2]string]bool{}
		for _, v := range w.list {
			for _, need := range v.Requires {
				for _, o := range w.catalog.Versions(need.AddOn) {
					if need.Contains(o.Version) {
						reach[[2]string{v.String(), o.String()}] = true
					}
				}
			}
		}
		for _, k := range w.list {
			for _, i := range w.list {
				for _, j := range w.list {
					if reach[[2]string{i.String(), k.String()}] && reach[[2]string{k.String(), j.String()}] {
						reach[[2]string{i.String(), j.String()}] = true
					}
				}
			}
		}
		for _, v := range w.list {
			cycle := w.catalog.Cycle(v)
			if (cycle != nil) != reach[[2]string{v.String(), v.String()}] {
				t.Fatalf("seed %d: cycle of %s is %v", seed, v, names(cycle))
			}
			if cycle == nil {
				continue
			}
			with++
			if cycle[0].String() != v.String() || cycle[len(cycle)-1].String() != v.String() {
				t.Fatalf("seed %d: %v does not begin and end with %s", seed, names(cycle), v)
			}
			for i, at := range cycle[:len(cycle)-1] {
				next := cycle[i+1]
				if !slices.ContainsFunc(at.Requires, func(r Range) bool { return r.AddOn == next.AddOn && r.Contains(next.Version) }) {
					t.Fatalf("seed %d: %s does not need %s in %v", seed, at, next, names(cycle))
				}
			}
		}
	}
	if with < 50 {
		t.Errorf("only %d cycles", with)
	}
}

// TestOrderProperty: what is needed comes first, whatever the set.
func TestOrderProperty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		w := randomWorld(t, rand.New(rand.NewPCG(seed, 3)))
		order := Order(w.installed)
		if len(order) != len(w.installed) {
			t.Fatalf("seed %d: %v of %v", seed, order, w.installed)
		}
		if cycleOf(w.installed) != "" {
			continue
		}
		for i, name := range order {
			for _, need := range w.installed[name].Requires {
				if at := slices.Index(order, need.AddOn); at > i {
					t.Fatalf("seed %d: %s before %s in %v", seed, name, need.AddOn, order)
				}
			}
		}
		back := RemovalOrder(w.installed)
		slices.Reverse(back)
		if !slices.Equal(back, order) {
			t.Fatalf("seed %d: removal is not the reverse", seed)
		}
	}
}

// BenchmarkResolve: 500 addons of 20 versions, each of which needs up to three
// addons before it.
func BenchmarkResolve(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var list []Version
	for a := range 500 {
		for n := range 20 {
			spec := fleet.AddOnVersionSpec{AddOn: fmt.Sprintf("addon-%03d", a), Version: fmt.Sprintf("%d.%d.0", 1+n/10, n%10)}
			for range min(a, 3) {
				other := fmt.Sprintf("addon-%03d", r.IntN(a))
				if !slices.ContainsFunc(spec.Dependencies, func(d fleet.AddOnRange) bool { return d.AddOn == other }) {
					spec.Dependencies = append(spec.Dependencies, fleet.AddOnRange{AddOn: other, VersionRange: ">=1.2.0"})
				}
			}
			v, err := Parse(&spec)
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, v)
		}
	}
	c := NewCatalog(list)
	last := c.Versions("addon-499")[0]
	b.Run("Resolve", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			steps, err := c.Resolve([]Want{{AddOn: "addon-499"}}, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(steps)), "steps")
		}
	})
	b.Run("Check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if errs := c.Check(last); len(errs) > 0 {
				b.Fatal(errs)
			}
		}
	})
	b.Run("NewCatalog", func(b *testing.B) {
		for b.Loop() {
			NewCatalog(list)
		}
	})
}
