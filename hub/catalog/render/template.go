// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
)

const (
	maxTemplate = 2 << 20 // bytes of one template
	maxOpen     = 500     // of ifs within ifs
	maxElse     = 5_000
)

// templates are those of one rendering, under one guard. They work as those of
// Helm's engine (helm.sh/helm/v3/pkg/engine), which has no way to stop one.
type templates struct {
	g        *guard
	root     *template.Template
	missing  string // option of text/template
	prepared map[*parse.Tree]bool
}

// newTemplates makes an empty set. Strict refuses what is not there; otherwise it is
// nothing, as in Helm.
func newTemplates(g *guard, funcs template.FuncMap, strict bool) *templates {
	t := &templates{g: g, root: template.New("gotpl"), missing: "missingkey=zero", prepared: map[*parse.Tree]bool{}}
	if strict {
		t.missing = "missingkey=error"
	}
	t.root.Option(t.missing)
	wrapped := template.FuncMap{}
	for name, fn := range funcs {
		wrapped[name] = g.wrap(name, fn)
	}
	t.root.Funcs(wrapped).Funcs(g.calls()).Funcs(template.FuncMap{
		"include":  g.wrap("include", t.include(t.root)),
		"tpl":      g.wrap("tpl", t.tpl(t.root)),
		"required": g.wrap("required", required),
		"fail":     g.wrap("fail", func(msg string) (string, error) { return "", &saidError{msg} }),
	})
	return t
}

// saidError is what a template says of its values.
type saidError struct{ text string }

func (e *saidError) Error() string { return e.text }

func required(warn string, val any) (any, error) {
	if val == nil || val == "" {
		return val, &saidError{warn}
	}
	return val, nil
}

func (t *templates) parse(name, text string) error {
	if err := plain(text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := t.root.New(name).Parse(text); err != nil {
		return templateError(name, err)
	}
	return nil
}

// execute renders a template that was parsed.
func (t *templates) execute(name string, data any) (string, error) {
	t.g.prepare(t.root, t.prepared)
	out := &writer{g: t.g}
	if err := t.root.ExecuteTemplate(out, name, data); err != nil {
		return "", templateError(name, err)
	}
	return out.String(), nil
}

func (t *templates) include(root *template.Template) func(string, any) (string, error) {
	return func(name string, data any) (string, error) {
		out := &writer{g: t.g}
		err := root.ExecuteTemplate(out, name, data)
		return out.String(), err
	}
}

func (t *templates) tpl(parent *template.Template) func(string, any) (string, error) {
	return func(text string, data any) (string, error) {
		if err := plain(text); err != nil {
			return "", err
		}
		t.g.steps += len(text) / 32
		root, err := parent.Clone()
		if err != nil {
			return "", fmt.Errorf("cannot clone template: %w", err)
		}
		root.Option(t.missing)
		root.Funcs(template.FuncMap{
			"include": t.g.wrap("include", t.include(root)),
			"tpl":     t.g.wrap("tpl", t.tpl(root)),
		})
		if root, err = root.New(parent.Name()).Parse(text); err != nil {
			return "", fmt.Errorf("cannot parse template %.200q: %w", text, err)
		}
		t.g.prepare(root, t.prepared)
		out := &writer{g: t.g}
		if err := root.Execute(out, data); err != nil {
			return "", fmt.Errorf("error during tpl function execution for %.200q: %w", text, err)
		}
		return noValue(out.String()), nil
	}
}

// noValue takes out what text/template prints for nothing, as Helm does.
func noValue(s string) string { return strings.ReplaceAll(s, "<no value>", "") }

var openRE = regexp.MustCompile(`\{\{-?\s*(if|range|with|block|define|end|else\s+(?:if|with))\b`)

// plain refuses a template that is too large, or nested too deep for a parser that
// recurses.
func plain(text string) error {
	if len(text) > maxTemplate {
		return fmt.Errorf("a template of more than %d MiB", maxTemplate>>20)
	}
	if len(text) < 4*maxOpen {
		return nil
	}
	open, elses := 0, 0
	for _, m := range openRE.FindAllStringSubmatch(text, -1) {
		switch {
		case m[1] == "end":
			open = max(open-1, 0)
		case strings.HasPrefix(m[1], "else"):
			elses++
		default:
			open++
		}
		if open > maxOpen || elses > maxElse {
			return fmt.Errorf("a template nested more than %d deep", maxOpen)
		}
	}
	return nil
}

var (
	placeRE = regexp.MustCompile(`^template: ?([^:]*):(\d+)(?::\d+)?: `)
	innerRE = regexp.MustCompile(`executing "[^"]*" at <([^>]*)>: `)
	callRE  = regexp.MustCompile(`error calling \w+: `)
	textRE  = regexp.MustCompile(`at <.*>: error calling drover\w+: `)
)

// templateError says what is wrong where, without the way there.
func templateError(name string, err error) error {
	text := err.Error()
	where := name
	if m := placeRE.FindStringSubmatch(text); m != nil {
		where = m[1] + ":" + m[2]
		text = strings.TrimPrefix(text, m[0])
	}
	// The innermost place is where it went wrong.
	for {
		i := strings.LastIndex(text, ": template: ")
		if i < 0 {
			break
		}
		text = text[i+2:]
		if m := placeRE.FindStringSubmatch(text); m != nil {
			where = m[1] + ":" + m[2]
			text = strings.TrimPrefix(text, m[0])
			continue
		}
		break
	}
	var said *saidError
	if errors.As(err, &said) {
		return &Error{Where: where, Text: said.text, Err: err}
	}
	if textRE.MatchString(text) {
		text = text[textRE.FindStringIndex(text)[1]:]
		return &Error{Where: where, Text: text, Err: err}
	}
	if m := innerRE.FindStringSubmatch(text); m != nil {
		text = m[1] + ": " + strings.Replace(text, m[0], "", 1)
	}
	text = callRE.ReplaceAllString(text, "")
	return &Error{Where: where, Text: text, Err: err}
}

// Error is what is wrong with content or values, for who wrote them.
type Error struct {
	Where string // file, or file:line
	Text  string
	Err   error
}

// Error names the place.
func (e *Error) Error() string {
	if e.Where == "" {
		return e.Text
	}
	return e.Where + ": " + e.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
