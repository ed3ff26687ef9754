// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the real binaries against each other and against a real
// Kubernetes, the way people use them. Each script in testdata is one story.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/drover-io/drover/test/kube"
)

// binaries is the folder of the programs under test.
var binaries string //nolint:gochecknoglobals // set once, before any test

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run builds the programs once for all tests of this package.
func run(m *testing.M) int {
	if testing.Short() {
		fmt.Println("skipping end-to-end tests in short mode")
		return 0
	}
	dir, err := os.MkdirTemp("", "drover-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", dir+string(filepath.Separator),
		"./hub/cmd/drover-hub", "./agent/cmd/drover-agent", "./hub/cmd/drover")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	binaries = dir
	return shared.Main(m)
}

// shared is the managed Kubernetes of this package; each test uses namespaces
// of its own in it.
var shared = &kube.Shared{Metrics: true}
