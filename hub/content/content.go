// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package content keeps bundles: lists of Kubernetes objects that are too large
// for an object of the store, one JSON object a line (NDJSON), and archives that
// addons are made of.
//
// A bundle is named by the SHA-256 of its bytes, so it never changes, is stored
// once however often it is used, and is worth as much as its digest wherever it
// comes from. It is kept while a work, an addon version or a revision of one names
// it, and for a grace period after.
package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/daemon"
)

const (
	// MaxBundle is the largest bundle in bytes, uncompressed.
	MaxBundle = 32 << 20
	// defaultMaxBytes bounds all bundles together, compressed.
	defaultMaxBytes = 4 << 30
	// Grace is how long a bundle that nothing names is kept: for the time between
	// an upload and the work that names it, and for second thoughts.
	Grace = 24 * time.Hour

	collectEvery = 10 * time.Minute
	cacheBytes   = 64 << 20 // compressed bundles held in memory
)

var (
	// ErrNotFound: no such bundle. It is fs.ErrNotExist.
	ErrNotFound = fmt.Errorf("no such bundle: %w", fs.ErrNotExist)
	// ErrFull: the bucket is at its limit.
	ErrFull = errors.New("no room for more bundles")
)

// Config is what Open needs.
type Config struct {
	JetStream jetstream.JetStream
	// InUse returns the digests that must stay.
	InUse func(context.Context) (map[string]bool, error)
	// MaxBytes bounds all bundles together, compressed; default 4 GiB.
	MaxBytes int64
	// Grace is how long an unused bundle stays; default Grace.
	Grace time.Duration
	Log   *zap.Logger
}

// Store holds the bundles. Its methods may be called at the same time.
type Store struct {
	cfg     Config
	bucket  jetstream.ObjectStore
	loads   singleflight.Group
	uploads chan struct{}

	mu     sync.Mutex
	sizes  map[string]int64     // by digest
	unused map[string]time.Time // since when nothing names them, as this process knows
	cache  lru
}

// Open opens the bucket, and makes it at the first start.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.Grace == 0 {
		cfg.Grace = Grace
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	bucket, err := cfg.JetStream.CreateOrUpdateObjectStore(ctx, broker.BundleConfig(cfg.MaxBytes))
	if err != nil {
		return nil, fmt.Errorf("open bucket of bundles: %w", err)
	}
	return &Store{
		cfg: cfg, bucket: bucket, uploads: make(chan struct{}, maxUploads),
		sizes: map[string]int64{}, unused: map[string]time.Time{}, cache: lru{limit: cacheBytes},
	}, nil
}

var digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// object is the name of a bundle in the bucket.
func object(digest string) (string, error) {
	if !digestRE.MatchString(digest) {
		return "", fmt.Errorf("digest %.80q: want sha256: and 64 lower-case hexadecimal digits", digest)
	}
	return strings.TrimPrefix(digest, "sha256:"), nil
}

// Info is what is known of a bundle.
type Info struct {
	Digest  string `json:"digest"`
	Size    int64  `json:"size"`    // bytes, uncompressed
	Objects int    `json:"objects"` // files, of an archive
	// Stored is false when the bundle was there already.
	Stored bool `json:"stored"`
}

// Put checks a bundle and stores it. data is not changed.
func (s *Store) Put(ctx context.Context, data []byte) (Info, error) {
	n, err := Check(data)
	if err != nil {
		return Info{}, err
	}
	return s.put(ctx, data, n)
}

// PutArchive checks an archive and stores it in its canonical form.
func (s *Store) PutArchive(ctx context.Context, data []byte) (Info, error) {
	files, err := archive.Read(data, archive.Limits{})
	if err != nil {
		return Info{}, &LineError{0, err}
	}
	if data, err = archive.Pack(files, archive.Limits{}); err != nil {
		return Info{}, &LineError{0, err}
	}
	return s.PutBlob(ctx, data, len(files))
}

// PutBlob stores bytes that have been checked, and hold so many objects or files.
func (s *Store) PutBlob(ctx context.Context, data []byte, objects int) (Info, error) {
	if len(data) > MaxBundle {
		return Info{}, ErrTooLarge
	}
	if len(data) == 0 {
		return Info{}, &LineError{0, errors.New("the bundle is empty")}
	}
	return s.put(ctx, data, objects)
}

func (s *Store) put(ctx context.Context, data []byte, n int) (Info, error) {
	sum := sha256.Sum256(data)
	info := Info{Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data)), Objects: n}
	s.touch(info.Digest)
	name := hex.EncodeToString(sum[:])
	_, err := s.bucket.GetInfo(ctx, name)
	if err == nil {
		return info, nil
	}
	if !errors.Is(err, jetstream.ErrObjectNotFound) {
		return Info{}, fmt.Errorf("look for bundle: %w", err)
	}
	packed, err := compress(data)
	if err != nil {
		return Info{}, err
	}
	_, err = s.bucket.Put(ctx, jetstream.ObjectMeta{
		Name: name, Metadata: map[string]string{broker.BundleSize: strconv.Itoa(len(data))},
	}, bytes.NewReader(packed))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code == 503 || errors.Is(err, jetstream.ErrMaxBytesExceeded) {
		return Info{}, fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("store bundle: %w", err)
	}
	info.Stored = true
	s.mu.Lock()
	s.sizes[info.Digest] = info.Size
	s.mu.Unlock()
	return info, nil
}

// touch says that a bundle is about to be used: it is not collected soon.
func (s *Store) touch(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unused, digest)
}

// Size is the number of bytes of a bundle, uncompressed, or ErrNotFound. Whoever
// asks is about to use the bundle, so it is not collected soon.
func (s *Store) Size(ctx context.Context, digest string) (int64, error) {
	name, err := object(digest)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	delete(s.unused, digest)
	size, ok := s.sizes[digest]
	s.mu.Unlock()
	if ok {
		return size, nil
	}
	info, err := s.bucket.GetInfo(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("look for bundle %s: %w", digest, err)
	}
	size, err = strconv.ParseInt(info.Metadata[broker.BundleSize], 10, 64)
	if err != nil || size <= 0 || size > MaxBundle {
		return 0, fmt.Errorf("bundle %s: its size %q is not one", digest, info.Metadata[broker.BundleSize])
	}
	s.mu.Lock()
	s.sizes[digest] = size
	s.mu.Unlock()
	return size, nil
}

// Packed returns a bundle as it is stored, one zstd frame; the caller must not
// change it. ErrNotFound.
func (s *Store) Packed(ctx context.Context, digest string) ([]byte, error) {
	name, err := object(digest)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	data, ok := s.cache.get(digest)
	s.mu.Unlock()
	if ok {
		return data, nil
	}
	// After a hint a thousand agents ask for the same.
	v, err, _ := s.loads.Do(digest, func() (any, error) {
		data, err := s.bucket.GetBytes(context.WithoutCancel(ctx), name)
		if errors.Is(err, jetstream.ErrObjectNotFound) {
			return nil, ErrNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("read bundle %s: %w", digest, err)
		}
		s.mu.Lock()
		s.cache.put(digest, data)
		s.mu.Unlock()
		return data, nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

// Bundle returns the bytes that a digest names. ErrNotFound.
func (s *Store) Bundle(ctx context.Context, digest string) ([]byte, error) {
	packed, err := s.Packed(ctx, digest)
	if err != nil {
		return nil, err
	}
	return unpack(packed)
}

func compress(data []byte) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, err
	}
	defer enc.Close() //nolint:errcheck // it writes nowhere
	// The frame says its size, by which a restore knows it.
	return enc.EncodeAll(data, nil), nil
}

// unpack reads one or more zstd frames of at most MaxBundle bytes.
func unpack(packed []byte) ([]byte, error) {
	return decompress(bytes.NewReader(packed))
}

// decompress reads zstd frames that come to at most MaxBundle bytes: what would
// come to more is refused after that much, and a window larger than that at once.
func decompress(r io.Reader) ([]byte, error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBundle+1<<20), zstd.WithDecoderMaxWindow(MaxBundle))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return readAll(dec)
}

// readAll reads at most MaxBundle bytes.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBundle+1))
	if len(data) > MaxBundle {
		return nil, ErrTooLarge
	}
	return data, err
}

// ErrTooLarge: more than MaxBundle bytes.
var ErrTooLarge = fmt.Errorf("the bundle has more than %d MiB", MaxBundle>>20)

// Run removes bundles that nothing names until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for daemon.Sleep(ctx, collectEvery) {
		if _, err := s.Collect(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("unused bundles not removed, will try again", zap.Error(err))
		}
	}
	return ctx.Err()
}

// Collect removes what nothing has named for the grace period, as far as this
// process has seen, and returns how many bundles that were.
func (s *Store) Collect(ctx context.Context, now time.Time) (removed int, err error) {
	all, err := s.bucket.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list bundles: %w", err)
	}
	var due []string
	used, err := s.cfg.InUse(ctx)
	if err != nil {
		return 0, fmt.Errorf("find bundles in use: %w", err)
	}
	s.mu.Lock()
	for _, info := range all {
		digest := "sha256:" + info.Name
		since, seen := s.unused[digest]
		switch {
		case used[digest] || !digestRE.MatchString(digest):
			delete(s.unused, digest)
		case !seen:
			s.unused[digest] = now
		case now.Sub(since) >= s.cfg.Grace && now.Sub(info.ModTime) >= s.cfg.Grace:
			due = append(due, digest)
		}
	}
	s.mu.Unlock()
	for _, digest := range due {
		ok, err := s.remove(ctx, digest)
		if err != nil {
			return removed, err
		}
		if ok {
			removed++
		}
	}
	return removed, nil
}

// remove deletes a bundle unless somebody has come to use it meanwhile.
func (s *Store) remove(ctx context.Context, digest string) (bool, error) {
	used, err := s.cfg.InUse(ctx)
	if err != nil {
		return false, fmt.Errorf("find bundles in use: %w", err)
	}
	s.mu.Lock()
	_, still := s.unused[digest]
	if still && !used[digest] {
		// Who asks from now on is told that it is gone.
		delete(s.unused, digest)
		delete(s.sizes, digest)
		s.cache.remove(digest)
	}
	s.mu.Unlock()
	if !still || used[digest] {
		return false, nil
	}
	if err := s.bucket.Delete(ctx, strings.TrimPrefix(digest, "sha256:")); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return false, fmt.Errorf("remove bundle %s: %w", digest, err)
	}
	s.cfg.Log.Info("unused bundle removed", zap.String("digest", digest))
	return true, nil
}

// lru keeps byte slices up to a limit, the ones used last.
type lru struct {
	limit, size int
	order       []string // the one used last at the end
	data        map[string][]byte
}

func (l *lru) get(key string) ([]byte, bool) {
	data, ok := l.data[key]
	if ok {
		l.remove(key)
		l.put(key, data)
	}
	return data, ok
}

func (l *lru) put(key string, data []byte) {
	if len(data) > l.limit {
		return
	}
	l.remove(key)
	if l.data == nil {
		l.data = map[string][]byte{}
	}
	l.data[key] = data
	l.order = append(l.order, key)
	for l.size += len(data); l.size > l.limit; {
		l.remove(l.order[0])
	}
}

func (l *lru) remove(key string) {
	data, ok := l.data[key]
	if !ok {
		return
	}
	delete(l.data, key)
	l.size -= len(data)
	for i, k := range l.order {
		if k == key {
			l.order = append(l.order[:i], l.order[i+1:]...)
			break
		}
	}
}
