// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/wire"
)

func tarball(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestArchives: whatever an archive looks like, its canonical form is stored, once;
// and what is no archive, or plays tricks, is not.
func TestArchives(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	who := people{}
	h := s.Upload(who, who, &recorder{})
	put := func(data []byte) (int, Info, string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPut, wire.PathContent, bytes.NewReader(data))
		r.Header.Set("User", "alice")
		r.Header.Set("Content-Type", archive.MediaType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var info Info
		if w.Code < 300 {
			if err := json.Unmarshal(w.Body.Bytes(), &info); err != nil {
				t.Fatal(err)
			}
		}
		return w.Code, info, w.Body.String()
	}
	a := tar.Header{Name: "a.yaml", Size: 3, Mode: 0o777, Uid: 5}
	code, first, text := put(tarball(t, tar.Header{Typeflag: tar.TypeDir, Name: "d/"}, tar.Header{Name: "d/b.yaml", Size: 2}, a))
	if code != http.StatusCreated || first.Objects != 2 {
		t.Fatalf("%d %s", code, text)
	}
	code, again, _ := put(tarball(t, a, tar.Header{Name: "./d/b.yaml", Size: 2, Mode: 0o600}))
	if code != http.StatusOK || again.Digest != first.Digest {
		t.Errorf("the same files: %d %+v", code, again)
	}
	data, err := s.Bundle(t.Context(), first.Digest)
	if err != nil {
		t.Fatal(err)
	}
	files, err := archive.Read(data, archive.Limits{})
	if err != nil || !archive.Canonical(data, files) || string(files["d/b.yaml"]) != "xx" {
		t.Errorf("stored: %v, %v", files, err)
	}
	for what, tt := range map[string]struct {
		data []byte
		want string
	}{
		"a path that leaves": {tarball(t, tar.Header{Name: "../x", Size: 1}), "leaves the archive"},
		"a link":             {tarball(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "/etc/passwd"}), "symbolic link"},
		"text":               {[]byte("hello"), "not a tar archive"},
	} {
		if code, _, text := put(tt.data); code != http.StatusBadRequest || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
}
