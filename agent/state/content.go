// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
)

const digestPrefix = "sha256:"

// ErrDigest is wrapped by the error of PutContent when data is not what the
// digest names.
var ErrDigest = errors.New("content does not match its digest")

// Digest is the name of content: "sha256:" and 64 hexadecimal digits.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return digestPrefix + hex.EncodeToString(sum[:])
}

// Content returns the content that digest names. The error is fs.ErrNotExist
// when the directory does not hold it. A damaged blob is removed with a warning
// and counts as missing, since the hub can give it again.
func (d *Dir) Content(digest string) ([]byte, error) {
	file, err := d.contentFile(digest)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	if Digest(data) == digest {
		return data, nil
	}
	d.log.Warn("damaged content removed, the hub will give it again", zap.String("file", file))
	if err := os.Remove(file); err != nil {
		return nil, fmt.Errorf("remove damaged content: %w", err)
	}
	return nil, fmt.Errorf("read content %s: damaged: %w", digest, fs.ErrNotExist)
}

// PutContent stores data after checking that digest names it. It survives a power
// cut together with the first record that is saved afterwards: what is lost the hub
// gives again.
func (d *Dir) PutContent(digest string, data []byte) error {
	file, err := d.contentFile(digest)
	if err != nil {
		return err
	}
	if got := Digest(data); got != digest {
		return fmt.Errorf("%w: asked for %s, got %d bytes of %s", ErrDigest, digest, len(data), got)
	}
	return d.journal.add(entry{what: entryWrite, name: "content/" + filepath.Base(file), data: data})
}

// CollectContent removes all content that keep does not name, and returns how
// many blobs it removed. keep must name what is applied, what is to be applied
// and what was last known good.
func (d *Dir) CollectContent(keep []string) (removed int, err error) {
	held := make(map[string]bool, len(keep))
	for _, digest := range keep {
		held[strings.TrimPrefix(digest, digestPrefix)] = true
	}
	if err := d.collectParts(held); err != nil {
		return 0, err
	}
	dir := filepath.Join(d.path, "content")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("list content: %w", err)
	}
	for _, entry := range entries {
		// A dot file is a write or a download in progress.
		if held[entry.Name()] || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("remove content: %w", err)
		}
		d.checked.Delete(digestPrefix + entry.Name())
		removed++
	}
	return removed, nil
}

// contentFile refuses anything but a whole digest, so that a digest from
// outside never names a path.
func (d *Dir) contentFile(digest string) (string, error) {
	sum, found := strings.CutPrefix(digest, digestPrefix)
	if raw, err := hex.DecodeString(sum); !found || err != nil || len(raw) != sha256.Size || sum != strings.ToLower(sum) {
		return "", fmt.Errorf("digest %q: want sha256: and 64 lower-case hexadecimal digits", digest)
	}
	return filepath.Join(d.path, "content", sum), nil
}
