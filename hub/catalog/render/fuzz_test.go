// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// bounded renders and fails when that gives another outcome the second time. What
// does not end is stopped by the limits, or by the fuzzer.
func bounded(t *testing.T, in *catalog.Rendering) {
	t.Helper()
	r := New(Limits{Time: time.Second, Output: 1 << 20})
	first, err := r.Render(t.Context(), in)
	if err != nil {
		if len(err.Error()) > 5_000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		return
	}
	second, err := r.Render(t.Context(), in)
	if err != nil {
		t.Fatalf("the second time: %v", err)
	}
	a, _, err := Digest(first)
	if err != nil {
		t.Fatal(err)
	}
	if b, _, err := Digest(second); err != nil || a != b {
		t.Errorf("another outcome the second time (%v)", err)
	}
	for _, o := range first.Objects {
		if o.GetName() == "" || o.GetKind() == "" {
			t.Errorf("an object without a name: %v", o.Object)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Cluster.Name }}}\n")
	f.Add(`{{ range $i, $x := list 1 2 }}{{ $i }}{{ end }}{{ tpl "{{ .AddOn }}" . }}`)
	f.Add(`{{ define "a" }}{{ include "a" . }}{{ end }}{{ template "a" . }}`)
	for _, text := range endless() {
		if len(text) < 4_000 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		manifests := &catalog.Content{Manager: fleet.ManagerManifests, Files: files("a.yaml.tmpl", text)}
		bounded(t, rendering(manifests, map[string]any{"self": "{{ tpl .Values.self . }}", "n": int64(3)}))
		chart := &catalog.Content{Manager: fleet.ManagerHelm, Files: files("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n", "templates/a.yaml", text)}
		bounded(t, rendering(chart, map[string]any{"self": "{{ tpl .Values.self . }}", "n": int64(3)}))
	})
}

func FuzzValues(f *testing.F) {
	f.Add(`{"replicas":3,"image":{"tag":"1"},"message":"{{ .Release.Name }}"}`)
	f.Add(`{"labels":{"a":null},"message":"{{ tpl .Values.message . }}"}`)
	f.Add(`{"global":1,"cache":[],"operator":{"replicas":"many"}}`)
	contents := []*catalog.Content{content(f, "testdata/simple"), content(f, "testdata/full")}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}, "data": "{{ .Values }}", "more": "x{{ .Values.message }}",
	}}
	contents = append(contents, &catalog.Content{Manager: fleet.ManagerManifests, Objects: []*unstructured.Unstructured{object}})
	f.Fuzz(func(t *testing.T, text string) {
		values := map[string]any{}
		if json.Unmarshal([]byte(text), &values) != nil {
			return
		}
		for _, c := range contents {
			bounded(t, rendering(c, values))
		}
	})
}

func FuzzKustomization(f *testing.F) {
	f.Add("resources: [a.yaml]\nnamePrefix: x-\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
	f.Add("resources: [b]\npatches: [{patch: \"[]\", target: {kind: A}}]\n", "a: b")
	f.Add("generators: [a.yaml]\n", "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: a}\nfiles: [x=b/kustomization.yaml]\n")
	f.Fuzz(func(t *testing.T, kustomization, resource string) {
		bounded(t, rendering(&catalog.Content{Manager: fleet.ManagerKustomize, Files: files(
			"kustomization.yaml", kustomization, "a.yaml", resource, "b/kustomization.yaml", "resources: [../a.yaml]\n")}, nil))
	})
}

// BenchmarkRender renders for a thousand clusters: what a cluster costs when all
// would get the same, when a label makes ten groups of them, and when each is
// rendered for itself.
func BenchmarkRender(b *testing.B) {
	chart := content(b, "testdata/full")
	text := "{{ range until 20 }}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"c{{ . }}\"}\ndata: {v: \"%s\"}\n{{ end }}"
	for name, c := range map[string]*catalog.Content{
		"chart":              chart,
		"kustomize":          content(b, "testdata/kustomize"),
		"templates":          ofFiles(b, files("a.yaml.tmpl", fmt.Sprintf(text, "same"))),
		"templates_by_label": ofFiles(b, files("a.yaml.tmpl", fmt.Sprintf(text, "{{ $.Cluster.Labels.region }}"))),
		"templates_by_name":  ofFiles(b, files("a.yaml.tmpl", fmt.Sprintf(text, "{{ $.Cluster.Name }}"))),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cache := NewCache(New(Limits{}), 64<<20)
				for i := range 1000 {
					in := rendering(c, nil)
					in.Cluster.Name = fmt.Sprint("c", i)
					in.Cluster.Labels = map[string]string{"region": fmt.Sprint(i % 10)}
					if _, _, err := cache.Render(b.Context(), in); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "us/cluster")
		})
	}
	b.Run("chart_uncached", func(b *testing.B) {
		r := New(Limits{})
		for b.Loop() {
			if _, err := r.Render(b.Context(), rendering(chart, nil)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
