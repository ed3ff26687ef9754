// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the real binaries against each other and against a real
// Kubernetes, the way people use them. Each script in testdata is one story.
package e2e

import (
	"os"
	"testing"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// binaries is the folder of the programs under test.
var binaries string //nolint:gochecknoglobals // set once, before any test

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, func() int { return shared.Main(m) })) }

// shared is the managed Kubernetes of this package; each test uses namespaces
// of its own in it.
var shared = &kube.Shared{Metrics: true}
