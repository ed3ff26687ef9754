// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
	goyaml "sigs.k8s.io/yaml/goyaml.v3"
)

// functions are those of Helm's templates and of our own: sprig without what reads
// the environment, the network or the clock, or makes something else each time.
// Refused ones exist, so that a template that only mentions them is not broken, and
// say why they cannot be called.
func functions() template.FuncMap {
	f := sprig.TxtFuncMap()
	delete(f, "env")
	delete(f, "expandenv")
	for _, name := range refusedFunctions {
		f[name] = refuse(name)
	}
	maps.Copy(f, template.FuncMap{
		"toToml": toTOML, "fromToml": fromTOML,
		"toYaml": toYAML, "toYamlPretty": toYAMLPretty, "fromYaml": fromYAML, "fromYamlArray": fromYAMLArray,
		"toJson": toJSON, "fromJson": fromJSON, "fromJsonArray": fromJSONArray,
		"lookup":        func(_, _, _, _ string) map[string]any { return map[string]any{} },
		"getHostByName": func(string) string { return "" },
		"keys":          keys, "values": values,
		// text/template has these; here they pass the guard.
		"print": fmt.Sprint, "printf": fmt.Sprintf, "println": fmt.Sprintln,
		"html": template.HTMLEscaper, "js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
	})
	return f
}

// refusedFunctions give another result each time, and so would give each rendering
// another digest.
var refusedFunctions = []string{
	"now", "ago", "date", "date_in_zone", "dateInZone", "htmlDate", "htmlDateInZone", "durationRound",
	"randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randInt", "randBytes", "uuidv4", "shuffle",
	"bcrypt", "htpasswd", "genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert",
	"genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "encryptAES",
}

func refuse(name string) func(...any) (any, error) {
	return func(...any) (any, error) {
		return nil, fmt.Errorf("function %s gives another result each time, so it is not allowed: set the value that it stands for", name)
	}
}

// keys and values come in order, unlike sprig's.
func keys(dicts ...map[string]any) []string {
	var out []string
	for _, d := range dicts {
		out = append(out, slices.Sorted(maps.Keys(d))...)
	}
	return out
}

func values(d map[string]any) []any {
	out := []any{}
	for _, k := range slices.Sorted(maps.Keys(d)) {
		out = append(out, d[k])
	}
	return out
}

// The following are Helm's, which does not export them: errors become part of the
// result.

func toYAML(v any) string {
	data, err := yaml.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(data), "\n")
}

func toYAMLPretty(v any) string {
	var buf bytes.Buffer
	enc := goyaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return ""
	}
	return strings.TrimSuffix(buf.String(), "\n")
}

func fromYAML(s string) map[string]any {
	m := map[string]any{}
	if err := yaml.Unmarshal([]byte(s), &m); err != nil {
		m["Error"] = err.Error()
	}
	return m
}

func fromYAMLArray(s string) []any {
	a := []any{}
	if err := yaml.Unmarshal([]byte(s), &a); err != nil {
		a = []any{err.Error()}
	}
	return a
}

func toTOML(v any) string {
	var buf bytes.Buffer
	if err := toml.NewEncoder(&buf).Encode(v); err != nil {
		return err.Error()
	}
	return buf.String()
}

func fromTOML(s string) map[string]any {
	m := map[string]any{}
	if err := toml.Unmarshal([]byte(s), &m); err != nil {
		m["Error"] = err.Error()
	}
	return m
}

func toJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(data)
}

func fromJSON(s string) map[string]any {
	m := map[string]any{}
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		m["Error"] = err.Error()
	}
	return m
}

func fromJSONArray(s string) []any {
	a := []any{}
	if err := json.Unmarshal([]byte(s), &a); err != nil {
		a = []any{err.Error()}
	}
	return a
}

func names(list string) map[string]bool {
	out := map[string]bool{}
	for _, n := range strings.Fields(list) {
		out[n] = true
	}
	return out
}

var (
	// makes are functions whose result may be larger than what they were given.
	makes = names(`tuple list dict set unset merge mergeOverwrite mustMerge mustMergeOverwrite
		append push mustAppend mustPush prepend mustPrepend concat deepCopy mustDeepCopy pick omit keys values pluck
		split splitList splitn toStrings until untilStep seq chunk mustChunk reverse mustReverse uniq mustUniq
		without mustWithout fromJson mustFromJson fromJsonArray fromYaml fromYamlArray fromToml
		regexFindAll mustRegexFindAll regexSplit mustRegexSplit urlParse buildCustomCert compact mustCompact
		sortAlpha`)
	// measured are functions that walk all of what they are given.
	measured = names(`print printf println html js urlquery toString toStrings quote squote cat join
		toJson mustToJson toPrettyJson mustToPrettyJson toRawJson mustToRawJson toYaml toYamlPretty toToml
		deepCopy mustDeepCopy deepEqual merge mergeOverwrite mustMerge mustMergeOverwrite
		uniq mustUniq without mustWithout has mustHas sortAlpha set compact mustCompact concat urlJoin
		indent nindent`)
	// before are bounds for functions that make much of little.
	before = map[string]func(args []any) error{
		"repeat":    func(a []any) error { return product(number(a, 0), length(a, 1)) },
		"until":     func(a []any) error { return elements(number(a, 0)) },
		"untilStep": untilStep,
		"seq":       sequence,
		"indent":    func(a []any) error { return product(number(a, 0), lines(a, 1)+1) },
		"nindent":   func(a []any) error { return product(number(a, 0), lines(a, 1)+1) },
		"replace":   func(a []any) error { return product(occurrences(a, 2, 0), length(a, 1)) },
		"join":      join,
		"wrapWith":  func(a []any) error { return product(length(a, 1), length(a, 2)+1) },
		"printf":    format,
		"splitn":    func(a []any) error { return elements(number(a, 1)) },
		"uniq":      quadratic, "mustUniq": quadratic, "without": quadratic, "mustWithout": quadratic,
		"regexReplaceAll":            replaceAll,
		"mustRegexReplaceAll":        replaceAll,
		"regexReplaceAllLiteral":     replaceAll,
		"mustRegexReplaceAllLiteral": replaceAll,
		"urlJoin":                    nil,
	}
)

func text(args []any, i int) string {
	if i < len(args) {
		if s, ok := args[i].(string); ok {
			return s
		}
	}
	return ""
}

func length(args []any, i int) int { return len(text(args, i)) }
func lines(args []any, i int) int  { return strings.Count(text(args, i), "\n") }

func occurrences(args []any, in, of int) int {
	return strings.Count(text(args, in), text(args, of))
}

func number(args []any, i int) int {
	if i < len(args) {
		switch n := args[i].(type) {
		case int:
			return n
		case int64:
			return int(n)
		case float64:
			return int(n)
		}
	}
	return 0
}

func product(a, b int) error {
	if a > 0 && b > 0 && (a > maxValue || b > maxValue || a*b > maxValue) {
		return sized(maxValue + 1)
	}
	return nil
}

func elements(n int) error {
	if n > maxNodes || n < -maxNodes {
		return fmt.Errorf("a list of more than %d elements", maxNodes)
	}
	return nil
}

func span(start, stop, step int) error {
	if step == 0 || start > 1<<40 || start < -1<<40 || stop > 1<<40 || stop < -1<<40 {
		return elements(maxNodes + 1)
	}
	return elements((stop - start) / step)
}

func untilStep(a []any) error {
	if number(a, 2) == 0 {
		return nil // sprig makes an empty list
	}
	return span(number(a, 0), number(a, 1), number(a, 2))
}

func sequence(a []any) error {
	switch len(a) {
	case 1:
		return elements(number(a, 0))
	case 2:
		return span(number(a, 0), number(a, 1), 1)
	case 3:
		if number(a, 1) != 0 {
			return span(number(a, 0), number(a, 2), number(a, 1))
		}
	}
	return nil
}

// count is how many elements a list has.
func count(v any) int {
	if l := reflect.ValueOf(v); l.Kind() == reflect.Slice || l.Kind() == reflect.Array {
		return l.Len()
	}
	return 0
}

func join(a []any) error {
	n := 1
	if len(a) > 1 {
		n = count(a[1])
	}
	return product(n, length(a, 0))
}

var widthRE = regexp.MustCompile(`%[^a-zA-Z%]*(\*|[0-9]{4})`)

func format(a []any) error {
	f := text(a, 0)
	if widthRE.MatchString(f) {
		return fmt.Errorf("printf %.40q: a width of thousands", f)
	}
	// An argument can be named as often as there are verbs.
	longest := 1000
	for _, arg := range a[min(1, len(a)):] {
		if s, ok := arg.(string); ok {
			longest = max(longest, len(s))
		} else if _, simple := arg.(int); !simple && arg != nil {
			m := meter{}
			if err := m.walk(reflect.ValueOf(arg), 0); err != nil {
				return err
			}
			longest = max(longest, m.bytes+m.nodes*24)
		}
	}
	return product(strings.Count(f, "%"), min(longest, maxValue/2))
}

func replaceAll(a []any) error {
	if n := length(a, 2); n > 0 && length(a, 1) > 0 {
		if (length(a, 1)+1)*n > 8*maxValue {
			return sized(maxValue + 1)
		}
	}
	return nil
}

func quadratic(a []any) error {
	for _, x := range a {
		if count(x) > maxQuadratic {
			return fmt.Errorf("a list of more than %d elements, for a function that compares each with each", maxQuadratic)
		}
	}
	return nil
}
