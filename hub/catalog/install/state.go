// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/hub/store/follow"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// place names an addon on a cluster.
type place struct{ cluster, addon string }

// state is what the loop knows; only it uses it.
type state struct {
	*Controller
	watch  func(resource string) error
	synced map[string]bool

	recipes map[string]*recipe
	dishes  map[place]*dish
	// byCluster and byAddon hold the same dishes.
	byCluster map[string]map[string]*dish
	byAddon   map[string]map[string]*dish
	works     map[store.Key]*workState // of addons
	clusters  map[string]*clusterState
	sets      map[store.Key]*placement
	users     map[store.Key]map[place]bool // who looked at an object
	given     map[store.Key]*written       // works written whose event is on its way
	reopen    map[string]bool              // addons to ask the gate about again
	relabel   map[string]bool              // clusters whose addons changed
}

// recipe is a ClusterManagementAddOn.
type recipe struct {
	obj   *addon.ClusterManagementAddOn
	dirty bool
	again time.Time
	// chosen are the clusters, and the index of the placement that each obeys.
	chosen map[string]int
	// undecided is since when a cluster with an addon made by a placement is not
	// chosen.
	undecided map[string]time.Time
	told      time.Time // when the status was written last
}

// dish is a ManagedClusterAddOn.
type dish struct {
	place
	obj    *addon.ManagedClusterAddOn
	target *target // nil: not looked at yet
	stale  bool    // target is out of date
	dirty  bool
	again  time.Time
	phase  Phase
	note   *Problem // why it waits, besides the gate
}

func (d *dish) deleting() bool { return d.obj.DeletionTimestamp != nil }

// workState is what counts of a work.
type workState struct {
	key                store.Key
	uid                string
	generation         int64
	deleting, intact   bool
	content            string   // digest of the target that it was made for
	hook               string   // what hooks it runs
	namespaces         []string // Namespaces among its objects
	preDelete          string
	unguarded          bool
	bundle             string
	protected          bool
	hashes             map[string]string
	conditions         []metav1.Condition
	restarts           int32
	failing, remaining string
	plan               string // id of a removal that waits for a word
}

// find returns a condition that speaks of the present generation.
func (w *workState) find(t string) *metav1.Condition {
	if w == nil {
		return nil
	}
	c := meta.FindStatusCondition(w.conditions, t)
	if c == nil || c.ObservedGeneration != w.generation {
		return nil
	}
	return c
}

func (w *workState) is(t string, s metav1.ConditionStatus) bool {
	c := w.find(t)
	return c != nil && c.Status == s
}

type placement struct {
	obj       *cluster.Placement
	decisions map[string]*cluster.PlacementDecision
}

func newState(c *Controller) *state {
	return &state{
		Controller: c, synced: map[string]bool{}, recipes: map[string]*recipe{}, dishes: map[place]*dish{},
		byCluster: map[string]map[string]*dish{}, byAddon: map[string]map[string]*dish{},
		works: map[store.Key]*workState{}, clusters: map[string]*clusterState{}, sets: map[store.Key]*placement{},
		users: map[store.Key]map[place]bool{}, given: map[store.Key]*written{}, reopen: map[string]bool{}, relabel: map[string]bool{},
		watch: func(string) error { return nil },
	}
}

// Ready implements follow.State: all that is always followed was seen once.
func (s *state) Ready() bool {
	return !slices.ContainsFunc(watched(), func(resource string) bool { return !s.synced[resource] })
}

// Apply implements follow.State.
func (s *state) Apply(ev follow.Event) {
	if ev.Type == store.Bookmark {
		s.synced[ev.Resource] = true
		return
	}
	gone := ev.Type == store.Deleted
	e := ev.Entry
	var err error
	switch ev.Resource {
	case addon.ResourceClusterManagementAddOns:
		err = s.applyRecipe(e, gone)
	case addon.ResourceManagedClusterAddOns:
		err = s.applyDish(e, gone)
	case work.Resource:
		err = s.applyWork(e, gone)
	case cluster.ResourcePlacements:
		var obj *cluster.Placement
		if obj, err = s.Controller.placements.Decode(e); err == nil {
			p := s.placement(e.Key)
			if p.obj = obj; gone {
				p.obj = nil
			}
			s.dirtyRecipes(e.Key)
		}
	case cluster.ResourcePlacementDecisions:
		var obj *cluster.PlacementDecision
		if obj, err = s.Controller.decisions.Decode(e); err == nil {
			k := store.Key{Resource: cluster.ResourcePlacements, Namespace: e.Key.Namespace, Name: obj.Labels[cluster.LabelPlacement]}
			p := s.placement(k)
			if p.decisions[obj.Name] = obj; gone {
				delete(p.decisions, obj.Name)
			}
			s.dirtyRecipes(k)
		}
	case cluster.Resource:
		err = s.applyCluster(e, gone)
	case fleet.ResourceAddOnVersions:
		err = s.applyVersion(e)
	case fleet.ResourceConfigRevisions:
		err = s.applyRevision(e)
	default:
		s.dirtyUsers(e.Key)
	}
	if err != nil {
		s.log.Warn("object cannot be read, it is left as it was", zap.String("resource", ev.Resource),
			zap.String("namespace", e.Key.Namespace), zap.String("name", e.Key.Name), zap.Error(err))
	}
}

func (s *state) applyRecipe(e store.Entry, gone bool) error {
	name := e.Key.Name
	old := s.recipes[name]
	if gone {
		delete(s.recipes, name)
	} else {
		obj, err := s.Controller.recipes.Decode(e)
		if err != nil {
			return err
		}
		obj.ManagedFields = nil
		r := &recipe{obj: obj, undecided: map[string]time.Time{}}
		if old != nil && old.obj.UID == obj.UID {
			r.undecided, r.told, r.chosen = old.undecided, old.told, old.chosen
		}
		r.dirty = true
		s.recipes[name] = r
		if old != nil && old.obj.UID == obj.UID && old.obj.Generation == obj.Generation && maps.Equal(old.obj.Annotations, obj.Annotations) {
			return nil // its status
		}
	}
	for _, d := range s.byAddon[name] {
		d.stale, d.dirty = true, true
	}
	return nil
}

func (s *state) applyDish(e store.Entry, gone bool) error {
	p := place{e.Key.Namespace, e.Key.Name}
	s.relabel[p.cluster] = true
	if r := s.recipes[p.addon]; r != nil {
		r.dirty = true
	}
	old := s.dishes[p]
	if gone {
		s.forget(p)
		s.dirtyCluster(p.cluster)
		return nil
	}
	obj, err := s.Controller.dishes.Decode(e)
	if err != nil {
		return err
	}
	obj.ManagedFields = nil
	if old == nil || old.obj.UID != obj.UID {
		s.forget(p)
		d := &dish{place: p, obj: obj, stale: true, dirty: true}
		s.dishes[p] = d
		child(s.byCluster, p.cluster)[p.addon] = d
		child(s.byAddon, p.addon)[p.cluster] = d
		s.dirtyCluster(p.cluster)
		return nil
	}
	old.stale = old.stale || old.obj.Generation != obj.Generation || !maps.Equal(old.obj.Annotations, obj.Annotations)
	if stands(old.obj) != stands(obj) {
		s.dirtyCluster(p.cluster)
	}
	old.obj, old.dirty = obj, true
	return nil
}

// standing is what the other addons of a cluster look at.
type standing struct {
	deleting, available, settled bool
	version                      string
}

func stands(o *addon.ManagedClusterAddOn) standing {
	st := standing{deleting: o.DeletionTimestamp != nil, available: meta.IsStatusConditionTrue(o.Status.Conditions, addon.ConditionAvailable)}
	if c := o.Status.Content; c != nil && c.LastApplied != nil {
		st.version, st.settled = c.LastApplied.Version, c.LastApplied.Digest == c.Digest
	}
	return st
}

func (s *state) forget(p place) {
	d := s.dishes[p]
	if d == nil {
		return
	}
	s.uses(d, nil)
	delete(s.dishes, p)
	if delete(s.byCluster[p.cluster], p.addon); len(s.byCluster[p.cluster]) == 0 {
		delete(s.byCluster, p.cluster)
	}
	if delete(s.byAddon[p.addon], p.cluster); len(s.byAddon[p.addon]) == 0 {
		delete(s.byAddon, p.addon)
	}
}

// uses notes which objects a dish was made from.
func (s *state) uses(d *dish, keys []store.Key) {
	if d.target != nil {
		for _, k := range d.target.inputs {
			if delete(s.users[k], d.place); len(s.users[k]) == 0 {
				delete(s.users, k)
			}
		}
	}
	for _, k := range keys {
		if s.users[k] == nil {
			s.users[k] = map[place]bool{}
		}
		s.users[k][d.place] = true
	}
}

func (s *state) applyWork(e store.Entry, gone bool) error {
	name := e.Header.Labels[addon.LabelAddonName]
	if name == "" {
		// Of others only matters whether they have what an addon wants.
		s.dirtyConflicts(e.Key.Namespace)
		return nil
	}
	if d := s.dishes[place{e.Key.Namespace, name}]; d != nil {
		d.dirty = true
	}
	old := s.works[e.Key]
	if gone {
		delete(s.works, e.Key)
		delete(s.given, e.Key)
		s.dirtyCluster(e.Key.Namespace)
		return nil
	}
	obj, err := s.Controller.works.Decode(e)
	if err != nil {
		return err
	}
	w, err := workStateOf(e.Key, obj)
	if err != nil {
		return err
	}
	s.works[e.Key] = w
	if g := s.given[e.Key]; g != nil && g.content == w.content {
		delete(s.given, e.Key)
	}
	if old != nil && old.content != w.content {
		s.dirtyConflicts(e.Key.Namespace)
	}
	if old == nil || !slices.Equal(old.namespaces, w.namespaces) || old.deleting != w.deleting || old.is(work.ConditionApplied, metav1.ConditionTrue) != w.is(work.ConditionApplied, metav1.ConditionTrue) {
		s.dirtyCluster(e.Key.Namespace)
	}
	return nil
}

func workStateOf(k store.Key, obj *work.ManifestWork) (*workState, error) {
	digest, err := digestOf(&obj.Spec, obj.Annotations)
	if err != nil {
		return nil, err
	}
	a := obj.Annotations
	w := &workState{
		key: k, uid: string(obj.UID), generation: obj.Generation, deleting: obj.DeletionTimestamp != nil,
		intact: a[annotationWritten] == digest, content: a[annotationContent], hook: a[annotationHook],
		namespaces: list(a[annotationNamespaces]), preDelete: a[annotationPreDelete], unguarded: a[work.AnnotationPrune] == "Unguarded",
		bundle: a[work.AnnotationBundle], protected: a[work.AnnotationProtected] != "", conditions: obj.Status.Conditions,
	}
	if text := a[addon.AnnotationSpecHash]; text != "" && json.Unmarshal([]byte(text), &w.hashes) != nil {
		w.hashes = nil
	}
	for i := range obj.Status.ResourceStatus.Manifests {
		w.restarts += obj.Status.ResourceStatus.Manifests[i].Restarts
		if w.failing == "" {
			w.failing = failing(&obj.Status.ResourceStatus.Manifests[i])
		}
	}
	if r := obj.Status.Remaining; r != nil && len(r.Objects) > 0 {
		w.remaining = strings.TrimSpace(r.Objects[0].Kind + " " + strings.TrimPrefix(r.Objects[0].Namespace+"/"+r.Objects[0].Name, "/"))
	}
	if p := obj.Status.PrunePlan; p != nil && a[work.AnnotationApprovePrune] != p.ID {
		w.plan = p.ID
	}
	return w, nil
}

// applyVersion: a new version may be what an addon waits for.
func (s *state) applyVersion(e store.Entry) error {
	s.dirtyUsers(e.Key)
	var v struct {
		Spec struct {
			AddOn string `json:"addOn"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(e.Data, &v); err != nil {
		return err
	}
	for _, d := range s.byAddon[v.Spec.AddOn] {
		if d.target == nil || d.target.problem != nil || d.target.foreign {
			d.stale, d.dirty = true, true
		}
	}
	return nil
}

// applyRevision: the number of a revision is known once it is kept.
func (s *state) applyRevision(e store.Entry) error {
	var r struct {
		Spec struct {
			Group, Resource, Name string
		} `json:"spec"`
	}
	if err := json.Unmarshal(e.Data, &r); err != nil {
		return err
	}
	if k := (store.Key{Resource: r.Spec.Resource + "." + r.Spec.Group, Name: r.Spec.Name}); k.Resource == fleet.ResourceAddOnVersions {
		s.dirtyUsers(k)
	}
	return nil
}

func (s *state) placement(k store.Key) *placement {
	p := s.sets[k]
	if p == nil {
		p = &placement{decisions: map[string]*cluster.PlacementDecision{}}
		s.sets[k] = p
	}
	return p
}

// dirtyRecipes marks the addons that refer to a placement.
func (s *state) dirtyRecipes(k store.Key) {
	for _, r := range s.recipes {
		for _, ref := range r.obj.Spec.InstallStrategy.Placements {
			r.dirty = r.dirty || ref.Namespace == k.Namespace && ref.Name == k.Name
		}
	}
}

// dirtyUsers marks what was made from an object.
func (s *state) dirtyUsers(k store.Key) {
	for p := range s.users[k] {
		if d := s.dishes[p]; d != nil {
			d.stale, d.dirty = true, true
			if r := s.recipes[p.addon]; r != nil {
				r.dirty = true
			}
		}
	}
}

// dirtyCluster has all addons of a cluster look at each other again.
func (s *state) dirtyCluster(name string) {
	for _, d := range s.byCluster[name] {
		d.dirty = true
	}
}

// dirtyConflicts has those look again that wait for objects of others.
func (s *state) dirtyConflicts(name string) {
	for _, d := range s.byCluster[name] {
		d.dirty = d.dirty || d.note != nil && d.note.Reason == addon.ReasonConflict
	}
}

// list splits what is divided by commas.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func child[K comparable, V any](m map[string]map[K]V, name string) map[K]V {
	if m[name] == nil {
		m[name] = map[K]V{}
	}
	return m[name]
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func ignoreGone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
