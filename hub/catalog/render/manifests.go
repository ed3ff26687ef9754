// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	kjson "sigs.k8s.io/json"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/archive"
)

// Data is what our own templates see.
type Data struct {
	Values    map[string]any
	Cluster   *Cluster
	AddOn     string
	Version   string
	Namespace string
}

func dataOf(in *catalog.Rendering, cluster *Cluster) *Data {
	values, _ := copied(in.Values).(map[string]any)
	if values == nil {
		values = map[string]any{}
	}
	return &Data{Values: values, Cluster: cluster, AddOn: in.AddOn, Version: in.Version, Namespace: in.Namespace}
}

// copied is a copy of a JSON value that a template may change.
func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = copied(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = copied(x)
		}
		return out
	case int64:
		return int(v) // what the functions of templates take
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		f, _ := v.Float64()
		return f
	}
	return v
}

// allowed are the functions of our own templates, of those of Helm's.
func allowed() template.FuncMap {
	f := functions()
	for _, name := range refusedFunctions {
		delete(f, name)
	}
	for _, name := range strings.Fields(`lookup getHostByName hello derivePassword decryptAES buildCustomCert
		date_modify dateModify must_date_modify mustDateModify mustToDate toDate unixEpoch duration
		base dir clean ext isAbs osBase osClean osDir osExt osIsAbs`) {
		delete(f, name)
	}
	return f
}

// expand renders the files that end in .tmpl, and returns all files under the names
// that they have then.
func expand(g *guard, in *catalog.Rendering, cluster *Cluster) (archive.Files, error) {
	names := slices.Sorted(maps.Keys(in.Content.Files))
	if !slices.ContainsFunc(names, isTemplate) {
		return in.Content.Files, nil
	}
	t := newTemplates(g, allowed(), true)
	for _, name := range names {
		if isTemplate(name) {
			if err := t.parse(name, string(in.Content.Files[name])); err != nil {
				return nil, err
			}
		}
	}
	out := make(archive.Files, len(names))
	for _, name := range names {
		if !isTemplate(name) {
			out[name] = in.Content.Files[name]
			continue
		}
		if strings.HasPrefix(path.Base(name), "_") {
			continue // holds definitions for others
		}
		text, err := t.execute(name, dataOf(in, cluster))
		if err != nil {
			return nil, err
		}
		plain := strings.TrimSuffix(name, ".tmpl")
		if _, both := in.Content.Files[plain]; both {
			return nil, &Error{Where: name, Text: "there is a file " + plain + " too"}
		}
		out[plain] = []byte(text)
	}
	return out, nil
}

func isTemplate(name string) bool { return strings.HasSuffix(name, ".tmpl") }

func manifests(g *guard, in *catalog.Rendering, cluster *Cluster) (*parts, error) {
	files, err := expand(g, in, cluster)
	if err != nil {
		return nil, err
	}
	p := &parts{}
	for _, name := range source.Names(files) {
		if !source.IsManifest(name) && !isTemplate(name) && path.Ext(name) != "" {
			continue
		}
		if err := g.expired(); err != nil {
			return nil, &Error{Where: name, Text: err.Error(), Err: err}
		}
		found, err := source.Decode(name, files[name])
		if err != nil {
			return nil, rendered(err, in.Content.Files[name] == nil)
		}
		p.take(found)
	}
	objects, err := fill(g, in, cluster)
	if err != nil {
		return nil, err
	}
	p.take(objects)
	return p, nil
}

// rendered says that a line is one of what a template made.
func rendered(err error, really bool) error {
	if !really {
		return err
	}
	return fmt.Errorf("rendered %w", err)
}

// fill renders the strings of objects that are templates.
func fill(g *guard, in *catalog.Rendering, cluster *Cluster) ([]source.Object, error) {
	f := filler{g: g, data: dataOf(in, cluster)}
	var out []source.Object
	for i, o := range in.Content.Objects {
		where := fmt.Sprintf("manifests[%d] (%s)", i, source.Name(o))
		value, err := f.value(where, o.Object)
		if err != nil {
			return nil, err
		}
		found, err := source.Objects(where, 0, value)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

type filler struct {
	g    *guard
	data *Data
	t    *templates
}

func (f *filler) value(where string, v any) (any, error) {
	switch v := v.(type) {
	case string:
		if !strings.Contains(v, "{{") {
			return v, nil
		}
		return f.text(where, v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			x, err := f.value(where+"."+k, v[k])
			if err != nil {
				return nil, err
			}
			out[k] = x
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			x, err := f.value(fmt.Sprintf("%s[%d]", where, i), v[i])
			if err != nil {
				return nil, err
			}
			out[i] = x
		}
		return out, nil
	}
	return v, nil
}

// text renders one string. If it is one action and nothing else, its value keeps its
// type.
func (f *filler) text(where, s string) (any, error) {
	if f.t == nil {
		f.t = newTemplates(f.g, allowed(), true)
	}
	if err := f.t.parse(where, s); err != nil {
		return nil, err
	}
	tree := f.t.root.Lookup(where).Tree
	typed := false
	if len(tree.Root.Nodes) == 1 {
		a, ok := tree.Root.Nodes[0].(*parse.ActionNode)
		typed = ok && len(a.Pipe.Decl) == 0
	}
	f.g.last = nil
	out, err := f.t.execute(where, f.data)
	if err != nil || !typed {
		return out, err
	}
	if _, ok := f.g.last.(string); ok {
		return out, nil
	}
	// As JSON has it.
	data, err := json.Marshal(f.g.last)
	if err != nil {
		return nil, &Error{Where: where, Text: err.Error()}
	}
	var value any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &value); err != nil {
		return nil, &Error{Where: where, Text: err.Error()}
	}
	return value, nil
}
