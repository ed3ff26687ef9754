// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/nats-io/nats.go"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// bundle is what the content of a work says of its bundle, under the key of that
// name. So the digest of the content covers the bundle.
type bundle struct {
	Digest string
	Size   int64 // bytes, uncompressed
}

// beside is what annotations add to the fields of a spec, so that the digest of
// the content covers it. The zero value adds nothing.
type beside struct {
	bundle            bundle
	health, protected []any // as JSON has them; nil for none
}

// besideOf reads annotations. That of the bundle is looked up.
func (d *Delivery) besideOf(ctx context.Context, annotations map[string]string) (beside, error) {
	b, err := d.bundleOf(ctx, annotations)
	if err != nil {
		return beside{}, err
	}
	out := beside{bundle: b}
	for key, list := range map[string]*[]any{work.AnnotationHealthRules: &out.health, work.AnnotationProtected: &out.protected} {
		if annotations[key] == "" {
			continue
		}
		if err := utiljson.Unmarshal([]byte(annotations[key]), list); err != nil {
			return beside{}, fmt.Errorf("decode annotation %s: %w", key, err)
		}
	}
	return out, nil
}

// contentOf returns the spec of a stored work as canonical JSON: keys sorted,
// so that the digest depends on what it says and not on who wrote it. What
// annotations add is beside the fields of the spec.
func contentOf(object []byte, b beside) ([]byte, error) {
	var w struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(object, &w); err != nil {
		return nil, fmt.Errorf("decode work: %w", err)
	}
	return contentOfSpec(w.Spec, b)
}

func contentOfSpec(raw []byte, b beside) ([]byte, error) {
	if len(raw) == 0 {
		raw = []byte("{}")
	}
	var spec any
	if err := utiljson.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("decode spec: %w", err)
	}
	if b.bundle.Digest != "" || len(b.health)+len(b.protected) > 0 {
		fields, ok := spec.(map[string]any)
		if !ok {
			return nil, errors.New("decode spec: not an object")
		}
		if b.bundle.Digest != "" {
			fields["bundle"] = map[string]any{"digest": b.bundle.Digest, "size": b.bundle.Size}
		}
		if len(b.health) > 0 {
			fields["health"] = b.health
		}
		if len(b.protected) > 0 {
			fields["protected"] = b.protected
		}
	}
	out, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	return out, nil
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// errBundles: the content store does not answer now.
var errBundles = errors.New("look for bundle")

// bundleOf is what annotations say of a bundle, with its size.
func (d *Delivery) bundleOf(ctx context.Context, annotations map[string]string) (bundle, error) {
	digest := annotations[work.AnnotationBundle]
	switch {
	case digest == "":
		return bundle{}, nil
	case d.cfg.Bundles == nil:
		return bundle{}, errors.New("this hub keeps no bundles")
	}
	size, err := d.cfg.Bundles.Size(ctx, digest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bundle{}, fmt.Errorf("%w: %s: %w", errBundles, digest, err)
	}
	if err != nil {
		return bundle{}, fmt.Errorf("bundle %s: %w", digest, err)
	}
	return bundle{Digest: digest, Size: size}, nil
}

// HasBundle says whether one of the works of a cluster names a bundle: to others
// it is not given.
func (d *Delivery) HasBundle(cluster, digest string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if until, ok := d.leases[lease{cluster, digest}]; ok && time.Now().Before(until) {
		return true
	}
	x := d.clusters[cluster]
	if x == nil || digest == "" {
		return false
	}
	for _, e := range x.items {
		if e.bundle == digest {
			return true
		}
	}
	return false
}

// serveContent gives a cluster the content of its own works and no other.
func (d *Delivery) serveContent(ctx context.Context, cluster string, request []byte) *nats.Msg {
	content, err := d.answerContent(ctx, cluster, request)
	if err != nil {
		m := nats.NewMsg("")
		m.Header.Set(wire.HeaderError, err.Error())
		return m
	}
	return &nats.Msg{Data: content}
}

func (d *Delivery) answerContent(ctx context.Context, cluster string, request []byte) ([]byte, error) {
	var req wire.ContentRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	switch n := len(req.Digests); {
	case n == 0:
		return d.content(ctx, cluster, req.Digest)
	case n > wire.MaxContents:
		return nil, fmt.Errorf("content: %d digests in one request, at most %d", n, wire.MaxContents)
	}
	return json.Marshal(d.contents(ctx, cluster, req.Digests))
}

// contents answers as many of the first digests as one message can hold.
func (d *Delivery) contents(ctx context.Context, cluster string, digests []string) wire.Contents {
	const around = 512 // bytes of JSON around each content
	var answer wire.Contents
	room := wire.MaxPayload - 4096
	for _, digest := range digests {
		c := wire.Content{Digest: digest}
		data, err := d.content(ctx, cluster, digest)
		if err != nil {
			c.Error = err.Error()
		}
		c.Data = data
		if room -= base64.StdEncoding.EncodedLen(len(data)) + around; room < 0 {
			break
		}
		answer.Contents = append(answer.Contents, c)
	}
	return answer
}

func (d *Delivery) content(ctx context.Context, cluster, digest string) ([]byte, error) {
	d.mu.Lock()
	var names []string
	if x := d.clusters[cluster]; x != nil {
		for name, e := range x.items {
			if e.item.Digest == digest {
				names = append(names, name)
			}
		}
	}
	d.mu.Unlock()
	for _, name := range names {
		e, ok := d.cfg.Store.Cached(store.Key{Resource: work.Resource, Namespace: cluster, Name: name})
		if !ok {
			continue
		}
		var w stored
		if json.Unmarshal(e.Data, &w) != nil {
			continue
		}
		b, err := d.besideOf(ctx, w.Metadata.Annotations)
		if err != nil {
			continue
		}
		content, err := contentOfSpec(w.Spec, b)
		if err == nil && digestOf(content) == digest {
			return content, nil
		}
	}
	return nil, errors.New("no work of this cluster has that content now; ask for the desired state again")
}
