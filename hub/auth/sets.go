// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tidwall/btree"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/shared/apis/cluster"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// selectByClusterSetOld is what Open Cluster Management called the exclusive label first.
const selectByClusterSetOld = "LegacyClusterSetLabel"

func clusterResource(resource string) schema.GroupResource {
	return schema.GroupResource{Group: cluster.Group, Resource: resource}
}

func clusterSets() schema.GroupResource { return clusterResource("managedclustersets") }

// place says how an object of a resource belongs to a managed cluster.
type place int

const (
	placeNamespace place = iota // it is in the cluster's namespace
	placeName                   // it bears the cluster's name
	placeSelf                   // it is the cluster
)

func placeOf(resource schema.GroupResource) place {
	switch resource {
	case clusterResource("managedclusters"):
		return placeSelf
	case schema.GroupResource{Group: fleet.Group, Resource: "clustermetrics"}, schema.GroupResource{Resource: "namespaces"},
		schema.GroupResource{Group: groupRegistry, Resource: "clusters"}:
		return placeName
	}
	return placeNamespace
}

// setVerbs are the verbs on a set of clusters that give permissions for its members.
func setVerbs() []string { return []string{VerbView, VerbOperate} }

// rulesInSets are the rules that such a verb gives, limited to the members: those
// of a built-in role.
func rulesInSets() map[string][]rbacv1.PolicyRule {
	out := map[string][]rbacv1.PolicyRule{}
	for _, r := range BuiltinRoles() {
		switch r.Name {
		case RoleViewer:
			out[VerbView] = r.Rules
		case RoleOperator:
			out[VerbOperate] = r.Rules
		}
	}
	return out
}

// Members says which managed clusters belong to which sets, at one moment. It
// never changes. A nil Members knows none.
type Members struct{ sets []*members } // by name

// members of one set. Version is another one for other members or another rule.
type members struct {
	name     string
	selector labels.Selector
	version  uint64
	clusters *btree.Set[string]
}

// NewMembers puts clusters, whose labels are given by name, into sets, of which
// the selectors are.
func NewMembers(clusters map[string]map[string]string, sets map[string]labels.Selector) *Members {
	t := newMemberTable()
	for name, selector := range sets {
		t.setSet(name, selector)
	}
	for name, lbls := range clusters {
		t.setCluster(name, true, lbls)
	}
	return t.snapshot()
}

func (m *Members) all() []*members {
	if m == nil {
		return nil
	}
	return m.sets
}

// memberTable keeps Members up to date. It is not safe for concurrent use.
type memberTable struct {
	clusters map[string]map[string]string // labels, by name
	sets     map[string]*members
	changed  map[string]bool // sets that differ from the last snapshot
	last     map[string]*members
	version  uint64
	// published is set by the first snapshot.
	published bool
}

func newMemberTable() *memberTable {
	return &memberTable{clusters: map[string]map[string]string{}, sets: map[string]*members{}, changed: map[string]bool{}, last: map[string]*members{}}
}

// setSelector reads which clusters a ManagedClusterSet selects.
func setSelector(name string, data []byte) (labels.Selector, error) {
	var obj struct {
		Spec struct {
			ClusterSelector struct {
				SelectorType  string                `json:"selectorType"`
				LabelSelector *metav1.LabelSelector `json:"labelSelector"`
			} `json:"clusterSelector"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(data, &obj); err != nil {
		return nil, fmt.Errorf("decode ManagedClusterSet: %w", err)
	}
	switch s := obj.Spec.ClusterSelector; s.SelectorType {
	case "", cluster.SelectorExclusive, selectByClusterSetOld:
		return labels.SelectorFromSet(labels.Set{cluster.LabelSet: name}), nil
	case cluster.SelectorLabels:
		selector, err := metav1.LabelSelectorAsSelector(s.LabelSelector)
		if err != nil {
			return nil, fmt.Errorf("spec.clusterSelector.labelSelector: %w", err)
		}
		return selector, nil
	default:
		return nil, fmt.Errorf("spec.clusterSelector.selectorType: unknown type %q", s.SelectorType)
	}
}

// setSet adds or changes a set; a nil selector removes it.
func (t *memberTable) setSet(name string, selector labels.Selector) {
	old := t.sets[name]
	if selector == nil {
		if old != nil {
			delete(t.sets, name)
			t.changed[name] = true
		}
		return
	}
	if old != nil && old.selector.String() == selector.String() {
		return
	}
	m := &members{name: name, selector: selector, clusters: new(btree.Set[string])}
	for c, lbls := range t.clusters {
		if selector.Matches(labels.Set(lbls)) {
			m.clusters.Insert(c)
		}
	}
	t.sets[name] = m
	t.changed[name] = true
}

// setCluster adds or changes a cluster; without present it is removed. The
// labels must not be changed afterwards.
func (t *memberTable) setCluster(name string, present bool, lbls map[string]string) {
	if old, known := t.clusters[name]; known == present && maps.Equal(old, lbls) {
		return
	}
	if present {
		t.clusters[name] = lbls
	} else {
		delete(t.clusters, name)
	}
	for set, m := range t.sets {
		in := present && m.selector.Matches(labels.Set(lbls))
		switch had := m.clusters.Contains(name); {
		case in && !had:
			m.clusters.Insert(name)
		case had && !in:
			m.clusters.Delete(name)
		default:
			continue
		}
		t.changed[set] = true
	}
}

// snapshot returns the present members. What did not change is shared with the
// snapshots before.
func (t *memberTable) snapshot() *Members {
	for name := range t.changed {
		m := t.sets[name]
		if m == nil {
			delete(t.last, name)
			continue
		}
		t.version++
		t.last[name] = &members{name: name, selector: m.selector, version: t.version, clusters: m.clusters.Copy()}
	}
	clear(t.changed)
	t.published = true
	out := &Members{sets: make([]*members, 0, len(t.last))}
	for _, name := range slices.Sorted(maps.Keys(t.last)) {
		out.sets = append(out.sets, t.last[name])
	}
	return out
}

// allowInSet decides a request for a managed cluster or something in its
// namespace by the sets that the cluster belongs to.
func (p *Policy) allowInSet(u user.Info, a authorizer.Attributes) (authorizer.Decision, string) {
	resource := schema.GroupResource{Group: a.GetAPIGroup(), Resource: a.GetResource()}
	if resource == clusterSets() {
		return p.allowSet(u, a)
	}
	name := a.GetName()
	if placeOf(resource) == placeNamespace {
		name = a.GetNamespace()
	}
	if name == "" {
		return authorizer.DecisionNoOpinion, ""
	}
	for _, verb := range setVerbs() {
		rules := p.inSets[verb]
		if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return ruleAllows(&r, a) }) {
			continue
		}
		for _, m := range p.members.all() {
			if m.clusters.Contains(name) && p.may(u, verb, "", clusterSets(), m.name) {
				return authorizer.DecisionAllow, fmt.Sprintf("RBAC: allowed by %q of ManagedClusterSet %q, which cluster %q belongs to", verb, m.name, name)
			}
		}
	}
	return authorizer.DecisionNoOpinion, ""
}

// allowSet: who may look into a set may look at it.
func (p *Policy) allowSet(u user.Info, a authorizer.Attributes) (authorizer.Decision, string) {
	if a.GetName() == "" || !slices.Contains([]string{"get", "list", "watch"}, a.GetVerb()) || a.GetSubresource() != "" && a.GetSubresource() != "status" {
		return authorizer.DecisionNoOpinion, ""
	}
	for _, verb := range setVerbs() {
		if p.may(u, verb, "", clusterSets(), a.GetName()) {
			return authorizer.DecisionAllow, fmt.Sprintf("RBAC: allowed by %q of the set", verb)
		}
	}
	return authorizer.DecisionNoOpinion, ""
}

// rulesInSet returns the rules that u has in a namespace because it is that of a
// cluster in some set.
func (p *Policy) rulesInSet(u user.Info, namespace string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	if p == nil || namespace == "" {
		return nil
	}
	for _, verb := range setVerbs() {
		if !slices.ContainsFunc(p.members.all(), func(m *members) bool {
			return m.clusters.Contains(namespace) && p.may(u, verb, "", clusterSets(), m.name)
		}) {
			continue
		}
		for _, r := range p.inSets[verb] {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					gr := schema.GroupResource{Group: group, Resource: resource}
					one := rbacv1.PolicyRule{Verbs: r.Verbs, APIGroups: []string{group}, Resources: []string{resource}}
					if placeOf(gr) != placeNamespace {
						one.ResourceNames = []string{namespace}
					}
					out = append(out, one)
				}
			}
		}
	}
	return out
}
