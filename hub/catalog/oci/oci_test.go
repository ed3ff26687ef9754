// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/drover-io/drover/hub/catalog/source"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/oci"
)

// shelf keeps bundles as the content store does.
type shelf map[string][]byte

func (s shelf) Bundle(_ context.Context, digest string) ([]byte, error) {
	if data, ok := s[digest]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (s shelf) Size(ctx context.Context, digest string) (int64, error) {
	data, err := s.Bundle(ctx, digest)
	return int64(len(data)), err
}

func (s shelf) Store(_ context.Context, data []byte, _ int) error {
	sum := sha256.Sum256(data)
	s["sha256:"+hex.EncodeToString(sum[:])] = data
	return nil
}

// start runs a real registry, bin/registrytest, until the test ends.
func start(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	bin := ""
	for ; bin == "" && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if path := filepath.Join(dir, "bin", "registrytest"); exists(path) {
			bin = path
		}
	}
	if bin == "" {
		const missing = `registrytest is not built: run "make registry"`
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	file := filepath.Join(t.TempDir(), "url")
	cmd := exec.Command(bin, "--url", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(file); err == nil {
			return string(text)
		}
	}
	t.Fatal("the registry does not serve")
	return ""
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// push stores an artifact of one layer and returns the digest of its manifest.
func push(t *testing.T, host, name, mediaType string, layer []byte) string {
	t.Helper()
	repo := &remote.Repository{Reference: registry.Reference{Registry: host, Repository: name}, PlainHTTP: true}
	blob := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := repo.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob("application/vnd.cncf.helm.config.v1+json", []byte("{}")), Layers: []ocispec.Descriptor{blob(mediaType, layer)}}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := repo.PushReference(t.Context(), d, bytes.NewReader(data), "1.0.0"); err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

func pack(t *testing.T, zip bool, pairs ...string) []byte {
	t.Helper()
	files := archive.Files{}
	for i := 0; i < len(pairs); i += 2 {
		files[pairs[i]] = []byte(pairs[i+1])
	}
	data, err := archive.Pack(files, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !zip {
		return data
	}
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

// TestPull: artifacts of each kind come from a real registry and are read; broken
// ones leave nothing behind.
func TestPull(t *testing.T) {
	t.Parallel()
	host := start(t)
	object := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	for name, tt := range map[string]struct {
		mediaType string
		layer     []byte
		want      string // manager, or the error
	}{
		"chart":      {archive.LayerChart, pack(t, true, "c/Chart.yaml", "name: c\nversion: 1.0.0\n", "c/templates/a.yaml", object), "helm"},
		"folder":     {archive.LayerTarGzip, pack(t, true, "a.yaml", object), "manifests"},
		"plain":      {archive.LayerTar, pack(t, false, "kustomization.yaml", "resources: [a.yaml]", "a.yaml", object), "kustomize"},
		"ours":       {archive.MediaType, pack(t, false, "a.yaml", object), "manifests"},
		"flux":       {archive.LayerFlux, pack(t, true, "a.yaml", object), "manifests"},
		"other":      {"application/octet-stream", []byte("hello"), "no layer with files"},
		"bomb":       {archive.LayerTarGzip, pack(t, true, "a", strings.Repeat("\x00", 8_000_000)), "it unpacks to more than is allowed"},
		"no archive": {archive.LayerTar, []byte("hello"), "not a tar archive"},
	} {
		repo := "addons/" + strings.ReplaceAll(name, " ", "-")
		ref := host + "/" + repo + "@" + push(t, host, repo, tt.mediaType, tt.layer)
		bundles := shelf{}
		p := New(Config{Bundles: bundles})
		err := p.Pull(t.Context(), ref)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || len(bundles) != 0 {
				t.Errorf("%s: %v, want %s; %d bundles", name, err, tt.want, len(bundles))
			}
			continue
		}
		content, err := source.Load(t.Context(), bundles, &fleet.AddOnVersionSpec{Image: ref})
		if err != nil || content.Manager != tt.want {
			t.Errorf("%s: %+v, %v, want %s", name, content, err, tt.want)
		}
		// What is there is not fetched again: the registry may be gone.
		if err := p.Pull(t.Context(), "127.0.0.1:1/"+repo+ref[strings.Index(ref, "@"):]); err != nil {
			t.Errorf("%s again: %v", name, err)
		}
		a, err := oci.Fetch(t.Context(), "oci://"+host+"/"+repo+":1.0.0", oci.Options{})
		if err != nil || !strings.HasSuffix(ref, a.Digest) || !bytes.Equal(a.Data, tt.layer) {
			t.Errorf("%s by tag: %v", name, err)
		}
	}
	p := New(Config{Bundles: shelf{}})
	for ref, want := range map[string]string{
		host + "/addons/none@sha256:" + strings.Repeat("0", 64): "not found",
		host + "/addons/chart:1.0.0":                            "is not pinned",
		"::@sha256:" + strings.Repeat("0", 64):                  "is no OCI reference",
	} {
		if err := p.Pull(t.Context(), ref); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, fs.ErrNotExist) != (want == "not found") {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
}

// TestLyingRegistry: what does not have the digest or the size that was asked for is
// refused, and a registry that does not answer is left.
func TestLyingRegistry(t *testing.T) {
	t.Parallel()
	layer := pack(t, true, "a.yaml", "a: b")
	manifest := func(d string, size int64) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageManifest, archive.LayerTarGzip, d, size)
	}
	for name, tt := range map[string]struct {
		manifest []byte
		other    bool // the manifest is not the one asked for
		want     string
	}{
		"another manifest": {manifest(digest.FromBytes(layer).String(), int64(len(layer))), true, "mismatch"},
		"another layer":    {manifest(digest.FromString("x").String(), int64(len(layer))), false, "mismatch"},
		"a large layer":    {manifest(digest.FromBytes(layer).String(), 1<<40), false, "at most 33554432 are allowed"},
		"another hash":     {manifest("sha512:"+strings.Repeat("0", 128), 5), false, "want sha256"},
		"an index":         {[]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:0"}]}`), false, "names an index"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				_, _ = w.Write(layer)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = w.Write(tt.manifest)
		}))
		d := digest.FromBytes(tt.manifest)
		if tt.other {
			d = digest.FromString("other")
		}
		bundles := shelf{}
		err := New(Config{Bundles: bundles}).Pull(t.Context(), strings.TrimPrefix(srv.URL, "http://")+"/x@"+d.String())
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(bundles) != 0 {
			t.Errorf("%s: %v, want %s; %d bundles", name, err, tt.want, len(bundles))
		}
		srv.Close()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = New(Config{Bundles: shelf{}}).Pull(ctx, l.Addr().String()+"/x@sha256:"+strings.Repeat("0", 64))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a registry that does not answer: %v", err)
	}
}

// TestPlainHTTP: nothing but loopback is asked without TLS.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := oci.Fetch(ctx, "192.0.2.1:80/x:1", oci.Options{})
	if err == nil || !strings.Contains(err.Error(), "https://192.0.2.1:80/") {
		t.Errorf("%v, want a request by HTTPS", err)
	}
}
