// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/source"
)

// Annotations of Helm's hooks.
const (
	helmHook   = "helm.sh/hook"
	helmWeight = "helm.sh/hook-weight"
)

// helm renders a chart. Loading, dependencies, values and capabilities are Helm's
// own; templates run under the guard.
func helm(g *guard, in *catalog.Rendering, cluster *Cluster) (*parts, error) {
	chrt, err := loadChart(in.Content)
	if err != nil {
		return nil, err
	}
	capabilities := &Capabilities{cluster: cluster, version: chartutil.DefaultCapabilities.KubeVersion}
	if want := chrt.Metadata.KubeVersion; want != "" {
		version, err := capabilities.KubeVersion()
		if err != nil {
			return nil, &Error{Text: err.Error(), Err: err}
		}
		if !chartutil.IsCompatibleRange(want, version.Version) {
			return nil, &Error{Where: "Chart.yaml", Text: fmt.Sprintf("kubeVersion %s: the cluster has Kubernetes %s", want, version.Version)}
		}
	}
	values, err := floats(in.Values)
	if err != nil {
		return nil, err
	}
	if err := chartutil.ProcessDependenciesWithMerge(chrt, values); err != nil {
		return nil, &Error{Where: "Chart.yaml", Text: err.Error(), Err: err}
	}
	top, err := chartutil.ToRenderValuesWithSchemaValidation(chrt, values, chartutil.ReleaseOptions{
		Name: in.AddOn, Namespace: in.Namespace, Revision: 1, IsInstall: true,
	}, chartutil.DefaultCapabilities, true)
	if err != nil {
		return nil, &Error{Where: "values.yaml", Text: err.Error(), Err: err}
	}
	all, err := top.Table("Values")
	if err != nil {
		return nil, err
	}
	if err := g.measure(map[string]any(all)); err != nil {
		return nil, &Error{Where: "values", Text: err.Error()}
	}
	if err := validateCharts(chrt, all, ""); err != nil {
		return nil, err
	}
	top["Capabilities"] = capabilities
	p := &parts{}
	for _, crd := range chrt.CRDObjects() {
		found, err := source.DecodeYAML(crd.Filename, crd.File.Data, false)
		if err != nil {
			return nil, err
		}
		p.objects = append(p.objects, found...)
	}
	texts, err := runCharts(g, chrt, top)
	if err != nil {
		return nil, err
	}
	var found []source.Object
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if err := g.expired(); err != nil {
			return nil, &Error{Where: name, Text: err.Error(), Err: err}
		}
		objects, err := source.DecodeYAML(name, []byte(ownLines(texts[name])), false)
		if err != nil {
			return nil, rendered(err, true)
		}
		found = append(found, objects...)
	}
	return p, p.takeHelm(found)
}

var markerRE = regexp.MustCompile(`(?m)^---[ \t]*(\S)`)

// ownLines puts what follows a document marker on the next line. To Helm any line
// that begins with --- ends a document, and templates that trim blanks leave such.
func ownLines(text string) string { return markerRE.ReplaceAllString(text, "---\n$1") }

func loadChart(c *catalog.Content) (*chart.Chart, error) {
	var files []*loader.BufferedFile
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		files = append(files, &loader.BufferedFile{Name: name, Data: c.Files[name]})
	}
	chrt, err := loader.LoadFiles(files)
	if err != nil {
		return nil, &Error{Where: "chart", Text: err.Error(), Err: err}
	}
	switch chrt.Metadata.Type {
	case "", "application":
	default:
		return nil, &Error{Where: "Chart.yaml", Text: fmt.Sprintf("a chart of type %s cannot be installed", chrt.Metadata.Type)}
	}
	sortCharts(chrt)
	for _, d := range chrt.Metadata.Dependencies {
		if !slices.ContainsFunc(chrt.Dependencies(), func(c *chart.Chart) bool { return c.Name() == d.Name }) {
			return nil, &Error{Where: "Chart.yaml", Text: fmt.Sprintf("dependency %s is not in charts/: run helm dependency build first", d.Name)}
		}
	}
	return chrt, nil
}

// sortCharts gives subcharts an order; the loader's is that of a map.
func sortCharts(c *chart.Chart) {
	subs := slices.Clone(c.Dependencies())
	slices.SortStableFunc(subs, func(a, b *chart.Chart) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.Metadata.Version, b.Metadata.Version))
	})
	c.SetDependencies(subs...)
	for _, s := range subs {
		sortCharts(s)
	}
}

// floats are values as Helm reads them from a file: all numbers are float64.
func floats(values map[string]any) (map[string]any, error) {
	data, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("encode values: %w", err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("decode values: %w", err)
	}
	if out == nil {
		out = map[string]any{}
	}
	return out, nil
}

type chartTemplate struct {
	text, base string
	data       map[string]any
}

// runCharts renders the templates of a chart and its subcharts, as Helm's engine does.
func runCharts(g *guard, c *chart.Chart, top chartutil.Values) (map[string]string, error) {
	all := map[string]chartTemplate{}
	scope(c, top, all)
	t := newTemplates(g, functions(), false)
	order := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/")), cmp.Compare(b, a))
	})
	for _, name := range order {
		if err := t.parse(name, all[name].text); err != nil {
			return nil, err
		}
	}
	out := map[string]string{}
	for _, name := range order {
		if strings.HasPrefix(path.Base(name), "_") || path.Base(name) == "NOTES.txt" {
			continue
		}
		data := all[name].data
		data["Template"] = chartutil.Values{"Name": name, "BasePath": all[name].base}
		text, err := t.execute(name, data)
		if err != nil {
			return nil, err
		}
		out[name] = noValue(text)
	}
	return out, nil
}

// scope gives each chart what its templates see: its own values, and below
// .Subcharts what its subcharts see.
func scope(c *chart.Chart, parent chartutil.Values, all map[string]chartTemplate) map[string]any {
	subs := map[string]any{}
	data := map[string]any{
		"Chart": struct {
			chart.Metadata
			IsRoot bool
		}{*c.Metadata, c.IsRoot()},
		"Files":        filesOf(c),
		"Release":      parent["Release"],
		"Capabilities": parent["Capabilities"],
		"Values":       chartutil.Values{},
		"Subcharts":    subs,
	}
	if c.IsRoot() {
		data["Values"] = parent["Values"]
	} else if v, err := parent.Table("Values." + c.Name()); err == nil {
		data["Values"] = v
	}
	for _, sub := range c.Dependencies() {
		subs[sub.Name()] = scope(sub, data, all)
	}
	library := strings.EqualFold(c.Metadata.Type, "library")
	for _, t := range c.Templates {
		if library && !strings.HasPrefix(filepath.Base(t.Name), "_") {
			continue
		}
		all[path.Join(c.ChartFullPath(), t.Name)] = chartTemplate{
			text: string(t.Data), base: path.Join(c.ChartFullPath(), "templates"), data: data,
		}
	}
	return data
}

// takeHelm sorts what a chart made: hooks by their weight.
func (p *parts) takeHelm(found []source.Object) error {
	type weighed struct {
		source.Object
		weight int
	}
	var before, after, delete []weighed
	var plain []source.Object
	for _, o := range found {
		text, hook := o.GetAnnotations()[helmHook]
		if !hook {
			plain = append(plain, o)
			continue
		}
		weight, err := strconv.Atoi(cmp.Or(strings.TrimSpace(o.GetAnnotations()[helmWeight]), "0"))
		if err != nil {
			weight = 0 // as in Helm
		}
		w := weighed{o, weight}
		events := map[string]bool{}
		for _, e := range strings.Split(text, ",") {
			events[strings.ToLower(strings.TrimSpace(e))] = true
		}
		job := runs(o.GetKind())
		start := events["pre-install"] || events["pre-upgrade"]
		end := events["post-install"] || events["post-upgrade"]
		switch {
		case events["test"] || events["test-success"] || events["test-failure"]:
		case events["crd-install"]:
			before = append(before, w)
		case job && events["pre-delete"]:
			delete = append(delete, w)
		case job && end:
			after = append(after, w)
		case start || end || events["pre-delete"]:
			before = append(before, w)
		}
	}
	ordered := func(hooks []weighed) []source.Object {
		slices.SortStableFunc(hooks, func(a, b weighed) int {
			return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.GetName(), b.GetName()))
		})
		out := make([]source.Object, len(hooks))
		for i, h := range hooks {
			out[i] = h.Object
		}
		return out
	}
	p.take(ordered(before))
	p.take(plain)
	p.postInstall = append(p.postInstall, ordered(after)...)
	p.preDelete = append(p.preDelete, ordered(delete)...)
	return nil
}
