// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/drover-io/drover/agent/state"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

func open(t *testing.T, path string) *state.Dir {
	t.Helper()
	d, err := state.Open(path, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOpenIsPrivateAndExclusive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	d := open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of the state dir: got %o, want 700", got)
	}

	_, err = state.Open(path, zaptest.NewLogger(t))
	want := fmt.Sprintf("state dir %s is in use by another drover-agent (pid %d)", path, os.Getpid())
	if !errors.Is(err, state.ErrInUse) || err.Error() != want {
		t.Errorf("second open: got %v, want %s", err, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// The lock ends with the process, however it ends.
func TestLockOfKilledProcess(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("STATE_TEST_HOLD"); path != "" {
		if _, err := state.Open(path, zaptest.NewLogger(t)); err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		select {}
	}
	path := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockOfKilledProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "STATE_TEST_HOLD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for buf := make([]byte, 256); !strings.Contains(said.String(), "locked"); {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("holder ended: %v: %s", err, said.String())
		}
	}
	_, err = state.Open(path, zaptest.NewLogger(t))
	if want := fmt.Sprintf("(pid %d)", cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("while held: got %v, want %s", err, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	open(t, path)
}

func TestDesired(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := open(t, path)
	got, err := d.Desired()
	if diff := cmp.Diff(wire.Desired{}, got); diff != "" || err != nil {
		t.Fatalf("empty dir: %v %s", err, diff)
	}
	want := wire.Desired{Epoch: "e1", Generation: 7, Items: []wire.Item{{Name: "a", UID: "u", Generation: 2, Digest: "sha256:x"}}}
	if err := d.SaveDesired(want); err != nil {
		t.Fatal(err)
	}
	got, err = d.Desired()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("after save: %v %s", err, diff)
	}
	for _, damage := range []string{"", "{", `{"version":1}`, `{"version":99,"data":{}}`, `{"version":1,"data":[]}`} {
		if err := os.WriteFile(filepath.Join(path, "desired.json"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err = d.Desired()
		if diff := cmp.Diff(wire.Desired{}, got); diff != "" || err != nil {
			t.Errorf("damaged by %q: %v %s", damage, err, diff)
		}
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := open(t, path)
	one, two := []byte("one"), []byte("two")
	if err := d.PutContent(state.Digest(one), two); !errors.Is(err, state.ErrDigest) {
		t.Errorf("wrong digest: got %v", err)
	}
	for _, data := range [][]byte{one, two} {
		if err := d.PutContent(state.Digest(data), data); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Content(state.Digest(one))
	if string(got) != "one" || err != nil {
		t.Errorf("content: got %q, %v", got, err)
	}
	removed, err := d.CollectContent([]string{state.Digest(two)})
	if removed != 1 || err != nil {
		t.Errorf("collect: removed %d, %v", removed, err)
	}
	if _, err := d.Content(state.Digest(one)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("collected content: got %v", err)
	}
	file := filepath.Join(path, "content", strings.TrimPrefix(state.Digest(two), "sha256:"))
	if err := os.WriteFile(file, []byte("tw"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Content(state.Digest(two)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damaged content: got %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damaged content stays on disk")
	}
}

func TestDigestNamesNoPath(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	for _, digest := range []string{"", "sha256:", "sha256:../../etc/passwd", "md5:00", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("g", 64)} {
		if _, err := d.Content(digest); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("digest %q: got %v, want it refused", digest, err)
		}
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := open(t, path)
	want := map[string][]byte{"0b1c-uid": []byte(`{"a":1}`), "../../evil": []byte(`{"b":2}`), strings.Repeat("k", 300): []byte(`{}`)}
	for key, body := range want {
		if err := d.SaveRecord(key, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "records", ".0b1c-uid.json.tmp-1"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = open(t, path)
	got, err := d.LoadRecords()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("records: %v %s", err, diff)
	}
	if left, _ := filepath.Glob(filepath.Join(path, "records", ".*")); len(left) != 0 {
		t.Errorf("leftovers stay: %v", left)
	}
	for key := range want {
		for range 2 {
			if err := d.DeleteRecord(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err = d.LoadRecords(); len(got) != 0 || err != nil {
		t.Errorf("after delete: %v, %v", got, err)
	}
}

func TestDamagedRecordIsAnError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, damage, want string }{
		{"cut short", `{"version":1,"da`, "the file is damaged"},
		{"empty", ``, "the file is damaged"},
		{"newer", `{"version":2,"data":{}}`, "format version 2 is newer than 1"},
		{"another key", `{"version":1,"data":{"key":"other","body":{}}}`, "its key belongs to another file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, t.TempDir())
			if err := d.SaveRecord("one", []byte("{}")); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(d.Path(), "records", "one.json")
			if err := os.WriteFile(file, []byte(tt.damage), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := d.LoadRecords()
			var corrupt *state.CorruptError
			var hinted *daemon.Error
			if !errors.As(err, &corrupt) || corrupt.File != file || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a corrupt file and %q", err, tt.want)
			}
			if !errors.As(err, &hinted) || hinted.Hint == "" {
				t.Errorf("error without a hint: %v", err)
			}
		})
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"data":{"key":"one","body":{}}}`))
	f.Add([]byte(`{"version":1,"data":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := open(t, t.TempDir())
		if err := os.WriteFile(filepath.Join(d.Path(), "records", "one.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := d.LoadRecords()
		if err == nil && len(records) != 1 {
			t.Errorf("neither a record nor an error: %v", records)
		}
	})
}
