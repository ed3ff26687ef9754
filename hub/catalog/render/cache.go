// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/source"
)

// Cache keeps renderings, the ones used last, so that clusters which would get the
// same are rendered for once.
//
// A rendering is the same for another cluster if both agree on every fact that it
// looked at, since it could not have gone another way: not only the cluster's name
// and labels are left out when no template asks for them, but each fact for itself.
type Cache struct {
	renderer *Renderer
	limit    int
	flights  singleflight.Group

	mu      sync.Mutex
	size    int
	order   *list.List // of *entry, the one used last at the front
	entries map[string]*list.Element
	read    map[string]map[reads]int // by input without facts: which facts, and how many entries
}

type entry struct {
	key, base string
	read      reads
	rendered  *catalog.Rendered
	err       error
	digest    string
	bytes     int
}

// NewCache keeps up to so many bytes of manifests, as JSON.
func NewCache(r *Renderer, bytes int) *Cache {
	return &Cache{renderer: r, limit: bytes, order: list.New(), entries: map[string]*list.Element{}, read: map[string]map[reads]int{}}
}

// Render is Renderer.Render, and returns what it returned before when nothing that
// matters has changed. It also returns a digest of the outcome. The objects belong to
// the cache and must not be changed.
func (c *Cache) Render(ctx context.Context, in *catalog.Rendering) (*catalog.Rendered, string, error) {
	base, err := inputKey(in)
	if err != nil {
		return nil, "", err
	}
	if e := c.find(base, &in.Cluster); e != nil {
		return e.rendered, e.digest, e.err
	}
	// Alike clusters wait for one rendering; unlike ones work at the same time.
	flight := base + factsKey(readAll, &in.Cluster)
	v, err, _ := c.flights.Do(flight, func() (any, error) {
		if e := c.find(base, &in.Cluster); e != nil {
			return e, nil
		}
		rendered, read, err := c.renderer.render(ctx, in)
		if err != nil && (ctx.Err() != nil || !lasting(err)) {
			return nil, err // it may be another the next time
		}
		e := &entry{base: base, read: read, key: base + factsKey(read, &in.Cluster), rendered: rendered, err: err, bytes: 1024}
		if err == nil {
			if e.digest, e.bytes, err = Digest(rendered); err != nil {
				return nil, err
			}
		}
		c.add(e)
		return e, nil
	})
	if err != nil {
		return nil, "", err
	}
	e := v.(*entry)
	return e.rendered, e.digest, e.err
}

// lasting says whether an error is one of the input alone.
func lasting(err error) bool {
	var fault *Error
	var file *source.Error
	return (errors.As(err, &fault) || errors.As(err, &file)) && !errors.Is(err, ErrTime)
}

func (c *Cache) find(base string, facts *catalog.Facts) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	for read := range c.read[base] {
		if el, ok := c.entries[base+factsKey(read, facts)]; ok {
			c.order.MoveToFront(el)
			return el.Value.(*entry)
		}
	}
	return nil
}

func (c *Cache) add(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.entries[e.key]; there || e.bytes > c.limit {
		return
	}
	c.entries[e.key] = c.order.PushFront(e)
	c.size += e.bytes
	if c.read[e.base] == nil {
		c.read[e.base] = map[reads]int{}
	}
	c.read[e.base][e.read]++
	for c.size > c.limit {
		last := c.order.Back()
		old := last.Value.(*entry)
		c.order.Remove(last)
		delete(c.entries, old.key)
		c.size -= old.bytes
		if c.read[old.base][old.read]--; c.read[old.base][old.read] == 0 {
			delete(c.read[old.base], old.read)
		}
		if len(c.read[old.base]) == 0 {
			delete(c.read, old.base)
		}
	}
}

// Bytes is how much the cache holds.
func (c *Cache) Bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// inputKey is a digest of all that a rendering can depend on but the facts.
func inputKey(in *catalog.Rendering) (string, error) {
	h := sha256.New()
	values, err := json.Marshal(in.Values) // keys are sorted
	if err != nil {
		return "", fmt.Errorf("encode values: %w", err)
	}
	content := in.Content.Digest
	if content == "" {
		if content, err = contentDigest(in.Content); err != nil {
			return "", err
		}
	}
	for _, part := range []string{in.AddOn, in.Version, in.Namespace, in.Content.Manager, content, string(values)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func contentDigest(c *catalog.Content) (string, error) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		fmt.Fprintf(h, "%d:%s%d:", len(name), name, len(c.Files[name]))
		h.Write(c.Files[name])
	}
	for _, o := range c.Objects {
		data, err := json.Marshal(o.Object)
		if err != nil {
			return "", fmt.Errorf("encode %s: %w", o.GetName(), err)
		}
		fmt.Fprintf(h, "%d:%s", len(data), data)
	}
	return "computed:" + hex.EncodeToString(h.Sum(nil)), nil
}

// factsKey names those facts and their values.
func factsKey(read reads, facts *catalog.Facts) string {
	if read == 0 {
		return "/"
	}
	some := read.of(facts)
	data, err := json.Marshal(some) // strings, numbers and maps of them: it cannot fail
	if err != nil {
		return "/" + err.Error()
	}
	// Nil and empty APIs are not the same: one is unknown.
	sum := sha256.Sum256(append(data, byte(read), byte(read>>8)))
	return "/" + hex.EncodeToString(sum[:])
}

// Digest names a rendering by what it made, and says how many bytes of JSON that is.
func Digest(r *catalog.Rendered) (digest string, bytes int, err error) {
	h := sha256.New()
	for i, group := range [][]*unstructured.Unstructured{r.Objects, r.PostInstall, r.PreDelete} {
		fmt.Fprintf(h, "group %d\n", i)
		for _, o := range group {
			data, err := json.Marshal(o.Object)
			if err != nil {
				return "", 0, fmt.Errorf("encode %s: %w", o.GetName(), err)
			}
			h.Write(data)
			h.Write([]byte("\n"))
			bytes += len(data)
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), bytes, nil
}
