// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// fileStamp sorts by time; it is part of the names of full files.
const fileStamp = "2006-01-02T15-04-05.000000000"

// File appends events to a file, one line of JSON each, synced before they count
// as taken. A full file is renamed to NAME-TIME.EXT.
type File struct {
	Path string
	// MaxBytes is the size beyond which a file is full; zero means 100 MiB.
	MaxBytes int64
	// Keep is how many full files are kept, the newest; zero keeps all.
	Keep int
}

// Write implements Sink. It opens the file anew each time, so that whoever moves
// it away, such as logrotate, needs to tell nobody.
func (f *File) Write(_ context.Context, events []auditv1.Event) (err error) {
	lines, err := encodeEvents(events)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(f.Path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit-log-path: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	size, err := out.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("audit-log-path: %w", err)
	}
	if _, err = out.Write(lines); err == nil {
		err = out.Sync()
	}
	if err != nil {
		// Half a line would spoil the next one.
		return errors.Join(fmt.Errorf("audit-log-path: %w", err), out.Truncate(size))
	}
	limit := f.MaxBytes
	if limit <= 0 {
		limit = 100 << 20
	}
	if size+int64(len(lines)) >= limit {
		return f.rotate(time.Now())
	}
	return nil
}

// rotate puts a full file aside and removes the oldest.
func (f *File) rotate(now time.Time) error {
	ext := filepath.Ext(f.Path)
	stem := strings.TrimSuffix(f.Path, ext)
	if err := os.Rename(f.Path, stem+"-"+now.UTC().Format(fileStamp)+ext); err != nil {
		return fmt.Errorf("audit-log-path: %w", err)
	}
	if f.Keep <= 0 {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil {
		return fmt.Errorf("audit-log-path: %w", err)
	}
	var full []string
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ext), filepath.Base(stem)+"-")
		if _, err := time.Parse(fileStamp, stamp); ok && err == nil {
			full = append(full, e.Name())
		}
	}
	slices.Sort(full)
	for len(full) > f.Keep {
		err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(f.Path), full[0])))
		full = full[1:]
	}
	return err
}
