// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/agent/apply/fields"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// manifestConfig is an entry of spec.manifestConfigs.
type manifestConfig struct {
	ResourceIdentifier work.ResourceIdentifier `json:"resourceIdentifier"`
	UpdateStrategy     *updateStrategy         `json:"updateStrategy"`
	FeedbackRules      []work.FeedbackRule     `json:"feedbackRules"`
	ConditionRules     []work.ConditionRule    `json:"conditionRules"`

	ignore    fields.Ignore
	ignoreErr error
}

type updateStrategy struct {
	Type            string `json:"type"`
	ServerSideApply *struct {
		Force        bool               `json:"force"`
		FieldManager string             `json:"fieldManager"`
		IgnoreFields []work.IgnoreField `json:"ignoreFields"`
	} `json:"serverSideApply"`
}

// compile prepares the rules about fields to ignore, once for all manifests.
func (c *manifestConfig) compile() {
	if s := c.UpdateStrategy; s != nil && s.ServerSideApply != nil {
		c.ignore, c.ignoreErr = fields.CompileIgnore(s.ServerSideApply.IgnoreFields)
	}
}

// Strategy is how one manifest is applied.
type Strategy struct {
	Kind    string // one of work's Strategy constants
	Force   bool
	Manager string // field manager; empty for the engine's own
	ignore  fields.Ignore
}

// Writes says that the strategy writes an object that exists already.
func (s Strategy) Writes() bool {
	return s.Kind == work.StrategyUpdate || s.Kind == work.StrategyServerSide
}

// Ignores says that the strategy leaves fields of an object that exists alone, so
// that Withhold is to be called.
func (s Strategy) Ignores() bool { return len(s.ignore) > 0 }

// Withhold is fields.Ignore's, with an *Error for what the work's author can mend.
func (s Strategy) Withhold(ctx context.Context, u, live *unstructured.Unstructured, manager string) error {
	return ignoreError(s.ignore.Withhold(ctx, u, live, manager))
}

func ignoreError(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Reason: wire.ApplyIgnoreField, Message: err.Error()}
}

// StrategyFor returns the strategy of the first config that has one and matches
// the object, Update when there is none. An *Error says that its strategy cannot
// be used.
func (c *Content) StrategyFor(id Identity, resource string) (Strategy, error) {
	for i := range c.configs {
		config := &c.configs[i]
		if config.UpdateStrategy == nil || !matches(config.ResourceIdentifier, id, resource) {
			continue
		}
		s := config.UpdateStrategy
		switch s.Type {
		case "", work.StrategyUpdate:
			return Strategy{Kind: work.StrategyUpdate, Force: true}, nil
		case work.StrategyCreateOnly, work.StrategyReadOnly:
			return Strategy{Kind: s.Type}, nil
		case work.StrategyServerSide:
			if s.ServerSideApply == nil {
				return Strategy{Kind: s.Type}, nil
			}
			if config.ignoreErr != nil {
				return Strategy{}, ignoreError(config.ignoreErr)
			}
			return Strategy{
				Kind: s.Type, Force: s.ServerSideApply.Force, Manager: s.ServerSideApply.FieldManager, ignore: config.ignore,
			}, nil
		default:
			return Strategy{}, &Error{Message: fmt.Sprintf(
				"updateStrategy.type %q is not supported: use Update, CreateOnly, ServerSideApply or ReadOnly", s.Type)}
		}
	}
	return Strategy{Kind: work.StrategyUpdate, Force: true}, nil
}

// Rules are what a work wants to know of one object.
type Rules struct {
	Feedback   []work.FeedbackRule  `json:"feedback,omitempty"`
	Conditions []work.ConditionRule `json:"conditions,omitempty"`
	// Health are those of the addon for the object, not stored with each one.
	Health []fleet.HealthRule `json:"-"`
}

// RulesFor returns the rules of the first config, for each feature, that matches.
func (c *Content) RulesFor(id Identity, resource string) Rules {
	var found Rules
	for i := range c.configs {
		config := &c.configs[i]
		if !matches(config.ResourceIdentifier, id, resource) {
			continue
		}
		if found.Feedback == nil && len(config.FeedbackRules) > 0 {
			found.Feedback = config.FeedbackRules
		}
		if found.Conditions == nil && len(config.ConditionRules) > 0 {
			found.Conditions = config.ConditionRules
		}
	}
	found.Health = HealthFor(c.Health, id)
	return found
}

// HealthFor are the rules that are for an object.
func HealthFor(rules []fleet.HealthRule, id Identity) []fleet.HealthRule {
	var found []fleet.HealthRule
	for i := range rules {
		if covers(&rules[i].Object, id) {
			found = append(found, rules[i])
		}
	}
	return found
}

// Protects says that the work names the object as one not to be removed without
// an explicit word.
func (c *Content) Protects(id Identity) bool {
	return slices.ContainsFunc(c.Protected, func(p fleet.ObjectPattern) bool { return covers(&p, id) })
}

// covers matches as ObjectPattern says.
func covers(p *fleet.ObjectPattern, id Identity) bool {
	like := func(pattern, value string) bool { return pattern == "" || pattern == value }
	return like(p.Group, id.Group) && like(p.Kind, id.Kind) && like(p.Namespace, id.Namespace) &&
		(p.Name == "*" || like(p.Name, id.Name))
}

// matches follows Open Cluster Management: "*" matches anything.
func matches(rule work.ResourceIdentifier, id Identity, resource string) bool {
	like := func(pattern, value string) bool { return pattern == "*" || pattern == value }
	return like(rule.Group, id.Group) && like(rule.Resource, resource) &&
		like(rule.Namespace, id.Namespace) && like(rule.Name, id.Name)
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

// Orphaned says whether the delete option keeps an object on the cluster. Rules
// match exactly, without wildcards, as in Open Cluster Management.
func Orphaned(option work.DeleteOption, id Identity, resource string) bool {
	switch option.PropagationPolicy {
	case work.Orphan:
		return true
	case work.SelectivelyOrphan:
		if option.SelectivelyOrphans == nil {
			return false
		}
		return slices.Contains(option.SelectivelyOrphans.OrphaningRules, work.ResourceIdentifier{
			Group: id.Group, Resource: resource, Namespace: id.Namespace, Name: id.Name,
		})
	}
	return false
}
