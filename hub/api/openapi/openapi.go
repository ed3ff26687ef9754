// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi serves the OpenAPI documents of the API's kinds, version 3
// by group and version, and version 2 in one. kubectl reads them on every write
// and for explain. They are built on first request and kept encoded.
package openapi

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"

	"github.com/drover-io/drover/hub/api/kind"
)

// Content types of the encoded documents.
const (
	mediaJSON    = "application/json"
	mediaProtoV2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	mediaProtoV3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
)

// Accepted lists the media types a document can be had in, for versions 2 and
// 3. Old clients spell the protobuf ones with an @, which is no valid
// Content-Type for an answer.
func Accepted(version int) []string {
	return []string{
		mediaJSON,
		fmt.Sprintf("application/com.github.proto-openapi.spec.v%d.v1.0+protobuf", version),
		fmt.Sprintf("application/com.github.proto-openapi.spec.v%d@v1.0+protobuf", version),
	}
}

// Service holds the documents.
type Service struct {
	v2     *document
	groups map[string]*document // by "api/v1" or "apis/<group>/<version>"
	index  func() ([]byte, error)
	since  time.Time
}

// document is one document, encoded.
type document struct {
	kinds []*kind.Kind
	json  func() ([]byte, error)
	proto func() ([]byte, error)
	media string // Content-Type of proto
	tag   func() string
}

func newDocument(kinds []*kind.Kind, version, media string, build func() (any, error), encode func([]byte) ([]byte, error)) *document {
	d := &document{kinds: kinds, media: media}
	// What goes in says as well as what comes out whether anything changed, and
	// leaves the document unbuilt: kubectl asks for the tags of all of them.
	d.tag = sync.OnceValue(func() string {
		h := sha512.New()
		fmt.Fprintln(h, version)
		for _, k := range kinds {
			k.Fingerprint(h)
		}
		return fmt.Sprintf("%X", h.Sum(nil))
	})
	d.json = sync.OnceValues(func() ([]byte, error) {
		doc, err := build()
		if err != nil {
			return nil, fmt.Errorf("build openapi: %w", err)
		}
		data, err := json.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("encode openapi: %w", err)
		}
		return data, nil
	})
	d.proto = sync.OnceValues(func() ([]byte, error) {
		data, err := d.json()
		if err != nil {
			return nil, err
		}
		return encode(data)
	})
	return d
}

// New prepares the documents of the kinds; verbs says what each allows, and must
// say the same of the same kind every time. Documents of groups that are as they
// were in last, which may be nil, are taken over.
func New(kinds []*kind.Kind, verbs func(*kind.Kind) []string, version string, last *Service) *Service {
	s := &Service{groups: map[string]*document{}, since: time.Now()}
	s.v2 = newDocument(kinds, version, mediaProtoV2, func() (any, error) { return buildV2(kinds, verbs, version) }, handler.ToProtoBinary)
	byGroup := map[string][]*kind.Kind{}
	for _, k := range kinds {
		path := GroupPath(k)
		byGroup[path] = append(byGroup[path], k)
	}
	for path, members := range byGroup {
		if last != nil && last.groups[path] != nil && slices.Equal(last.groups[path].kinds, members) {
			s.groups[path] = last.groups[path]
			continue
		}
		s.groups[path] = newDocument(members, version, mediaProtoV3, func() (any, error) { return buildV3(members, verbs, version) }, handler3.ToV3ProtoBinary)
	}
	s.index = sync.OnceValues(s.buildIndex)
	return s
}

// GroupPath is where a kind's group and version live, without leading slash.
func GroupPath(k *kind.Kind) string {
	if k.GVK.Group == "" {
		return "api/" + k.GVK.Version
	}
	return "apis/" + k.GVK.Group + "/" + k.GVK.Version
}

func (s *Service) buildIndex() ([]byte, error) {
	index := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for path, doc := range s.groups {
		index.Paths[path] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: groupURL(path, doc.tag())}
	}
	return json.Marshal(index)
}

func groupURL(path, hash string) string {
	u := url.URL{Path: "/openapi/v3/" + path, RawQuery: url.Values{"hash": {hash}}.Encode()}
	return u.String()
}

func hash(data []byte) string { return fmt.Sprintf("%X", sha512.Sum512(data)) }

// ServeV2 answers /openapi/v2 in the media type, one of Accepted(2).
func (s *Service) ServeV2(w http.ResponseWriter, r *http.Request, media string) error {
	return s.serve(w, r, s.v2, media, "")
}

// ServeIndex answers /openapi/v3.
func (s *Service) ServeIndex(w http.ResponseWriter, r *http.Request) error {
	data, err := s.index()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Etag", strconv.Quote(hash(data)))
	http.ServeContent(w, r, "", s.since, bytes.NewReader(data))
	return nil
}

// Has reports whether there is a document of the group path.
func (s *Service) Has(path string) bool { return s.groups[path] != nil }

// ServeGroup answers /openapi/v3/<path> in the media type, one of Accepted(3).
// A request that names the document's hash may keep the answer for ever; one
// that names an old hash is redirected.
func (s *Service) ServeGroup(w http.ResponseWriter, r *http.Request, path, media string) error {
	return s.serve(w, r, s.groups[path], media, path)
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, doc *document, media, path string) error {
	plain, err := doc.json()
	if err != nil {
		return err
	}
	data, contentType := plain, mediaJSON
	if strings.HasSuffix(media, "+protobuf") {
		if data, err = doc.proto(); err != nil {
			return err
		}
		contentType = doc.media
	}
	tag := doc.tag()
	if asked := r.URL.Query().Get("hash"); asked != "" && path != "" {
		if asked != tag {
			http.Redirect(w, r, groupURL(path, tag), http.StatusMovedPermanently)
			return nil
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Etag", strconv.Quote(tag))
	http.ServeContent(w, r, "", s.since, bytes.NewReader(data))
	return nil
}
