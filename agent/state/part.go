// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// partSuffix is of files in content/ that hold the first bytes of a download. They
// survive a restart, so that the download goes on where it was.
const partSuffix = ".part"

// OpenPart opens what of a download is there already, for appending. size is how
// many bytes that is. The caller closes the file.
func (d *Dir) OpenPart(digest string) (f *os.File, size int64, err error) {
	file, err := d.partFile(digest)
	if err != nil {
		return nil, 0, err
	}
	if f, err = os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, fileMode); err != nil {
		return nil, 0, fmt.Errorf("open download: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open download: %w", err)
	}
	return f, info.Size(), nil
}

// DropPart forgets a download; one that is not there is no error.
func (d *Dir) DropPart(digest string) error {
	file, err := d.partFile(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop download: %w", err)
	}
	return nil
}

// collectParts removes downloads that keep does not name.
func (d *Dir) collectParts(held map[string]bool) error {
	files, err := filepath.Glob(filepath.Join(d.path, "content", ".*"+partSuffix))
	if err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "."), partSuffix)
		if held[name] {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove download: %w", err)
		}
	}
	return nil
}

func (d *Dir) partFile(digest string) (string, error) {
	file, err := d.contentFile(digest)
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+partSuffix), nil
}
