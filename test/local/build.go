// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main is the TestMain of a package two folders below the module's root that
// tests the real programs: it builds them as they are shipped, says where they
// are, and runs the tests. In short mode it does neither. The result is for os.Exit.
func Main(programs *string, run func() int) int {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipping tests of the real programs in short mode")
		return 0
	}
	dir, err := os.MkdirTemp("", "drover-programs-")
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
	*programs = dir
	return run()
}
