// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// AddOnFacts are what the hub knows of one addon on one cluster.
type AddOnFacts struct {
	AddOn *addon.ManagedClusterAddOn
	// Cluster is nil when no ManagedCluster has the name of the addon's namespace.
	Cluster *cluster.ManagedCluster
	Agent   bool
	// Should is what it should be, as it is found out now.
	Should Should
	// Works are the names of its works that exist.
	Works []string
}

// Should is what an addon should be on a cluster.
type Should struct {
	// Foreign: neither the catalog nor a template says.
	Foreign bool
	// Version, Revision and Digest are of what was found; Problem is why nothing was.
	Version  string
	Revision int64
	Digest   string
	Problem  string
	Values   []fleet.LayeredValue
	// Lacks is what the cluster does not have, Missing the addons that it does not
	// have in range, Needs all that are needed, Conflict what somebody else has.
	Lacks    string
	Needs    []string
	Missing  []string
	Conflict string
	// Way is on how many clusters the addon is on the way, Limit on how many it may be.
	Way, Limit int
}

// AddOn makes the lines of an addon, up to its works; Explain makes those of each.
func AddOn(f *AddOnFacts, now time.Time) []fleet.Evidence {
	x := &addOnLines{lines: lines{now: now}, f: f}
	x.intent()
	x.cluster()
	x.version()
	x.values()
	x.needs()
	x.gate()
	x.works()
	x.health()
	return x.out
}

type addOnLines struct {
	lines
	f *AddOnFacts
}

func (x *addOnLines) condition(t string) *metav1.Condition {
	return meta.FindStatusCondition(x.f.AddOn.Status.Conditions, t)
}

func (x *addOnLines) intent() {
	a := x.f.AddOn
	by := "by hand"
	if p := a.Annotations[addon.AnnotationPlacement]; p != "" {
		by = "by placement " + p
	}
	x.add(fleet.StageIntent, fleet.EvidenceOK, a.CreationTimestamp.Time, "", "addon %s was installed %s, generation %d", a.Name, by, a.Generation)
	if t := a.DeletionTimestamp; t != nil {
		text := "it is being removed"
		if c := x.condition(addon.ConditionProgressing); c != nil {
			text += ": " + c.Message
		}
		x.add(fleet.StageRemoval, fleet.EvidenceWaiting, t.Time, "", "%s", text)
	}
}

func (x *addOnLines) cluster() {
	name, c := x.f.AddOn.Namespace, x.f.Cluster
	switch {
	case c == nil:
		x.add(fleet.StageCluster, fleet.EvidenceWaiting, time.Time{}, "drover token create --cluster "+name+", and join an agent of that name",
			"there is no cluster %s", name)
	case !x.f.Agent:
		x.add(fleet.StageCluster, fleet.EvidenceWaiting, c.CreationTimestamp.Time, "drover token create --cluster "+name+"; drover requests lists those that wait",
			"no agent has joined for cluster %s", name)
	default:
		state, text, at := fleet.EvidenceOK, "can be reached", c.CreationTimestamp.Time
		if a := meta.FindStatusCondition(c.Status.Conditions, cluster.ConditionAvailable); a == nil || a.Status != metav1.ConditionTrue {
			state, text = fleet.EvidenceWaiting, "cannot be reached; what runs there keeps running, and a change waits until it is back"
			if a != nil {
				at = a.LastTransitionTime.Time
			}
		}
		x.add(fleet.StageCluster, state, at, "", "cluster %s %s", name, text)
	}
}

func (x *addOnLines) version() {
	s, c := &x.f.Should, x.f.AddOn.Status.Content
	switch {
	case s.Foreign:
		x.add(fleet.StageVersion, fleet.EvidenceInfo, time.Time{}, "drover addon push publishes a version",
			"no version and no template says what the addon is made of: a controller of its own is to take care of it")
		return
	case s.Problem != "":
		x.add(fleet.StageVersion, fleet.EvidenceProblem, x.since(addon.ConditionConfigured), "", "%s; what runs stays as it is", s.Problem)
	default:
		x.add(fleet.StageVersion, fleet.EvidenceOK, time.Time{}, "", "it should be %s, manifests %s", versionText(s.Version, s.Revision), short("sha256:"+s.Digest))
	}
	if c == nil {
		return
	}
	if c.LastApplied != nil {
		x.add(fleet.StageVersion, fleet.EvidenceInfo, time.Time{}, "", "applied last: %s", versionText(c.LastApplied.Version, c.LastApplied.Revision))
	}
	if g := c.LastKnownGood; g != nil && (c.LastApplied == nil || *g != *c.LastApplied) {
		x.add(fleet.StageVersion, fleet.EvidenceInfo, time.Time{}, "", "healthy last: %s", versionText(g.Version, g.Revision))
	}
}

func versionText(version string, revision int64) string {
	switch {
	case version == "":
		return "made from its template"
	case revision == 0:
		return "version " + version
	}
	return fmt.Sprintf("version %s, revision %d", version, revision)
}

func (x *addOnLines) since(t string) time.Time {
	if c := x.condition(t); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// values says which objects the values come from.
func (x *addOnLines) values() {
	type layer struct {
		from  string
		paths []string
	}
	var layers []*layer
	for _, v := range x.f.Should.Values {
		if v.Layer == fleet.LayerVersion {
			continue
		}
		i := slices.IndexFunc(layers, func(l *layer) bool { return l.from == v.From })
		if i < 0 {
			layers = append(layers, &layer{from: v.From})
			i = len(layers) - 1
		}
		layers[i].paths = append(layers[i].paths, v.Path)
	}
	for _, l := range layers {
		shown := l.paths[:min(len(l.paths), 5)]
		more := ""
		if n := len(l.paths) - len(shown); n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		x.add(fleet.StageValues, fleet.EvidenceInfo, time.Time{}, "", "%s sets %s%s", l.from, strings.Join(shown, ", "), more)
	}
}

func (x *addOnLines) needs() {
	s := &x.f.Should
	if s.Lacks != "" {
		x.add(fleet.StageNeeds, fleet.EvidenceProblem, x.since(addon.ConditionConfigured), "", "%s", s.Lacks)
	}
	switch {
	case len(s.Missing) > 0:
		x.add(fleet.StageNeeds, fleet.EvidenceWaiting, time.Time{},
			fmt.Sprintf("drover addon install %s --cluster %s --with-dependencies", x.f.AddOn.Name, x.f.AddOn.Namespace),
			"it needs %s on this cluster", strings.Join(s.Missing, ", "))
	case len(s.Needs) > 0:
		x.add(fleet.StageNeeds, fleet.EvidenceOK, time.Time{}, "", "it needs %s, and that is installed", strings.Join(s.Needs, ", "))
	}
	if s.Conflict != "" {
		x.add(fleet.StageConflict, fleet.EvidenceProblem, x.since(addon.ConditionConfigured), "remove one of them, or have it leave the object out", "%s", s.Conflict)
	}
}

// gate says whether it was let through.
func (x *addOnLines) gate() {
	s, c := &x.f.Should, x.f.AddOn.Status.Content
	if s.Foreign || s.Problem != "" || x.f.AddOn.DeletionTimestamp != nil {
		return
	}
	if c != nil && c.Digest == s.Digest {
		x.add(fleet.StageGate, fleet.EvidenceOK, time.Time{}, "", "it was let through; %d clusters are on the way, %d may be", s.Way, s.Limit)
		return
	}
	text := "it is not let through yet"
	if p := x.condition(addon.ConditionProgressing); p != nil {
		text += ": " + p.Message
	}
	x.add(fleet.StageGate, fleet.EvidenceWaiting, x.since(addon.ConditionProgressing), "", "%s; %d clusters are on the way, %d may be", text, s.Way, s.Limit)
}

func (x *addOnLines) works() {
	switch {
	case len(x.f.Works) > 0:
		x.add(fleet.StageWork, fleet.EvidenceOK, time.Time{}, "", "its works: %s", strings.Join(x.f.Works, ", "))
	case !x.f.Should.Foreign:
		x.add(fleet.StageWork, fleet.EvidenceWaiting, time.Time{}, "", "it has no work on this cluster yet")
	}
}

func (x *addOnLines) health() {
	for _, t := range []string{addon.ConditionAvailable, addon.ConditionProgressing, addon.ConditionDegraded, addon.ConditionHookCompleted} {
		c := x.condition(t)
		if c == nil {
			continue
		}
		state := fleet.EvidenceInfo
		switch {
		case t == addon.ConditionAvailable && c.Status == metav1.ConditionTrue, t == addon.ConditionProgressing && c.Reason == addon.ReasonCompleted:
			state = fleet.EvidenceOK
		case t == addon.ConditionDegraded && c.Status == metav1.ConditionTrue, t == addon.ConditionProgressing && c.Reason == addon.ReasonFailed, c.Reason == addon.ReasonHookFailed:
			state = fleet.EvidenceProblem
		case t != addon.ConditionDegraded:
			state = fleet.EvidenceWaiting
		}
		x.add(fleet.StageHealth, state, c.LastTransitionTime.Time, "", "%s is %s (%s): %s", c.Type, c.Status, c.Reason, c.Message)
	}
}
