// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bundle makes the files of the dashboard that browsers load of its
// sources: TypeScript and CSS in, minified files with the hash of their content
// in the name out. The same sources give the same bytes on every machine.
//
// The sources are one directory:
//
//	index.html            names its entry points as "/src/..."; they become the built files
//	src/                  TypeScript, TSX and CSS
//	vendor/imports.json   which file of vendor stands for which bare import
//	vendor/               libraries, with their licences
//	static/               copied as it is
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// Assets is the directory of the files whose names hold a hash.
const Assets = "assets"

// Files are what was built, by their slash-separated paths.
type Files map[string][]byte

var entryPattern = regexp.MustCompile(`"/(src/[^"]+)"`)

// Build bundles the sources in dir. An error names the file and line at fault.
func Build(dir string) (Files, error) {
	s, err := read(dir)
	if err != nil {
		return nil, err
	}
	result := api.Build(s.options())
	return s.files(&result)
}

// Script bundles one source, such as "src/logic.test.ts", and what it imports, into
// one script for tests: its exports are the fields of a global variable.
func Script(dir, source, global string) ([]byte, error) {
	s, err := read(dir)
	if err != nil {
		return nil, err
	}
	options := s.options()
	options.EntryPoints, options.Outfile, options.Outdir, options.Outbase = []string{source}, "dist/test.js", "", ""
	options.Splitting, options.Format, options.GlobalName = false, api.FormatIIFE, global
	options.EntryNames, options.ChunkNames, options.AssetNames = "", "", ""
	result := api.Build(options)
	if len(result.Errors) > 0 {
		return nil, messages(result.Errors)
	}
	for _, f := range result.OutputFiles {
		if filepath.Ext(f.Path) == ".js" {
			return f.Contents, nil
		}
	}
	return nil, fmt.Errorf("%s: makes no script", source)
}

// Watch builds now and after every change of a source, and calls built each time,
// until stop is called.
func Watch(dir string, built func(Files, error)) (stop func(), err error) {
	s, err := read(dir)
	if err != nil {
		return nil, err
	}
	options := s.options()
	options.Plugins = append(options.Plugins, api.Plugin{Name: "built", Setup: func(b api.PluginBuild) {
		b.OnEnd(func(r *api.BuildResult) (api.OnEndResult, error) {
			built(s.files(r))
			return api.OnEndResult{}, nil
		})
	}})
	running, cerr := api.Context(options)
	if cerr != nil {
		return nil, messages(cerr.Errors)
	}
	if err := running.Watch(api.WatchOptions{}); err != nil {
		running.Dispose()
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return running.Dispose, nil
}

// sources are what the bundler does not read by itself.
type sources struct {
	dir     string // absolute
	index   []byte
	entries []string
	imports map[string]string // absolute paths of files by bare import
}

func read(dir string) (*sources, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &sources{dir: abs}
	if s.index, err = os.ReadFile(filepath.Join(abs, "index.html")); err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	for _, m := range entryPattern.FindAllSubmatch(s.index, -1) {
		s.entries = append(s.entries, string(m[1]))
	}
	if len(s.entries) == 0 {
		return nil, errors.New(`index.html: names no entry point, such as "/src/main.tsx"`)
	}
	text, err := os.ReadFile(filepath.Join(abs, "vendor", "imports.json"))
	if err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	if err := json.Unmarshal(text, &s.imports); err != nil {
		return nil, fmt.Errorf("vendor/imports.json: %w", err)
	}
	for name, file := range s.imports {
		s.imports[name] = filepath.Join(abs, "vendor", filepath.FromSlash(file))
	}
	return s, nil
}

func (s *sources) options() api.BuildOptions {
	return api.BuildOptions{
		AbsWorkingDir: s.dir, EntryPoints: s.entries, Outdir: "dist", Outbase: "src",
		Bundle: true, Splitting: true, Format: api.FormatESModule, Platform: api.PlatformBrowser, Target: api.ES2022,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true, Metafile: true,
		JSX: api.JSXAutomatic, JSXImportSource: "preact", LegalComments: api.LegalCommentsNone,
		EntryNames: Assets + "/[name]-[hash]", ChunkNames: Assets + "/[name]-[hash]", AssetNames: Assets + "/[name]-[hash]",
		Loader: map[string]api.Loader{".svg": api.LoaderFile, ".woff2": api.LoaderFile},
		// Nothing outside the sources has a say in the outcome.
		TsconfigRaw: `{}`, LogLevel: api.LogLevelSilent,
		Define:  map[string]string{"process.env.NODE_ENV": `"production"`},
		Plugins: []api.Plugin{{Name: "vendor", Setup: s.resolve}},
	}
}

// resolve finds bare imports in the table alone: what is not there would come from
// somebody's node_modules.
func (s *sources) resolve(b api.PluginBuild) {
	b.OnResolve(api.OnResolveOptions{Filter: `^[^./]`}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
		if a.Kind == api.ResolveEntryPoint || a.Kind == api.ResolveCSSURLToken {
			return api.OnResolveResult{}, nil
		}
		file, ok := s.imports[a.Path]
		if !ok {
			return api.OnResolveResult{}, fmt.Errorf("vendor/imports.json has no %q", a.Path)
		}
		return api.OnResolveResult{Path: file}, nil
	})
}

func (s *sources) files(r *api.BuildResult) (Files, error) {
	if len(r.Errors) > 0 {
		return nil, messages(r.Errors)
	}
	out := Files{}
	for _, f := range r.OutputFiles {
		rel, err := filepath.Rel(filepath.Join(s.dir, "dist"), f.Path)
		if err != nil {
			return nil, err
		}
		out[filepath.ToSlash(rel)] = f.Contents
	}
	index, err := s.link(r.Metafile)
	if err != nil {
		return nil, err
	}
	out["index.html"] = index
	return out, s.copyStatic(out)
}

// link puts the names of the built files into index.html.
func (s *sources) link(metafile string) ([]byte, error) {
	var meta struct {
		Outputs map[string]struct {
			EntryPoint string `json:"entryPoint"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal([]byte(metafile), &meta); err != nil {
		return nil, fmt.Errorf("read the bundler's account: %w", err)
	}
	built := map[string]string{}
	for name, o := range meta.Outputs {
		if o.EntryPoint != "" {
			built[o.EntryPoint] = strings.TrimPrefix(name, "dist")
		}
	}
	var missing error
	index := entryPattern.ReplaceAllFunc(s.index, func(m []byte) []byte {
		entry := string(entryPattern.FindSubmatch(m)[1])
		if built[entry] == "" {
			missing = fmt.Errorf("index.html: %s was not built", entry)
		}
		return []byte(`"` + built[entry] + `"`)
	})
	return index, missing
}

func (s *sources) copyStatic(out Files) error {
	root := filepath.Join(s.dir, "static")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)], err = os.ReadFile(name)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func messages(all []api.Message) error {
	errs := make([]error, 0, len(all))
	for _, m := range all {
		at := ""
		if m.Location != nil {
			at = fmt.Sprintf("%s:%d:%d: ", m.Location.File, m.Location.Line, m.Location.Column)
		}
		errs = append(errs, errors.New(at+m.Text))
	}
	return errors.Join(errs...)
}

// Write makes dir hold these files and no others.
func (f Files) Write(dir string) error {
	for _, name := range f.Names() {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, f[name], 0o644); err != nil {
			return err
		}
	}
	there, err := Read(os.DirFS(dir))
	if err != nil {
		return err
	}
	for _, name := range there.Names() {
		if _, ok := f[name]; !ok {
			if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				return err
			}
		}
	}
	return nil
}

// Names of the files, sorted.
func (f Files) Names() []string {
	out := make([]string, 0, len(f))
	for name := range f {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Read returns the files that were built before.
func Read(dist fs.FS) (Files, error) {
	out := Files{}
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[path.Clean(name)], err = fs.ReadFile(dist, name)
		return err
	})
	return out, err
}
