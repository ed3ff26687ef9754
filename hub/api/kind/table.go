// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/jsonpath"
)

// Column is one column of a table.
type Column struct {
	Definition metav1.TableColumnDefinition

	plain    []string           // keys of a plain path, the fast way
	path     *jsonpath.JSONPath // any other path; not safe for concurrent use
	template string
	first    int // cut text to so many bytes; 0 for all
}

func newColumn(c apiextensionsv1.CustomResourceColumnDefinition) (Column, error) {
	col := Column{Definition: metav1.TableColumnDefinition{
		Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority,
	}}
	if col.Definition.Description == "" {
		col.Definition.Description = "Value of " + c.JSONPath
	}
	if n, ok := strings.CutPrefix(c.Format, "first-"); ok {
		first, err := strconv.Atoi(n)
		if err != nil || first <= 0 {
			return Column{}, fmt.Errorf("format %q: want first-N", c.Format)
		}
		col.first, col.Definition.Format = first, ""
	}
	if keys, ok := plainPath(c.JSONPath); ok {
		col.plain = keys
		return col, nil
	}
	col.template = c.JSONPath
	if !strings.HasPrefix(col.template, "{") {
		col.template = "{" + col.template + "}"
	}
	_, err := parsePath(col.template)
	return col, err
}

func parsePath(template string) (*jsonpath.JSONPath, error) {
	p := jsonpath.New("column").AllowMissingKeys(true)
	if err := p.Parse(template); err != nil {
		return nil, fmt.Errorf("jsonPath %q: %w", template, err)
	}
	return p, nil
}

// plainPath splits ".a.b.c" into its keys.
func plainPath(path string) ([]string, bool) {
	rest, ok := strings.CutPrefix(path, ".")
	if !ok || rest == "" || strings.ContainsAny(rest, `[]{}()*?@'"\ `) || strings.Contains(rest, "..") {
		return nil, false
	}
	return strings.Split(rest, "."), true
}

// Printer makes the cells of rows. It is not safe for concurrent use.
type Printer struct {
	columns []Column
	buf     bytes.Buffer
}

// NewPrinter returns a printer for the kind's columns.
func (k *Kind) NewPrinter() *Printer {
	p := &Printer{columns: append([]Column(nil), k.Columns...)}
	for i := range p.columns {
		if c := &p.columns[i]; c.template != "" {
			// parsed once before, in newColumn
			c.path, _ = parsePath(c.template)
		}
	}
	return p
}

// Definitions returns the columns, with the name first.
func (p *Printer) Definitions() []metav1.TableColumnDefinition {
	defs := []metav1.TableColumnDefinition{{
		Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
	}}
	for _, c := range p.columns {
		defs = append(defs, c.Definition)
	}
	return defs
}

// Cells returns one row. A value that is missing or of another type than the
// column's is nil.
func (p *Printer) Cells(name string, obj map[string]any) []any {
	cells := make([]any, 1, 1+len(p.columns))
	cells[0] = name
	for i := range p.columns {
		cells = append(cells, p.cell(&p.columns[i], obj))
	}
	return cells
}

func (p *Printer) cell(c *Column, obj map[string]any) any {
	var value any
	if c.path == nil {
		value = lookup(obj, c.plain)
	} else {
		results, err := c.path.FindResults(obj)
		if err != nil || len(results) == 0 || len(results[0]) == 0 {
			return nil
		}
		if len(results) > 1 || c.Definition.Type == "string" {
			p.buf.Reset()
			for _, r := range results {
				if err := c.path.PrintResults(&p.buf, r[:min(1, len(r))]); err != nil {
					return nil
				}
			}
			return cut(p.buf.String(), c.first)
		}
		value = results[0][0].Interface()
	}
	return cellValue(c, value)
}

func cellValue(c *Column, value any) any {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		switch c.Definition.Type {
		case "string":
			return cut(v, c.first)
		case "date":
			var t metav1.Time
			if err := t.UnmarshalQueryParameter(v); err != nil {
				return "<invalid>"
			}
			return table.ConvertToHumanReadableDateType(t)
		}
	case bool:
		switch c.Definition.Type {
		case "boolean":
			return v
		case "string":
			return strconv.FormatBool(v)
		}
	case int64:
		switch c.Definition.Type {
		case "integer":
			return v
		case "number":
			return float64(v)
		case "string":
			return strconv.FormatInt(v, 10)
		}
	case float64:
		switch c.Definition.Type {
		case "integer":
			return int64(v)
		case "number":
			return v
		case "string":
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return nil
}

func cut(s string, n int) string {
	if n > 0 && len(s) > n {
		return s[:n]
	}
	return s
}

func lookup(obj map[string]any, keys []string) any {
	var v any = obj
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// selectable is a field that field selectors may name.
type selectable struct {
	name string
	keys []string
}

func newSelectable(path string) (selectable, error) {
	keys, ok := plainPath(path)
	if !ok {
		return selectable{}, fmt.Errorf("want a plain path such as .spec.name")
	}
	return selectable{name: strings.Join(keys, "."), keys: keys}, nil
}

// SelectableFields returns the names that field selectors of the kind may use
// besides metadata.name and metadata.namespace.
func (k *Kind) SelectableFields() []string {
	names := make([]string, len(k.selector))
	for i, s := range k.selector {
		names[i] = s.name
	}
	return names
}

// FieldPath returns the keys that lead to one of SelectableFields.
func (k *Kind) FieldPath(name string) []string {
	for _, s := range k.selector {
		if s.name == name {
			return s.keys
		}
	}
	return nil
}

// FieldValue returns the value of one of SelectableFields as text, empty when
// the object does not have it.
func (k *Kind) FieldValue(obj map[string]any, name string) string {
	for _, s := range k.selector {
		if s.name == name {
			switch v := lookup(obj, s.keys).(type) {
			case nil:
			case string:
				return v
			default:
				return fmt.Sprint(v)
			}
		}
	}
	return ""
}
