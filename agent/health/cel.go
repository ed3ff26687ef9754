// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/drover-io/drover/shared/expression"
)

// The cost of a call is limited as in Kubernetes' own CEL rules. That of all
// calls for one object is a fifth of what it is there: an edge machine evaluates
// them at every change of the object.
const (
	perCallCost    = 1_000_000
	perObjectCost  = 2_000_000
	checkFrequency = 100
	maxPrograms    = 256 // kept compiled
	evaluationTime = 5 * time.Second
)

// budget is what the rules for one object may still cost.
type budget struct{ left uint64 }

func newBudget() *budget { return &budget{left: perObjectCost} }

var errBudget = errors.New("CEL evaluation budget exceeded")

// internalError is not the fault of an expression.
type internalError struct{ err error }

func (e *internalError) Error() string { return e.err.Error() }
func (e *internalError) Unwrap() error { return e.err }

func isInternal(err error) bool {
	var internal *internalError
	return errors.As(err, &internal)
}

// evaluator compiles CEL expressions once and runs them. Expressions see
// object, messages result too; they can change nothing and reach nothing.
type evaluator struct {
	environment func() (*cel.Env, error) // made with the first expression: it takes megabytes

	mu       sync.Mutex
	programs map[string]program
}

type program struct {
	run cel.Program
	err error // of compiling
}

func newEvaluator() *evaluator {
	return &evaluator{environment: sync.OnceValues(expression.NewEnvironment), programs: make(map[string]program)}
}

// truth evaluates an expression that must yield a bool.
func (e *evaluator) truth(expression string, object map[string]any, spend *budget) (bool, error) {
	out, err := e.eval(expression, map[string]any{"object": object, "result": false}, spend)
	if err != nil {
		return false, err
	}
	if b, ok := out.Value().(bool); ok {
		return b, nil
	}
	return false, fmt.Errorf("expected bool result, got %T", out.Value())
}

// text evaluates an expression that must yield a string.
func (e *evaluator) text(expression string, object map[string]any, result bool, spend *budget) (string, error) {
	out, err := e.eval(expression, map[string]any{"object": object, "result": result}, spend)
	if err != nil {
		return "", err
	}
	if s, ok := out.Value().(string); ok {
		return s, nil
	}
	return "", fmt.Errorf("expected message expression to have a string result, got %T", out.Value())
}

func (e *evaluator) eval(expression string, vars map[string]any, spend *budget) (out ref.Val, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("evaluation failed: %v", p)
		}
	}()
	p := e.compile(expression)
	if p.err != nil {
		return nil, p.err
	}
	if spend.left == 0 {
		return nil, errBudget
	}
	ctx, cancel := context.WithTimeout(context.Background(), evaluationTime)
	defer cancel()
	out, details, err := p.run.ContextEval(ctx, vars)
	cost := uint64(perCallCost) // of what was stopped
	if details != nil && details.ActualCost() != nil {
		cost = *details.ActualCost()
	}
	if cost > spend.left {
		spend.left = 0
		return nil, errBudget
	}
	spend.left -= cost
	if err == nil && out == nil {
		err = errors.New("no result")
	}
	return out, err
}

// compile keeps what it made. Rules change rarely: when there is no room, it
// starts again with nothing.
func (e *evaluator) compile(expression string) program {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.programs[expression]; ok {
		return p
	}
	if len(e.programs) >= maxPrograms {
		clear(e.programs)
	}
	p := e.build(expression)
	e.programs[expression] = p
	return p
}

func (e *evaluator) build(text string) (p program) {
	defer func() {
		if r := recover(); r != nil {
			p = program{err: fmt.Errorf("expression cannot be compiled: %v", r)}
		}
	}()
	env, err := e.environment()
	if err != nil {
		return program{err: &internalError{fmt.Errorf("set up CEL: %w", err)}}
	}
	ast, err := expression.Compile(env, text)
	if err != nil {
		return program{err: err}
	}
	run, err := env.Program(ast, cel.CostLimit(perCallCost), cel.CostTracking(&library.CostEstimator{}),
		cel.InterruptCheckFrequency(checkFrequency))
	if err != nil {
		return program{err: &internalError{err}}
	}
	return program{run: run}
}
