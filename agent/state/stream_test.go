// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-io/drover/agent/state"
)

func TestStreamedContent(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := open(t, path)
	body := strings.Repeat("0123456789abcdef", 64<<10)
	digest := state.Digest([]byte(body))
	if _, err := d.OpenContent(digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: got %v", err)
	}
	for _, tt := range []struct {
		name, body string
		limit      int64
	}{{"too large", body, int64(len(body)) - 1}, {"another", body[1:], 1 << 30}} {
		if err := d.PutContentFrom(digest, strings.NewReader(tt.body), tt.limit); !errors.Is(err, state.ErrDigest) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	if err := d.PutContentFrom(digest, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	read := func(d *state.Dir) (string, error) {
		f, err := d.OpenContent(digest)
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		return string(data), err
	}
	for range 2 {
		if got, err := read(d); err != nil || got != body {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(path, "content"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}

	// Damage is found by the next process.
	file := filepath.Join(path, "content", entries[0].Name())
	if err := os.WriteFile(file, []byte(body[1:]), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = open(t, path)
	if _, err := read(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damaged: got %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error("damaged content stays on disk")
	}
}
