// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ecosystem takes charts, kustomizations and manifests that others publish
// through the catalog, and holds the outcome against what the commands of Helm and
// kustomize make of them. What it needs it gets from the Go module proxy.
package ecosystem

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/render"
	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
)

const (
	kubernetesVersion = "v1.36.3"
	namespace         = "addon-space"
	// kustomizeCommand is the release of the command with the library that the hub
	// links: sigs.k8s.io/kustomize/api v0.21.1.
	kustomizeCommand = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
)

// helmCommand is the command of the very version that the hub links.
func helmCommand(t *testing.T) string {
	t.Helper()
	out, err := command(t.Context(), filepath.Join("..", ".."), "go", "list", "-m", "-f", "{{.Path}}/cmd/helm@{{.Version}}", "helm.sh/helm/v3")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// reference is what the addon's own tool makes of a folder, for a namespace.
func (m material) reference(t *testing.T, dir, namespace string) []*unstructured.Unstructured {
	t.Helper()
	var args []string
	switch m.manager {
	case fleet.ManagerManifests:
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no manifests in %s: %v", dir, err)
		}
		var out []*unstructured.Unstructured
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, objects(t, text)...)
		}
		return out
	case fleet.ManagerKustomize:
		args = []string{"run", kustomizeCommand, "build", dir}
	case fleet.ManagerHelm:
		text, err := yaml.Marshal(m.values)
		if err != nil {
			t.Fatal(err)
		}
		values := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(values, text, 0o600); err != nil {
			t.Fatal(err)
		}
		args = []string{
			"run", helmCommand(t), "template", m.name, dir, "--namespace", namespace, "--include-crds", "--skip-tests",
			"--kube-version", kubernetesVersion, "--values", values,
		}
	}
	out, err := command(t.Context(), "", "go", args...)
	if err != nil {
		if strings.Contains(err.Error(), "dial tcp") || strings.Contains(err.Error(), "no such host") {
			unreachable(t, err)
		}
		t.Fatal(err)
	}
	return objects(t, out)
}

// objects reads YAML as a client of Kubernetes does.
func objects(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		u := &unstructured.Unstructured{}
		err := dec.Decode(&u.Object)
		switch {
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			t.Fatal(err)
		case len(u.Object) > 0:
			out = append(out, u)
		}
	}
}

type objectKey struct{ apiVersion, kind, namespace, name string }

func keyOf(u *unstructured.Unstructured) objectKey {
	return objectKey{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}
}

// canonical are objects as JSON with sorted keys, by what they are.
func canonical(t *testing.T, list []*unstructured.Unstructured) map[objectKey]string {
	t.Helper()
	out := map[objectKey]string{}
	for _, u := range list {
		data, err := json.MarshalIndent(u.Object, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := out[keyOf(u)]; twice {
			t.Errorf("twice: %v", keyOf(u))
		}
		out[keyOf(u)] = string(data)
	}
	return out
}

// same compares what the catalog made with what the addon's own tool made. The one
// difference is that the catalog says of every object in which namespace it is, which
// the tool leaves to the command that applies it.
func same(t *testing.T, reference, got []*unstructured.Unstructured) {
	t.Helper()
	have := canonical(t, got)
	var want []*unstructured.Unstructured
	for _, u := range reference {
		placed := u.DeepCopy()
		placed.SetNamespace(namespace)
		if _, ok := have[keyOf(placed)]; ok && u.GetNamespace() == "" {
			u = placed
		}
		want = append(want, u)
	}
	wanted := canonical(t, want)
	for _, key := range slices.SortedFunc(maps.Keys(wanted), func(a, b objectKey) int {
		return strings.Compare(a.kind+"/"+a.name, b.kind+"/"+b.name)
	}) {
		switch text, ok := have[key]; {
		case !ok:
			t.Errorf("missing: %v", key)
		case text != wanted[key]:
			t.Errorf("%v differs (-its own tool +catalog):\n%s", key, cmp.Diff(wanted[key], text))
		}
		delete(have, key)
	}
	for key := range have {
		t.Errorf("only in the catalog: %v", key)
	}
}

// TestSameAsTheirOwnCommands: both versions of each addon, object by object.
func TestSameAsTheirOwnCommands(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the commands of Helm and kustomize")
	}
	renderer := render.New(render.Limits{})
	for _, m := range materials() {
		for _, r := range m.releases {
			t.Run(m.name+"@"+r.version, func(t *testing.T) {
				t.Parallel()
				dir := m.fetch(t, r)
				files, err := archive.Folder(dir, archive.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				packed, err := archive.Pack(files, archive.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				content, err := source.Read("", packed)
				if err != nil {
					t.Fatal(err)
				}
				if content.Manager != m.manager {
					t.Errorf("taken for %s, and is %s", content.Manager, m.manager)
				}
				got, err := renderer.Render(t.Context(), &catalog.Rendering{
					AddOn: m.name, Version: r.version, Namespace: namespace, Content: content, Values: m.values,
					Cluster: catalog.Facts{Name: "shop", Kubernetes: kubernetesVersion},
				})
				if err != nil {
					t.Fatal(err)
				}
				reference := m.reference(t, dir, namespace)
				same(t, reference, slices.Concat(got.Objects, got.PostInstall, got.PreDelete))
				t.Logf("%d objects, %d bytes of content", len(reference), len(packed))
			})
		}
	}
}
