// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/work"
)

// maxManifest bounds one line of a bundle: no API server takes a larger object.
const maxManifest = 4 << 20

// content is what the digest of an item names, as an index: objects are decoded
// when they are needed and dropped again, so that the size of a bundle is no
// matter of memory.
type content struct {
	manifests []manifest
	configs   []manifestConfig
	delete    work.DeleteOption
	executor  string // user to impersonate; empty for the agent's own rights
	bundle    string // digest of the bundle, empty for none
	blob      io.ReaderAt
	closer    io.Closer
}

// Close lets go of the bundle.
func (c *content) Close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}

// object decodes one manifest. The caller may change what it gets.
func (c *content) object(m *manifest) (*unstructured.Unstructured, error) {
	raw := m.raw
	if raw == nil {
		raw = make([]byte, m.size)
		if _, err := c.blob.ReadAt(raw, m.offset); err != nil {
			return nil, fmt.Errorf("read manifest %d of the bundle: %w", m.ordinal, err)
		}
	}
	var body map[string]any
	if err := kjson.Unmarshal(raw, &body); err != nil {
		return nil, &manifestError{message: fmt.Sprintf("not a JSON object: %v", err)}
	}
	u := &unstructured.Unstructured{Object: body}
	dropServerFields(u)
	if problem := foldStringData(u); problem != "" {
		return nil, &manifestError{message: problem}
	}
	if m.id.Namespace == "" {
		unstructured.RemoveNestedField(body, "metadata", "namespace")
	}
	return u, nil
}

// spec is the content document: the spec of a ManifestWork, and beside it the
// bundle whose manifests follow those in workload.
type spec struct {
	Workload struct {
		Manifests []json.RawMessage `json:"manifests"`
	} `json:"workload"`
	DeleteOption    *work.DeleteOption `json:"deleteOption"`
	ManifestConfigs []manifestConfig   `json:"manifestConfigs"`
	Executor        *executor          `json:"executor"`
	Bundle          *struct {
		Digest string `json:"digest"`
		Size   int64  `json:"size"`
	} `json:"bundle"`
}

type executor struct {
	Subject struct {
		Type           string `json:"type"`
		ServiceAccount *struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"serviceAccount"`
	} `json:"subject"`
}

// user is the name under which Kubernetes knows the executor.
func (x *executor) user() (string, error) {
	if x == nil {
		return "", nil
	}
	s := x.Subject
	switch {
	case s.Type != work.SubjectServiceAccount:
		return "", fmt.Errorf("spec.executor.subject.type %q is not supported: use %s", s.Type, work.SubjectServiceAccount)
	case s.ServiceAccount == nil || s.ServiceAccount.Namespace == "" || s.ServiceAccount.Name == "":
		return "", errors.New("spec.executor.subject.serviceAccount: namespace and name are required")
	}
	return "system:serviceaccount:" + s.ServiceAccount.Namespace + ":" + s.ServiceAccount.Name, nil
}

// parseContent takes the content document apart, without its bundle. A manifest
// that cannot be used carries its problem and does not fail the others.
func parseContent(data []byte) (*content, error) {
	var s spec
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode spec of the work: %w", err)
	}
	user, err := s.Executor.user()
	if err != nil {
		return nil, err
	}
	c := &content{configs: s.ManifestConfigs, executor: user}
	if s.Bundle != nil {
		c.bundle = s.Bundle.Digest
	}
	if s.DeleteOption != nil {
		c.delete = *s.DeleteOption
	}
	if err := checkDeleteOption(c.delete); err != nil {
		return nil, err
	}
	for i := range c.configs {
		c.configs[i].compile()
	}
	x := indexer{seen: make(map[identity]int, len(s.Workload.Manifests)), words: make(map[string]string)}
	for ordinal, raw := range s.Workload.Manifests {
		m := x.add(ordinal, raw)
		m.raw = raw
		c.manifests = append(c.manifests, m)
	}
	return c, nil
}

// indexer finds duplicates, and keeps one copy of words that repeat.
type indexer struct {
	seen  map[identity]int
	words map[string]string
}

func (x *indexer) add(ordinal int, raw []byte) manifest {
	m := parseManifest(ordinal, raw)
	m.gvk.Group, m.gvk.Version, m.gvk.Kind = x.word(m.gvk.Group), x.word(m.gvk.Version), x.word(m.gvk.Kind)
	m.id.Group, m.id.Kind, m.id.Namespace = m.gvk.Group, m.gvk.Kind, x.word(m.id.Namespace)
	if m.problem != "" {
		return m
	}
	if first, dup := x.seen[m.id]; dup {
		m.problem = fmt.Sprintf("%s is also manifest %d of this work: remove one of them", m.id, first)
	} else {
		x.seen[m.id] = ordinal
	}
	return m
}

func (x *indexer) word(s string) string {
	if kept, ok := x.words[s]; ok {
		return kept
	}
	x.words[s] = s
	return s
}

// load fetches content, checks that it is what digest names, and takes it apart.
// The caller closes what it gets.
func (e *Engine) load(ctx context.Context, digest string) (*content, error) {
	data, err := e.document(ctx, digest)
	if err != nil {
		return nil, err
	}
	return e.open(ctx, digest, data)
}

// open takes a content document apart, with its bundle.
func (e *Engine) open(ctx context.Context, digest string, data []byte) (*content, error) {
	c, err := parseContent(data)
	if err != nil || c.bundle == "" {
		return c, err
	}
	e.noteBundle(digest, c.bundle)
	if err := e.openBundle(ctx, c); err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", c.bundle, err)
	}
	return c, nil
}

// document fetches the content document and checks its digest.
func (e *Engine) document(ctx context.Context, digest string) ([]byte, error) {
	data, err := e.cfg.Content(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("fetch content: %w", err)
	}
	if got := digestOf(data); got != digest {
		return nil, fmt.Errorf("fetch content: asked for %s, got %s", digest, got)
	}
	return data, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return digestPrefix + hex.EncodeToString(sum[:])
}

const digestPrefix = "sha256:"

// openBundle reads the bundle once, to check and to index it, and keeps it open.
func (e *Engine) openBundle(ctx context.Context, c *content) error {
	if e.cfg.Bundle == nil {
		return errors.New("this agent takes no bundles")
	}
	rc, err := e.cfg.Bundle(ctx, c.bundle)
	if err != nil {
		return err
	}
	var stream io.Reader = rc
	blob, random := rc.(io.ReaderAt)
	if !random {
		data, err := io.ReadAll(rc)
		if err != nil {
			return errors.Join(err, rc.Close())
		}
		stream, blob = bytes.NewReader(data), bytes.NewReader(data)
	}
	x := indexer{seen: make(map[identity]int), words: make(map[string]string)}
	for i := range c.manifests {
		x.seen[c.manifests[i].id] = i
	}
	first := len(c.manifests)
	digest, err := readLines(stream, func(i int, offset int64, line []byte) {
		m := x.add(first+i, line)
		m.offset, m.size = offset, len(line)
		c.manifests = append(c.manifests, m)
	})
	if err == nil && digest != c.bundle {
		err = fmt.Errorf("its content is damaged: got %s", digest)
	}
	if err != nil {
		return errors.Join(err, rc.Close())
	}
	c.blob, c.closer = blob, rc
	return nil
}

// readLines calls each for every line that is not empty, and returns the digest
// of everything. A line is valid until each returns.
func readLines(r io.Reader, each func(i int, offset int64, line []byte)) (digest string, err error) {
	sum := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(r, sum))
	lines.Buffer(make([]byte, 64<<10), maxManifest)
	var offset, next int64
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		advance, token, err := bufio.ScanLines(data, atEOF)
		offset, next = next, next+int64(advance)
		return advance, token, err
	})
	for i := 0; lines.Scan(); {
		if line := lines.Bytes(); len(bytes.TrimSpace(line)) > 0 {
			each(i, offset, line)
			i++
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return digestPrefix + hex.EncodeToString(sum.Sum(nil)), nil
}

// identities names the objects of an item's content without keeping any of it.
func (e *Engine) identities(ctx context.Context, digest string) ([]identity, error) {
	data, err := e.document(ctx, digest)
	if err != nil {
		return nil, err
	}
	ids, bundle := identitiesIn(data)
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
	if _, err := readLines(rc, func(_ int, _ int64, line []byte) {
		if id, ok := identityIn(line); ok {
			ids = append(ids, id)
		}
	}); err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", bundle, err)
	}
	return ids, nil
}

// noteBundle remembers which bundle a content needs, so that it stays on disk.
func (e *Engine) noteBundle(digest, bundle string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bundles[digest] = bundle
}
