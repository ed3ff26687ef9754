// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"

	validate "k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
	yamlv3 "sigs.k8s.io/yaml/goyaml.v3"
)

// MaxObjects is how many objects an addon may have.
const MaxObjects = 20_000

const (
	maxNodes = 500_000 // of one YAML document, aliases followed
	maxDepth = 200
)

// Error is what is wrong with a file.
type Error struct {
	File string
	Line int // from 1; 0 when it is not known
	Err  error
}

// Error names file and line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Object is a manifest with the place where it was found.
type Object struct {
	*unstructured.Unstructured
	File string
	Line int
}

func (o Object) where() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Decode reads the objects of a file of YAML documents or JSON values. Lists are
// taken apart.
func Decode(file string, data []byte) ([]Object, error) {
	switch path.Ext(strings.TrimSuffix(file, ".tmpl")) {
	case ".json", ".ndjson":
		return decodeStream(file, data)
	}
	return DecodeYAML(file, data, true)
}

// DecodeYAML reads YAML documents. Strict refuses fields that are there twice.
func DecodeYAML(file string, data []byte, strict bool) ([]Object, error) {
	var all []Object
	for _, doc := range documents(data) {
		if err := bomb(doc.text); err != nil {
			return nil, at(file, doc.line, err)
		}
		var (
			text []byte
			err  error
		)
		if strict {
			text, err = yaml.YAMLToJSONStrict(doc.text)
		} else {
			text, err = yaml.YAMLToJSON(doc.text)
		}
		if err != nil {
			return nil, at(file, doc.line, err)
		}
		if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
			continue
		}
		found, err := decodeJSON(file, doc.line, text)
		if err != nil {
			return nil, err
		}
		if all = append(all, found...); len(all) > MaxObjects {
			return nil, &Error{File: file, Err: fmt.Errorf("more than %d objects", MaxObjects)}
		}
	}
	return all, nil
}

func decodeStream(file string, data []byte) ([]Object, error) {
	var all []Object
	dec := json.NewDecoder(bytes.NewReader(data))
	for line := 1; ; {
		before := dec.InputOffset()
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			end := before
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				end = min(max(before, syntax.Offset), int64(len(data)))
			}
			return nil, &Error{File: file, Line: 1 + bytes.Count(data[:end], []byte("\n")), Err: err}
		}
		start := dec.InputOffset() - int64(len(raw))
		line += bytes.Count(data[before:start], []byte("\n"))
		found, err := decodeJSON(file, line, raw)
		if err != nil {
			return nil, err
		}
		line += bytes.Count(raw, []byte("\n"))
		if all = append(all, found...); len(all) > MaxObjects {
			return nil, &Error{File: file, Err: fmt.Errorf("more than %d objects", MaxObjects)}
		}
	}
}

// decodeJSON reads one object or list of objects.
func decodeJSON(file string, line int, text []byte) ([]Object, error) {
	var value any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &value); err != nil {
		return nil, &Error{File: file, Line: line, Err: err}
	}
	if deep(value, maxDepth) {
		return nil, &Error{File: file, Line: line, Err: fmt.Errorf("values are nested more than %d deep", maxDepth)}
	}
	return Objects(file, line, value)
}

// deep says whether a value is nested more than left levels.
func deep(value any, left int) bool {
	if left < 0 {
		return true
	}
	switch v := value.(type) {
	case map[string]any:
		for _, x := range v {
			if deep(x, left-1) {
				return true
			}
		}
	case []any:
		for _, x := range v {
			if deep(x, left-1) {
				return true
			}
		}
	}
	return false
}

// Objects are the objects of a JSON value: itself, or the items of a list.
func Objects(file string, line int, value any) ([]Object, error) {
	return objects(file, line, value, 0)
}

func objects(file string, line int, value any, depth int) ([]Object, error) {
	fail := func(format string, args ...any) ([]Object, error) {
		return nil, &Error{File: file, Line: line, Err: fmt.Errorf(format, args...)}
	}
	obj, ok := value.(map[string]any)
	if !ok {
		return fail("not a Kubernetes object: want apiVersion, kind and metadata")
	}
	u := &unstructured.Unstructured{Object: obj}
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	switch {
	case apiVersion == "":
		return fail("apiVersion is missing")
	case kind == "":
		return fail("kind is missing")
	}
	if items, list := obj["items"].([]any); list && strings.HasSuffix(kind, "List") {
		if depth > 2 {
			return fail("lists within lists")
		}
		var all []Object
		for _, item := range items {
			// An item of a typed list may leave out what it is.
			if m, ok := item.(map[string]any); ok && kind != "List" && m["kind"] == nil {
				m["kind"], m["apiVersion"] = strings.TrimSuffix(kind, "List"), apiVersion
			}
			found, err := objects(file, line, item, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	}
	meta, ok := obj["metadata"].(map[string]any)
	if !ok {
		return fail("%s: metadata is missing", kind)
	}
	for _, key := range []string{"name", "namespace"} {
		v, there := meta[key]
		s, text := v.(string)
		if there && v != nil && !text {
			return fail("%s: metadata.%s is %v: want a string", kind, key, v)
		}
		if strings.Contains(s, "{{") {
			continue // it is looked at when it is rendered
		}
		if problems := validate.IsPathSegmentName(s); len(problems) > 0 {
			return fail("%s: metadata.%s %.80q %s", kind, key, s, problems[0])
		}
	}
	for _, key := range []string{"labels", "annotations"} {
		m, ok := meta[key].(map[string]any)
		if meta[key] != nil && !ok {
			return fail("%s: metadata.%s: want a map of strings", kind, key)
		}
		for k, v := range m {
			if _, ok := v.(string); !ok && v != nil {
				return fail("%s: metadata.%s[%q] is %v: put it in quotes", kind, key, k, v)
			}
		}
	}
	if u.GetName() == "" {
		if meta["generateName"] != nil {
			return fail("%s: metadata.generateName: an object that is applied needs a name", kind)
		}
		return fail("%s: metadata.name is missing", kind)
	}
	return []Object{{Unstructured: u, File: file, Line: line}}, nil
}

type document struct {
	text []byte
	line int // of its first line, from 1
}

// documents splits a stream of YAML documents.
func documents(data []byte) []document {
	var out []document
	line, start, first := 1, 0, 1
	blank := true
	end := func(at int) {
		if !blank {
			out = append(out, document{data[start:at], first})
		}
		blank = true
	}
	for pos := 0; pos < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		text := bytes.TrimRight(data[pos:next], " \t\r\n")
		switch rest, marker := bytes.CutPrefix(text, []byte("---")); {
		case marker && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t'):
			end(pos)
			start, first = pos+3, line
			if blank = comment(rest); blank {
				start, first = next, line+1
			}
		case bytes.Equal(text, []byte("...")):
			end(pos)
			start, first = next, line+1
		case blank && bytes.HasPrefix(text, []byte("%")): // a directive
			start, first = next, line+1
		case blank:
			blank = comment(text)
			if blank {
				start, first = next, line+1
			}
		}
		pos = next
	}
	end(len(data))
	return out
}

func comment(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\ufeff")
	return len(line) == 0 || line[0] == '#'
}

var lineRE = regexp.MustCompile(`line (\d+): ?`)

// at puts an error of a YAML parser, which counts lines from the beginning of the
// document, where it is in the file.
func at(file string, first int, err error) error {
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: ", "yaml: ", "unmarshal errors:\n  "} {
		text = strings.TrimPrefix(text, prefix)
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n") // the first problem is enough
	text = text[:min(len(text), 300)]
	line := first
	if m := lineRE.FindStringSubmatchIndex(text); m != nil {
		if n, err := strconv.Atoi(text[m[2]:m[3]]); err == nil {
			line = first + n - 1
			text = text[:m[0]] + text[m[1]:]
		}
	}
	return &Error{File: file, Line: line, Err: errors.New(text)}
}

// bomb refuses a document that grows beyond bounds when its aliases are followed.
func bomb(text []byte) error {
	if !bytes.Contains(text, []byte("&")) || !bytes.Contains(text, []byte("*")) {
		return nil
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(text, &root); err != nil {
		return err
	}
	n, err := size(&root, 0, map[*yamlv3.Node]int{})
	if err != nil {
		return err
	}
	if n > maxNodes {
		return fmt.Errorf("its aliases make more than %d values of it", maxNodes)
	}
	return nil
}

// size counts the values below a node, aliases followed, and stops counting when
// there are too many.
func size(n *yamlv3.Node, depth int, known map[*yamlv3.Node]int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("line %d: values are nested more than %d deep", n.Line, maxDepth)
	}
	if s, ok := known[n]; ok {
		if s < 0 {
			return 0, fmt.Errorf("line %d: an alias to what it is in", n.Line)
		}
		return s, nil
	}
	if n.Kind == yamlv3.AliasNode {
		return size(n.Alias, depth+1, known)
	}
	known[n] = -1
	total := 1 + len(n.Value)/64
	for _, c := range n.Content {
		s, err := size(c, depth+1, known)
		if err != nil {
			return 0, err
		}
		if total += s; total > maxNodes {
			total = maxNodes + 1
		}
	}
	known[n] = total
	return total, nil
}
