// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/library"
)

// Scheduler chooses clusters. It keeps the programs of expressions; nothing it
// keeps changes what it answers. It is safe for concurrent use.
type Scheduler struct {
	environment func() (*cel.Env, error)

	mu       sync.Mutex
	programs map[string]cel.Program
}

// maxPrograms bounds how many programs are kept.
const maxPrograms = 10_000

// NewScheduler returns a Scheduler.
func NewScheduler() *Scheduler {
	return &Scheduler{environment: sync.OnceValues(newEnvironment), programs: map[string]cel.Program{}}
}

// newEnvironment is what expressions may use: the variable managedCluster, its
// member scores(name), parseJSON and the libraries of Kubernetes, as in Open
// Cluster Management.
func newEnvironment() (*cel.Env, error) {
	env, err := cel.NewEnv(
		cel.Variable(variable, cel.MapType(cel.StringType, cel.DynType)),
		cel.Function("scores", cel.MemberOverload("cluster_scores",
			[]*cel.Type{cel.DynType, cel.StringType}, cel.ListType(cel.DynType), cel.BinaryBinding(scoresOf))),
		cel.Function("parseJSON", cel.MemberOverload("parse_json_string",
			[]*cel.Type{cel.StringType}, cel.DynType, cel.UnaryBinding(parseJSON))),
		cel.OptionalTypes(), ext.Strings(),
		library.Lists(), library.Regex(), library.URLs(), library.Quantity(), library.IP(), library.CIDR(),
		library.Format(), library.SemverLib(),
	)
	if err != nil {
		return nil, fmt.Errorf("make environment of expressions: %w", err)
	}
	return env, nil
}

const variable = "managedCluster"

// program makes a program of one expression. The error is for its author.
func (s *Scheduler) program(text string) (cel.Program, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.programs[text]; ok {
		return p, nil
	}
	p, err := s.compile(text)
	if err != nil {
		return nil, err
	}
	if len(s.programs) >= maxPrograms {
		clear(s.programs)
	}
	s.programs[text] = p
	return p, nil
}

func (s *Scheduler) compile(text string) (cel.Program, error) {
	env, err := s.environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("compilation failed: %s", issues.String())
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("compilation failed: %q gives a value of type %s, want bool", text, t)
	}
	program, err := env.Program(ast, cel.CostLimit(celconfig.PerCallLimit),
		cel.CostTracking(&library.CostEstimator{}), cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return nil, fmt.Errorf("instantiation failed: %w", err)
	}
	return program, nil
}

// holds reports whether an expression is true of a cluster. One that fails, or
// costs too much, is not.
func holds(program cel.Program, c *Cluster, in *Input) bool {
	out, _, err := program.Eval(map[string]any{variable: &clusterValue{
		Mapper: types.NewStringInterfaceMap(types.DefaultTypeAdapter, c.object()), cluster: c.Name, scores: in.Scores,
	}})
	if err != nil {
		return false
	}
	value, ok := out.Value().(bool)
	return ok && value
}

// clusterValue is managedCluster in an expression; it knows its scores.
type clusterValue struct {
	traits.Mapper
	cluster string
	scores  map[ScoreKey]*Scores
}

func scoresOf(target, name ref.Val) ref.Val {
	c, ok := target.(*clusterValue)
	if !ok {
		return types.NewErr("scores: only of managedCluster")
	}
	text, ok := name.Value().(string)
	if !ok {
		return types.MaybeNoSuchOverloadErr(name)
	}
	s, ok := c.scores[ScoreKey{c.cluster, text}]
	if !ok {
		return types.NewErr("failed to get score: there is no AddOnPlacementScore %q of cluster %q", text, c.cluster)
	}
	list := make([]ref.Val, 0, len(s.Values))
	for k, v := range s.Values {
		list = append(list, types.NewStringInterfaceMap(types.DefaultTypeAdapter, map[string]any{"name": k, "value": int64(v)}))
	}
	return types.NewDynamicList(types.DefaultTypeAdapter, list)
}

func parseJSON(arg ref.Val) ref.Val {
	text, ok := arg.Value().(string)
	if !ok {
		return types.MaybeNoSuchOverloadErr(arg)
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return types.NewErr("failed to parse json: %v", err)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}
