// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import "github.com/nats-io/nats.go/jetstream"

// BundleBucket is the object store of bundles. An object's name is the SHA-256 of
// the uncompressed bytes in hexadecimal, its data one zstd frame, and its metadata
// BundleSize the number of uncompressed bytes.
const (
	BundleBucket = "bundles"
	BundleSize   = "size"
)

// BundleConfig is the configuration of the bucket. The caller adds replicas.
func BundleConfig(maxBytes int64) jetstream.ObjectStoreConfig {
	return jetstream.ObjectStoreConfig{
		Bucket: BundleBucket, Description: "manifests too large for an object, by digest",
		Storage: jetstream.FileStorage, MaxBytes: maxBytes,
	}
}
