// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package oci gets files of addons from OCI registries.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/drover-io/drover/shared/archive"
)

const (
	maxManifest = 4 << 20
	maxLayer    = 32 << 20
	// Timeout is how long getting one artifact may take.
	Timeout = 2 * time.Minute
)

// Artifact is what a reference names: its manifest, and the layer with the files.
type Artifact struct {
	Digest   string // of the manifest
	Manifest []byte
	Layer    archive.Descriptor
	Data     []byte // of the layer
}

// Options say who asks.
type Options struct {
	// Docker uses the credentials of the person who runs this process, as docker
	// and helm keep them.
	Docker bool
	// File is a file of credentials in docker's form.
	File string
}

// Fetch gets an artifact. The reference is registry/name@digest, or has a tag, and
// "oci://" may be before it. Digests and sizes are checked, TLS is verified; plain
// HTTP is spoken with loopback addresses only.
func Fetch(ctx context.Context, reference string, o Options) (*Artifact, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	reference = strings.TrimPrefix(reference, "oci://")
	ref, err := registry.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("%s is no OCI reference such as registry/name@sha256:...: %w", reference, err)
	}
	if ref.Reference == "" {
		return nil, fmt.Errorf("%s names no tag and no digest", reference)
	}
	client := &auth.Client{Client: &http.Client{Transport: transport()}, Cache: auth.NewCache()}
	switch {
	case o.Docker:
		s, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("read docker's credentials: %w", err)
		}
		client.Credential = credentials.Credential(s)
	case o.File != "":
		s, err := credentials.NewFileStore(o.File)
		if err != nil {
			return nil, fmt.Errorf("read credentials of registries: %w", err)
		}
		client.Credential = credentials.Credential(s)
	}
	client.SetUserAgent("drover")
	repo := &remote.Repository{Client: client, Reference: ref, PlainHTTP: loopback(ref.Host())}
	desc, body, err := repo.Manifests().FetchReference(ctx, ref.Reference)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", reference, err)
	}
	manifest, err := read(body, desc, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", reference, err)
	}
	a := &Artifact{Digest: desc.Digest.String(), Manifest: manifest}
	if a.Layer, err = archive.Layer(manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", reference, err)
	}
	layer := ocispec.Descriptor{MediaType: a.Layer.MediaType, Digest: digest.Digest(a.Layer.Digest), Size: a.Layer.Size}
	if err := layer.Digest.Validate(); err != nil || layer.Digest.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("%s: digest %.80q of the layer: want sha256", reference, a.Layer.Digest)
	}
	if layer.Size > maxLayer {
		return nil, fmt.Errorf("%s: the layer has %d bytes, at most %d are allowed", reference, layer.Size, maxLayer)
	}
	body, err = repo.Blobs().Fetch(ctx, layer)
	if err != nil {
		return nil, fmt.Errorf("get layer of %s: %w", reference, err)
	}
	if a.Data, err = read(body, layer, maxLayer); err != nil {
		return nil, fmt.Errorf("get layer of %s: %w", reference, err)
	}
	return a, nil
}

// read reads what a descriptor describes and checks size and digest.
func read(body io.ReadCloser, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	defer body.Close()
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", desc.Size, limit)
	}
	if desc.Digest.Algorithm() != digest.SHA256 {
		return nil, errors.New("the digest is not of sha256")
	}
	return content.ReadAll(body, desc)
}

// transport is the standard one without connections that stay.
func transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	return t
}

func loopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
