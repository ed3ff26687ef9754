// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
)

func pack(t testing.TB, pairs ...string) []byte {
	t.Helper()
	files := archive.Files{}
	for i := 0; i < len(pairs); i += 2 {
		files[pairs[i]] = []byte(pairs[i+1])
	}
	data, err := archive.Pack(files, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

func TestManager(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		files []string
		asked string
		want  string // manager, or the error
	}{
		{[]string{"a.yaml", object}, "", "manifests"},
		{[]string{"a.yaml.tmpl", "{{"}, "", "manifests"},
		{[]string{"kustomization.yaml", "resources: [a.yaml]", "a.yaml", object}, "", "kustomize"},
		{[]string{"Kustomization", "resources: [a.yaml]"}, "", "kustomize"},
		{[]string{"kustomization.yaml.tmpl", "resources: [a.yaml]"}, "", "kustomize"},
		{[]string{"Chart.yaml", "name: c", "kustomization.yaml", ""}, "", "helm"},
		{[]string{"Chart.yaml", "name: c", "kustomization.yaml", "x: y"}, "kustomize", "kustomize"},
		{[]string{"a.yaml", object}, "helm", "there is no Chart.yaml at the top"},
		{[]string{"a.yaml", object}, "kustomize", "there is no kustomization.yaml at the top"},
		{[]string{"a.yaml", object}, "jsonnet", `manager "jsonnet": want`},
		{[]string{"README.md", "hello"}, "", "no manifests in it"},
		{[]string{"a.yaml", "# nothing\n"}, "", "no manifests in it"},
	} {
		c, err := Read(tt.asked, pack(t, tt.files...))
		got := fmt.Sprint(err)
		if err == nil {
			got = c.Manager
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%v: %s, want %s", tt.files, got, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	text := "%YAML 1.1\n---\n# a comment\n\n" + object + "---\n---\n---\r\napiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: b}\r\n...\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n--- {apiVersion: v1, kind: ConfigMap, metadata: {name: d}}\n---\nkind: ConfigMapList\napiVersion: v1\nitems: [{metadata: {name: e}}, {metadata: {name: f}}]\n"
	found, err := Decode("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range found {
		got = append(got, fmt.Sprintf("%s %s", Name(o.Unstructured), o.where()))
	}
	want := []string{"ConfigMap a x.yaml:5", "ConfigMap b x.yaml:11", "ConfigMap c x.yaml:15", "ConfigMap d x.yaml:18", "ConfigMap e x.yaml:20", "ConfigMap f x.yaml:20"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsWrongWhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ file, text, want string }{
		"tab":            {"x.yaml", object + "---\na:\n\t- b\n", "x.yaml:6: found character that cannot start any token"},
		"not closed":     {"x.yaml", "a: [b\n", "x.yaml:1: did not find expected ',' or ']'"},
		"field twice":    {"x.yaml", "apiVersion: v1\nkind: A\nkind: B\n", `x.yaml:3: key "kind" already set in map`},
		"no kind":        {"x.yaml", "apiVersion: v1\nmetadata: {name: a}\n", "x.yaml:1: kind is missing"},
		"no apiVersion":  {"x.yaml", "\n\nkind: A\n", "x.yaml:3: apiVersion is missing"},
		"no metadata":    {"x.yaml", "apiVersion: v1\nkind: A\n", "x.yaml:1: A: metadata is missing"},
		"no name":        {"x.yaml", "apiVersion: v1\nkind: A\nmetadata: {}\n", "x.yaml:1: A: metadata.name is missing"},
		"generated name": {"x.yaml", "apiVersion: v1\nkind: A\nmetadata: {generateName: a-}\n", "an object that is applied needs a name"},
		"path as name":   {"x.yaml", "apiVersion: v1\nkind: A\nmetadata: {name: a/b}\n", "x.yaml:1: A: metadata.name \"a/b\" may not contain '/'"},
		"text":           {"x.yaml", "hello\n", "x.yaml:1: not a Kubernetes object"},
		"bad item":       {"x.yaml", "kind: List\napiVersion: v1\nitems: [1]\n", "x.yaml:1: not a Kubernetes object"},
		"json":           {"x.json", "{\"apiVersion\":\"v1\",\n\"kind\":}\n", "x.json:2: invalid character '}'"},
		"second json":    {"x.json", "{\"apiVersion\":\"v1\",\"kind\":\"A\",\"metadata\":{\"name\":\"a\"}}\n\n{\"kind\":\"B\"}\n", "x.json:3: apiVersion is missing"},
		"deep":           {"x.json", strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), "x.json:1: values are nested more than 200 deep"},
	} {
		_, err := Decode(tt.file, []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v\nwant %s", name, err, tt.want)
		}
	}
	_, err := Read("", pack(t, "a.yaml", object, "b.yaml", "---\n"+object))
	if err == nil || err.Error() != "b.yaml:2: ConfigMap a is there twice, first in a.yaml:1" {
		t.Errorf("twice: %v", err)
	}
}

func TestInline(t *testing.T) {
	t.Parallel()
	raw := func(text string) kruntime.RawExtension { return kruntime.RawExtension{Raw: []byte(text)} }
	c, err := Inline("", []kruntime.RawExtension{raw(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"{{ .AddOn }}"},"n":1}`)})
	if err != nil || len(c.Objects) != 1 || c.Objects[0].Object["n"] != int64(1) {
		t.Errorf("%+v, %v", c, err)
	}
	for want, list := range map[string][]kruntime.RawExtension{
		"no content": nil,
		"manifests[1]: ConfigMap a is there twice": {raw(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`), raw(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`)},
		"manifests[0]: kind is missing":            {raw(`{"apiVersion":"v1"}`)},
	} {
		if _, err := Inline("", list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Inline("helm", nil); err == nil {
		t.Error("a chart was taken inline")
	}
}

type shelf map[string][]byte

func (s shelf) Bundle(_ context.Context, digest string) ([]byte, error) {
	if data, ok := s[digest]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// TestPackedSubcharts: they are unpacked under the same limits as all else.
func TestPackedSubcharts(t *testing.T) {
	t.Parallel()
	sub := gzipped(t, pack(t, "sub/Chart.yaml", "name: sub", "sub/templates/a.yaml", "x"))
	layer := gzipped(t, pack(t, "c/Chart.yaml", "name: c", "c/charts/sub-1.0.0.tgz", string(sub)))
	manifest := []byte(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":"sha256:2","size":1}]}`)
	c, err := Load(t.Context(), shelf{"sha256:1": manifest, "sha256:2": layer}, &fleet.AddOnVersionSpec{Image: "example.org/c@sha256:1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Chart.yaml", "charts/sub-1.0.0/Chart.yaml", "charts/sub-1.0.0/templates/a.yaml"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(c.Files))); diff != "" {
		t.Error(diff)
	}
	bomb := gzipped(t, pack(t, "sub/Chart.yaml", "name: sub", "sub/zeros", strings.Repeat("\x00", 8_000_000)))
	files := []string{"Chart.yaml", "name: c"}
	for i := range 20 {
		files = append(files, fmt.Sprintf("charts/s%d.tgz", i), string(bomb))
	}
	if _, err := Read("", pack(t, files...)); err == nil || !strings.Contains(err.Error(), "more than is allowed") {
		t.Errorf("charts that unpack to 160 MB: %v", err)
	}
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func hostile() map[string]string {
	aliases := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'z'; c++ {
		aliases += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	return map[string]string{
		"aliases":        aliases + object,
		"own alias":      "a: &a [*a]\n" + object,
		"deep flow":      "a: " + strings.Repeat("[", 1_000_000),
		"deep maps":      "a: " + strings.Repeat("{a: ", 500_000),
		"deep blocks":    strings.Repeat("- ", 500_000) + "a",
		"deep indent":    deepIndent(2_000),
		"many documents": strings.Repeat("---\na\n", 20_000),
		"many anchors":   strings.Repeat("- &a *a\n", 200_000),
		"one long line":  "a: " + strings.Repeat("x", 500_000) + "\nb",
		"many keys":      strings.Repeat("a: b\n", 20_000),
	}
}

func deepIndent(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for name, text := range hostile() {
		start := time.Now()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode("x.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: it was read", name)
		}
		t.Logf("%s: %d bytes, %v, %d MiB allocated: %.100v", name, len(text), time.Since(start).Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("x.yaml", []byte(object))
	f.Add("x.json", []byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}]}`))
	f.Add("x.yaml", []byte("a: &a [*a]\n--- \n...\n%YAML\n"))
	f.Add("x.yaml", []byte("apiVersion: v1\nkind: A\nmetadata: {name: a, labels: {b: 1}}\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		found, err := Decode(name, data)
		if err != nil {
			return
		}
		for _, o := range found {
			if o.GetName() == "" || o.GetKind() == "" || o.GetAPIVersion() == "" {
				t.Errorf("an object without a name: %v", o.Object)
			}
			o.DeepCopy() // it panics on what JSON does not have
			o.GetLabels()
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add(pack(f, "Chart.yaml", "name: a", "charts/b.tgz", "x"))
	f.Add(pack(f, "kustomization.yaml", "resources: [a.yaml]"))
	f.Add([]byte(`{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}` + "\n"))
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "../x", Size: 0}); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read("", data)
		if err == nil && (c.Manager == "" || c.Digest == "" || len(c.Files) == 0) {
			t.Errorf("%+v", c)
		}
	})
}
