// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/drover-io/drover/shared/durable"
)

const (
	lockFile  = "lock"
	probeFile = "probe"
)

// lockDir takes the directory for this process. The kernel drops the lock when
// the process ends, however it ends, so a stale file is no obstacle.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, cause(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(f.Name())
		f.Close() //nolint:errcheck // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			if pid := strings.TrimSpace(string(holder)); pid != "" {
				return nil, fmt.Errorf("in use by another hub (process %s)", pid)
			}
			return nil, errors.New("in use by another hub")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	// The number is for people only; a lock without it is as good.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid()) //nolint:errcheck // see above
	}
	return f, nil
}

// probe writes and syncs a block, so that a full or read-only disk is reported
// before the server starts on it.
func probe(dir string) error {
	path := filepath.Join(dir, probeFile)
	if err := durable.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		return fmt.Errorf("write: %w", cause(err))
	}
	if err := os.Remove(path); err != nil {
		return cause(err)
	}
	return nil
}

// cause strips the path, which the caller names already, from err.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
