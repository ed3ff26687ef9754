// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Limits of what an agent says of its cluster.
const (
	MaxWords  = 16   // different words of one kind of fact
	MaxClaims = 20   // ClusterClaims, as in Open Cluster Management
	MaxAPIs   = 8000 // entries of a list of APIs
	// MaxAPIBytes bounds a list of APIs, MaxAPI one entry.
	MaxAPIBytes = 512 << 10
	MaxAPI      = 400
)

// APIs are what a cluster serves, as group/version and group/version/Kind, sorted,
// without duplicates: "apps/v1", "apps/v1/Deployment", "v1", "v1/Pod". Many
// clusters serve the same, so the agent sends a list only when the hub asks for it
// (Ack.APIs). It is answered by an Ack.
type APIs struct {
	Digest string   `json:"digest"` // DigestAPIs(APIs)
	APIs   []string `json:"apis"`
}

// DigestAPIs is the name of a list of APIs.
func DigestAPIs(apis []string) string {
	h := sha256.New()
	for _, api := range apis {
		h.Write([]byte(api))
		h.Write([]byte{'\n'})
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// CheckAPIs says what is wrong with a list; empty for nothing.
func CheckAPIs(a APIs) string {
	size := 0
	switch {
	case len(a.APIs) == 0:
		return "the list is empty"
	case len(a.APIs) > MaxAPIs:
		return "the list is too long"
	}
	for i, api := range a.APIs {
		if size += len(api) + 1; size > MaxAPIBytes {
			return "the list is too large"
		}
		if api == "" || len(api) > MaxAPI || strings.ContainsFunc(api, notInAPI) || i > 0 && a.APIs[i-1] >= api {
			return "the list is not sorted, or names no API"
		}
	}
	if DigestAPIs(a.APIs) != a.Digest {
		return "the digest is that of another list"
	}
	return ""
}

func notInAPI(r rune) bool { return r <= ' ' || r > '~' }
