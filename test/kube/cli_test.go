// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-io/drover/test/kube"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	skipWithoutBinary(t)
	bin, err := kube.Binary()
	if err != nil {
		t.Fatal(err)
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	kubectl := filepath.Join(t.TempDir(), "kubectl")
	if err := os.Symlink(bin, kubectl); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no command", []string{bin}, 2, "usage: kubetest"},
		{"unknown command", []string{bin, "nope"}, 2, `unknown command "nope"`},
		{"unknown flag", []string{bin, "all", "--nope"}, 2, "-nope"},
		{"no directory", []string{bin, "all"}, 2, "--dir is missing"},
		{"stray argument", []string{bin, "etcd", "x"}, 2, `unexpected argument "x"`},
		{"help", []string{bin, "help"}, 0, "usage: kubetest"},
		{"help of a command", []string{bin, "all", "-h"}, 0, "-etcd-prefix"},
		{"version", []string{bin, "version"}, 0, "v1."},
		{"kubectl", []string{bin, "kubectl", "version", "--client"}, 0, "Client Version: v1."},
		{"kubectl by link", []string{kubectl, "version", "--client"}, 0, "Client Version: v1."},
		{"kubectl error", []string{kubectl, "nope"}, 1, `unknown command "nope" for "kubectl"`},
		{"kubectl has no flags of others", []string{kubectl, "get", "--version"}, 1, "unknown flag: --version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(tt.args[0], tt.args[1:]...).CombinedOutput()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if code != tt.code {
				t.Errorf("exit code = %d, want %d", code, tt.code)
			}
			if !strings.Contains(string(out), tt.want) {
				t.Errorf("output = %q, want %q in it", out, tt.want)
			}
		})
	}
}
