// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout is far above what ten clusters at once need on two busy
	// cores.
	startTimeout = 3 * time.Minute

	// stopTimeout is how long a process has between SIGTERM and SIGKILL.
	stopTimeout = 10 * time.Second
)

// process is one running kubetest.
type process struct {
	dir string
	url string // where it serves

	log      string
	logStart int64 // what stands before in the log is from earlier runs

	cmd *exec.Cmd

	// done is closed when the process is gone; err is set before.
	done chan struct{}
	err  error

	stopOnce sync.Once
	stopErr  error
}

// startProcess starts kubetest with args in opts.Dir and waits until it says
// that it is ready. On failure no process is left.
func startProcess(ctx context.Context, opts Options, args []string) (*process, error) {
	if opts.Dir == "" {
		return nil, errors.New("no directory given: set Options.Dir")
	}
	bin := opts.Binary
	if bin == "" {
		var err error
		if bin, err = Binary(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolve directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}

	p := &process{dir: dir, log: filepath.Join(dir, "kubetest.log"), done: make(chan struct{})}
	p.cmd = exec.Command(bin, append(args, "--dir", dir)...)
	p.cmd.Env = append(append(os.Environ(), "GOGC=50"), opts.Env...) // 40 MiB less for a little CPU
	p.cmd.SysProcAttr = procAttr()
	if err := p.start(); err != nil {
		return nil, err
	}
	if err := p.wait(ctx); err != nil {
		_ = p.stop()
		return nil, err
	}
	return p, nil
}

// start starts the process. The kernel ends it together with the *thread*
// that started it, so one goroutine keeps that thread until the process ends.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		p.logStart = info.Size()
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log // files: no goroutine copies

	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return <-started
}

// wait returns nil once the ready file of this process is there.
func (p *process) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(filepath.Join(p.dir, "ready"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read ready file: %w", err)
		}
		// Another id is that of an earlier process, or of one that has the
		// directory in use.
		if f := strings.Fields(string(data)); len(f) == 2 && f[1] == strconv.Itoa(p.cmd.Process.Pid) {
			p.url = f[0]
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return p.failure()
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (log: %s)", ctx.Err(), p.log)
		}
	}
}

// failure says why the process ended: its own words, else the end of the
// components' log.
func (p *process) failure() error {
	const mark = "kubetest: error: "
	data, _ := os.ReadFile(p.log)
	data = data[min(p.logStart, int64(len(data))):]
	if i := strings.LastIndex(string(data), mark); i >= 0 {
		return errors.New(strings.TrimSpace(string(data[i+len(mark):])))
	}
	components := filepath.Join(p.dir, "components.log")
	return fmt.Errorf("ended (%s); the end of %s:\n%s", p.cmd.ProcessState, components, tail(components, 20))
}

// tail returns the last n lines of a file, or nothing if it cannot be read.
func tail(path string, n int) string {
	data, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// stop ends the process and waits until it is gone.
func (p *process) stop() error {
	p.stopOnce.Do(func() {
		// The signals go to this one process: Go's handle knows when it is
		// gone and never signals a new process with the old id.
		if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
			<-p.done
			p.stopErr = fmt.Errorf("kubetest had ended before: %w", p.failure())
			return
		}
		kill := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
		<-p.done
		if !kill.Stop() {
			p.stopErr = fmt.Errorf("kubetest did not end within %s and was killed (log: %s)", stopTimeout, p.log)
		} else if p.err != nil {
			p.stopErr = fmt.Errorf("stop kubetest: %w (log: %s)", p.err, p.log)
		}
	})
	return p.stopErr
}
