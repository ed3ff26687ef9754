// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"fmt"

	"github.com/drover-io/drover/shared/apis/work"
)

// manifestConfig is an entry of spec.manifestConfigs.
type manifestConfig struct {
	ResourceIdentifier work.ResourceIdentifier `json:"resourceIdentifier"`
	UpdateStrategy     *updateStrategy         `json:"updateStrategy"`
	FeedbackRules      []work.FeedbackRule     `json:"feedbackRules"`
	ConditionRules     []work.ConditionRule    `json:"conditionRules"`

	ignore    []ignoreRule
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
		c.ignore, c.ignoreErr = compileIgnore(s.ServerSideApply.IgnoreFields)
	}
}

// strategy is how one manifest is applied.
type strategy struct {
	kind    string // one of work's Strategy constants
	force   bool
	manager string // field manager; empty for the engine's own
	ignore  []ignoreRule
}

// writes says that the strategy writes an object that exists already.
func (s strategy) writes() bool {
	return s.kind == work.StrategyUpdate || s.kind == work.StrategyServerSide
}

// strategyFor returns the strategy of the first config that has one and matches.
func strategyFor(configs []manifestConfig, id identity, resource string) (strategy, error) {
	for i := range configs {
		config := &configs[i]
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
			if config.ignoreErr != nil {
				return strategy{}, config.ignoreErr
			}
			return strategy{
				kind: s.Type, force: s.ServerSideApply.Force, manager: s.ServerSideApply.FieldManager, ignore: config.ignore,
			}, nil
		default:
			return strategy{}, &manifestError{message: fmt.Sprintf(
				"updateStrategy.type %q is not supported: use Update, CreateOnly, ServerSideApply or ReadOnly", s.Type)}
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
