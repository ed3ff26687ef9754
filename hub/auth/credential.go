// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"regexp"
	"strings"
)

// Prefixes of the credentials that the hub makes. Scanners for leaked secrets
// find an access token by
//
//	drover_at_[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?_[a-z2-7]{59}
//
// and can tell it from a look-alike by its checksum: the last 7 characters are
// the base32 form (lower case, no padding) of the big-endian CRC-32/IEEE of all
// that is before them.
const (
	PrefixAccessToken = "drover_at_"
	PrefixSession     = "drover_se_"
)

const (
	secretBytes = 32
	secretChars = 52 // base32 of secretBytes
	sumChars    = 7  // base32 of 4 bytes
	nameChars   = 63
	// maxCredential is the length of the longest credential of the hub's own.
	maxCredential = len(PrefixAccessToken) + nameChars + 1 + secretChars + sumChars
)

var (
	errNotCredential = errors.New("not a credential of this hub")
	errMistyped      = errors.New("truncated or mistyped: the checksum does not fit")
)

// credential is a secret together with the name of the object that has its hash.
type credential struct{ name, secret string }

// String keeps the secret out of messages.
func (c credential) String() string { return c.name }

// GoString keeps the secret out of %#v.
func (c credential) GoString() string { return "auth.credential(" + c.name + ")" }

func newCredential(name string) credential {
	var secret [secretBytes]byte
	_, _ = rand.Read(secret[:]) // never fails: it ends the program instead
	return credential{name, lower32(secret[:])}
}

func lower32(data []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(data))
}

// text is the form that its holder keeps.
func (c credential) text(prefix string) string {
	body := prefix + c.name + "_" + c.secret
	return body + checksum(body)
}

func checksum(body string) string {
	return lower32(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body))))
}

var credentialBody = regexp.MustCompile(`^([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)_([a-z2-7]{52})([a-z2-7]{7})$`)

// parseCredential reads what text wrote. It says nothing about whether the
// credential is good.
func parseCredential(prefix, text string) (credential, error) {
	if len(text) > maxCredential {
		return credential{}, errNotCredential
	}
	body, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return credential{}, errNotCredential
	}
	m := credentialBody.FindStringSubmatch(body)
	if m == nil || checksum(text[:len(text)-sumChars]) != m[3] {
		return credential{}, errMistyped
	}
	return credential{name: m[1], secret: m[2]}, nil
}

// hash is the only form of the secret that is stored. A plain hash is enough for
// 256 random bits.
func (c credential) hash() string {
	sum := sha256.Sum256([]byte(c.secret))
	return hex.EncodeToString(sum[:])
}

// matches compares in time that does not depend on the values.
func (c credential) matches(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(c.hash())) == 1
}
