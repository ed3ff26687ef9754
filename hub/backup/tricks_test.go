// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

func nop() *zap.Logger { return zap.NewNop() }

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want %q", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %v", err)
	}
}

// small is a backup with few objects.
func small(t testing.TB) []byte {
	t.Helper()
	h := start(t, t.TempDir())
	h.create(key("a"), object("a", 1))
	h.create(key("b"), object("b", 1))
	defer h.stop()
	return h.backup()
}

// TestTricks: whatever is wrong with the file, nothing is written.
func TestTricks(t *testing.T) {
	t.Parallel()
	good := small(t)
	members := unpack(t, good)
	last := len(members) - 1
	with := func(extra ...member) []member {
		out := append([]member(nil), members[:last]...)
		return append(append(out, extra...), members[last])
	}
	regular := func(name, data string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(data)}
	}
	swap := func(name string, f func([]byte) []byte) []member {
		out := append([]member(nil), members...)
		for i := range out {
			if out[i].header.Name == name {
				out[i].data = f(bytes.Clone(out[i].data))
			}
		}
		return out
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not a backup of a hub"},
		{"text", []byte("apiVersion: v1\n"), "not a backup of a hub"},
		{"other tar", pack(t, []member{regular("etc/passwd", "x")}), `has a member "etc/passwd"`},
		{"path above", pack(t, rewrite(t, with(regular("pki/../../x", "x")), nil)), `has a member "pki/../../x"`},
		{"absolute path", pack(t, rewrite(t, with(regular("/etc/x", "x")), nil)), `has a member "/etc/x"`},
		{"hidden file", pack(t, rewrite(t, with(regular("pki/.x", "x")), nil)), `has a member "pki/.x"`},
		{"folder below", pack(t, rewrite(t, with(regular("pki/a/b", "x")), nil)), `has a member "pki/a/b"`},
		{"link", pack(t, rewrite(t, with(member{tar.Header{Typeflag: tar.TypeSymlink, Name: "pki/root.crt", Linkname: "/etc/passwd"}, nil}), nil)), `has a member "pki/root.crt"`},
		{"hard link", pack(t, rewrite(t, with(member{tar.Header{Typeflag: tar.TypeLink, Name: "pki/root.crt", Linkname: "/etc/passwd"}, nil}), nil)), `has a member "pki/root.crt"`},
		{"folder", pack(t, rewrite(t, with(member{tar.Header{Typeflag: tar.TypeDir, Name: "pki/"}, nil}), nil)), `has a member "pki/"`},
		{"device", pack(t, rewrite(t, with(member{tar.Header{Typeflag: tar.TypeChar, Name: "pki/x"}, nil}), nil)), `has a member "pki/x"`},
		{"twice", pack(t, rewrite(t, with(members[0]), nil)), "comes twice"},
		{"more than listed", pack(t, with(regular("pki/x", "x"))), "the manifest lists"},
		{"other content", pack(t, swap("pki/root.key", func(b []byte) []byte { b[30] ^= 1; return b })), "member pki/root.key is not what was written"},
		{"no manifest", pack(t, members[:last]), "it ends without a manifest"},
		{"after the manifest", pack(t, append(with(), regular("pki/x", "x"))), "something follows the manifest"},
		{"no key", pack(t, rewrite(t, swapOut(members, "pki/intermediate.key"), nil)), "pki/intermediate.key is not in it"},
		{"no broker keys", pack(t, rewrite(t, swapOut(members, "nats/keys.json"), nil)), "nats/keys.json is not in it"},
		{"newer format", pack(t, rewrite(t, members, func(m *Manifest) { m.Format, m.Version = 2, "v9" })), "format 2 (written by drover-hub v9), this program reads format 1"},
		{"no format", pack(t, rewrite(t, members, func(m *Manifest) { m.Format = 0 })), "format 0"},
		{"fewer objects", pack(t, rewrite(t, swapOut(members, "objects/000001"), nil)), "it has 0 objects"},
		{"record cut off", pack(t, rewrite(t, swap("objects/000001", func(b []byte) []byte { return b[:len(b)-1] }), nil)), "objects/000001: record 2: size"},
		{"record of wrong size", pack(t, rewrite(t, swap("objects/000001", func(b []byte) []byte { return bytes.Replace(b, []byte(`"size":`), []byte(`"size":9`), 1) }), nil)), "record 1: size"},
		{"record with an unknown field", pack(t, rewrite(t, swap("objects/000001", func(b []byte) []byte { return bytes.Replace(b, []byte(`"revision":`), []byte(`"revisoin":`), 1) }), nil)), "record 1: json"},
		{"clock", pack(t, rewrite(t, members, func(m *Manifest) { m.Time = time.Now().Add(time.Hour) })), "clock"},
		{"bytes behind", append(bytes.Clone(good), "x"...), "something follows its end"},
		{"an object twice", pack(t, rewrite(t, swap("objects/000001", func(b []byte) []byte { return append(b, b...) }), func(m *Manifest) { m.Objects *= 2 })), "written twice"},
		{"a bad key of the CA", pack(t, rewrite(t, swap("certificates/000001", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"name":"`), []byte(`"name":"> `), 1)
		}), nil)), `record "> `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			dir := filepath.Join(home, "hub")
			_, err := Restore(timeout(t), file(t, tt.data), dir, time.Now().Add(time.Minute))
			wantError(t, err, tt.want)
			if entries, err := os.ReadDir(home); err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

func swapOut(members []member, name string) []member {
	var out []member
	for _, m := range members {
		if m.header.Name != name {
			out = append(out, m)
		}
	}
	return out
}

// TestDamage cuts the file at many places and flips a bit at many.
func TestDamage(t *testing.T) {
	t.Parallel()
	good := small(t)
	if _, err := Verify(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(good); n += 1 + len(good)/400 {
		if _, err := Verify(bytes.NewReader(good[:n])); err == nil {
			t.Errorf("cut off after %d of %d bytes, and not noticed", n, len(good))
		}
		bad := bytes.Clone(good)
		bad[n] ^= 0x10
		// Some bits of a compressed file mean nothing: its header has a time, and a
		// block begins at a whole byte.
		if _, err := Verify(bytes.NewReader(bad)); err == nil && !cmp.Equal(unpack(t, bad), unpack(t, good), cmp.AllowUnexported(member{})) {
			t.Errorf("a bit of byte %d of %d flipped, and not noticed", n, len(good))
		}
	}
}

func TestDataDir(t *testing.T) {
	t.Parallel()
	good := small(t)
	for _, tt := range []struct {
		name    string
		prepare func(dir string) error
		want    string // empty: works
	}{
		{"empty", func(dir string) error { return os.Mkdir(dir, 0o750) }, ""},
		{"a new file system", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700) }, ""},
		{"not empty", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "x"), 0o700) }, "is not empty"},
		{"a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "not a directory"},
		{"no parent", func(string) error { return nil }, "no such file or directory"},
		{"interrupted", func(dir string) error { return os.MkdirAll(filepath.Join(dir, stageDir), 0o700) }, "a restore is under way or was interrupted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "hub")
			if tt.name == "no parent" {
				dir = filepath.Join(dir, "hub")
			}
			if err := tt.prepare(dir); err != nil {
				t.Fatal(err)
			}
			before := list(t, dir)
			_, err := Restore(timeout(t), file(t, good), dir, time.Now().Add(time.Minute))
			if tt.want != "" {
				wantError(t, err, tt.want)
				if after := list(t, dir); after != before {
					t.Errorf("there is %s, there was %s", after, before)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckDir(dir); err != nil {
				t.Error(err)
			}
			start(t, dir)
		})
	}
}

func list(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "nothing"
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestInterrupted: a restore that is stopped leaves nothing.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	good := small(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	home := t.TempDir()
	_, err := Restore(ctx, file(t, good), filepath.Join(home, "hub"), time.Now().Add(time.Minute))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	if got := list(t, home); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

func FuzzVerify(f *testing.F) {
	var members []member
	for _, name := range []string{"pki/intermediate.crt", "pki/intermediate.key", "pki/roots.crt", "nats/keys.json"} {
		members = append(members, member{tar.Header{Typeflag: tar.TypeReg, Name: name}, []byte(name)})
	}
	members = append(members, member{tar.Header{Typeflag: tar.TypeReg, Name: manifestName}, []byte(`{"format":1}`)})
	good := pack(f, rewrite(f, members, nil))
	if _, err := Verify(bytes.NewReader(good)); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(pack(f, members[:2]))
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Verify(bytes.NewReader(data))
		if err == nil && (m.Format != Format || len(m.Members) < 4) {
			t.Errorf("accepted %+v", m)
		}
	})
}

func FuzzRecords(f *testing.F) {
	var b bytes.Buffer
	if err := (record{Resource: "r", Name: "n", Revision: 1, data: []byte("{}\n")}).write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"name":"x","size":-1}` + "\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		n := 0
		err := records(data, func(r record) error {
			n++
			return r.write(&again)
		})
		if err != nil {
			return
		}
		m := 0
		if err := records(again.Bytes(), func(record) error { m++; return nil }); err != nil || m != n {
			t.Errorf("written again: %d of %d records, %v", m, n, err)
		}
	})
}

func TestManifestIsReadable(t *testing.T) {
	t.Parallel()
	members := unpack(t, small(t))
	text := members[len(members)-1].data
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"format", "version", "trustDomain", "time", "revision", "objects", "records", "members"} {
		if _, ok := m[name]; !ok {
			t.Errorf("no %s in %s", name, text)
		}
	}
}
