// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
)

// bundles adds each bundle as a member of its own, packed as it is stored.
func (s Source) bundles(ctx context.Context, a *archive) (int, error) {
	bucket, err := s.JetStream.ObjectStore(ctx, broker.BundleBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return 0, nil // an older hub's
	}
	if err != nil {
		return 0, err
	}
	list, err := bucket.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return 0, err
	}
	slices.SortFunc(list, func(a, b *jetstream.ObjectInfo) int { return strings.Compare(a.Name, b.Name) })
	n := 0
	for _, info := range list {
		data, err := bucket.GetBytes(ctx, info.Name)
		if errors.Is(err, jetstream.ErrObjectNotFound) {
			continue // nothing named it any more
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", info.Name, err)
		}
		if err := a.add(bundlesPrefix+info.Name, data); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// bundle stores one member in the new bucket.
func (r *restore) bundle(ctx context.Context, name string, data []byte) error {
	size, err := unpacked(data)
	if err != nil {
		return fmt.Errorf("not a bundle: %w", err)
	}
	_, err = r.bundles.Put(ctx, jetstream.ObjectMeta{
		Name:     strings.TrimPrefix(name, bundlesPrefix),
		Metadata: map[string]string{broker.BundleSize: strconv.FormatInt(size, 10)},
	}, bytes.NewReader(data))
	return err
}

// unpacked is how many bytes a bundle has.
func unpacked(data []byte) (int64, error) {
	dec, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBundle), zstd.WithDecoderMaxWindow(maxBundle))
	if err != nil {
		return 0, err
	}
	defer dec.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(dec, maxBundle+1))
	if err == nil && n > maxBundle {
		err = errors.New("too large")
	}
	return n, err
}

func isBundle(name string) bool { return strings.HasPrefix(name, bundlesPrefix) }
