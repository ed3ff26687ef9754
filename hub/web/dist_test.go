// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !noui

package web_test

import (
	"bytes"
	"compress/gzip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/drover-io/drover/hub/web"
	"github.com/drover-io/drover/hub/web/bundle"
)

// Budgets of what a browser loads, compressed, in bytes.
const (
	firstLoad = 35 << 10
	chartLoad = 25 << 10
)

func built(t *testing.T) bundle.Files {
	t.Helper()
	dist, err := web.Built()
	if err != nil {
		t.Fatal(err)
	}
	files, err := bundle.Read(dist)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDistFresh: the committed files are those that the sources make.
func TestDistFresh(t *testing.T) {
	t.Parallel()
	want, err := bundle.Build(".")
	if err != nil {
		t.Fatal(err)
	}
	have := built(t)
	names := append(want.Names(), have.Names()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !bytes.Equal(want[name], have[name]) {
			t.Errorf("dist/%s is not what the sources make: run make ui", name)
		}
	}
}

// TestBuildRepeats: building again gives the same bytes.
func TestBuildRepeats(t *testing.T) {
	t.Parallel()
	one, err := bundle.Build(".")
	if err != nil {
		t.Fatal(err)
	}
	two, err := bundle.Build(".")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one.Names(), two.Names()) {
		t.Fatalf("%v, then %v", one.Names(), two.Names())
	}
	for name := range one {
		if !bytes.Equal(one[name], two[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

var (
	linkedPattern = regexp.MustCompile(`(?:src|href)="/(assets/[^"]+)"`)
	staticPattern = regexp.MustCompile(`(?:from|import)\s*"\./([^"]+\.js)"`)
)

// TestBudget: what the first page loads, and what charts add to it.
func TestBudget(t *testing.T) {
	t.Parallel()
	files := built(t)
	first := map[string]bool{}
	var load func(name string)
	load = func(name string) {
		if first[name] {
			return
		}
		first[name] = true
		for _, m := range staticPattern.FindAllSubmatch(files[name], -1) {
			load("assets/" + string(m[1]))
		}
	}
	for _, m := range linkedPattern.FindAllSubmatch(files["index.html"], -1) {
		load(string(m[1]))
	}
	if len(first) < 2 {
		t.Fatalf("index.html links %d files, want a script and a style sheet at least", len(first))
	}
	size := 0
	for name := range first {
		size += packed(t, files[name])
	}
	t.Logf("first load: %d bytes compressed, of %d", size, firstLoad)
	if size > firstLoad {
		t.Errorf("first load is %d bytes compressed, at most %d", size, firstLoad)
	}
	chart := 0
	for _, name := range files.Names() {
		if strings.Contains(name, "chart") || strings.Contains(name, "uplot") || strings.Contains(name, "uPlot") {
			if first[name] {
				t.Errorf("%s is part of the first load: import it where a chart is shown", name)
			}
			chart += packed(t, files[name])
		}
	}
	t.Logf("charts: %d bytes compressed, of %d", chart, chartLoad)
	if chart > chartLoad {
		t.Errorf("charts are %d bytes compressed, at most %d", chart, chartLoad)
	}
	if chart == 0 {
		t.Error("there is no chunk of charts")
	}
}

func packed(t *testing.T, data []byte) int {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}
