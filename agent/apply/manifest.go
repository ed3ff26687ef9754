// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/work"
)

// identity names an object of a cluster whatever its version.
type identity struct{ Group, Kind, Namespace, Name string }

// String is "Kind namespace/name", as messages name objects.
func (id identity) String() string {
	if id.Namespace == "" {
		return id.Kind + " " + id.Name
	}
	return id.Kind + " " + id.Namespace + "/" + id.Name
}

// content is the spec of a ManifestWork, taken apart.
type content struct {
	manifests []manifest
	configs   []manifestConfig
	delete    work.DeleteOption
}

// manifest is one entry of workload.manifests.
type manifest struct {
	ordinal int
	object  *unstructured.Unstructured // nil when problem says it is unusable
	gvk     schema.GroupVersionKind
	id      identity
	problem string
}

func (m *manifest) class() int { return classOf(m.id.Group, m.id.Kind) }

type manifestConfig struct {
	ResourceIdentifier work.ResourceIdentifier `json:"resourceIdentifier"`
	UpdateStrategy     *updateStrategy         `json:"updateStrategy"`
}

type updateStrategy struct {
	Type            string `json:"type"`
	ServerSideApply *struct {
		Force        bool              `json:"force"`
		IgnoreFields []json.RawMessage `json:"ignoreFields"`
	} `json:"serverSideApply"`
}

// parseContent takes the spec of a ManifestWork apart. A manifest that cannot
// be used carries its problem and does not fail the others.
func parseContent(data []byte) (*content, error) {
	var spec struct {
		Workload struct {
			Manifests []json.RawMessage `json:"manifests"`
		} `json:"workload"`
		DeleteOption    *work.DeleteOption `json:"deleteOption"`
		ManifestConfigs []manifestConfig   `json:"manifestConfigs"`
		Executor        json.RawMessage    `json:"executor"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("decode spec of the work: %w", err)
	}
	if len(spec.Executor) > 0 && string(spec.Executor) != "null" {
		return nil, errors.New("spec.executor is not supported: remove it, and the work is applied with the agent's own rights")
	}
	c := &content{configs: spec.ManifestConfigs}
	if spec.DeleteOption != nil {
		c.delete = *spec.DeleteOption
	}
	if err := checkDeleteOption(c.delete); err != nil {
		return nil, err
	}
	seen := make(map[identity]int, len(spec.Workload.Manifests))
	for ordinal, raw := range spec.Workload.Manifests {
		m := parseManifest(ordinal, raw)
		if m.problem == "" {
			if first, dup := seen[m.id]; dup {
				m.problem = fmt.Sprintf("%s is also manifest %d of this work: remove one of them", m.id, first)
			} else {
				seen[m.id] = ordinal
			}
		}
		c.manifests = append(c.manifests, m)
	}
	return c, nil
}

// An unknown policy must not be taken for permission to delete.
func checkDeleteOption(option work.DeleteOption) error {
	switch option.PropagationPolicy {
	case "", work.Foreground, work.Orphan, work.SelectivelyOrphan:
		return nil
	}
	return fmt.Errorf("spec.deleteOption.propagationPolicy %q is not supported: use Foreground, Orphan or SelectivelyOrphan",
		option.PropagationPolicy)
}

func parseManifest(ordinal int, raw []byte) manifest {
	m := manifest{ordinal: ordinal}
	var body map[string]any
	if err := kjson.Unmarshal(raw, &body); err != nil {
		m.problem = fmt.Sprintf("not a JSON object: %v", err)
		return m
	}
	u := &unstructured.Unstructured{Object: body}
	field := func(path ...string) string {
		value, _, err := unstructured.NestedString(body, path...)
		if err != nil && m.problem == "" {
			m.problem = fmt.Sprintf("wrong type of field: %v", err)
		}
		return value
	}
	apiVersion, kind := field("apiVersion"), field("kind")
	name, namespace, generated := field("metadata", "name"), field("metadata", "namespace"), field("metadata", "generateName")
	gv, err := schema.ParseGroupVersion(apiVersion)
	m.gvk = gv.WithKind(kind)
	m.id = identity{Group: gv.Group, Kind: kind, Namespace: namespace, Name: name}
	switch {
	case m.problem != "":
	case apiVersion == "":
		m.problem = "apiVersion is missing"
	case err != nil || gv.Version == "":
		m.problem = fmt.Sprintf("apiVersion %q: want GROUP/VERSION or VERSION", apiVersion)
	case kind == "":
		m.problem = "kind is missing"
	case u.IsList():
		m.problem = fmt.Sprintf("%s is a list: put its items into the work one by one", kind)
	case generated != "":
		m.problem = "metadata.generateName is not supported: set metadata.name"
	case name == "":
		m.problem = "metadata.name is missing"
	default:
		m.object = u
		dropServerFields(u)
	}
	return m
}

// dropServerFields removes what the server sets and what would make an apply
// depend on a foreign cluster's state.
func dropServerFields(u *unstructured.Unstructured) {
	metadata, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return
	}
	for _, name := range []string{"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"} {
		delete(metadata, name)
	}
}

// strategy is how one manifest is applied.
type strategy struct {
	kind  string // one of work's Strategy constants
	force bool
}

// strategyFor returns the strategy of the first config that has one and matches.
func strategyFor(configs []manifestConfig, id identity, resource string) (strategy, error) {
	for _, config := range configs {
		if config.UpdateStrategy == nil || !matches(config.ResourceIdentifier, id, resource) {
			continue
		}
		s := config.UpdateStrategy
		switch s.Type {
		case "", work.StrategyUpdate:
			return strategy{kind: work.StrategyUpdate, force: true}, nil
		case work.StrategyCreateOnly, work.StrategyReadOnly:
			return strategy{kind: s.Type}, nil
		case work.StrategyServerSide:
			if s.ServerSideApply == nil {
				return strategy{kind: s.Type}, nil
			}
			if len(s.ServerSideApply.IgnoreFields) > 0 {
				return strategy{}, errors.New("updateStrategy.serverSideApply.ignoreFields is not supported: " +
					"leave the fields out of the manifest instead")
			}
			return strategy{kind: s.Type, force: s.ServerSideApply.Force}, nil
		default:
			return strategy{}, fmt.Errorf("updateStrategy.type %q is not supported: use Update, CreateOnly, ServerSideApply or ReadOnly", s.Type)
		}
	}
	return strategy{kind: work.StrategyUpdate, force: true}, nil
}

// matches follows Open Cluster Management: "*" matches anything.
func matches(rule work.ResourceIdentifier, id identity, resource string) bool {
	like := func(pattern, value string) bool { return pattern == "*" || pattern == value }
	return like(rule.Group, id.Group) && like(rule.Resource, resource) &&
		like(rule.Namespace, id.Namespace) && like(rule.Name, id.Name)
}

// orphaned says whether the delete option keeps an object on the cluster. Rules
// match exactly, without wildcards, as in Open Cluster Management.
func orphaned(option work.DeleteOption, o object) bool {
	switch option.PropagationPolicy {
	case work.Orphan:
		return true
	case work.SelectivelyOrphan:
		if option.SelectivelyOrphans == nil {
			return false
		}
		return slices.Contains(option.SelectivelyOrphans.OrphaningRules, work.ResourceIdentifier{
			Group: o.Group, Resource: o.Resource, Namespace: o.Namespace, Name: o.Name,
		})
	}
	return false
}
