// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPackIsCanonical(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 120) + "/ü.yaml"
	files := Files{"b.yaml": []byte("b"), "a/c.yaml": []byte("c"), "a.yaml": nil, long: []byte("long")}
	first, err := Pack(files, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := Pack(maps.Clone(files), Limits{})
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("another archive of the same files (%v)", err)
		}
	}
	got, err := Read(first, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Error(diff)
	}
	if string(got[long]) != "long" || !Canonical(first, got) {
		t.Error("it reads as something else")
	}
	// Owners, times, modes and folders are no part of it.
	dir := t.TempDir()
	for name, data := range files {
		write(t, filepath.Join(dir, name), string(data))
	}
	if err := os.Chmod(filepath.Join(dir, "b.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "b.yaml"), time.Unix(1, 0), time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	read, err := Folder(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !Canonical(first, read) {
		t.Error("the folder is another archive")
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		body := strings.Repeat("x", int(h.Size))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestRefused(t *testing.T) {
	t.Parallel()
	file := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 1, Mode: 0o644}
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"parent":         {tarOf(t, file("../etc/passwd")), `path "../etc/passwd" leaves the archive`},
		"parent within":  {tarOf(t, file("a/../../b")), `path "a/../../b" leaves the archive`},
		"absolute":       {tarOf(t, file("/etc/passwd")), `path "/etc/passwd" is not relative`},
		"windows":        {tarOf(t, file(`c:\x`)), "is not relative"},
		"control":        {tarOf(t, file("a\nb")), "characters that cannot be shown"},
		"not plain":      {tarOf(t, file("a//b")), "is not written plainly"},
		"symbolic link":  {tarOf(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc/passwd"}), `"a" is a symbolic link`},
		"hard link":      {tarOf(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}), `"a" is a hard link`},
		"device":         {tarOf(t, tar.Header{Typeflag: tar.TypeChar, Name: "a"}), `"a" is a device`},
		"pipe":           {tarOf(t, tar.Header{Typeflag: tar.TypeFifo, Name: "a"}), `"a" is a named pipe`},
		"twice":          {tarOf(t, file("a"), file("a")), `"a" is there twice`},
		"twice by name":  {tarOf(t, file("a"), file("./a")), `"a" is there twice`},
		"file as folder": {tarOf(t, file("a"), file("a/b")), `"a" is a file and a folder`},
		"long path":      {tarOf(t, file(strings.Repeat("x/", 10)+strings.Repeat("y", 600))), "has 620 bytes, at most 512"},
		"deep":           {tarOf(t, file(strings.Repeat("x/", 40)+"y")), "is deeper than 32 folders"},
		"empty":          {tarOf(t), "not a tar archive"},
		"no files":       {tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}), "no files in it"},
		"cut off":        {tarOf(t, file("a"), tar.Header{Typeflag: tar.TypeReg, Name: "b", Size: 5000, Mode: 0o644})[:2000], "unexpected EOF"},
		"text":           {[]byte("hello"), "not a tar archive"},
		"gzip of text":   {zipped(t, []byte(strings.Repeat("hello", 200))), "invalid tar header"},
	} {
		_, err := Read(tt.data, Limits{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", name, err, tt.want)
		}
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, "secret")
	write(t, filepath.Join(dir, "Chart.yaml"), "name: c")
	write(t, filepath.Join(dir, ".helmignore"), "*.bak\nci/\n")
	write(t, filepath.Join(dir, "values.yaml"), "a: b")
	write(t, filepath.Join(dir, "x.bak"), "")
	write(t, filepath.Join(dir, "ci/values.yaml"), "")
	write(t, filepath.Join(dir, ".git/config"), "")
	write(t, filepath.Join(dir, "charts/sub/.git/config"), "")
	if err := os.Symlink("values.yaml", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	files, err := Folder(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".helmignore", "Chart.yaml", "link.yaml", "values.yaml"}, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Error(diff)
	}
	if string(files["link.yaml"]) != "a: b" {
		t.Errorf("the link is %q", files["link.yaml"])
	}
	for _, to := range []string{outside, "../" + filepath.Base(filepath.Dir(outside)), "nowhere"} {
		link := filepath.Join(dir, "bad.yaml")
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if _, err := Folder(dir, Limits{}); err == nil || !strings.Contains(err.Error(), `"bad.yaml" is a symbolic link`) {
			t.Errorf("a link to %s: %v", to, err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Folder(dir, Limits{Files: 2}); err == nil || !strings.Contains(err.Error(), "more than 2 files") {
		t.Errorf("too many files: %v", err)
	}
	if _, err := Folder(filepath.Join(dir, "none"), Limits{}); err == nil {
		t.Error("a folder that is not there was read")
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	got := Unwrap(Files{"c/Chart.yaml": nil, "c/templates/a.yaml": nil})
	if diff := cmp.Diff([]string{"Chart.yaml", "templates/a.yaml"}, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Error(diff)
	}
	for _, files := range []Files{{"a.yaml": nil, "c/b.yaml": nil}, {"a/x": nil, "b/x": nil}} {
		if diff := cmp.Diff(files, Unwrap(files)); diff != "" {
			t.Error(diff)
		}
	}
}

// hostile are archives that are made to cost as much as they can, so many times as
// large as they need to be refused.
func hostile(t testing.TB, scale int) map[string][]byte {
	zeros := tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: int64(scale) * 10 << 20, Mode: 0o644}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&zeros); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range scale * 10 {
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	z.Close()
	out := map[string][]byte{"zeros": buf.Bytes()}

	var many bytes.Buffer
	z = gzip.NewWriter(&many)
	w = tar.NewWriter(z)
	for i := range scale * 20_000 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	z.Close()
	out["entries"] = many.Bytes()

	var names bytes.Buffer
	z = gzip.NewWriter(&names)
	w = tar.NewWriter(z)
	for i := range scale * 10 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 900_000) + fmt.Sprint(i), Mode: 0o644, Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
	}
	z.Close()
	out["long names"] = names.Bytes()
	out["a size that is a lie"] = append(tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 8 << 20, Mode: 0o644})[:1024:1024], make([]byte, 100)...)
	return out
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for name, data := range hostile(t, 1) {
		start := time.Now()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(data, Limits{})
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: it was read", name)
		}
		t.Logf("%s: %d bytes, %v, %d MiB allocated: %.100v", name, len(data), time.Since(start).Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20, err)
	}
}

func BenchmarkHostile(b *testing.B) {
	for name, data := range hostile(b, 50) {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(data, Limits{}); err == nil {
					b.Fatal("it was read")
				}
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	good, err := Pack(Files{"a.yaml": []byte("a"), "b/c.yaml": []byte("c")}, Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(zipped(f, good))
	f.Add(tarOf(f, tar.Header{Typeflag: tar.TypeReg, Name: "../a", Size: 1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Files: 100, File: 1 << 16, Total: 1 << 18}
		files, err := Read(data, limits)
		if err != nil {
			return
		}
		total := 0
		for name, data := range files {
			total += len(data)
			if name == "" || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") || filepath.Clean(name) != name {
				t.Errorf("path %q", name)
			}
		}
		if len(files) > limits.Files || total > int(limits.Total) {
			t.Errorf("%d files, %d bytes", len(files), total)
		}
		packed, err := Pack(files, limits)
		if err != nil {
			t.Fatalf("what was read cannot be packed: %v", err)
		}
		again, err := Read(packed, limits)
		if err != nil || !maps.EqualFunc(files, again, bytes.Equal) {
			t.Fatalf("what was packed reads as something else (%v)", err)
		}
	})
}
