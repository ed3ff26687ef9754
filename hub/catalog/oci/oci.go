// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package oci brings OCI artifacts into the content store, as they are: the manifest
// and the layer, each under its own digest, so that what a reference names can be
// checked again at any time.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"oras.land/oras-go/v2/errdef"

	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/oci"
)

// Bundles is where content is stored. An error of Bundle is fs.ErrNotExist when
// there is no such bundle.
type Bundles interface {
	Bundle(ctx context.Context, digest string) ([]byte, error)
	Size(ctx context.Context, digest string) (int64, error)
	Store(ctx context.Context, data []byte, files int) error
}

// Config of a Puller.
type Config struct {
	Bundles Bundles
	// Credentials is a file of credentials in docker's form, or empty.
	Credentials string
}

// Puller pulls. Its methods may be called at the same time.
type Puller struct {
	cfg   Config
	slots chan struct{}
}

// maxPulls are under way at the same time: each is held in memory.
const maxPulls = 2

// New makes a puller.
func New(cfg Config) *Puller { return &Puller{cfg, make(chan struct{}, maxPulls)} }

// missing is an error that is fs.ErrNotExist.
type missing struct{ error }

func (m missing) Unwrap() error { return m.error }

// Is says that it is.
func (missing) Is(target error) bool { return target == fs.ErrNotExist }

// Pull brings in what a reference pinned to a digest names, unless it is there. An
// error is fs.ErrNotExist when the registry has nothing of that name.
func (p *Puller) Pull(ctx context.Context, reference string) error {
	_, digest, pinned := strings.Cut(reference, "@")
	if !pinned {
		return fmt.Errorf("%s is not pinned to a digest: want registry/name@sha256:<digest>", reference)
	}
	if there, err := p.there(ctx, digest); there || err != nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a, err := oci.Fetch(ctx, reference, oci.Options{File: p.cfg.Credentials})
	if errors.Is(err, errdef.ErrNotFound) {
		return missing{err}
	}
	if err != nil {
		return err
	}
	if a.Digest != digest {
		return fmt.Errorf("the registry answered with %s", a.Digest)
	}
	files, err := archive.Read(a.Data, archive.Limits{})
	if err != nil {
		return err
	}
	// The layer first: a manifest that is there has its layer.
	if err := p.cfg.Bundles.Store(ctx, a.Data, len(files)); err != nil {
		return fmt.Errorf("store layer: %w", err)
	}
	if err := p.cfg.Bundles.Store(ctx, a.Manifest, 1); err != nil {
		return fmt.Errorf("store manifest: %w", err)
	}
	return nil
}

// there says whether manifest and layer are stored.
func (p *Puller) there(ctx context.Context, digest string) (bool, error) {
	manifest, err := p.cfg.Bundles.Bundle(ctx, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	layer, err := archive.Layer(manifest)
	if err != nil {
		return false, err
	}
	_, err = p.cfg.Bundles.Size(ctx, layer.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
