// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package state keeps the small files by which an agent survives a restart:
// the desired state it was last given, the content of works by digest, and one
// record an applied item.
//
// Every write replaces a whole file, so a crash at any moment leaves the old
// content or the new. Records and content are many and small: a journal makes those
// of a moment durable with one sync. One process owns the directory at a time.
//
// Layout below the state dir:
//
//	lock              held by the running agent; holds its process id
//	desired-signed.json  the last desired state, in the hub's signature
//	desired.json      the same of a hub that does not sign
//	journal           what of the two below is not synced yet; empty after a proper end
//	content/<hex>     content blobs, named by SHA-256; a cache of the hub
//	records/<key>     what was applied for each item; lost records cannot be rebuilt
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
)

const (
	dirMode  = 0o700
	fileMode = 0o600

	// formatVersion is the version of every JSON file here. A file with a higher
	// one was written by a newer agent and is refused rather than misread.
	formatVersion = 1
)

// ErrInUse is wrapped by the error of Open when another process holds the directory.
var ErrInUse = errors.New("in use")

// Dir is an open state directory. Its methods may be called concurrently.
type Dir struct {
	path string
	log  *zap.Logger
	lock *os.File

	journal *journal
	checked sync.Map // digests of content that OpenContent need not check again
}

// Open creates the directory when it is missing, makes it private (0700) and
// locks it until Close. The lock also ends when the process does.
func Open(path string, log *zap.Logger) (*Dir, error) {
	if path == "" {
		return nil, errors.New("state dir: empty path")
	}
	for _, dir := range []string{path, filepath.Join(path, "content"), filepath.Join(path, "records")} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return nil, fmt.Errorf("create state dir: %w", err)
		}
		if err := os.Chmod(dir, dirMode); err != nil {
			return nil, fmt.Errorf("make state dir private: %w", err)
		}
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, log: log, lock: lock}
	d.removeLeftovers()
	if d.journal, err = openJournal(path, log); err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

// Path is the directory given to Open.
func (d *Dir) Path() string { return d.path }

// Close ends all writing and releases the lock. The lock file stays: removing it
// would let two processes hold locks on different files of one name.
//
// The lock is given up by name: a process that is being started at this moment has
// the file open too, and closing it here would leave the lock with that one.
func (d *Dir) Close() error {
	return errors.Join(d.journal.close(), syscall.Flock(int(d.lock.Fd()), syscall.LOCK_UN), d.lock.Close())
}

func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open lock of state dir: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock state dir %s: %w", path, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(f, 20))
		pid := strings.TrimSpace(string(holder))
		if pid == "" {
			pid = "unknown"
		}
		return nil, daemon.Hint(&inUseError{path: path, pid: pid}, "stop the other agent first, or give this one its own state dir")
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock of state dir: %w", err)
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

type inUseError struct{ path, pid string }

func (e *inUseError) Error() string {
	return fmt.Sprintf("state dir %s is in use by another drover-agent (pid %s)", e.path, e.pid)
}

func (e *inUseError) Is(target error) bool { return target == ErrInUse }

// removeLeftovers deletes temporary files of writes that a crash cut short.
func (d *Dir) removeLeftovers() {
	for _, dir := range []string{d.path, filepath.Join(d.path, "content"), filepath.Join(d.path, "records")} {
		names, err := filepath.Glob(filepath.Join(dir, ".*.tmp-*"))
		if err != nil {
			continue
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				d.log.Warn("cannot remove leftover file", zap.String("file", name), zap.Error(err))
			}
		}
	}
}

// envelope is the outermost object of every JSON file.
type envelope struct {
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data"`
}

// CorruptError is a file of the state dir that cannot be used. The agent does
// not start over it by itself when something would be lost.
type CorruptError struct {
	File string // full path
	Err  error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("read %s: %v", e.File, e.Err) }

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(file, hint string, err error) error {
	return daemon.Hint(&CorruptError{File: file, Err: fmt.Errorf("the file is damaged: %w", err)}, "%s", hint)
}

// readJSON returns the data of a file written by writeJSON, and an error that
// is fs.ErrNotExist when there is none.
func readJSON(file, hint string) (json.RawMessage, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, fmt.Errorf("read state: %w", err)
	}
	var env envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, corrupt(file, hint, err)
	}
	switch {
	case env.Version == formatVersion && len(env.Data) > 0:
		return env.Data, nil
	case env.Version > formatVersion:
		err := &CorruptError{File: file, Err: fmt.Errorf("format version %d is newer than %d, the newest this agent knows", env.Version, formatVersion)}
		return nil, daemon.Hint(err, "run the agent version that wrote this state dir, or a newer one")
	default:
		return nil, corrupt(file, hint, errors.New("no version or no data"))
	}
}

func writeJSON(file string, data any) error {
	raw, err := encodeJSON(file, data)
	if err != nil {
		return err
	}
	return durable.WriteFile(file, raw, fileMode)
}

func encodeJSON(file string, data any) ([]byte, error) {
	body, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", filepath.Base(file), err)
	}
	raw, err := json.Marshal(envelope{Version: formatVersion, Data: body})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", filepath.Base(file), err)
	}
	return raw, nil
}
