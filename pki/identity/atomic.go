// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stepFunc is called before each change to the disk; tests make it fail, as a
// crash would.
type stepFunc func(what string) error

func noSteps(string) error { return nil }

// WriteFile replaces a file whole or not at all: after a crash it has the old
// content or the new, and mode. The directory must exist.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return writeFile(path, data, mode, noSteps)
}

// writeFile replaces a file as WriteFile says. The temporary name is fixed, so that crashes leave at most
// one stray file, which the next write takes over.
func writeFile(path string, data []byte, mode fs.FileMode, step stepFunc) (err error) {
	temp := path + ".tmp"
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := step("create " + temp); err != nil {
		return err
	}
	// An old temporary file may have another mode, and O_CREATE keeps it.
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := fill(file, data, step); err != nil {
		_ = file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := step("rename " + temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if err := step("sync directory of " + path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func fill(file *os.File, data []byte, step stepFunc) error {
	if err := step("write " + file.Name()); err != nil {
		// A crash while writing leaves a part.
		_, _ = file.Write(data[:len(data)/2])
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := step("sync " + file.Name()); err != nil {
		return err
	}
	return file.Sync()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return err
}
