// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/test/kube"
)

// parentDir names the environment variable that makes the test binary a
// program which starts a cluster in that directory and never stops it.
const parentDir = "KUBE_TEST_PARENT_DIR"

func parent(dir string) {
	c, err := kube.Start(context.Background(), kube.Options{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.Pid())
	select {}
}

// The kernel sends Pdeathsig when the thread that started the process ends,
// so the cluster must not hang on the thread of Start's caller.
func TestStopAndStartAgain(t *testing.T) {
	t.Parallel()
	skipWithoutBinary(t)
	dir := t.TempDir()

	var c *kube.Cluster
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		c, err = kube.Start(t.Context(), kube.Options{Dir: dir})
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	ns := namespace(t, clientset(t, c))

	pid := c.Pid()
	if err := c.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d after Stop: %v, want that there is none", pid, err)
	}

	// The same directory and port are the same cluster: old clients work.
	old := clientset(t, c)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(c.RESTConfig().Host, "https://"))
	n, _ := strconv.Atoi(port)
	again, err := kube.Start(t.Context(), kube.Options{Dir: dir, Port: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if _, err := old.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); err != nil {
		t.Errorf("namespace after the restart: %v", err)
	}
}

func TestStopReportsAClusterThatDied(t *testing.T) {
	t.Parallel()
	skipWithoutBinary(t)
	c, err := kube.Start(t.Context(), kube.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Stop(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("stop: %v, want that it had been killed", err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	skipWithoutBinary(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	tests := []struct {
		name string
		ctx  context.Context
		opts kube.Options
		want string
	}{
		{"port in use", t.Context(), kube.Options{Dir: t.TempDir(), Port: port}, fmt.Sprintf("port %d on 127.0.0.1 is in use", port)},
		{"no directory", t.Context(), kube.Options{}, "set Options.Dir"},
		{"directory is a file", t.Context(), kube.Options{Dir: file}, "create directory"},
		{"no binary", t.Context(), kube.Options{Dir: t.TempDir(), Binary: "/nonexistent/kubetest"}, "no such file"},
		{"directory in use", t.Context(), kube.Options{Dir: shared.Cluster(t).Dir}, "in use by another kubetest"},
		{"context ended", ended, kube.Options{Dir: t.TempDir()}, "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := kube.Start(tt.ctx, tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(shared.Cluster(t).Dir, "ready")); err != nil {
		t.Errorf("ready file of the running cluster after a second start: %v", err)
	}
}

func TestBinary(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(deep)
	t.Setenv("KUBETEST_BIN", "")

	if _, err := kube.Binary(); !errors.Is(err, kube.ErrNotBuilt) {
		t.Errorf("nothing there: %v, want ErrNotBuilt", err)
	}
	cmd := kube.Kubectl("x")
	if err := cmd.Run(); !errors.Is(err, kube.ErrNotBuilt) {
		t.Errorf("kubectl: %v, want ErrNotBuilt", err)
	}

	bin := filepath.Join(root, "bin", "kubetest")
	if err := os.Mkdir(filepath.Dir(bin), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bin, filepath.Join(root, "go.mod")} {
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := kube.Binary(); err != nil || filepath.Base(filepath.Dir(got)) != "bin" {
		t.Errorf("in the module: %q, %v, want %q", got, err, bin)
	}

	t.Setenv("KUBETEST_BIN", filepath.Join(root, "absent"))
	if _, err := kube.Binary(); err == nil || errors.Is(err, kube.ErrNotBuilt) {
		t.Errorf("absent KUBETEST_BIN: %v, want an error that no test skips on", err)
	}
}

func skipWithoutBinary(t *testing.T) {
	t.Helper()
	if _, err := kube.Binary(); errors.Is(err, kube.ErrNotBuilt) && os.Getenv("CI") != "true" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
}
