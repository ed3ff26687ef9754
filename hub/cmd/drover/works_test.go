// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// TestCanonical: the same objects make the same bundle, however they are spread
// over files.
func TestCanonical(t *testing.T) {
	t.Parallel()
	write := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	read := func(dir string) (string, error) {
		objects, err := readBundle(dir, nil)
		if err != nil {
			return "", err
		}
		data, err := canonical(objects)
		return string(data), err
	}
	want := `{"apiVersion":"v1","data":{"a":"1","b":"2"},"kind":"ConfigMap","metadata":{"name":"x","namespace":"ns"}}` + "\n" +
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns"}}` + "\n" +
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"ns"}}` + "\n"
	for name, files := range map[string]map[string]string{
		"one file": {"a.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: ns}\n---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: ns, name: x}\ndata: {b: '2', a: '1'}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: ns}}\n"},
		"three": {
			"z.json":      `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"namespace":"ns","name":"d"}}`,
			"s/l.yml":     "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: ns}, data: {a: '1', b: '2'}}\n",
			".git/x.yaml": "not: read", "README.md": "not read",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(write(files))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
	for _, tt := range []struct{ name, text, want string }{
		{"twice", "{apiVersion: v1, kind: Namespace, metadata: {name: ns}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: ns}}", "Namespace ns is there twice"},
		{"without a name", "{apiVersion: v1, kind: Namespace}", "v1 Namespace: metadata.name is missing"},
		{"for kustomize", "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}", "is for kustomize, not for a cluster"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := read(write(map[string]string{"a.yaml": tt.text})); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPrintDiff(t *testing.T) {
	t.Parallel()
	d := &fleet.Diff{Works: []fleet.WorkDiff{{Name: "web", Outcomes: []fleet.DiffOutcome{
		{Clusters: []string{"c1", "c2", "c3", "c4", "c5", "c6", "c7"}, State: fleet.DiffChanges, Unchanged: 4, Objects: []wire.ObjectDiff{
			{Kind: "ConfigMap", Namespace: "n", Name: "new", Action: wire.ActionCreate},
			{Kind: "ConfigMap", Namespace: "n", Name: "old", Action: wire.ActionDelete},
			{Kind: "Deployment", Namespace: "n", Name: "d", Action: wire.ActionChange, Total: 3, Fields: []wire.FieldDrift{
				{Path: "spec.replicas", Live: "2", Desired: "3"}, {Path: "metadata.labels.x", Desired: `"y"`},
			}},
		}},
		{Clusters: []string{"d1", "d2"}, State: fleet.DiffRefused, Objects: []wire.ObjectDiff{{Kind: "Service", Namespace: "n", Name: "s", Action: wire.ActionRefuse, Message: "spec.clusterIP: field is immutable"}}},
		{Clusters: []string{"e1"}, State: fleet.DiffOffline},
		{Clusters: []string{"f1"}, State: fleet.DiffFailed, Message: "the agent did not answer\nin time"},
		{Clusters: []string{"g1"}, State: fleet.DiffNone, Unchanged: 7},
	}}}}
	var out bytes.Buffer
	printDiff(&out, d, false)
	golden(t, "diff", out.Bytes())
}

func TestPrintExplanation(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	err := printExplanation(&out, &fleet.Explanation{Cluster: "shop-1", Name: "web", Lines: []fleet.Evidence{
		{Stage: fleet.StageIntent, State: fleet.EvidenceOK, Text: "generation 3", Time: now.Add(-time.Hour)},
		{Stage: fleet.StageRemoval, State: fleet.EvidenceWaiting, Text: "40 objects would be removed", Hint: "drover work approve-prune shop-1 web"},
		{Stage: fleet.StageHealth, State: fleet.EvidenceProblem, Text: "Healthy is False: \x1b[31mred", Time: now.Add(time.Hour)},
	}}, now)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "explain", out.Bytes())
}

func TestRestored(t *testing.T) {
	t.Parallel()
	r := &fleet.WorkRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop-1", Name: "web-1"},
		Spec: fleet.WorkRevisionSpec{
			Work: "web", Revision: 4, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
			WorkSpec: runtime.RawExtension{Raw: []byte(`{"workload":{"manifests":[]}}`)},
		},
	}
	got, err := restored(r, nil, true)
	if err != nil || got.GetName() != "web" || got.GetNamespace() != "shop-1" || got.GetKind() != work.Kind || got.GetLabels()["a"] != "b" {
		t.Errorf("%v, %v", got, err)
	}
	live := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "web", "resourceVersion": "9", "annotations": map[string]any{"x": "y"}, "finalizers": []any{"f"}},
		"spec":     map[string]any{"deleteOption": map[string]any{}}, "status": map[string]any{},
	}}
	got, err = restored(r, live, false)
	if err != nil || got.GetResourceVersion() != "9" || len(got.GetFinalizers()) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if diff := cmp.Diff(map[string]string{"c": "d"}, got.GetAnnotations()); diff != "" {
		t.Error(diff)
	}
	list := []fleet.WorkRevision{*r, {ObjectMeta: metav1.ObjectMeta{Name: "web-0"}, Spec: fleet.WorkRevisionSpec{Revision: 2}}}
	for to, want := range map[string]int64{"": 4, "4": 4, "2": 2, "web-0": 2} {
		if got, err := chooseRevision(list, to, "c", "w"); err != nil || got.Spec.Revision != want {
			t.Errorf("%q gives %v, %v", to, got, err)
		}
	}
	if _, err := chooseRevision(list, "3", "c", "w"); err == nil {
		t.Error("a revision that is not there")
	}
}
