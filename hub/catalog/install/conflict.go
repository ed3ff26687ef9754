// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/work"
)

// identity names an object of a cluster, whatever the version of its API.
type identity struct{ Group, Kind, Namespace, Name string }

func (i identity) String() string {
	return strings.TrimSpace(i.Kind + " " + strings.TrimPrefix(i.Namespace+"/"+i.Name, "/"))
}

// head is what names a manifest.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

func (h *head) identity() identity {
	group, _, grouped := strings.Cut(h.APIVersion, "/")
	if !grouped {
		group = ""
	}
	return identity{group, h.Kind, h.Metadata.Namespace, h.Metadata.Name}
}

// obstacle is why a dish cannot change now, whatever the gate says: the cluster
// lacks something, what it needs is not there yet, others need what is there, or it
// does not get along with another addon.
func (s *state) obstacle(d *dish, w *workState) *Problem {
	if d.target.requirement != nil {
		return d.target.requirement
	}
	if p := s.excluded(d); p != nil {
		return p
	}
	if p := s.waitsFor(d); p != nil {
		return p
	}
	if w != nil {
		return s.breaks(d)
	}
	return nil
}

// excluded: one of two addons says that it does not get along with the other.
func (s *state) excluded(d *dish) *Problem {
	for _, name := range slices.Sorted(maps.Keys(s.byCluster[d.cluster])) {
		o := s.byCluster[d.cluster][name]
		if o == d || o.target == nil || s.works[workKey(d.cluster, deployName(name))] == nil {
			continue
		}
		version := firstOf(stands(o.obj).version, o.target.version)
		for _, r := range d.target.excludes {
			if r.AddOn == name && inRange(r.VersionRange, version) {
				return conflictProblem("%s %s does not get along with %s %s, which is on this cluster", d.addon, d.target.version, name, version)
			}
		}
		for _, r := range o.target.excludes {
			if r.AddOn == d.addon && inRange(r.VersionRange, d.target.version) {
				return conflictProblem("%s %s, which is on this cluster, does not get along with %s %s", name, version, d.addon, d.target.version)
			}
		}
	}
	return nil
}

func conflictProblem(format string, args ...any) *Problem {
	return &Problem{addon.ConditionConfigured, addon.ReasonConflict, fmt.Sprintf(format, args...)}
}

// waitsFor: each dependency has to be applied in range, and available.
func (s *state) waitsFor(d *dish) *Problem {
	var missing []string
	for _, r := range d.target.requires {
		text := r.AddOn
		if r.VersionRange != "" {
			text += " " + r.VersionRange
		}
		o := s.byCluster[d.cluster][r.AddOn]
		switch {
		case o == nil:
			text += ", which is not installed on this cluster"
		case o.deleting():
			text += ", which is being removed"
		default:
			st := stands(o.obj)
			switch {
			case !inRange(r.VersionRange, st.version):
				text += ", of which " + firstOf(st.version, "nothing") + " is there"
			case !st.available:
				text += ", which is not available yet"
			default:
				continue
			}
		}
		missing = append(missing, text)
	}
	if len(missing) == 0 {
		return nil
	}
	return &Problem{addon.ConditionProgressing, addon.ReasonWaitingForDependency, "it waits for " + strings.Join(missing, "; ")}
}

// breaks: the versions that others need have to stay.
func (s *state) breaks(d *dish) *Problem {
	for _, name := range slices.Sorted(maps.Keys(s.byCluster[d.cluster])) {
		o := s.byCluster[d.cluster][name]
		if o == d || o.target == nil || s.works[workKey(d.cluster, deployName(name))] == nil {
			continue
		}
		for _, r := range o.target.requires {
			if r.AddOn == d.addon && !inRange(r.VersionRange, d.target.version) {
				return &Problem{addon.ConditionProgressing, addon.ReasonWaitingForDependents, fmt.Sprintf(
					"%s on this cluster needs %s %s: change or remove that first", name, d.addon, r.VersionRange)}
			}
		}
	}
	return nil
}

// conflict finds an object of a dish that another work of the cluster has.
func (s *state) conflict(ctx context.Context, d *dish, ids []identity) *Problem {
	want := make(map[identity]bool, len(ids))
	for _, id := range ids {
		want[id] = true
	}
	own := workKey(d.cluster, deployName(d.addon))
	for k, g := range s.given {
		if k.Namespace != d.cluster || k == own {
			continue
		}
		for _, id := range g.objects {
			if want[id] {
				return ownedBy(d.addon, id, "addon "+g.addOn)
			}
		}
	}
	id, owner, err := s.cfg.Resolver.Taken(ctx, d.cluster, d.addon, want)
	if err != nil {
		s.log.Warn("works of a cluster not compared, the agent will", zap.String("cluster", d.cluster), zap.Error(err))
	}
	if owner == "" {
		return nil
	}
	return ownedBy(d.addon, id, owner)
}

func ownedBy(addOn string, id identity, owner string) *Problem {
	return conflictProblem("%s is an object of %s already, so addon %s cannot have it", id, owner, addOn)
}

// Taken finds one of the objects among those of the other works of a cluster, and
// says whose it is, "addon NAME" or "work NAME".
func (r *Resolver) Taken(ctx context.Context, cluster, addOn string, want map[identity]bool) (identity, string, error) {
	page, err := r.cfg.Store.List(ctx, store.Selection{Resource: work.Resource, Namespace: cluster, MinRevision: store.Any})
	if err != nil {
		return identity{}, "", err
	}
	for _, e := range page.Entries {
		by := e.Header.Labels[addon.LabelAddonName]
		if by == addOn {
			continue
		}
		owner := "work " + e.Key.Name
		if by != "" {
			owner = "addon " + by
		}
		ids, err := r.names.of(ctx, r.cfg.Bundles, e)
		if err != nil {
			return identity{}, "", err
		}
		for _, id := range ids {
			if want[id] && !(id.Group == "" && id.Kind == "Namespace" && by != "") {
				return id, owner, nil
			}
		}
	}
	return identity{}, "", nil
}

// names remembers the objects of works, by the bytes that name them.
type names struct {
	mu    sync.Mutex
	known map[store.Key]named
}

type named struct {
	uid        string
	generation int64
	bundle     string
	ids        []identity
}

const mostNames = 20_000 // works

func (n *names) of(ctx context.Context, bundles Bundles, e store.Entry) ([]identity, error) {
	var w struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			Workload struct {
				Manifests []head `json:"manifests"`
			} `json:"workload"`
		} `json:"spec"`
	}
	n.mu.Lock()
	have, ok := n.known[e.Key]
	n.mu.Unlock()
	if ok && have.uid == e.Header.UID && have.generation == e.Header.Generation && have.bundle == "" {
		return have.ids, nil
	}
	if err := json.Unmarshal(e.Data, &w); err != nil {
		return nil, fmt.Errorf("read work %s: %w", e.Key, err)
	}
	bundle := w.Metadata.Annotations[work.AnnotationBundle]
	if ok && have.uid == e.Header.UID && have.generation == e.Header.Generation && have.bundle == bundle {
		return have.ids, nil
	}
	have = named{uid: e.Header.UID, generation: e.Header.Generation, bundle: bundle}
	for i := range w.Spec.Workload.Manifests {
		have.ids = append(have.ids, w.Spec.Workload.Manifests[i].identity())
	}
	if bundle != "" {
		data, err := bundles.Get(ctx, bundle)
		if err != nil {
			return nil, fmt.Errorf("read bundle of work %s: %w", e.Key, err)
		}
		for line := range bytes.Lines(data) {
			var h head
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if err := json.Unmarshal(line, &h); err != nil {
				return nil, fmt.Errorf("read bundle of work %s: %w", e.Key, err)
			}
			have.ids = append(have.ids, h.identity())
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= mostNames {
		n.known = map[store.Key]named{}
	}
	n.known[e.Key] = have
	return have.ids, nil
}
