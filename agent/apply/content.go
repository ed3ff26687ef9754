// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"

	"github.com/drover-io/drover/agent/apply/manifest"
)

// load fetches content, checks that it is what digest names, and takes it apart.
// The caller closes what it gets.
func (e *Engine) load(ctx context.Context, digest string) (*manifest.Content, error) {
	data, err := e.document(ctx, digest)
	if err != nil {
		return nil, err
	}
	return e.open(ctx, digest, data)
}

// open takes a content document apart, with its bundle.
func (e *Engine) open(ctx context.Context, digest string, data []byte) (*manifest.Content, error) {
	c, err := manifest.Parse(data)
	if err != nil || c.Bundle == "" {
		return c, err
	}
	e.noteBundle(digest, c.Bundle)
	if e.cfg.Bundle == nil {
		return nil, fmt.Errorf("read bundle %s: this agent takes no bundles", c.Bundle)
	}
	rc, err := e.cfg.Bundle(ctx, c.Bundle)
	if err == nil {
		err = c.OpenBundle(rc)
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", c.Bundle, err)
	}
	return c, nil
}

// document fetches the content document and checks its digest.
func (e *Engine) document(ctx context.Context, digest string) ([]byte, error) {
	data, err := e.cfg.Content(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("fetch content: %w", err)
	}
	if got := manifest.Digest(data); got != digest {
		return nil, fmt.Errorf("fetch content: asked for %s, got %s", digest, got)
	}
	return data, nil
}

// identities names the objects of an item's content without keeping any of it.
func (e *Engine) identities(ctx context.Context, digest string) ([]manifest.Identity, error) {
	data, err := e.document(ctx, digest)
	if err != nil {
		return nil, err
	}
	ids, bundle := manifest.Identities(data)
	if bundle == "" {
		return ids, nil
	}
	e.noteBundle(digest, bundle)
	if e.cfg.Bundle == nil {
		return ids, nil
	}
	rc, err := e.cfg.Bundle(ctx, bundle)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", bundle, err)
	}
	defer rc.Close()
	more, err := manifest.BundleIdentities(rc)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", bundle, err)
	}
	return append(ids, more...), nil
}

// noteBundle remembers which bundle a content needs, so that it stays on disk.
func (e *Engine) noteBundle(digest, bundle string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bundles[digest] = bundle
}
