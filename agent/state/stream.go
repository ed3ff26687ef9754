// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/durable"
)

// OpenContent is Content for what is too large for memory: it returns the open
// file, checked the first time in the life of this Dir. The caller closes it.
func (d *Dir) OpenContent(digest string) (*os.File, error) {
	file, err := d.contentFile(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	if _, checked := d.checked.Load(digest); checked {
		return f, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		f.Close()
		return nil, fmt.Errorf("read content: %w", err)
	}
	if digestOf(sum) != digest {
		f.Close()
		d.log.Warn("damaged content removed, the hub will give it again", zap.String("file", file))
		if err := os.Remove(file); err != nil {
			return nil, fmt.Errorf("remove damaged content: %w", err)
		}
		return nil, fmt.Errorf("read content %s: damaged: %w", digest, fs.ErrNotExist)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("read content: %w", err)
	}
	d.checked.Store(digest, true)
	return f, nil
}

// PutContentFrom is PutContent for what is too large for memory: it reads r to
// its end, at most limit bytes. When it fails nothing of it stays.
func (d *Dir) PutContentFrom(digest string, r io.Reader, limit int64) (err error) {
	file, err := d.contentFile(digest)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".tmp-*") // with fileMode
	if err != nil {
		return fmt.Errorf("store content: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("store content: %w", err), os.Remove(f.Name()))
		}
	}()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(r, limit+1))
	switch got := digestOf(sum); {
	case err != nil:
	case n > limit:
		err = fmt.Errorf("%w: it has more than %d bytes", ErrDigest, limit)
	case got != digest:
		err = fmt.Errorf("%w: asked for %s, got %d bytes of %s", ErrDigest, digest, n, got)
	default:
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), file); err != nil {
		return err
	}
	if err = durable.SyncDir(filepath.Dir(file)); err != nil {
		return err
	}
	d.checked.Store(digest, true)
	return nil
}

func digestOf(sum hash.Hash) string { return digestPrefix + hex.EncodeToString(sum.Sum(nil)) }
