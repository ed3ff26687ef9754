// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rules holds the rules of this code base that a program can check.
package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/drover-io/drover"

type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
	Module     *struct{ Path string }
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// packages lists this module's packages with all they depend on.
var packages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-tags", "nobadger,nomysql,nopgx", "-json=ImportPath,Name,Dir,GoFiles,Imports,Deps,Module", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func list(t *testing.T) []pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

// below says whether path is one of the trees, each named from the module's root.
func below(path string, trees ...string) bool {
	for _, tree := range trees {
		full := module + "/" + tree
		if path == full || strings.HasPrefix(path, full+"/") {
			return true
		}
	}
	return false
}

// sibling returns the first element of path below tree, such as "store" of
// hub/store/x, and "" for tree itself, its commands, and anything else.
func sibling(path, tree string) string {
	rest, ok := strings.CutPrefix(path, module+"/"+tree+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	if first == "cmd" {
		return ""
	}
	return first
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	beneath := []string{"store", "broker", "auth"} // of hub: the others stand on them
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			wrong := ""
			switch {
			case below(p.ImportPath, "shared", "pki") && below(imp, "hub", "agent"):
				wrong = "shared and pki are linked by both sides and know neither"
			case below(p.ImportPath, "hub") && below(imp, "agent"), below(p.ImportPath, "agent") && below(imp, "hub"):
				wrong = "hub and agent know each other by package wire alone"
			case below(p.ImportPath, "hub", "agent", "shared", "pki") && below(imp, "test"):
				wrong = "the product does not need its tests"
			}
			for _, tree := range []string{"hub", "agent"} {
				from, to := sibling(p.ImportPath, tree), sibling(imp, tree)
				if from == "" || to == "" || from == to || (tree == "hub" && slices.Contains(beneath, to)) {
					continue
				}
				wrong = "siblings do not know each other: they meet in the store, or are connected by package " + tree
			}
			if wrong != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imp, wrong)
			}
		}
	}
}

func TestForbiddenDependencies(t *testing.T) {
	t.Parallel()
	rules := []struct{ root, forbidden, why string }{
		{"agent", module + "/hub", "the agent must not know the hub"},
		{"agent", "github.com/nats-io/nats-server", "the agent is a client: memory and attack surface"},
		{"agent", "github.com/smallstep", "the CA belongs to the hub"},
		{"agent", "go.step.sm", "the CA belongs to the hub"},
		{"agent", "k8s.io/client-go/kubernetes", "all typed clients cost the agent megabytes"},
		{"agent", "k8s.io/client-go/discovery", "it registers all typed kinds: 9 MB at start"},
		{"agent", "k8s.io/client-go/restmapper", "it registers all typed kinds: 9 MB at start"},
		{"agent", "sigs.k8s.io/controller-runtime", "its caches do not fit the agent's memory"},
		{"agent", "k8s.io/apiextensions-apiserver", "schemas are the hub's"},
		{"hub/cmd/drover", module + "/hub", "the command line is a client of the API"},
		{"hub/cmd/drover", module + "/pki", "the command line is a client of the API"},
		{"hub/cmd/drover", "github.com/nats-io", "the command line is a client of the API"},
		{"hub/cmd/drover", "github.com/smallstep", "the command line is a client of the API"},
		{"shared", "github.com/smallstep", "shared is linked by the agent"},
		{"pki/identity", "k8s.io", "identities need the standard library alone"},
		{"pki/jointoken", "k8s.io", "tokens need the standard library alone"},
		// Helm's values come with the scheme beside the typed clients.
		{"hub", "k8s.io/client-go/kubernetes/typed", "the hub serves its own API and needs no typed clients"},
	}
	for _, p := range list(t) {
		for _, r := range rules {
			if !below(p.ImportPath, r.root) || (r.root == "hub" && below(p.ImportPath, "hub/cmd/drover")) {
				continue
			}
			for _, dep := range p.Deps {
				if dep == p.ImportPath || (dep != r.forbidden && !strings.HasPrefix(dep, r.forbidden+"/")) {
					continue
				}
				if r.root == "hub/cmd/drover" && strings.HasPrefix(p.ImportPath, module+"/hub/cmd/drover-hub") {
					continue
				}
				t.Errorf("%s depends on %s: %s", p.ImportPath, dep, r.why)
			}
		}
	}
}

// goFiles calls f for every Go file of the repository, test modules included.
func goFiles(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != top && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(rel), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

const (
	licence     = "// Copyright The Drover Authors.\n// SPDX-License-Identifier: Apache-2.0\n"
	maxLines    = 500
	maxFiles    = 20
	generatedBy = "// Code generated "
)

func TestFiles(t *testing.T) {
	t.Parallel()
	perDir := map[string]int{}
	goFiles(t, func(path string, text []byte) {
		if bytes.HasPrefix(text, []byte(generatedBy)) {
			return
		}
		if !bytes.HasPrefix(text, []byte(licence)) && !bytes.HasPrefix(text, []byte("//go:build")) {
			t.Errorf("%s: does not start with the licence header", path)
		}
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			t.Errorf("%s: %d lines, at most %d: does it still tell one story?", path, n, maxLines)
		}
		if !strings.HasSuffix(path, "_test.go") {
			perDir[filepath.Dir(path)]++
		}
	})
	for dir, n := range perDir {
		// hub/api is one REST server, hub/cmd/drover one command line: their files are
		// the verbs of one contract. hub is the wiring: a file for each part that it
		// connects.
		if n > maxFiles && dir != "hub/api" && dir != "hub/cmd/drover" && dir != "hub" {
			t.Errorf("%s: %d files, at most %d: is it still one package?", dir, n, maxFiles)
		}
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	documented := map[string]bool{}
	packagesSeen := map[string]bool{}
	goFiles(t, func(path string, text []byte) {
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		test := strings.HasSuffix(path, "_test.go")
		product := !test && !strings.HasPrefix(path, "test/")
		dir := filepath.Dir(path)
		if !test {
			packagesSeen[dir] = true
			documented[dir] = documented[dir] || file.Doc != nil
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init: nothing starts by itself", path)
			}
		}
		if !product {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch call := x.Name + "." + sel.Sel.Name; {
			case call == "time.Sleep":
				t.Errorf("%s: %s: wait for the thing itself, or for a timer beside a context", fset.Position(n.Pos()), call)
			case (call == "os.Exit" || call == "log.Fatal" || call == "log.Fatalf") && file.Name.Name != "main":
				t.Errorf("%s: %s: only main ends the process", fset.Position(n.Pos()), call)
			}
			return true
		})
		checkState(t, fset, file)
	})
	for dir := range packagesSeen {
		if !documented[dir] {
			t.Errorf("%s: no package comment", dir)
		}
	}
}

// constant are package variables that nobody changes: errors, patterns, tables,
// embedded files, and what the linker sets.
var constant = regexp.MustCompile(`^(err|Err|_$|version$)|(Pattern|Line|RE)$`)

// checkState refuses package variables that hold state: those without a value,
// and those of a type that exists to be changed.
func checkState(t *testing.T, fset *token.FileSet, file *ast.File) {
	t.Helper()
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, name := range v.Names {
				if constant.MatchString(name.Name) {
					continue
				}
				if len(v.Values) <= i && g.Doc == nil && v.Doc == nil {
					t.Errorf("%s: package variable %s without a value is state", fset.Position(name.Pos()), name.Name)
				}
				if mutable(v.Type) {
					t.Errorf("%s: package variable %s is state", fset.Position(name.Pos()), name.Name)
				}
			}
		}
	}
}

// mutable recognises types that exist to be changed.
func mutable(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && (x.Name == "sync" || x.Name == "atomic")
}

// TestNamesOfPlaces keeps paths of single machines out of everything committed.
func TestNamesOfPlaces(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("git", "grep", "-nIE", `(^|[^.[:alnum:]])/(root|home)/[[:alnum:]]`, "--", "*.md", "*.go", "*.sh", "*.yaml", "*.txtar", "Makefile", ".ci")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return // nothing found
	}
	if err != nil {
		t.Skipf("git grep: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "test/rules/") {
			t.Errorf("path of a machine: %s", strings.TrimSpace(line))
		}
	}
}
