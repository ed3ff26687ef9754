// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package expression is the language of rules on Kubernetes objects: CEL with
// Kubernetes' libraries. The hub checks with it what the agents will evaluate.
package expression

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"k8s.io/apiserver/pkg/cel/library"
)

// MaxLength is the longest expression in bytes.
const MaxLength = 8 << 10

// NewEnvironment returns what expressions see: the variable object, in messages
// result too, and functions that change nothing and reach nothing. Who compiles
// often keeps it: it takes memory and a moment.
func NewEnvironment() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("object", cel.DynType),
		cel.Variable("result", cel.BoolType),
		cel.HomogeneousAggregateLiterals(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		ext.Strings(ext.StringsVersion(2)),
		ext.Sets(),
		library.URLs(), library.Regex(), library.Lists(), library.Quantity(), library.IP(), library.CIDR(),
		library.Format(), library.SemverLib(),
		cel.Function("hasConditions", cel.Overload("has_conditions", []*cel.Type{cel.DynType}, cel.BoolType,
			cel.UnaryBinding(hasConditions))),
	)
}

// Compile checks an expression. Whatever that is, it does not panic.
func Compile(env *cel.Env, expression string) (ast *cel.Ast, err error) {
	defer func() {
		if r := recover(); r != nil {
			ast, err = nil, fmt.Errorf("expression cannot be compiled: %v", r)
		}
	}()
	if len(expression) > MaxLength {
		return nil, fmt.Errorf("expression is longer than %d bytes", MaxLength)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	return ast, nil
}

// CheckTruth says why an expression cannot yield a bool, nil when it may.
func CheckTruth(env *cel.Env, expression string) error {
	ast, err := Compile(env, expression)
	if err != nil {
		return err
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return fmt.Errorf("the expression yields %s, want bool", t)
	}
	return nil
}

// hasConditions says whether a status has a list of conditions.
func hasConditions(status ref.Val) ref.Val {
	fields, ok := status.(traits.Mapper)
	if !ok {
		return types.False
	}
	conditions, found := fields.Find(types.String("conditions"))
	if !found {
		return types.False
	}
	list, ok := conditions.(traits.Lister)
	return types.Bool(ok && list.Size() != types.IntZero)
}
