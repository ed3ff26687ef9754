// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// stderr is where progress goes. Redirecting file descriptor 2 leaves it alone.
var stderr = os.Stderr

// progress writes one line for people.
func progress(format string, args ...any) {
	fmt.Fprintf(stderr, "%s kubetest: %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// prepareDir makes dir ready for one run: it exists, no other kubetest uses
// it, no ready file of an earlier run is left, and what the components log
// goes to components.log. It returns the absolute path of dir. The lock ends
// with the process.
func prepareDir(dir string) (string, error) {
	if dir == "" {
		return "", usageError{errors.New("--dir is missing: name a directory for data, keys and logs")}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve --dir: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create --dir: %w", err)
	}
	if err := lockDir(dir); err != nil {
		return "", err
	}
	if err := os.Remove(readyFile(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("remove old ready file: %w", err)
	}

	log, err := os.OpenFile(logFile(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("open log: %w", err)
	}
	out, err := redirectStderr(log)
	if err != nil {
		return "", fmt.Errorf("redirect logs of the components: %w", err)
	}
	stderr = out
	return dir, nil
}

// lockDir takes the lock of dir for the life of the process. Without it etcd
// would wait for the other process without a word.
func lockDir(dir string) error {
	path := filepath.Join(dir, "lock")
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("--dir %s is in use by another kubetest", dir)
	}
	return nil
}

// writeReady tells that this process serves at addr. The second line is its
// process id: who waits for the file can tell it from one of an earlier run.
func writeReady(dir, addr string) error {
	if err := writeFile(readyFile(dir), fmt.Appendf(nil, "%s\n%d\n", addr, os.Getpid())); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return nil
}

func readyFile(dir string) string { return filepath.Join(dir, "ready") }
func logFile(dir string) string   { return filepath.Join(dir, "components.log") }

// writeFile writes a file that is either absent or complete.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
