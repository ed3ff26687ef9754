// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/archive"
)

// maxLoads is how often files and folders may be loaded in all: each folder counts as
// often as overlays come to it.
const maxLoads = 5_000

// kustomize builds the kustomization at the top. The library cannot be stopped, and
// loads from anywhere that it is told to: so all that the kustomizations name is
// looked at first.
func (r *Renderer) kustomize(g *guard, in *catalog.Rendering, cluster *Cluster) (*parts, error) {
	files, err := expand(g, in, cluster)
	if err != nil {
		return nil, err
	}
	files = maps.Clone(files)
	s := scan{files: files, weights: map[string]int{}}
	if _, err := s.folder("."); err != nil {
		return nil, err
	}
	fs := filesys.MakeFsInMemory()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := fs.WriteFile(name, files[name]); err != nil {
			return nil, fmt.Errorf("kustomize: write %s: %w", name, err)
		}
	}
	// The library keeps schemas in variables of its own.
	r.kustomizing.Lock()
	defer r.kustomizing.Unlock()
	if err := g.expired(); err != nil {
		return nil, &Error{Text: err.Error(), Err: err}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, ".")
	if err != nil {
		return nil, &Error{Where: "kustomization", Text: err.Error(), Err: err}
	}
	p := &parts{}
	var found []source.Object
	for i, res := range built.Resources() {
		data, err := res.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("kustomize: encode %s: %w", res.CurId(), err)
		}
		if g.output += len(data); g.output > g.limits.Output {
			return nil, &Error{Text: fmt.Sprintf("it makes more than %d MiB of text", g.limits.Output>>20)}
		}
		var value any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &value); err != nil {
			return nil, fmt.Errorf("kustomize: decode %s: %w", res.CurId(), err)
		}
		objects, err := source.Objects(fmt.Sprintf("resource %d of the kustomization", i+1), 0, value)
		if err != nil {
			return nil, err
		}
		found = append(found, objects...)
	}
	p.take(found)
	return p, nil
}

// scan follows what kustomizations name.
type scan struct {
	files   archive.Files
	weights map[string]int // by folder; -1 while it is being looked at
}

// refused fields run programs, fetch charts, or change the library for others.
var refusedFields = []struct{ name, why string }{
	{"helmCharts", "push the chart itself"},
	{"helmChartInflationGenerator", "push the chart itself"},
	{"helmGlobals", "push the chart itself"},
	{"openapi", "schemas of kinds are not supported here"},
}

// folder checks one kustomization and returns how many loads it costs.
func (s *scan) folder(dir string) (int, error) {
	if w, ok := s.weights[dir]; ok {
		if w < 0 {
			return 0, &source.Error{File: dir, Err: errors.New("the kustomization includes itself")}
		}
		return w, nil
	}
	s.weights[dir] = -1
	file := source.Kustomization(s.files, dir)
	fail := func(format string, args ...any) (int, error) {
		return 0, &source.Error{File: file, Err: fmt.Errorf(format, args...)}
	}
	if file == "" {
		return 0, &source.Error{File: dir, Err: errors.New("the folder has no kustomization.yaml")}
	}
	text, err := yaml.YAMLToJSONStrict(s.files[file])
	if err != nil {
		return fail("%s", strings.TrimPrefix(err.Error(), "error converting YAML to JSON: yaml: "))
	}
	k := map[string]any{}
	if err := json.Unmarshal(text, &k); err != nil {
		return fail("not a kustomization: %v", err)
	}
	for _, f := range refusedFields {
		if k[f.name] != nil {
			return fail("%s is not allowed: %s", f.name, f.why)
		}
	}
	total := 1
	for _, field := range []string{"resources", "bases", "components", "crds", "configurations", "generators", "transformers", "validators", "patchesStrategicMerge"} {
		for i, v := range elementsOf(k[field]) {
			name, ok := v.(string)
			if !ok {
				return fail("%s[%d]: want a string", field, i)
			}
			w, err := s.entry(dir, field, name)
			if err != nil {
				return fail("%s: %v", field, err)
			}
			if total += w; total > maxLoads {
				return fail("overlays load more than %d files and folders in all", maxLoads)
			}
		}
	}
	for _, field := range []string{"patches", "patchesJson6902", "replacements", "configMapGenerator", "secretGenerator"} {
		if err := s.paths(dir, k[field]); err != nil {
			return fail("%s: %v", field, err)
		}
		total += len(elementsOf(k[field]))
	}
	// What is built is what was looked at, however another parser would read it.
	if s.files[file], err = json.Marshal(k); err != nil {
		return fail("%v", err)
	}
	s.weights[dir] = total
	return total, nil
}

func elementsOf(v any) []any {
	l, _ := v.([]any)
	return l
}

// entry checks a file or folder that is named, or a document that stands in its place.
func (s *scan) entry(dir, field, name string) (int, error) {
	inline := field == "generators" || field == "transformers" || field == "validators"
	if strings.Contains(name, "\n") && (inline || field == "patchesStrategicMerge") {
		if !inline {
			return 1, nil
		}
		return 1, s.config(dir, "inline", []byte(name))
	}
	if err := local(name); err != nil {
		return 0, err
	}
	at := path.Join(dir, name)
	if data, file := s.files[at]; file {
		if inline {
			return 1, s.config(dir, at, data)
		}
		return 1, nil
	}
	if at == ".." || strings.HasPrefix(at, "../") {
		return 0, fmt.Errorf("%s leaves the bundle", name)
	}
	if at == dir || dir != "." && strings.HasPrefix(dir, at+"/") || at == "." {
		return 0, fmt.Errorf("%s is the folder that includes it", name)
	}
	for f := range s.files {
		if strings.HasPrefix(f, at+"/") {
			w, err := s.folder(at)
			return w + 1, err
		}
	}
	return 0, fmt.Errorf("%s is not in the bundle", name)
}

// config checks the configuration of a builtin plugin for paths.
func (s *scan) config(dir, name string, data []byte) error {
	objects, err := source.DecodeYAML(name, data, true)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if strings.Contains(o.GetKind(), "Helm") {
			return fmt.Errorf("%s is not allowed: push the chart itself", o.GetKind())
		}
		for _, a := range []string{"config.kubernetes.io/function", "config.k8s.io/function"} {
			if o.GetAnnotations()[a] != "" {
				return fmt.Errorf("%s is a function: programs are not run here", source.Name(o.Unstructured))
			}
		}
		if err := s.paths(dir, o.Object); err != nil {
			return err
		}
	}
	return nil
}

// paths checks every path in a value.
func (s *scan) paths(dir string, v any) error {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := s.paths(dir, x); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			switch key {
			case "path", "paths", "file", "files", "env", "envs":
				for _, name := range texts(v[key]) {
					if _, after, named := strings.Cut(name, "="); named && key != "path" && key != "paths" {
						name = after
					}
					if err := local(name); err != nil {
						return err
					}
				}
			default:
				if err := s.paths(dir, v[key]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func texts(v any) []string {
	var out []string
	if s, ok := v.(string); ok {
		out = append(out, s)
	}
	for _, x := range elementsOf(v) {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// local refuses what the library would take for a place elsewhere. JSON pointers of
// patches begin with a slash and have nothing of this.
func local(name string) error {
	if strings.ContainsAny(name, ":@?") && !strings.HasPrefix(name, "/") || strings.Contains(strings.ToLower(name), "github.com") {
		return fmt.Errorf("%s is not in the bundle: nothing is loaded from elsewhere", name)
	}
	return nil
}
