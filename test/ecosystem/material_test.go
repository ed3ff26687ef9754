// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// release is one version of an addon as its authors publish it.
type release struct {
	version string // of the addon
	module  string // path@version of a Go module
}

// material is an addon of somebody else, in two versions, the older one first.
type material struct {
	name     string
	manager  string
	path     string // of the content in the module
	root     string // a kustomization refers to folders beside it: these are pushed from here
	releases [2]release
	values   map[string]any // for charts
	// custom is a kind of one of its definitions, as resource.group.
	custom string
}

// materials are operators and sets of definitions with what Go modules hold of them.
func materials() []material {
	return []material{
		{
			name: "cert-manager", manager: fleet.ManagerHelm, path: "deploy/charts/cert-manager",
			releases: [2]release{
				{"1.21.0", "github.com/cert-manager/cert-manager@v1.21.0"},
				{"1.21.2", "github.com/cert-manager/cert-manager@v1.21.2"},
			},
			values: map[string]any{"crds": map[string]any{"enabled": true}, "image": map[string]any{"tag": "v1.21.2"}},
			custom: "certificates.cert-manager.io",
		},
		{
			name: "sealed-secrets", manager: fleet.ManagerHelm, path: "helm/sealed-secrets",
			releases: [2]release{
				{"0.27.1", "github.com/bitnami-labs/sealed-secrets@v0.27.1"},
				{"0.40.0", "github.com/bitnami-labs/sealed-secrets@v0.40.0"},
			},
			custom: "sealedsecrets.bitnami.com",
		},
		{
			name: "metrics-server", manager: fleet.ManagerHelm, path: "charts/metrics-server",
			releases: [2]release{
				{"0.8.0", "sigs.k8s.io/metrics-server@v0.8.0"},
				{"0.9.0", "sigs.k8s.io/metrics-server@v0.9.0"},
			},
			// its pods do not run here: an API that nobody serves would block the
			// removal of every namespace
			values: map[string]any{"apiService": map[string]any{"create": false}},
		},
		{
			name: "argo-rollouts", manager: fleet.ManagerKustomize, root: "manifests", path: "cluster-install",
			releases: [2]release{
				{"1.9.0", "github.com/argoproj/argo-rollouts@v1.9.0"},
				{"1.9.2", "github.com/argoproj/argo-rollouts@v1.9.2"},
			},
			custom: "rollouts.argoproj.io",
		},
		{
			name: "source-controller", manager: fleet.ManagerKustomize, root: "config", path: "default",
			releases: [2]release{
				{"1.9.5", "github.com/fluxcd/source-controller@v1.9.5"},
				{"1.9.6", "github.com/fluxcd/source-controller@v1.9.6"},
			},
			custom: "gitrepositories.source.toolkit.fluxcd.io",
		},
		{
			name: "gateway-api", manager: fleet.ManagerManifests, path: "config/crd/standard",
			releases: [2]release{
				{"1.5.1", "sigs.k8s.io/gateway-api@v1.5.1"},
				{"1.6.3", "sigs.k8s.io/gateway-api@v1.6.3"},
			},
			custom: "httproutes.gateway.networking.k8s.io",
		},
	}
}

// fetch returns the folder of a release's content, to be pushed as it is. A test
// that cannot reach the module proxy is skipped.
func (m material) fetch(t *testing.T, r release) string {
	t.Helper()
	dir := module(t, r.module)
	if m.root == "" {
		return filepath.Join(dir, filepath.FromSlash(m.path))
	}
	// What a kustomization refers to must be in the folder that is pushed: the one
	// above it, with a kustomization that leads to the other.
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(dir, filepath.FromSlash(m.root)))); err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + m.path + "]\n"
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// module returns the folder of a module, which it downloads when the cache lacks it.
func module(t *testing.T, name string) string {
	t.Helper()
	out, err := command(t.Context(), "", "go", "mod", "download", "-json", name)
	var info struct{ Dir, Error string }
	if jerr := json.Unmarshal(out, &info); jerr != nil || info.Dir == "" {
		unreachable(t, fmt.Errorf("download %s: %w: %s", name, err, info.Error))
	}
	return info.Dir
}

// unreachable skips the test, unless the environment has CI=true.
func unreachable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skipf("needs modules that are not here and cannot be had: %v", err)
}

// command runs a program to its end and returns its standard output.
func command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out.Bytes(), nil
}
