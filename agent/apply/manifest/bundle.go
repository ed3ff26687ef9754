// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxManifest bounds one line of a bundle: no API server takes a larger object.
const maxManifest = 4 << 20

// Digest names content and bundles: "sha256:" and the hex of the sum.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return digestPrefix + hex.EncodeToString(sum[:])
}

const digestPrefix = "sha256:"

// OpenBundle reads the bundle rc once, to check that it is the one that Bundle
// names and to index it, and keeps it open until Close; after an error it is
// closed. When rc is an io.ReaderAt, as a file is, manifests are read when they
// are needed; anything else is held in memory.
func (c *Content) OpenBundle(rc io.ReadCloser) error {
	var stream io.Reader = rc
	blob, random := rc.(io.ReaderAt)
	if !random {
		data, err := io.ReadAll(rc)
		if err != nil {
			return errors.Join(err, rc.Close())
		}
		stream, blob = bytes.NewReader(data), bytes.NewReader(data)
	}
	x := indexer{seen: make(map[Identity]int), words: make(map[string]string)}
	for i := range c.Manifests {
		x.seen[c.Manifests[i].ID] = i
	}
	first := len(c.Manifests)
	digest, err := readLines(stream, func(i int, offset int64, line []byte) {
		m := x.add(first+i, line)
		m.offset, m.size = offset, len(line)
		c.Manifests = append(c.Manifests, m)
	})
	if err == nil && digest != c.Bundle {
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

// Identities names the objects of a content document, and its bundle, without
// decoding them whole. A manifest of the wrong shape leaves the others usable.
func Identities(data []byte) (ids []Identity, bundle string) {
	var s spec
	_ = json.Unmarshal(data, &s)
	for _, raw := range s.Workload.Manifests {
		if id, ok := identityIn(raw); ok {
			ids = append(ids, id)
		}
	}
	if s.Bundle != nil {
		bundle = s.Bundle.Digest
	}
	return ids, bundle
}

// BundleIdentities names the objects of a bundle, as Identities does. It does not
// check the digest.
func BundleIdentities(r io.Reader) ([]Identity, error) {
	var ids []Identity
	_, err := readLines(r, func(_ int, _ int64, line []byte) {
		if id, ok := identityIn(line); ok {
			ids = append(ids, id)
		}
	})
	return ids, err
}

func identityIn(raw []byte) (Identity, bool) {
	var m struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(raw, &m)
	gv, err := schema.ParseGroupVersion(m.APIVersion)
	id := Identity{Group: gv.Group, Kind: m.Kind, Namespace: m.Metadata.Namespace, Name: m.Metadata.Name}
	return id, err == nil && id.Kind != "" && id.Name != ""
}
