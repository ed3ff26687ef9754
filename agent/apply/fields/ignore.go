// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fields

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/shared/apis/work"
)

const (
	// jqTimeout bounds one jq expression on one manifest, as in Open Cluster Management.
	jqTimeout = time.Second
	// maxIgnored bounds the fields that one expression may name.
	maxIgnored = 10_000
)

// Ignore is the ignoreFields of a work, compiled: the fields of its manifests
// that are left alone. The zero value leaves out none.
type Ignore []ignoreRule

// ignoreRule is one entry of ignoreFields.
type ignoreRule struct {
	onChange bool // OnSpokeChange instead of OnSpokePresent
	fields   []selector
}

// selector finds fields in an object: paths of map keys (string) and list
// positions (int).
type selector func(ctx context.Context, body map[string]any) ([][]any, error)

func ignoreError(format string, args ...any) error {
	return fmt.Errorf("updateStrategy.serverSideApply.ignoreFields: "+format, args...)
}

// CompileIgnore prepares ignoreFields, once for all manifests. The error names the
// entry that cannot be used, for the author of the work.
func CompileIgnore(entries []work.IgnoreField) (Ignore, error) {
	var rules Ignore
	for _, entry := range entries {
		var rule ignoreRule
		switch entry.Condition {
		case "", work.IgnoreOnSpokePresent:
		case work.IgnoreOnSpokeChange:
			rule.onChange = true
		default:
			return nil, ignoreError("condition %q is not supported: use OnSpokePresent or OnSpokeChange", entry.Condition)
		}
		for _, text := range entry.JSONPaths {
			steps, err := parseJSONPath(text)
			if err != nil {
				return nil, ignoreError("jsonPaths %q: %v", text, err)
			}
			rule.fields = append(rule.fields, stepSelector(steps))
		}
		for _, text := range entry.JSONPointers {
			steps, err := parsePointer(text)
			if err != nil {
				return nil, ignoreError("jsonPointers %q: %v", text, err)
			}
			rule.fields = append(rule.fields, stepSelector(steps))
		}
		for _, text := range entry.JQPathExpressions {
			find, err := jqSelector(text)
			if err != nil {
				return nil, ignoreError("jqPathExpressions %q: %v", text, err)
			}
			rule.fields = append(rule.fields, find)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// anyStep matches every key of a map and every position of a list.
type anyStep struct{}

// parsePointer reads a JSON pointer (RFC 6901).
func parsePointer(text string) ([]any, error) {
	rest, found := strings.CutPrefix(text, "/")
	if !found {
		return nil, errors.New("want a JSON pointer such as /spec/replicas")
	}
	var steps []any
	for part := range strings.SplitSeq(rest, "/") {
		steps = append(steps, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return steps, nil
}

// parseJSONPath reads the part of JSONPath that names fields: .name, ['name'],
// [3], [*] and .*; with or without the leading $ and the braces of kubectl.
func parseJSONPath(text string) ([]any, error) {
	rest := strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "{"), "}"), "$")
	if rest != "" && rest[0] != '.' && rest[0] != '[' {
		rest = "." + rest
	}
	unsupported := errors.New("want field names and positions such as .spec.containers[0].image; for more use jqPathExpressions")
	var steps []any
	for rest != "" {
		switch {
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			switch name := rest[1:end]; name {
			case "":
				return nil, unsupported
			case "*":
				steps = append(steps, anyStep{})
			default:
				steps = append(steps, name)
			}
			rest = rest[end:]
		case strings.HasPrefix(rest, "['"), strings.HasPrefix(rest, `["`):
			end := strings.Index(rest[2:], rest[1:2]+"]")
			if end < 1 {
				return nil, unsupported
			}
			steps = append(steps, rest[2:2+end])
			rest = rest[2+end+2:]
		default:
			inside, after, found := strings.Cut(rest[1:], "]")
			if n, err := strconv.Atoi(inside); found && err == nil && n >= 0 {
				steps = append(steps, n)
			} else if found && inside == "*" {
				steps = append(steps, anyStep{})
			} else {
				return nil, unsupported
			}
			rest = after
		}
	}
	if len(steps) == 0 {
		return nil, unsupported
	}
	return steps, nil
}

func stepSelector(steps []any) selector {
	return func(_ context.Context, body map[string]any) ([][]any, error) {
		var found [][]any
		var walk func(value any, at []any, steps []any)
		walk = func(value any, at []any, steps []any) {
			if len(steps) == 0 {
				found = append(found, slices.Clone(at))
				return
			}
			switch v := value.(type) {
			case map[string]any:
				switch step := steps[0].(type) {
				case anyStep:
					for key, inner := range v {
						walk(inner, append(at, key), steps[1:])
					}
				case string:
					if inner, ok := v[step]; ok {
						walk(inner, append(at, step), steps[1:])
					}
				}
			case []any:
				position := -1
				switch step := steps[0].(type) {
				case anyStep:
					for i, inner := range v {
						walk(inner, append(at, i), steps[1:])
					}
				case int:
					position = step
				case string: // of a JSON pointer
					if n, err := strconv.Atoi(step); err == nil {
						position = n
					}
				}
				if position >= 0 && position < len(v) {
					walk(v[position], append(at, position), steps[1:])
				}
			}
		}
		walk(body, nil, steps)
		return found, nil
	}
}

func jqSelector(text string) (selector, error) {
	query, err := gojq.Parse("path(" + text + ")")
	if err != nil {
		return nil, err
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, body map[string]any) ([][]any, error) {
		ctx, cancel := context.WithTimeout(ctx, jqTimeout)
		defer cancel()
		var found [][]any
		for iter := code.RunWithContext(ctx, jqValue(body)); ; {
			value, more := iter.Next()
			if !more {
				return found, nil
			}
			if err, failed := value.(error); failed {
				if ctx.Err() != nil {
					err = fmt.Errorf("not done after %v", jqTimeout)
				}
				return nil, ignoreError("jqPathExpressions %q: %v", text, err)
			}
			path, ok := value.([]any)
			if !ok || len(path) == 0 || len(found) == maxIgnored {
				return nil, ignoreError("jqPathExpressions %q: want paths of at most %d fields", text, maxIgnored)
			}
			if _, exists := valueAt(body, path); exists {
				found = append(found, path)
			}
		}
	}, nil
}

// jqValue copies v into the types that gojq knows.
func jqValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, inner := range v {
			m[key] = jqValue(inner)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, inner := range v {
			l[i] = jqValue(inner)
		}
		return l
	case int64:
		return int(v)
	default:
		return v
	}
}

// Withhold takes the fields to ignore out of u, which manager is about to apply to
// live. A field that manager owns keeps its live value instead: leaving it out
// would remove it from the object. From then on u has the resource version of
// live. The error says which expression failed, for the author of the work; u may
// be applied only without one.
func (rules Ignore) Withhold(ctx context.Context, u, live *unstructured.Unstructured, manager string) error {
	ours := ownFields(live.GetManagedFields(), manager)
	var paths [][]any
	keep := make(map[string]any)
	for _, rule := range rules {
		for _, find := range rule.fields {
			found, err := find(ctx, u.Object)
			if err != nil {
				return err
			}
			for _, path := range found {
				owned := ours.owns(u.Object, path)
				switch {
				case rule.onChange && (owned || ours == nil):
					continue // nobody else changed it
				case owned:
					if value, exists := valueAt(live.Object, liveSteps(u.Object, live.Object, path)); exists {
						keep[fmt.Sprint(path)] = value
					}
				}
				paths = append(paths, path)
			}
		}
	}
	// Later positions of a list first, so that the earlier ones stay what they are.
	slices.SortFunc(paths, func(a, b []any) int { return -comparePaths(a, b) })
	for _, path := range paths {
		value, kept := keep[fmt.Sprint(path)]
		u.Object = replaceAt(u.Object, path, value, kept).(map[string]any)
	}
	// Should the object change meanwhile, the decision is made anew.
	u.SetResourceVersion(live.GetResourceVersion())
	return nil
}

func comparePaths(a, b []any) int {
	for i := range min(len(a), len(b)) {
		m, isInt := a[i].(int)
		n, bothInt := b[i].(int)
		if isInt && bothInt {
			if m != n {
				return m - n
			}
			continue
		}
		if c := strings.Compare(fmt.Sprint(a[i]), fmt.Sprint(b[i])); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}

func valueAt(value any, path []any) (any, bool) {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			key, isKey := step.(string)
			inner, exists := v[key]
			if !isKey || !exists {
				return nil, false
			}
			value = inner
		case []any:
			n, ok := step.(int)
			if !ok || n < 0 || n >= len(v) {
				return nil, false
			}
			value = v[n]
		default:
			return nil, false
		}
	}
	return value, true
}

// replaceAt puts a new value at path, or removes the field when keep is false.
func replaceAt(value any, path []any, with any, keep bool) any {
	switch v := value.(type) {
	case map[string]any:
		key, _ := path[0].(string)
		inner, exists := v[key]
		switch {
		case !exists:
		case len(path) > 1:
			v[key] = replaceAt(inner, path[1:], with, keep)
		case keep:
			v[key] = with
		default:
			delete(v, key)
		}
	case []any:
		n, ok := path[0].(int)
		switch {
		case !ok || n < 0 || n >= len(v):
		case len(path) > 1:
			v[n] = replaceAt(v[n], path[1:], with, keep)
		case keep:
			v[n] = with
		default:
			return slices.Delete(v, n, n+1)
		}
	}
	return value
}

// liveSteps translates the positions of a path to those in the live object:
// elements of a list are the same when their names are.
func liveSteps(desired, live any, path []any) []any {
	steps := slices.Clone(path)
	for i, step := range path {
		switch step := step.(type) {
		case string:
			d, _ := desired.(map[string]any)
			l, _ := live.(map[string]any)
			desired, live = d[step], l[step]
		case int:
			d, _ := desired.([]any)
			l, _ := live.([]any)
			if step >= len(d) {
				return steps
			}
			at := step
			if name := nameOf(d[step]); name != "" {
				at = slices.IndexFunc(l, func(v any) bool { return nameOf(v) == name })
			}
			steps[i], desired, live = at, d[step], nil
			if at >= 0 && at < len(l) {
				live = l[at]
			}
		}
	}
	return steps
}

func nameOf(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}
