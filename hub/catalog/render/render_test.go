// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
)

// content reads a folder the way that it comes to the hub.
func content(t testing.TB, dir string) *catalog.Content {
	t.Helper()
	files, err := archive.Folder(dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return ofFiles(t, files)
}

func ofFiles(t testing.TB, files archive.Files) *catalog.Content {
	t.Helper()
	data, err := archive.Pack(files, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.Read("", data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rendering(c *catalog.Content, values map[string]any) *catalog.Rendering {
	return &catalog.Rendering{
		AddOn: "shop", Version: "1.0.0", Namespace: "shop-system", Content: c, Values: values,
		Cluster: catalog.Facts{Name: "edge-1", Labels: map[string]string{"region": "north"}, Claims: map[string]string{"rack": "7"}, Kubernetes: "v1.36.3", Nodes: 3},
	}
}

func show(objects ...[]*unstructured.Unstructured) []string {
	var out []string
	for _, group := range objects {
		for _, o := range group {
			data, _ := json.Marshal(o.Object)
			out = append(out, string(data))
		}
	}
	return out
}

// TestAsHelm compares with Helm's own engine, object by object.
func TestAsHelm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		chart  string
		values map[string]any
	}{
		{"simple", nil},
		{"simple", map[string]any{"replicas": int64(4), "image": map[string]any{"tag": "9"}, "labels": map[string]any{"tier": nil, "more": "x"}}},
		{"full", nil},
		{"full", map[string]any{"tags": map[string]any{"extra": true}, "cache": map[string]any{"size": int64(8)}}},
		{"full", map[string]any{"global": map[string]any{"registry": "other.example", "more": true}}},
	} {
		c := content(t, "testdata/"+tt.chart)
		in := rendering(c, tt.values)
		got, err := New(Limits{}).Render(t.Context(), in)
		if err != nil {
			t.Fatalf("%s: %v", tt.chart, err)
		}
		chrt, err := loadChart(c)
		if err != nil {
			t.Fatal(err)
		}
		values, err := floats(tt.values)
		if err != nil {
			t.Fatal(err)
		}
		if err := chartutil.ProcessDependenciesWithMerge(chrt, values); err != nil {
			t.Fatal(err)
		}
		caps := chartutil.DefaultCapabilities.Copy()
		caps.KubeVersion = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
		top, err := chartutil.ToRenderValues(chrt, values, chartutil.ReleaseOptions{Name: "shop", Namespace: "shop-system", Revision: 1, IsInstall: true}, caps)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := engine.Render(chrt, top)
		if err != nil {
			t.Fatal(err)
		}
		for _, crd := range chrt.CRDObjects() {
			texts[crd.Filename] = string(crd.File.Data)
		}
		cluster := map[string]bool{"CustomResourceDefinition": true, "Widget": true}
		var want []string
		for name, text := range texts {
			if path.Base(name) == "NOTES.txt" {
				continue
			}
			objects, err := source.DecodeYAML(name, []byte(text), false)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if hook := o.GetAnnotations()[helmHook]; hook == "test" || hook == "post-delete" {
					continue // documented
				}
				if o.GetNamespace() == "" && !cluster[o.GetKind()] {
					o.SetNamespace("shop-system") // documented
				}
				want = append(want, show([]*unstructured.Unstructured{o.Unstructured})...)
			}
		}
		have := show(got.Objects, got.PostInstall, got.PreDelete)
		slices.Sort(want)
		slices.Sort(have)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s differs from Helm (-want +got):\n%s", tt.chart, diff)
		}
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	got, err := New(Limits{}).Render(t.Context(), rendering(content(t, "testdata/full"), nil))
	if err != nil {
		t.Fatal(err)
	}
	names := func(objects []*unstructured.Unstructured) (out []string) {
		for _, o := range objects {
			out = append(out, source.Name(o))
		}
		return out
	}
	want := [][]string{
		{"CustomResourceDefinition widgets.example.org", "ServiceAccount shop-system/hooks", "Job shop-system/migrate", "ConfigMap shop-system/cache-cache", "Deployment shop-system/operator", "ConfigMap shop-system/settings", "Widget first"},
		{"Job shop-system/announce"},
		{"Job shop-system/farewell"},
	}
	if diff := cmp.Diff(want, [][]string{names(got.Objects), names(got.PostInstall), names(got.PreDelete)}); diff != "" {
		t.Error(diff)
	}
}

func TestAsKustomize(t *testing.T) {
	t.Parallel()
	files, err := archive.Folder("testdata/kustomize", archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	fs := filesys.MakeFsInMemory()
	for name, data := range files {
		if err := fs.WriteFile(name, data); err != nil {
			t.Fatal(err)
		}
	}
	r := New(Limits{})
	got, err := r.Render(t.Context(), rendering(ofFiles(t, files), nil))
	if err != nil {
		t.Fatal(err)
	}
	r.kustomizing.Lock()
	defer r.kustomizing.Unlock()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, ".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := source.DecodeYAML("built", text, true)
	if err != nil {
		t.Fatal(err)
	}
	var want []*unstructured.Unstructured
	for _, o := range objects {
		want = append(want, o.Unstructured)
	}
	if diff := cmp.Diff(show(want), show(got.Objects)); diff != "" {
		t.Errorf("differs from kustomize (-want +got):\n%s", diff)
	}
}

func files(pairs ...string) archive.Files {
	out := archive.Files{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = []byte(pairs[i+1])
	}
	return out
}

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {v: %q}\n"

func TestManifests(t *testing.T) {
	t.Parallel()
	c := ofFiles(t, files(
		"a.yaml", fmt.Sprintf(configMap, "plain", "{{ .Values.not.a.template }}")+"---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}\n- {apiVersion: v1, kind: Secret, metadata: {name: s, namespace: ns}}\n",
		"b.json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"big"},"data":{},"n":9007199254740993}`,
		"_help.tmpl", `{{ define "who" }}{{ .Cluster.Name }} of {{ .Cluster.Labels.region }}{{ end }}`,
		"c.yaml.tmpl", "{{ range $i := until .Values.count }}---\n"+`apiVersion: v1
kind: ConfigMap
metadata: {name: "c{{ $i }}"}
data: {who: {{ include "who" $ | quote }}, rack: {{ $.Cluster.Claims.rack | quote }}, of: {{ printf "%s %s %s" $.AddOn $.Version $.Namespace }}}
{{ end }}`,
		"README.md", "not a manifest",
	))
	got, err := New(Limits{}).Render(t.Context(), rendering(c, map[string]any{"count": int64(2)}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"apiVersion":"v1","data":{"v":"{{ .Values.not.a.template }}"},"kind":"ConfigMap","metadata":{"name":"plain","namespace":"shop-system"}}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns"}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"ns"}}`,
		`{"apiVersion":"v1","data":{},"kind":"ConfigMap","metadata":{"name":"big","namespace":"shop-system"},"n":9007199254740993}`,
		`{"apiVersion":"v1","data":{"of":"shop 1.0.0 shop-system","rack":"7","who":"edge-1 of north"},"kind":"ConfigMap","metadata":{"name":"c0","namespace":"shop-system"}}`,
		`{"apiVersion":"v1","data":{"of":"shop 1.0.0 shop-system","rack":"7","who":"edge-1 of north"},"kind":"ConfigMap","metadata":{"name":"c1","namespace":"shop-system"}}`,
	}
	if diff := cmp.Diff(want, show(got.Objects)); diff != "" {
		t.Error(diff)
	}
}

func inline(t testing.TB, objects ...string) *catalog.Content {
	t.Helper()
	c := &catalog.Content{Manager: fleet.ManagerManifests}
	for _, text := range objects {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(text)); err != nil {
			t.Fatal(err)
		}
		c.Objects = append(c.Objects, u)
	}
	return c
}

func TestTypedValues(t *testing.T) {
	t.Parallel()
	c := inline(t, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"{{ .AddOn }}","labels":{"region":"{{ .Cluster.Labels.region }}"}},
		"spec":{"replicas":"{{ .Values.replicas }}","paused":"{{ gt .Cluster.Nodes 5 }}","args":"{{ .Values.args }}","text":"{{ .Values.replicas }} pods","limits":"{{ dict \"cpu\" 1.5 }}","quoted":"{{ .Values.replicas | toString }}","none":"{{ .Values.none }}"}}`)
	got, err := New(Limits{}).Render(t.Context(), rendering(c, map[string]any{"replicas": int64(3), "args": []any{"a", int64(2)}, "none": nil}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"labels":{"region":"north"},"name":"shop","namespace":"shop-system"},"spec":{"args":["a",2],"limits":{"cpu":1.5},"none":null,"paused":false,"quoted":"3","replicas":3,"text":"3 pods"}}`}
	if diff := cmp.Diff(want, show(got.Objects)); diff != "" {
		t.Error(diff)
	}
	if c.Objects[0].GetName() != "{{ .AddOn }}" {
		t.Error("the content was changed")
	}
}

// TestRefused shows what is wrong with content and values, and that the message
// says where.
func TestRefused(t *testing.T) {
	t.Parallel()
	chart := func(template string, more ...string) archive.Files {
		return files(append([]string{"Chart.yaml", "name: c\nversion: 1.0.0\napiVersion: v2\n", "templates/a.yaml", template}, more...)...)
	}
	for name, tt := range map[string]struct {
		files archive.Files
		want  string
	}{
		"unknown variable":      {files("a.yaml.tmpl", "apiVersion: v1\nkind: {{ .Values.knd }}\n"), `a.yaml.tmpl:2: .Values.knd: map has no entry for key "knd"`},
		"unknown field":         {files("a.yaml.tmpl", "\n{{ .Clster.Name }}\n"), "a.yaml.tmpl:2: .Clster.Name: can't evaluate field Clster"},
		"unknown function":      {files("a.yaml.tmpl", "\n{{ env \"HOME\" }}\n"), `a.yaml.tmpl:2: function "env" not defined`},
		"broken template":       {files("a.yaml.tmpl", "\n\n{{ if }}\n"), `a.yaml.tmpl:3: missing value for if`},
		"rendered yaml":         {files("a.yaml.tmpl", "apiVersion: v1\nkind: {{ \"[\" }}\n"), "rendered a.yaml:2: did not find expected node content"},
		"values needed":         {chart("{{ required \"set image.tag\" .Values.tag }}"), "c/templates/a.yaml:1: set image.tag"},
		"said by template":      {chart("\n{{ fail \"no such mode\" }}"), "c/templates/a.yaml:2: no such mode"},
		"said in a definition":  {chart("\n\n{{ include \"x\" . }}", "templates/_h.tpl", "\n{{ define \"x\" }}{{ fail \"no\" }}{{ end }}"), "c/templates/_h.tpl:2: no"},
		"another each time":     {chart("a: {{ randAlphaNum 5 }}"), "c/templates/a.yaml:1: randAlphaNum 5: function randAlphaNum gives another result each time"},
		"schema":                {chart("a: b", "values.schema.json", `{"required":["tag"]}`), "values: the schema of chart c: missing property tag"},
		"schema from elsewhere": {chart("a: b", "values.schema.json", `{"$ref":"https://example.org/s.json"}`), "may not refer to anything outside itself"},
		"schema of files":       {chart("a: b", "values.schema.json", `{"$ref":"file:///etc/passwd"}`), "may not refer to anything outside itself"},
		"missing subchart":      {chart("a: b", "Chart.yaml", "name: c\nversion: 1.0.0\napiVersion: v2\ndependencies: [{name: d, version: 1.x, repository: https://example.org}]\n"), "Chart.yaml: dependency d is not in charts/"},
		"kubernetes":            {chart("a: b", "Chart.yaml", "name: c\nversion: 1.0.0\napiVersion: v2\nkubeVersion: <1.30.0\n"), "Chart.yaml: kubeVersion <1.30.0: the cluster has Kubernetes v1.36.3"},
		"library":               {chart("a: b", "Chart.yaml", "name: c\nversion: 1.0.0\napiVersion: v2\ntype: library\n"), "a chart of type library cannot be installed"},
		"nothing":               {chart("# nothing"), "it renders to no objects at all"},
		"twice":                 {chart("{{ range until 2 }}\n---\n" + fmt.Sprintf(configMap, "x", "") + "{{ end }}"), "c/templates/a.yaml:9: ConfigMap shop-system/x is there twice, first in c/templates/a.yaml:3"},
		"number as label":       {chart("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: {a: 1}}"), `c/templates/a.yaml:1: ConfigMap: metadata.labels["a"] is 1: put it in quotes`},
		"hook of no job":        {files("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, annotations: {fleet.drover.io/post-install: \"\"}}"), "a.yaml:1: ConfigMap x cannot be a hook"},
		"remote base":           {files("kustomization.yaml", "resources: [\"https://example.org/x.yaml\"]"), "kustomization.yaml: resources: https://example.org/x.yaml is not in the bundle"},
		"remote git":            {files("kustomization.yaml", "resources: [\"github.com/a/b\"]"), "resources: github.com/a/b is not in the bundle"},
		"remote scp":            {files("kustomization.yaml", "components: [\"git@example.org:a/b\"]"), "components: git@example.org:a/b is not in the bundle"},
		"remote patch":          {files("kustomization.yaml", "patches: [{path: \"https://example.org/p\"}]"), "patches: https://example.org/p is not in the bundle"},
		"remote file":           {files("kustomization.yaml", "configMapGenerator: [{name: x, files: [\"a=http://example.org/p\"]}]"), "configMapGenerator: http://example.org/p is not in the bundle"},
		"remote in generator":   {files("kustomization.yaml", "generators: [g.yaml]", "g.yaml", "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: x}\nfiles: [\"http://example.org/p\"]\n"), "generators: http://example.org/p is not in the bundle"},
		"exec":                  {files("kustomization.yaml", "generators: [g.yaml]", "g.yaml", "apiVersion: x\nkind: X\nmetadata: {name: x, annotations: {config.kubernetes.io/function: \"exec: {path: /bin/sh}\"}}\n"), "is a function: programs are not run here"},
		"chart in kustomize":    {files("kustomization.yaml", "helmCharts: [{name: x, repo: https://example.org}]"), "kustomization.yaml: helmCharts is not allowed"},
		"missing resource":      {files("kustomization.yaml", "resources: [a.yaml]"), "kustomization.yaml: resources: a.yaml is not in the bundle"},
		"outside":               {files("kustomization.yaml", "resources: [../../etc]"), "resources: ../../etc leaves the bundle"},
		"cycle":                 {files("kustomization.yaml", "resources: [a]", "a/kustomization.yaml", "resources: [../b]", "b/kustomization.yaml", "resources: [../a]"), "includes itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(Limits{}).Render(t.Context(), rendering(ofFiles(t, tt.files), map[string]any{}))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v\nwant %s", err, tt.want)
			}
		})
	}
}

// endless are templates that would not end, or would take all memory there is.
func endless() map[string]string {
	return map[string]string{
		"range over a number":    `{{ range $i := 1000000000000 }}{{ end }}`,
		"nested ranges":          `{{ range until 10000 }}{{ range until 10000 }}{{ range until 10000 }}{{ end }}{{ end }}{{ end }}`,
		"long list":              `{{ range until 1000000000 }}{{ end }}`,
		"endless output":         `{{ range $i := 1000000000000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}`,
		"calls itself":           `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`,
		"includes itself":        `{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}`,
		"tpl of itself":          `{{ tpl .Values.self . }}`,
		"calls double":           `{{ define "z" }}{{ end }}` + doubling() + `{{ template "a0" . }}`,
		"string that doubles":    `{{ $x := "0123456789" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}`,
		"printf that doubles":    `{{ $x := "0123456789" }}{{ range until 60 }}{{ $x = printf "%[1]s%[1]s%[1]s" $x }}{{ end }}`,
		"repeat":                 `{{ repeat 1000000000 "x" }}`,
		"indent":                 `{{ indent 1000000000 "x\nx" }}`,
		"width":                  `{{ printf "%999999d%999999d" 1 2 }}`,
		"width by argument":      `{{ printf "%*d" 99999999 1 }}`,
		"replace":                `{{ $x := repeat 100000 "a" }}{{ replace "a" $x $x }}`,
		"regular expression":     `{{ $x := repeat 1000000 "a" }}{{ regexReplaceAll "a" $x $x }}`,
		"list that doubles":      `{{ $x := list 1 }}{{ range until 60 }}{{ $x = concat $x $x }}{{ end }}`,
		"list within lists":      `{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ $x }}`,
		"dict within itself":     `{{ $x := dict }}{{ $_ := set $x "a" $x }}{{ $x }}`,
		"dict within, encoded":   `{{ $x := dict "b" dict }}{{ $_ := set $x.b "a" $x }}{{ toYaml $x }}`,
		"each with each":         `{{ uniq (until 200000) }}`,
		"deep merge":             `{{ $x := dict }}{{ range until 100000 }}{{ $x = dict "a" $x }}{{ end }}`,
		"join":                   `{{ join (repeat 100000 "x") (until 100000) }}`,
		"many definitions":       `{{ range $i := 100000000 }}{{ tpl "{{ define \"x\" }}{{ end }}" $ }}{{ end }}`,
		"values within values":   `{{ $_ := set .Values "a" .Values }}{{ toJson .Values }}`,
		"yaml of aliases":        "{{ $x := \"a: &a [x,x,x,x,x,x,x,x,x]\\n\" }}{{ range $i := until 20 }}{{ $x = printf \"%sb%d: &b%d [*%s,*%s,*%s,*%s]\\n\" $x $i $i (ternary \"a\" (printf \"b%d\" (sub $i 1)) (eq $i 0)) (ternary \"a\" (printf \"b%d\" (sub $i 1)) (eq $i 0)) (ternary \"a\" (printf \"b%d\" (sub $i 1)) (eq $i 0)) (ternary \"a\" (printf \"b%d\" (sub $i 1)) (eq $i 0)) }}{{ end }}{{ fail (toJson (fromYaml $x)) }}",
		"deep flow collection":   `a: {{ repeat 100000 "[" }}`,
		"deep block collection":  `{{ repeat 100000 "- " }}a`,
		"aliases in what it is":  "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
		"ifs within ifs":         strings.Repeat("{{ if 1 }}", 100_000) + strings.Repeat("{{ end }}", 100_000),
		"lists within arguments": "{{ print " + strings.Repeat("(list ", 50_000) + "1" + strings.Repeat(")", 50_000) + " }}",
	}
}

func doubling() string {
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(&b, `{{ define "a%d" }}{{ template "a%d" . }}{{ template "a%d" . }}{{ end }}`, i, i+1, i+1)
	}
	b.WriteString(`{{ define "a60" }}{{ end }}`)
	return b.String()
}

func TestEndless(t *testing.T) {
	t.Parallel()
	for name, text := range endless() {
		for _, chart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chart %v", name, chart), func(t *testing.T) {
				t.Parallel()
				in := rendering(ofFiles(t, files("a.yaml.tmpl", text)), map[string]any{"self": "{{ tpl .Values.self . }}"})
				if chart {
					in.Content = ofFiles(t, files("Chart.yaml", "name: c\nversion: 1.0.0\napiVersion: v2\n", "templates/a.yaml", text))
				}
				start := time.Now()
				got, err := New(Limits{Time: 700 * time.Millisecond}).Render(t.Context(), in)
				if err == nil {
					t.Fatalf("rendered to %d objects", len(got.Objects))
				}
				if len(err.Error()) > 2000 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				t.Logf("%v: %.300s", time.Since(start).Round(time.Millisecond), err)
			})
		}
	}
}

func TestCacheSharesWhatIsTheSame(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"no facts":   {`{{ .Values.a }}`, 1},
		"one label":  {`{{ .Cluster.Labels.region }}`, 3},
		"name":       {`{{ .Cluster.Name }}`, 12},
		"by branch":  {`{{ if eq .Cluster.Nodes 0 }}{{ .Cluster.Name }}{{ end }}`, 2 + 4},
		"capability": {`{{ .Cluster.Kubernetes }}`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := ofFiles(t, files("a.yaml.tmpl", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {v: \""+tt.text+"\"}\n"))
			cache := NewCache(New(Limits{}), 1<<20)
			plain := New(Limits{})
			distinct := map[*catalog.Rendered]bool{}
			for i := range 12 {
				in := rendering(c, map[string]any{"a": "b"})
				in.Cluster = catalog.Facts{Name: fmt.Sprint("c", i), Labels: map[string]string{"region": fmt.Sprint(i % 3)}, Nodes: i % 3, Kubernetes: fmt.Sprintf("v1.%d.0", 30+i%2)}
				got, digest, err := cache.Render(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				distinct[got] = true
				want, err := plain.Render(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(show(want.Objects), show(got.Objects)); diff != "" {
					t.Errorf("cluster %d: the cache differs:\n%s", i, diff)
				}
				if d, _, err := Digest(want); err != nil || d != digest {
					t.Errorf("digest %s, want %s (%v)", digest, d, err)
				}
			}
			if len(distinct) != tt.want {
				t.Errorf("%d renderings, want %d", len(distinct), tt.want)
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := ofFiles(t, files("a.yaml.tmpl", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {v: \"{{ .Cluster.Name }}{{ repeat 1000 \"x\" }}\"}\n"))
	cache := NewCache(New(Limits{}), 20_000)
	for i := range 100 {
		in := rendering(c, nil)
		in.Cluster.Name = fmt.Sprint(i)
		if _, _, err := cache.Render(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if cache.Bytes() > 20_000 {
			t.Fatalf("it holds %d bytes", cache.Bytes())
		}
	}
	if len(cache.read) != 1 || len(cache.entries) == 0 {
		t.Errorf("%d inputs, %d entries", len(cache.read), len(cache.entries))
	}
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	c := content(t, "testdata/full")
	var first []string
	for range 20 {
		got, err := New(Limits{}).Render(context.Background(), rendering(c, map[string]any{"tags": map[string]any{"extra": true}}))
		if err != nil {
			t.Fatal(err)
		}
		now := show(got.Objects, got.PostInstall, got.PreDelete)
		if first == nil {
			first = now
		}
		if diff := cmp.Diff(first, now); diff != "" {
			t.Fatal(diff)
		}
	}
	_ = maps.Keys(c.Files)
}
