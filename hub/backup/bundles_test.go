// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
)

// TestBundles: bundles come back byte for byte, and with their sizes.
func TestBundles(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir())
	bucket, err := h.broker.JetStream().CreateObjectStore(timeout(t), broker.BundleConfig(0))
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	sizes := map[string]int{}
	for _, n := range []int{1, 100, 300, 3 << 20} {
		data := []byte(strings.Repeat("x", n))
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		want[name], sizes[name] = enc.EncodeAll(data, nil), n
		if _, err := bucket.Put(timeout(t), jetstream.ObjectMeta{Name: name}, bytes.NewReader(want[name])); err != nil {
			t.Fatal(err)
		}
	}
	h.create(key("one"), object("one", 1))
	saved := h.backup()
	if m, err := Verify(bytes.NewReader(saved)); err != nil || m.Bundles != len(want) {
		t.Fatalf("%d bundles, %v", m.Bundles, err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(timeout(t), file(t, saved), dir, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	n := start(t, dir)
	if bucket, err = n.broker.JetStream().ObjectStore(timeout(t), broker.BundleBucket); err != nil {
		t.Fatal(err)
	}
	for name, data := range want {
		got, err := bucket.GetBytes(timeout(t), name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		info, err := bucket.GetInfo(timeout(t), name)
		if err != nil || info.Metadata[broker.BundleSize] != strconv.Itoa(sizes[name]) {
			t.Errorf("%s: %v, %v; want size %d", name, info.Metadata, err, sizes[name])
		}
	}
}
