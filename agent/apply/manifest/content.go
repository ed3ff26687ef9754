// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifest takes the content of a work apart: the manifests of its
// document and its bundle as an index, what each is and in which order it is
// applied, and what the work says about how. It knows nothing of a cluster and
// contacts nothing.
package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
)

// Content is what the digest of an item names, as an index: objects are decoded
// when they are needed and dropped again, so that the size of a bundle is no
// matter of memory.
type Content struct {
	Manifests []Manifest // by ordinal; those of the bundle only after OpenBundle
	Delete    work.DeleteOption
	Executor  string // user to impersonate; empty for the agent's own rights
	Bundle    string // digest of the bundle, empty for none
	// Health are the rules of the addon, and Protected what needs an explicit word.
	Health    []fleet.HealthRule
	Protected []fleet.ObjectPattern

	configs []manifestConfig
	blob    io.ReaderAt
	closer  io.Closer
}

// Close lets go of the bundle.
func (c *Content) Close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}

// Object decodes one manifest, without what only the server sets. The caller may
// change what it gets. An *Error says that the manifest cannot be used, any other
// that the bundle cannot be read.
func (c *Content) Object(m *Manifest) (*unstructured.Unstructured, error) {
	raw := m.raw
	if raw == nil {
		raw = make([]byte, m.size)
		if _, err := c.blob.ReadAt(raw, m.offset); err != nil {
			return nil, fmt.Errorf("read manifest %d of the bundle: %w", m.Ordinal, err)
		}
	}
	var body map[string]any
	if err := kjson.Unmarshal(raw, &body); err != nil {
		return nil, &Error{Message: fmt.Sprintf("not a JSON object: %v", err)}
	}
	u := &unstructured.Unstructured{Object: body}
	dropServerFields(u)
	if problem := foldStringData(u); problem != "" {
		return nil, &Error{Message: problem}
	}
	if m.ID.Namespace == "" {
		unstructured.RemoveNestedField(body, "metadata", "namespace")
	}
	return u, nil
}

// spec is the content document: the spec of a ManifestWork, and beside it the
// bundle whose manifests follow those in workload, and what an addon says of the
// health of its objects and of their removal.
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
	Health    []fleet.HealthRule    `json:"health"`
	Protected []fleet.ObjectPattern `json:"protected"`
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

// Parse takes the content document apart, without its bundle. A manifest that
// cannot be used carries its problem and does not fail the others; the error is
// about the document as a whole.
func Parse(data []byte) (*Content, error) {
	var s spec
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode spec of the work: %w", err)
	}
	user, err := s.Executor.user()
	if err != nil {
		return nil, err
	}
	c := &Content{configs: s.ManifestConfigs, Executor: user, Health: s.Health, Protected: s.Protected}
	if s.Bundle != nil {
		c.Bundle = s.Bundle.Digest
	}
	if s.DeleteOption != nil {
		c.Delete = *s.DeleteOption
	}
	if err := checkDeleteOption(c.Delete); err != nil {
		return nil, err
	}
	for i := range c.configs {
		c.configs[i].compile()
	}
	x := indexer{seen: make(map[Identity]int, len(s.Workload.Manifests)), words: make(map[string]string)}
	for ordinal, raw := range s.Workload.Manifests {
		m := x.add(ordinal, raw)
		m.raw = raw
		c.Manifests = append(c.Manifests, m)
	}
	return c, nil
}

// indexer finds duplicates, and keeps one copy of words that repeat.
type indexer struct {
	seen  map[Identity]int
	words map[string]string
}

func (x *indexer) add(ordinal int, raw []byte) Manifest {
	m := parseManifest(ordinal, raw)
	m.GVK.Group, m.GVK.Version, m.GVK.Kind = x.word(m.GVK.Group), x.word(m.GVK.Version), x.word(m.GVK.Kind)
	m.ID.Group, m.ID.Kind, m.ID.Namespace = m.GVK.Group, m.GVK.Kind, x.word(m.ID.Namespace)
	if m.Problem != "" {
		return m
	}
	if first, dup := x.seen[m.ID]; dup {
		m.Problem = fmt.Sprintf("%s is also manifest %d of this work: remove one of them", m.ID, first)
	} else {
		x.seen[m.ID] = ordinal
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

// Promises are kinds and group versions that the content itself brings. The zero
// value promises nothing.
type Promises struct {
	Kinds  map[schema.GroupVersionKind]Kind
	Served map[schema.GroupVersion]bool
}

// Promises collects what the CRDs and APIServices among the manifests bring.
func (c *Content) Promises() Promises {
	p := Promises{Kinds: make(map[schema.GroupVersionKind]Kind), Served: make(map[schema.GroupVersion]bool)}
	for i := range c.Manifests {
		m := &c.Manifests[i]
		maps.Copy(p.Kinds, m.Defines)
		if !m.Serves.Empty() {
			p.Served[m.Serves] = true
		}
	}
	return p
}
