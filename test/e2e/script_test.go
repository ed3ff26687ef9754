// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drover-io/drover/test/kube"
)

// patience is how long a script waits for something before it fails. Slow
// machines need it; nothing waits longer than it has to.
const patience = 90 * time.Second

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("KUBECONFIG", filepath.Join(env.WorkDir, "hub", "admin.kubeconfig"))
			env.Values["t"] = env.T()
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"until":      until,
			"waitfile":   waitFile,
			"capture":    capture,
			"kubernetes": kubernetes(t),
			"kubectl":    kubectl,
			"replace":    replace,
		},
	})
}

// until runs a program again and again until its output matches a pattern:
//
//	until 'PATTERN' PROGRAM ARGS...
//
// Negated, until it does not match any more.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARGS...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		cmd := command(ts, args[1], args[2:]...)
		out, err = cmd.CombinedOutput()
		if (err == nil || neg) && re.Match(out) != neg {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("after %s %v (%v) still prints:\n%s", patience, args[1:], err, out)
}

func command(ts *testscript.TestScript, name string, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if name == "kubectl" {
		cmd = kube.Kubectl(ts.Getenv("KUBE"), args...)
	} else {
		path := filepath.Join(binaries, name)
		if _, err := os.Stat(path); err != nil {
			path = name
		}
		cmd = exec.Command(path, args...)
	}
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+ts.Getenv("KUBECONFIG"), "HOME="+ts.Getenv("WORK"))
	return cmd
}

// waitFile waits until files exist.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(patience)
	for _, name := range args {
		for {
			_, err := os.Stat(ts.MkAbs(name))
			if (err == nil) != neg {
				break
			}
			if time.Now().After(deadline) {
				ts.Fatalf("%s: %v after %s", name, err, patience)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// capture sets a variable to the first group of a pattern, once a file has it:
//
//	capture NAME PATTERN FILE
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: capture NAME PATTERN FILE")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	deadline := time.Now().Add(patience)
	for {
		text, err := os.ReadFile(ts.MkAbs(args[2]))
		if m := re.FindSubmatch(text); m != nil {
			ts.Setenv(args[0], string(m[1]))
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not have %s (%v):\n%s", args[2], args[1], err, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// kubernetes sets $KUBE to the kubeconfig of a real cluster.
func kubernetes(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) {
		if _, err := kube.Binary(); errors.Is(err, kube.ErrNotBuilt) && os.Getenv("CI") != "true" {
			ts.Value("t").(testscript.T).Skip(err.Error())
		}
		ts.Setenv("KUBE", shared.Cluster(t).Kubeconfig)
	}
}

// kubectl runs kubectl against $KUBE, or with "hub" in front against the hub.
// The output is for stdout and stderr.
func kubectl(ts *testscript.TestScript, neg bool, args []string) {
	config := ts.Getenv("KUBE")
	if len(args) > 0 && args[0] == "hub" {
		config, args = ts.Getenv("KUBECONFIG"), args[1:]
	}
	cmd := kube.Kubectl(config, args...)
	cmd.Dir = ts.Getenv("WORK")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	ts.Check(os.WriteFile(ts.MkAbs("stdout"), stdout.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("stderr"), stderr.Bytes(), 0o600))
	if (err == nil) == neg {
		ts.Fatalf("kubectl %v: %v\n%s%s", args, err, stdout.String(), stderr.String())
	}
	ts.Logf("%s%s", stdout.String(), stderr.String())
}

// replace edits a file: replace FILE PATTERN TEXT.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: replace FILE PATTERN TEXT")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if !re.Match(text) {
		ts.Fatalf("%s has nothing like %s", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), re.ReplaceAll(text, []byte(args[2])), 0o600))
}
