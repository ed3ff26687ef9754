// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package local runs Drover's real programs on this machine, for tests, the
// demo and measurements.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Programs is the folder of drover-hub, drover-agent and drover.
type Programs string

// Path is the path of one of the programs.
func (p Programs) Path(name string) string { return filepath.Join(string(p), name) }

// Process is a program in the background.
type Process struct {
	Name string
	Log  string // file with what it printed
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs a program in the background, its output appended to the file log.
// It gets its own process group, so that a terminal's Ctrl-C reaches the caller
// alone, who ends things in order.
func (p Programs) Start(log, name string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(p.Path(name), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	x := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(x.done)
		_ = cmd.Wait() // kept in ProcessState
	}()
	return x, nil
}

// Done is closed when the process has ended.
func (x *Process) Done() <-chan struct{} { return x.done }

// Succeeded says whether an ended process exited with 0.
func (x *Process) Succeeded() bool { return x.cmd.ProcessState.Success() }

// Pid is the process id.
func (x *Process) Pid() int { return x.cmd.Process.Pid }

// Kill ends the process as a power cut would, and waits until it is gone.
func (x *Process) Kill() {
	_ = x.cmd.Process.Signal(syscall.SIGKILL) // it may have ended already
	<-x.done
}

// Stop asks the process to end, kills it after limit, and waits until it is gone.
func (x *Process) Stop(limit time.Duration) {
	_ = x.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-x.done:
	case <-time.After(limit):
		x.Kill()
	}
}

// Tail is the end of what the process printed.
func (x *Process) Tail() string {
	text, err := os.ReadFile(x.Log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// RSS is the resident memory of the process in bytes, from /proc.
func (x *Process) RSS() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", x.Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("no VmRSS")
}

// Until polls f until it is true. A process that must stay alive ends the wait
// early, with the end of its log.
func Until(ctx context.Context, what string, limit time.Duration, alive *Process, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: not within %s", what, limit))
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-alive.done:
			return fmt.Errorf("%s: %s ended:\n%s", what, alive.Name, alive.Tail())
		case <-t.C:
		}
	}
}

// Run runs a program to its end and returns its standard output; an error
// carries what it printed on standard error.
func (p Programs) Run(ctx context.Context, stdin io.Reader, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.Path(name), args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}
