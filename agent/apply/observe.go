// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// reportWindow is how long the last reportBurst reports of one item must have
	// taken before the next that nothing but the cluster's own changes cause.
	reportWindow = 3 * time.Second
	reportBurst  = 3
	// resyncEvery is between looks at everything where an Observer sees changes.
	resyncEvery = 10 * time.Minute
	// lookFirst and lookMax are between looks at what is not Current, for reasons
	// that no watch shows: those of pods, and time that passes.
	lookFirst = time.Second
	lookMax   = 15 * time.Second
)

// Judge says how an object is. It writes Health, HealthMessage, FeedbackSynced,
// Feedback, FeedbackError and Conditions of report. It is called by many
// goroutines and must not keep live.
type Judge interface {
	Judge(live *unstructured.Unstructured, feedback []work.FeedbackRule, conditions []work.ConditionRule, report *wire.ManifestReport)
	// Hold makes of the Health that Judge wrote what health rules say. applied is
	// when the content was, zero if that is not known.
	Hold(live *unstructured.Unstructured, rules []fleet.HealthRule, applied time.Time, report *wire.ManifestReport)
}

// Observer sees what happens to objects.
type Observer interface {
	// Follow replaces the objects that are followed for an owner; none ends it.
	// Each one, as it is and whenever it changes, is to be passed to
	// Engine.Changed.
	Follow(owner string, objects map[schema.GroupVersionResource][]types.NamespacedName)
	// Explain adds to report why an object is not Current: Events, Restarts, a
	// longer HealthMessage, and a Health that only its pods show.
	Explain(ctx context.Context, live *unstructured.Unstructured, report *wire.ManifestReport) error
}

// finding is what the object itself says, before anybody asked why.
type finding struct{ health, message string }

// sighting is all that is kept of a live object.
type sighting struct {
	gone    bool
	version string // of the resource
	uid     string
	rules   manifest.Rules      // by which it was judged
	applied time.Time           // since when, for their timeouts
	judged  wire.ManifestReport // what a Judge writes
	touch   fields.Touch
}

// locator names an object as an Observer does.
type locator struct {
	resource schema.GroupVersionResource
	name     types.NamespacedName
}

func (o object) locator() locator {
	return locator{
		schema.GroupVersionResource{Group: o.Group, Version: o.Version, Resource: o.Resource},
		types.NamespacedName{Namespace: o.Namespace, Name: o.Name},
	}
}

// follower is an item that wants to know of an object.
type follower struct {
	uid     string
	obj     object
	rules   manifest.Rules
	applied time.Time
}

// Changed takes notice of an object as it is now, or with nil of its end. It is
// for the Observer to call, for one object one call after the other.
func (e *Engine) Changed(resource schema.GroupVersionResource, name types.NamespacedName, live *unstructured.Unstructured) {
	l := locator{resource, name}
	e.mu.Lock()
	followers := e.followers[l]
	e.mu.Unlock()
	for _, f := range followers {
		s := sighting{gone: true}
		if live != nil {
			s = e.sight(f.obj, f.rules, f.applied, live)
		}
		e.mu.Lock()
		if it := e.items[f.uid]; it != nil {
			if it.sightings == nil {
				it.sightings = make(map[locator]sighting)
			}
			it.sightings[l] = s
			if at := e.sightingDue(it, time.Now()); !it.busy && (it.due.IsZero() || at.Before(it.due)) {
				it.due = at
			}
		}
		e.mu.Unlock()
	}
	if len(followers) > 0 {
		e.signal()
	}
}

// sightingDue is when sightings of an item are to be worked on. It needs mu.
func (e *Engine) sightingDue(it *item, now time.Time) time.Time {
	if next := it.published[reportBurst-1].Add(reportWindow); next.After(now) {
		return next
	}
	return now
}

// sight reduces a live object to what matters.
func (e *Engine) sight(o object, r manifest.Rules, applied time.Time, live *unstructured.Unstructured) sighting {
	s := sighting{version: live.GetResourceVersion(), uid: string(live.GetUID()), rules: r, applied: applied, touch: fields.TouchOf(live, e.cluster.managerOf(o))}
	switch {
	case !o.identity().ExistenceOnly():
		e.cfg.Judge.Judge(live, r.Feedback, r.Conditions, &s.judged)
	case len(r.Feedback) > 0 || len(r.Conditions) > 0:
		e.cfg.Judge.Judge(live, r.Feedback, r.Conditions, &s.judged)
		fallthrough
	default:
		s.judged.Health, s.judged.HealthMessage = wire.HealthCurrent, ""
		if live.GetDeletionTimestamp() != nil {
			s.judged.Health, s.judged.HealthMessage = wire.HealthTerminating, "being deleted"
		}
	}
	if len(r.Health) > 0 && !o.identity().Secretive() {
		e.cfg.Judge.Hold(live, r.Health, applied, &s.judged)
	}
	return s
}

// adopt writes a sighting down.
func (r *result) adopt(s sighting) {
	r.version, r.touch = s.version, s.touch
	r.set(s.judged.Health, s.judged.HealthMessage)
	r.report.FeedbackSynced, r.report.Feedback, r.report.FeedbackError = s.judged.FeedbackSynced, s.judged.Feedback, s.judged.FeedbackError
	r.report.Conditions = s.judged.Conditions
}

// takeSightings writes down what the Observer saw since the last turn. What it
// saw before the content was applied is nothing to the report: a sighting
// counts from the resource version on that the apply returned.
func (e *Engine) takeSightings(it *item) {
	e.mu.Lock()
	seen := it.sightings
	it.sightings = nil
	e.mu.Unlock()
	if len(seen) == 0 {
		return
	}
	for i := range it.results {
		r := &it.results[i]
		s, ok := seen[r.obj.locator()]
		switch {
		case ok && r.blocked:
			if s.gone || s.uid != r.obj.UID {
				it.state.failures, it.state.applyAt = 0, time.Now()
			}
		case !ok || !r.report.Applied:
		case s.gone:
			r.doubt = r.report.Health != wire.HealthNotFound
		case olderThan(s.version, r.version):
		case !reflect.DeepEqual(s.rules, r.rules), len(r.rules.Health) > 0 && !s.applied.Equal(r.applied):
			r.doubt = true // judged by the rules of earlier content
		case r.replaced(s.uid):
			r.doubt = true // the end of ours was not seen by itself
		default:
			before := r.found
			r.adopt(s)
			if r.found != before && r.found.health != wire.HealthCurrent {
				// Looking soon finds out why; the state as such goes out now.
				r.doubt = r.report.Health == wire.HealthFailed
				it.state.interval = 0
				it.state.pollAt = earlier(it.state.pollAt, time.Now().Add(lookFirst))
			}
		}
	}
}

// pollDue says whether poll has something to do.
func (it *item) pollDue() bool {
	if due(it.state.pollAt) {
		return true
	}
	for i := range it.results {
		if it.results[i].doubt {
			return true
		}
	}
	return false
}

// follow makes the Observer see the objects of an item, from now on with the
// rules of the content that was applied last, and those that are in its way.
func (e *Engine) follow(uid string, results []result) {
	if e.cfg.Observer == nil {
		return
	}
	objects := make(map[schema.GroupVersionResource][]types.NamespacedName)
	e.mu.Lock()
	e.unfollow(uid)
	it := e.items[uid]
	for i := range results {
		r := &results[i]
		if it == nil || (!r.report.Applied && !r.blocked) || r.obj.Resource == "" {
			continue
		}
		l := r.obj.locator()
		e.followers[l] = append(e.followers[l], follower{uid, r.obj, r.rules, r.applied})
		it.followed = append(it.followed, l)
		objects[l.resource] = append(objects[l.resource], l.name)
	}
	e.mu.Unlock()
	e.cfg.Observer.Follow(uid, objects)
}

// unfollow forgets what an item follows. It needs mu.
func (e *Engine) unfollow(uid string) {
	it := e.items[uid]
	if it == nil {
		return
	}
	for _, l := range it.followed {
		rest := slices.DeleteFunc(slices.Clone(e.followers[l]), func(f follower) bool { return f.uid == uid })
		if len(rest) == 0 {
			delete(e.followers, l)
		} else {
			e.followers[l] = rest
		}
	}
	it.followed = nil
}

// resync is the pause between looks at everything.
func (e *Engine) resync(objects int) time.Duration {
	if e.cfg.Observer == nil {
		return pollSteady * time.Duration(1+objects/1000)
	}
	return resyncEvery
}

// nextLook is the pause before the next look, given the one before.
func (e *Engine) nextLook(previous time.Duration, settled bool, objects int) time.Duration {
	switch {
	case e.cfg.Observer == nil && settled:
		return e.resync(objects)
	case e.cfg.Observer == nil:
		return nextInterval(previous, false)
	case settled:
		return resyncEvery
	case previous < lookFirst || previous > lookMax:
		return lookFirst
	default:
		return min(2*previous, lookMax)
	}
}

// earlier is the earlier of two times, of which a zero one is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// olderThan compares resource versions, which are numbers that grow in every
// API server of Kubernetes itself. Of others, unequal ones count as newer.
func olderThan(version, than string) bool {
	a, errA := strconv.ParseUint(version, 10, 64)
	b, errB := strconv.ParseUint(than, 10, 64)
	return errA == nil && errB == nil && a < b
}
