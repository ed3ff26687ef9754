// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
)

// guard is what keeps the templates of one rendering within bounds. Every function
// call, every turn of a loop, every call of a template and every print passes it,
// because prepare puts it there; so a template that does not end is stopped at the
// next of these, each of which is short in itself:
//
//   - a function gets no more than value bytes or nodes, and what it makes is
//     measured before anything else sees it; those that multiply (repeat, until,
//     replace, printf, ...) are measured before they run;
//   - regular expressions are RE2, in time that grows with the input alone;
//   - printing and encoding measure the value first, with all that is reached
//     twice counted twice, and refuse cycles.
//
// Reading a template cannot be interrupted; its size and nesting are bounded.
type guard struct {
	ctx    context.Context
	limits Limits
	steps  int
	output int
	depth  int
	last   any // what was printed last
}

// ErrTime: the time for a rendering is over.
var ErrTime = errors.New("it takes longer than is allowed")

var (
	errSteps = errors.New("it does more than is allowed: is there a loop without end?")
	errDepth = errors.New("templates call each other more than 500 deep: does one call itself without end?")
)

const (
	maxSteps     = 5_000_000
	maxCalls     = 500     // of templates within templates
	maxValue     = 8 << 20 // bytes of a value
	maxNodes     = 200_000 // values within a value
	maxNesting   = 100
	maxQuadratic = 5_000 // elements, for functions that compare each with each
)

// step is called often.
func (g *guard) step() error {
	g.steps++
	if g.steps > maxSteps {
		return errSteps
	}
	if g.steps&63 == 0 {
		return g.expired()
	}
	return nil
}

func (g *guard) expired() error {
	if g.ctx.Err() != nil {
		return fmt.Errorf("%w (%v): is there a loop without end?", ErrTime, context.Cause(g.ctx))
	}
	return nil
}

func (g *guard) enter() (string, error) {
	g.depth++
	if g.depth > maxCalls {
		return "", errDepth
	}
	if err := g.step(); err != nil {
		return "", err
	}
	return "", g.expired()
}

func (g *guard) leave() string { g.depth--; return "" }

// turn is one turn of a loop.
func (g *guard) turn() (string, error) { return "", g.step() }

// print measures what is about to be printed.
func (g *guard) print(v any) (any, error) {
	if err := g.step(); err != nil {
		return nil, err
	}
	g.last = v
	return v, g.measure(v)
}

// writer takes output until there is too much of it.
type writer struct {
	strings.Builder
	g *guard
}

func (w *writer) Write(p []byte) (int, error) {
	w.g.output += len(p)
	if w.Len()+len(p) > w.g.limits.Output || w.g.output > 8*w.g.limits.Output {
		return 0, fmt.Errorf("it makes more than %d MiB of text", w.g.limits.Output>>20)
	}
	if err := w.g.expired(); err != nil {
		return 0, err
	}
	return w.Builder.Write(p)
}

// measure refuses values that are too large to be worked with.
func (g *guard) measure(v any) error {
	switch v := v.(type) {
	case nil, bool, int, int64, float64:
		return nil
	case string:
		return sized(len(v))
	}
	m := meter{}
	if err := m.walk(reflect.ValueOf(v), 0); err != nil {
		return err
	}
	g.steps += m.nodes / 8
	return nil
}

func sized(n int) error {
	if n > maxValue {
		return fmt.Errorf("a value of more than %d MiB", maxValue>>20)
	}
	return nil
}

type meter struct{ nodes, bytes int }

func (m *meter) walk(v reflect.Value, depth int) error {
	m.nodes++
	if m.nodes > maxNodes {
		return fmt.Errorf("a value of more than %d parts", maxNodes)
	}
	if depth > maxNesting {
		return fmt.Errorf("a value nested more than %d deep, or within itself", maxNesting)
	}
	switch v.Kind() {
	case reflect.String:
		m.bytes += v.Len()
		return sized(m.bytes)
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return m.walk(v.Elem(), depth+1)
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := m.walk(it.Key(), depth+1); err != nil {
				return err
			}
			if err := m.walk(it.Value(), depth+1); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			m.bytes += v.Len()
			return sized(m.bytes)
		}
		for i := range v.Len() {
			if err := m.walk(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := m.walk(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// wrap returns fn with the guard before and after it.
func (g *guard) wrap(name string, fn any) any {
	f := reflect.ValueOf(fn)
	t := f.Type()
	before, deep := before[name], measured[name]
	return reflect.MakeFunc(t, func(args []reflect.Value) []reflect.Value {
		err := g.step()
		if err == nil && deep {
			for _, a := range args {
				if err = g.measure(a.Interface()); err != nil {
					break
				}
			}
		}
		if err == nil && before != nil {
			err = before(spread(args, t.IsVariadic()))
		}
		if err != nil {
			panic(err) // text/template makes it the error of the template
		}
		var out []reflect.Value
		if t.IsVariadic() {
			out = f.CallSlice(args)
		} else {
			out = f.Call(args)
		}
		if out[0].Kind() == reflect.String {
			err = sized(out[0].Len())
		} else if makes[name] {
			err = g.measure(out[0].Interface())
		}
		if err != nil {
			panic(err)
		}
		return out
	}).Interface()
}

// spread returns arguments as the template gave them.
func spread(args []reflect.Value, variadic bool) []any {
	out := make([]any, 0, len(args))
	for i, a := range args {
		if variadic && i == len(args)-1 {
			for j := range a.Len() {
				out = append(out, a.Index(j).Interface())
			}
			continue
		}
		out = append(out, a.Interface())
	}
	return out
}

// The names under which prepare calls the guard.
const (
	callEnter = "droverEnter"
	callLeave = "droverLeave"
	callTurn  = "droverTurn"
	callPrint = "droverPrint"
)

func (g *guard) calls() template.FuncMap {
	return template.FuncMap{callEnter: g.enter, callLeave: g.leave, callTurn: g.turn, callPrint: g.print}
}

// prepare puts calls of the guard into the trees that do not have them.
func (g *guard) prepare(t *template.Template, done map[*parse.Tree]bool) {
	for _, one := range t.Templates() {
		tree := one.Tree
		if tree == nil || tree.Root == nil || done[tree] {
			continue
		}
		done[tree] = true
		instrument(tree, tree.Root)
		tree.Root.Nodes = append(append([]parse.Node{action(tree, tree.Root.Pos, callEnter)}, tree.Root.Nodes...), action(tree, tree.Root.Pos, callLeave))
	}
}

func action(tree *parse.Tree, pos parse.Pos, name string) parse.Node {
	return &parse.ActionNode{
		NodeType: parse.NodeAction, Pos: pos,
		Pipe: &parse.PipeNode{NodeType: parse.NodePipe, Pos: pos, Cmds: []*parse.CommandNode{command(tree, pos, name)}},
	}
}

func command(tree *parse.Tree, pos parse.Pos, name string) *parse.CommandNode {
	return &parse.CommandNode{
		NodeType: parse.NodeCommand, Pos: pos,
		Args: []parse.Node{parse.NewIdentifier(name).SetPos(pos).SetTree(tree)},
	}
}

func instrument(tree *parse.Tree, l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				n.Pipe.Cmds = append(n.Pipe.Cmds, command(tree, n.Pos, callPrint))
			}
		case *parse.IfNode:
			instrument(tree, n.List)
			instrument(tree, n.ElseList)
		case *parse.WithNode:
			instrument(tree, n.List)
			instrument(tree, n.ElseList)
		case *parse.RangeNode:
			instrument(tree, n.List)
			instrument(tree, n.ElseList)
			n.List.Nodes = append([]parse.Node{action(tree, n.Pos, callTurn)}, n.List.Nodes...)
		}
	}
}
