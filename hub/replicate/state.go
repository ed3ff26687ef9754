// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/work"
)

// state is what the loop knows; only it uses it.
type state struct {
	*Controller
	synced     map[string]bool
	sets       map[key]*set
	placements map[key]*placement
	reach      map[string]reach // by cluster; absent: there is no such cluster
	works      map[key]map[store.Key]*copied
}

// reach says whether a cluster can be reached.
type reach int

const (
	never reach = iota // its agent has not said anything yet, so nothing is there
	here
	away
)

func reachOf(mc *cluster.ManagedCluster) reach {
	switch c := meta.FindStatusCondition(mc.Status.Conditions, cluster.ConditionAvailable); {
	case c == nil:
		return never
	case c.Status == metav1.ConditionTrue:
		return here
	}
	return away
}

type set struct {
	obj      *work.ManifestWorkReplicaSet
	template string // its digest
	dirty    bool
	again    time.Time
	// undecided is since when a cluster with a work is not chosen.
	undecided map[string]time.Time
}

type placement struct {
	obj       *cluster.Placement
	decisions map[string]*cluster.PlacementDecision
}

// copied is what counts of a work.
type copied struct {
	key        store.Key
	digest     string // of its spec
	placement  string
	deleting   bool
	generation int64
	since      time.Time
	conditions []metav1.Condition
	labels     map[string]string
}

func newState(c *Controller) *state {
	return &state{
		Controller: c, synced: map[string]bool{}, sets: map[key]*set{}, placements: map[key]*placement{},
		reach: map[string]reach{}, works: map[key]map[store.Key]*copied{},
	}
}

// Ready implements follow.State.
func (s *state) Ready() bool { return len(s.synced) == resources }

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
	case work.ResourceReplicaSets:
		err = s.applySet(k, ev.Entry, gone)
	case work.Resource:
		err = s.applyWork(ev.Entry, gone)
	case cluster.ResourcePlacements:
		var obj *cluster.Placement
		if obj, err = s.Controller.placements.Decode(ev.Entry); err == nil {
			p := s.placement(k)
			if p.obj = obj; gone {
				p.obj = nil
			}
			s.dirtyUsers(k)
		}
	case cluster.ResourcePlacementDecisions:
		var obj *cluster.PlacementDecision
		if obj, err = s.Controller.decisions.Decode(ev.Entry); err == nil {
			k.name = obj.Labels[cluster.LabelPlacement]
			p := s.placement(k)
			if p.decisions[obj.Name] = obj; gone {
				delete(p.decisions, obj.Name)
			}
			s.dirtyUsers(k)
		}
	case cluster.Resource:
		err = s.applyCluster(ev.Entry, gone)
	}
	if err != nil {
		s.log.Warn("object cannot be read, it is left as it was", zap.String("resource", ev.Resource),
			zap.String("namespace", k.namespace), zap.String("name", k.name), zap.Error(err))
	}
}

func (s *state) applySet(k key, e store.Entry, gone bool) error {
	if gone {
		delete(s.sets, k)
		return nil
	}
	obj, err := s.Controller.sets.Decode(e)
	if err != nil {
		return err
	}
	digest, err := digestOf(&obj.Spec.ManifestWorkTemplate)
	if err != nil {
		return err
	}
	if old := s.sets[k]; old != nil && old.obj.UID == obj.UID {
		old.obj, old.template, old.dirty = obj, digest, true
		return nil
	}
	s.sets[k] = &set{obj: obj, template: digest, dirty: true, undecided: map[string]time.Time{}}
	return nil
}

func (s *state) applyWork(e store.Entry, gone bool) error {
	ns, name, _ := strings.Cut(e.Header.Labels[work.LabelReplicaSet], ".")
	k := key{ns, name}
	if owner := s.sets[k]; owner != nil {
		owner.dirty = true
	}
	if gone {
		delete(s.works[k], e.Key)
		return nil
	}
	obj, err := s.Controller.works.Decode(e)
	if err != nil {
		return err
	}
	digest, err := digestOf(&obj.Spec)
	if err != nil {
		return err
	}
	since, err := time.Parse(time.RFC3339, obj.Annotations[AnnotationSince])
	if err != nil {
		since = obj.CreationTimestamp.Time
	}
	if s.works[k] == nil {
		s.works[k] = map[store.Key]*copied{}
	}
	s.works[k][e.Key] = &copied{
		key: e.Key, digest: digest, placement: obj.Labels[work.LabelPlacement], deleting: obj.DeletionTimestamp != nil,
		generation: obj.Generation, since: since, conditions: obj.Status.Conditions, labels: obj.Labels,
	}
	return nil
}

// applyCluster notes whether a cluster can be reached.
func (s *state) applyCluster(e store.Entry, gone bool) error {
	name := e.Key.Name
	was, known := s.reach[name]
	if gone {
		delete(s.reach, name)
	} else {
		obj, err := s.Controller.clusters.Decode(e)
		if err != nil {
			return err
		}
		s.reach[name] = reachOf(obj)
	}
	if is, now := s.reach[name]; is == was && now == known {
		return nil
	}
	for k, owner := range s.sets {
		for wk := range s.works[k] {
			owner.dirty = owner.dirty || wk.Namespace == name
		}
		// It may wait for a slot, too.
		owner.dirty = owner.dirty || !meta.IsStatusConditionTrue(owner.obj.Status.Conditions, work.ConditionPlacementRolledOut)
	}
	return nil
}

func (s *state) placement(k key) *placement {
	p := s.placements[k]
	if p == nil {
		p = &placement{decisions: map[string]*cluster.PlacementDecision{}}
		s.placements[k] = p
	}
	return p
}

// dirtyUsers marks the sets that refer to a placement.
func (s *state) dirtyUsers(k key) {
	for id, owner := range s.sets {
		if id.namespace == k.namespace && slices.ContainsFunc(owner.obj.Spec.PlacementRefs, func(r work.PlacementRef) bool { return r.Name == k.name }) {
			owner.dirty = true
		}
	}
}

// Pass looks at every set that may be out of date, and returns when to look
// again; zero: when something changes.
func (s *state) Pass(ctx context.Context, now time.Time) (next time.Time, _ error) {
	for _, k := range slices.SortedFunc(maps.Keys(s.sets), func(a, b key) int {
		return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name)
	}) {
		owner := s.sets[k]
		if !owner.dirty && (owner.again.IsZero() || now.Before(owner.again)) {
			next = earlier(next, owner.again)
			continue
		}
		owner.dirty = false
		again, err := s.reconcile(ctx, k, owner, now)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("replicating a set failed, will try again", zap.String("namespace", k.namespace), zap.String("name", k.name), zap.Error(err))
			again = now.Add(retryAfter)
		}
		owner.again = again
		next = earlier(next, again)
	}
	return next, nil
}

// groupsOf are the decision groups of a placement. Settled is set when they are
// complete and meant so: only then somebody may be missing on purpose.
func (p *placement) groupsOf() (groups []Group, settled bool) {
	byIndex := map[int]*Group{}
	total := 0
	for _, name := range slices.SortedFunc(maps.Keys(p.decisions), byNumber) {
		d := p.decisions[name]
		index, err := strconv.Atoi(d.Labels[cluster.LabelDecisionGroupIndex])
		if err != nil {
			continue
		}
		if byIndex[index] == nil {
			byIndex[index] = &Group{Name: d.Labels[cluster.LabelDecisionGroupName]}
		}
		for _, c := range d.Status.Decisions {
			byIndex[index].Members = append(byIndex[index].Members, Member{Cluster: c.ClusterName})
			total++
		}
	}
	for _, index := range slices.Sorted(maps.Keys(byIndex)) {
		groups = append(groups, *byIndex[index])
	}
	st := &p.obj.Status
	satisfied := meta.FindStatusCondition(st.Conditions, cluster.ConditionPlacementSatisfied)
	settled = len(p.decisions) > 0 && total == int(st.NumberOfSelectedClusters) && p.obj.DeletionTimestamp == nil &&
		satisfied != nil && (satisfied.ObservedGeneration == 0 || satisfied.ObservedGeneration == p.obj.Generation) &&
		!meta.IsStatusConditionTrue(st.Conditions, cluster.ConditionPlacementMisconfigured)
	return groups, settled
}

// byNumber orders names that end in a number by it.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// digestOf names the content of a spec, whatever the order of its fields.
func digestOf(spec *work.ManifestWorkSpec) (string, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("encode spec: %w", err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return "", fmt.Errorf("decode spec: %w", err)
	}
	if text, err = json.Marshal(v); err != nil {
		return "", fmt.Errorf("encode spec: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
