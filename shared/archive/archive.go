// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package archive turns folders and archives into files in memory, and files into
// one canonical archive, so that the same files always have the same digest.
//
// Archives come from anywhere. Reading one costs no more time and memory than
// Limits allow, whatever it holds, and gives nothing but regular files at
// relative paths.
package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MediaType is that of a canonical archive.
const MediaType = "application/vnd.drover.archive.v1.tar"

// Limits bound what an archive or a folder may hold. The zero value of a field
// is its default.
type Limits struct {
	Files int   // how many files and folders, 10,000
	File  int64 // bytes of one file, 8 MiB
	Total int64 // bytes of all together, 31 MiB
	Path  int   // bytes of one path, 512
	Depth int   // elements of one path, 32
	Ratio int64 // how much more than the compressed bytes, 250 times
}

func (l Limits) orDefault() Limits {
	set := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	count := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	count(&l.Files, 10_000)
	set(&l.File, 8<<20)
	set(&l.Total, 31<<20)
	count(&l.Path, 512)
	count(&l.Depth, 32)
	set(&l.Ratio, 250)
	return l
}

// freely is how many bytes may come of any compressed archive, however small.
const freely = 1 << 20

// Files are the bytes of regular files by path, which is relative, clean and has
// slashes.
type Files map[string][]byte

// IsTar reports whether data is a tar archive that is not compressed.
func IsTar(data []byte) bool {
	return len(data) >= 512 && string(data[257:262]) == "ustar"
}

// IsGzip reports whether data is compressed with gzip.
func IsGzip(data []byte) bool { return len(data) > 2 && data[0] == 0x1f && data[1] == 0x8b }

// Read reads a tar archive, plain or compressed with gzip.
func Read(data []byte, limits Limits) (Files, error) {
	l := limits.orDefault()
	// Headers and padding are no files, but they take time.
	most := l.Total + int64(l.Files)*4096 + 1<<20
	var r io.Reader = bytes.NewReader(data)
	if IsGzip(data) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		defer z.Close()
		most = min(most, max(freely, int64(len(data))*l.Ratio))
		r = z
	} else if !IsTar(data) {
		return nil, errors.New("not a tar archive")
	}
	return read(tar.NewReader(&bounded{r: r, left: most}), l)
}

var errLarge = errors.New("it unpacks to more than is allowed")

// bounded fails, instead of ending, when more is read than is allowed.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func read(r *tar.Reader, l Limits) (Files, error) {
	files := Files{}
	set := newSet(l)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, set.check(files)
		}
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name := h.Name
		if h.Typeflag == tar.TypeDir {
			name = strings.TrimRight(name, "/")
			if name == "." || name == "" {
				continue
			}
		}
		// "./x" is how tar writes a folder that it was told to go to.
		name = strings.TrimPrefix(name, "./")
		if err := set.add(name, h.Size); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if what := special(h.Typeflag); what != "" {
			return nil, fmt.Errorf("%s is a %s: only regular files are allowed", quote(name), what)
		}
		if _, dup := files[name]; dup {
			return nil, fmt.Errorf("%s is there twice", quote(name))
		}
		// The size in the header is a claim; memory is taken as bytes arrive.
		var buf bytes.Buffer
		if h.Size < 1<<20 {
			buf.Grow(int(h.Size))
		}
		if _, err := io.Copy(&buf, io.LimitReader(r, l.File)); err != nil {
			return nil, fmt.Errorf("read %s: %w", quote(name), err)
		}
		files[name] = buf.Bytes()
	}
}

func special(flag byte) string {
	switch flag {
	case tar.TypeReg, '\x00':
		return ""
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeLink:
		return "hard link"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeFifo:
		return "named pipe"
	case tar.TypeGNUSparse:
		return "sparse file"
	}
	return fmt.Sprintf("entry of type %q", flag)
}

// set counts what an archive or a folder holds.
type set struct {
	l     Limits
	files int
	total int64
}

func newSet(l Limits) *set { return &set{l: l} }

// add takes in one file or folder, or says why it may not be there.
func (s *set) add(name string, size int64) error {
	if err := s.name(name); err != nil {
		return err
	}
	s.files++
	s.total += size
	switch {
	case s.files > s.l.Files:
		return fmt.Errorf("more than %d files and folders", s.l.Files)
	case size < 0 || size > s.l.File:
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", quote(name), size, s.l.File)
	case s.total > s.l.Total:
		return fmt.Errorf("more than %d bytes in all", s.l.Total)
	}
	return nil
}

func (s *set) name(name string) error {
	switch {
	case len(name) > s.l.Path:
		return fmt.Errorf("path %s... has %d bytes, at most %d are allowed", quote(name[:min(len(name), 60)]), len(name), s.l.Path)
	case name == "" || name == ".":
		return errors.New("a file without a name")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("path %s has characters that cannot be shown", quote(name))
	case strings.HasPrefix(name, "/") || strings.Contains(name, `\`) || len(name) > 1 && name[1] == ':':
		return fmt.Errorf("path %s is not relative", quote(name))
	case slices.Contains(strings.Split(name, "/"), ".."):
		return fmt.Errorf("path %s leaves the archive", quote(name))
	case path.Clean(name) != name:
		return fmt.Errorf("path %s is not written plainly: want %s", quote(name), quote(path.Clean(name)))
	case strings.Count(name, "/") >= s.l.Depth:
		return fmt.Errorf("path %s is deeper than %d folders", quote(name), s.l.Depth)
	}
	return nil
}

// check refuses a file that is a folder too.
func (s *set) check(files Files) error {
	if len(files) == 0 {
		return errors.New("no files in it")
	}
	for name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, both := files[dir]; both {
				return fmt.Errorf("%s is a file and a folder", quote(dir))
			}
		}
	}
	return nil
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// Pack writes files as a tar archive that depends on nothing but paths and bytes.
func Pack(files Files, limits Limits) ([]byte, error) {
	set := newSet(limits.orDefault())
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if err := set.add(name, int64(len(files[name]))); err != nil {
			return nil, err
		}
	}
	if err := set.check(files); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644, Format: tar.FormatUSTAR}
		if len(name) > 100 || !ascii(name) {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", quote(name), err)
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, fmt.Errorf("pack %s: %w", quote(name), err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return buf.Bytes(), nil
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// Canonical reports whether data is what Pack writes of files.
func Canonical(data []byte, files Files) bool {
	packed, err := Pack(files, Limits{})
	return err == nil && bytes.Equal(packed, data)
}

// Unwrap takes away the one folder that everything is in, as a chart archive has
// it, unless files lie beside it.
func Unwrap(files Files) Files {
	top := ""
	for name := range files {
		first, _, ok := strings.Cut(name, "/")
		if !ok || top != "" && first != top {
			return files
		}
		top = first
	}
	out := make(Files, len(files))
	for name, data := range files {
		out[strings.TrimPrefix(name, top+"/")] = data
	}
	return out
}
