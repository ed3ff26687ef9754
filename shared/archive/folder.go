// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"helm.sh/helm/v3/pkg/ignore"
)

// ignoreFile names what of a chart's folder is no part of the chart.
const ignoreFile = ".helmignore"

// Folder reads a folder with all it holds but version control. In a chart's folder
// .helmignore holds as it does for Helm. A symbolic link counts as the file it leads
// to, and is refused when that is outside or is a folder.
func Folder(dir string, limits Limits) (Files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	defer root.Close()
	rules, err := ignored(root)
	if err != nil {
		return nil, err
	}
	l := limits.orDefault()
	set, files := newSet(l), Files{}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.Name() == ".git", rules != nil && rules.Ignore(name, info):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return set.add(name, 0)
		case d.Type()&fs.ModeSymlink != 0:
			info, err = root.Stat(name)
			if err != nil {
				return fmt.Errorf("%s is a symbolic link that leaves the folder, or leads nowhere: %w", quote(name), err)
			}
		}
		switch {
		case info.IsDir():
			return fmt.Errorf("%s is a symbolic link to a folder: put the files there", quote(name))
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is not a regular file (%s)", quote(name), info.Mode().Type())
		}
		if err := set.add(name, info.Size()); err != nil {
			return err
		}
		files[name], err = readFile(root, name, l.File)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read folder: %w", err)
	}
	return files, set.check(files)
}

func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", quote(name), limit)
	}
	return data, err
}

// ignored returns the rules of a chart's folder, nil for another.
func ignored(root *os.Root) (*ignore.Rules, error) {
	if _, err := root.Stat("Chart.yaml"); err != nil {
		return nil, nil
	}
	rules := ignore.Empty()
	data, err := readFile(root, ignoreFile, 1<<20)
	if err == nil {
		if rules, err = ignore.Parse(bytes.NewReader(data)); err != nil {
			return nil, fmt.Errorf("read %s: %w", path.Join(root.Name(), ignoreFile), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	rules.AddDefaults()
	return rules, nil
}
