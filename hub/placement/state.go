// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/cluster"
)

// key names a namespaced object.
type key struct{ namespace, name string }

// state is everything that decides, decoded once a change. Only the loop uses it.
type state struct {
	*Controller

	synced     map[string]bool
	clusters   map[string]*Cluster
	sets       map[string]*setState
	bindings   map[key]*cluster.ManagedClusterSetBinding
	placements map[key]*placed
	decided    map[string]int // how many placements have chosen a cluster
	scores     map[ScoreKey]*Scores

	counted  map[string]time.Time // when a set's condition was written last
	members  bool                 // members of sets must be found anew
	homeless map[string]bool      // clusters without a set
	missing  bool                 // a set that always exists is gone
}

type setState struct {
	obj      *cluster.ManagedClusterSet
	selector labels.Selector // nothing when the set's is not valid
	members  []*Cluster      // by name
}

// placed is a Placement and its decisions. Obj is nil for decisions that were
// left behind.
type placed struct {
	obj       *cluster.Placement
	decisions map[string]*cluster.PlacementDecision // by name
	chosen    map[string]bool
	uses      uses
	dirty     bool
	again     time.Time // zero: never
	// scoresAt is when changed scores were looked at last.
	scoresAt time.Time
}

// uses says what a Placement looks at beside labels, claims and taints.
type uses struct{ objects, amounts, scores bool }

func newState(c *Controller) *state {
	return &state{
		Controller: c, synced: map[string]bool{}, clusters: map[string]*Cluster{}, sets: map[string]*setState{},
		bindings: map[key]*cluster.ManagedClusterSetBinding{}, placements: map[key]*placed{},
		decided: map[string]int{}, scores: map[ScoreKey]*Scores{}, homeless: map[string]bool{}, counted: map[string]time.Time{},
	}
}

// ready reports whether everything that exists was seen.
// Ready implements follow.State.
func (s *state) Ready() bool { return len(s.synced) == len(resources()) }

// Apply implements follow.State.
func (s *state) Apply(ev follow.Event) {
	if ev.Type == store.Bookmark {
		s.synced[ev.Resource] = true
		return
	}
	gone := ev.Type == store.Deleted
	k := key{ev.Entry.Key.Namespace, ev.Entry.Key.Name}
	var err error
	switch ev.Resource {
	case cluster.Resource:
		err = s.applyCluster(ev.Entry, gone)
	case cluster.ResourceSets:
		err = s.applySet(ev.Entry, gone)
	case cluster.ResourceSetBindings:
		var b *cluster.ManagedClusterSetBinding
		if b, err = s.Controller.bindings.Decode(ev.Entry); err == nil {
			if gone {
				delete(s.bindings, k)
			} else {
				s.bindings[k] = b
			}
			s.dirtyNamespaces(map[string]bool{k.namespace: true})
		}
	case cluster.ResourcePlacements:
		err = s.applyPlacement(k, ev.Entry, gone)
	case cluster.ResourcePlacementDecisions:
		err = s.applyDecision(ev.Entry, gone)
	case cluster.ResourcePlacementScores:
		err = s.applyScores(k, ev.Entry, gone)
	}
	if err != nil {
		s.log.Warn("object cannot be read, it is left out", zap.String("resource", ev.Resource),
			zap.String("namespace", k.namespace), zap.String("name", k.name), zap.Error(err))
	}
}

func (s *state) applyCluster(e store.Entry, gone bool) error {
	name := e.Key.Name
	old := s.clusters[name]
	if gone {
		delete(s.clusters, name)
		delete(s.homeless, name)
		if old != nil {
			s.members = true
			s.dirtyClusters(old.Labels)
		}
		return nil
	}
	c, err := NewCluster(e)
	if err != nil {
		return err
	}
	delete(s.homeless, name)
	if c.Labels[cluster.LabelSet] == "" && !c.Deleting {
		s.homeless[name] = true
	}
	if old == nil {
		s.clusters[name] = c
		s.members = true
		s.dirtyClusters(c.Labels)
		return nil
	}
	before := *old
	*old = *c // in place: the sets keep what they point to
	same := func(a, b float64) bool { return a == b || a != a && b != b }
	switch {
	case !maps.Equal(before.Labels, c.Labels):
		s.members = true
		s.dirtyClusters(before.Labels, c.Labels)
	case before.Deleting != c.Deleting || !maps.Equal(before.Claims, c.Claims) || !slices.Equal(before.Taints, c.Taints):
		s.dirtyClusters(c.Labels)
	case !same(before.CPU, c.CPU) || !same(before.Memory, c.Memory):
		s.dirtyUsing(func(u uses) bool { return u.amounts || u.objects })
	default:
		s.dirtyUsing(func(u uses) bool { return u.objects })
	}
	return nil
}

func (s *state) applySet(e store.Entry, gone bool) error {
	s.members = true
	s.dirtySet(e.Key.Name)
	if gone {
		delete(s.sets, e.Key.Name)
		delete(s.counted, e.Key.Name)
		s.missing = s.missing || e.Key.Name == cluster.SetDefault || e.Key.Name == cluster.SetGlobal
		return nil
	}
	set, err := s.Controller.sets.Decode(e)
	if err != nil {
		return err
	}
	selector, err := Selector(set)
	if err != nil {
		s.log.Warn("set has no members", zap.String("set", set.Name), zap.Error(err))
		selector = labels.Nothing()
	}
	s.sets[set.Name] = &setState{obj: set, selector: selector}
	return nil
}

func (s *state) applyPlacement(k key, e store.Entry, gone bool) error {
	p := s.placed(k)
	if gone {
		p.obj, p.dirty = nil, true
		return nil
	}
	obj, err := s.Controller.placements.Decode(e)
	if err != nil {
		return err
	}
	if p.obj != nil && p.obj.UID == obj.UID && !newer(obj.ResourceVersion, p.obj.ResourceVersion) {
		return nil // what this controller wrote itself
	}
	p.obj, p.uses, p.dirty = obj, usesOf(&obj.Spec), true
	return nil
}

// newer compares revisions.
func newer(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

func usesOf(spec *cluster.PlacementSpec) uses {
	var u uses
	for i := range spec.Predicates {
		for _, text := range spec.Predicates[i].RequiredClusterSelector.CelSelector.CelExpressions {
			u.objects = true
			u.scores = u.scores || strings.Contains(text, "scores")
		}
	}
	for _, c := range spec.PrioritizerPolicy.Configurations {
		switch s := c.ScoreCoordinate; {
		case s == nil:
		case s.Type == cluster.ScoreAddOn:
			u.scores = true
		default:
			u.amounts = u.amounts || s.BuiltIn == cluster.PrioritizerAllocatableCPU || s.BuiltIn == cluster.PrioritizerAllocatableMemory
		}
	}
	return u
}

func (s *state) applyDecision(e store.Entry, gone bool) error {
	d, err := s.Controller.decisions.Decode(e)
	if err != nil {
		return err
	}
	p := s.placed(key{d.Namespace, d.Labels[cluster.LabelPlacement]})
	known := p.decisions[d.Name]
	switch {
	case gone && known == nil, known != nil && known.UID == d.UID && !newer(d.ResourceVersion, known.ResourceVersion):
		return nil // what this controller did itself
	case gone:
		delete(p.decisions, d.Name)
	default:
		p.decisions[d.Name] = d
	}
	s.recount(p)
	p.dirty = true
	return nil
}

func (s *state) applyScores(k key, e store.Entry, gone bool) error {
	id := ScoreKey{Cluster: k.namespace, Name: k.name}
	if gone {
		delete(s.scores, id)
	} else {
		obj, err := s.Controller.scores.Decode(e)
		if err != nil {
			return err
		}
		sc := &Scores{Values: map[string]int32{}}
		for _, v := range obj.Status.Scores {
			sc.Values[v.Name] = v.Value
		}
		if until := obj.Status.ValidUntil; until != nil {
			sc.ValidUntil = until.Time
		}
		s.scores[id] = sc
	}
	for _, p := range s.placements {
		if p.uses.scores && p.obj != nil {
			p.again = earlier(p.again, p.scoresAt.Add(scoreRate(&p.obj.Spec)))
		}
	}
	return nil
}

// scoreRate is how often a Placement looks at changed scores.
func scoreRate(spec *cluster.PlacementSpec) time.Duration {
	if d, err := time.ParseDuration(spec.ScoreRateLimit); err == nil {
		return d
	}
	return time.Minute
}

func (s *state) placed(k key) *placed {
	p := s.placements[k]
	if p == nil {
		p = &placed{decisions: map[string]*cluster.PlacementDecision{}, chosen: map[string]bool{}}
		s.placements[k] = p
	}
	return p
}

// recount takes over what the decisions of a Placement say.
func (s *state) recount(p *placed) {
	for name := range p.chosen {
		if s.decided[name]--; s.decided[name] <= 0 {
			delete(s.decided, name)
		}
	}
	clear(p.chosen)
	for _, d := range p.decisions {
		for _, c := range d.Status.Decisions {
			p.chosen[c.ClusterName] = true
		}
	}
	for name := range p.chosen {
		s.decided[name]++
	}
}

// dirtyClusters marks the Placements that may choose clusters with such labels.
func (s *state) dirtyClusters(lists ...labels.Set) {
	namespaces := map[string]bool{}
	for k, b := range s.bindings {
		set := s.sets[b.Spec.ClusterSet]
		if set == nil {
			continue
		}
		for _, l := range lists {
			namespaces[k.namespace] = namespaces[k.namespace] || set.selector.Matches(l)
		}
	}
	s.dirtyNamespaces(namespaces)
}

func (s *state) dirtySet(name string) {
	namespaces := map[string]bool{}
	for k, b := range s.bindings {
		if b.Spec.ClusterSet == name {
			namespaces[k.namespace] = true
		}
	}
	s.dirtyNamespaces(namespaces)
}

func (s *state) dirtyNamespaces(namespaces map[string]bool) {
	for k, p := range s.placements {
		p.dirty = p.dirty || namespaces[k.namespace]
	}
}

func (s *state) dirtyUsing(does func(uses) bool) {
	for _, p := range s.placements {
		p.dirty = p.dirty || does(p.uses)
	}
}
