// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// StartForTest starts n clusters and ends them with the test. If kubetest is
// not built it skips the test, or fails it where the environment has CI=true.
func StartForTest(t testing.TB, n int) []*Cluster {
	t.Helper()
	requireBinary(t)
	set, err := StartSet(t.Context(), n, Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Stop(); err != nil {
			t.Errorf("stop clusters: %v", err)
		}
	})
	return set.Clusters
}

// Shared is one cluster for all tests of a package. It starts with the first
// test that asks for it. The zero value is ready to use:
//
//	var shared kube.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		cluster := shared.Cluster(t)
type Shared struct {
	// Metrics is as in Options.
	Metrics bool

	once    sync.Once
	dir     string
	cluster *Cluster
	err     error
}

// Cluster returns the cluster. If kubetest is not built it skips the test, or
// fails it where the environment has CI=true. Tests keep out of each other's
// way by using namespaces of their own.
func (s *Shared) Cluster(t testing.TB) *Cluster {
	t.Helper()
	requireBinary(t)
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "drover-kube-"); s.err != nil {
			return
		}
		// Not the test's context: the cluster outlives the test.
		s.cluster, s.err = Start(context.Background(), Options{Dir: s.dir, Metrics: s.Metrics})
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

// Main runs the tests, ends the cluster and returns the exit code.
func (s *Shared) Main(m *testing.M) int {
	code := m.Run()
	if s.cluster != nil {
		if err := s.cluster.Stop(); err != nil {
			fmt.Fprintf(os.Stderr, "stop shared cluster: %v\n", err)
			code = max(code, 1)
		}
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
	return code
}

func requireBinary(t testing.TB) {
	t.Helper()
	_, err := Binary()
	switch {
	case err == nil:
	case errors.Is(err, ErrNotBuilt) && os.Getenv("CI") != "true":
		t.Skipf("needs a Kubernetes control plane, but %v", err)
	default:
		t.Fatal(err)
	}
}
