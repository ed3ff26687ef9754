// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rows is how many requirements there are.
const rows = 102

var (
	rowRE  = regexp.MustCompile(`^\| (\d+) \|`)
	codeRE = regexp.MustCompile("`([^`]+)`")
)

// TestRequirements checks that the table has every row once and in order, and that
// each names something that exists, or what it waits for.
func TestRequirements(t *testing.T) {
	t.Parallel()
	top := root(t)
	text, err := os.ReadFile(filepath.Join(top, "docs", "requirements.md"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for line := range strings.Lines(string(text)) {
		m := rowRE.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if m[1] != strconv.Itoa(next) {
			t.Fatalf("row %s, want %d", m[1], next)
		}
		next++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		shown := cells[len(cells)-1]
		named := codeRE.FindAllStringSubmatch(shown, -1)
		if len(named) == 0 && !strings.Contains(shown, "*waits for*") {
			t.Errorf("row %s: nothing shows it, and it waits for nothing", m[1])
		}
		for _, n := range named {
			if err := exists(top, makefile, n[1]); err != "" {
				t.Errorf("row %s: %s: %s", m[1], n[1], err)
			}
		}
	}
	if next != rows+1 {
		t.Errorf("%d rows, want %d", next-1, rows)
	}
}

// exists says what is wrong with what a row names: "file::Test", a file, or a target
// of make.
func exists(top string, makefile []byte, name string) string {
	if target, ok := strings.CutPrefix(name, "make "); ok {
		if !bytes.Contains(makefile, []byte("\n"+target+":")) {
			return "no such target"
		}
		return ""
	}
	file, test, isTest := strings.Cut(name, "::")
	text, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(file)))
	switch {
	case err != nil:
		return "no such file"
	case isTest && !regexp.MustCompile(`(?m)^func `+regexp.QuoteMeta(test)+`\(`).Match(text):
		return "no such test"
	}
	return ""
}

// TestFaceHoldsNothing: the management API reaches objects through the API alone.
func TestFaceHoldsNothing(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if p.ImportPath != module+"/hub/catalog/manage" {
			continue
		}
		for _, imp := range p.Imports {
			if below(imp, "hub") && !below(imp, "hub/auth", "hub/catalog/versions") {
				t.Errorf("%s imports %s: it decides and stores nothing itself", p.ImportPath, imp)
			}
		}
		return
	}
	t.Error("there is no package hub/catalog/manage")
}
